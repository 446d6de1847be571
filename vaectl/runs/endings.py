"""The end of a training: recording it, and the error that says how to continue."""

from __future__ import annotations

import contextlib
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vaectl.errors import DivergedError, InterruptedRunError, LostError, OutputError, VaectlError, amount
from vaectl.runs.events import RunEnded
from vaectl.runs.processes import lost_in
from vaectl.runs.run import Run
from vaectl.system.signals import Signalled
from vaectl.training.events import Hub

if TYPE_CHECKING:
    from vaectl.training.state import TrainState
    from vaectl.training.trainer import Stopped


@contextmanager
def recorded(run: Run, hub: Hub) -> Iterator[None]:
    """Record in ``run.json`` how the block, which trains a run, ends, and release the run.

    Raises:
        InterruptedRunError: A signal came.
        LostError, OutputError, VaectlError: The error that ended the training, with a hint that says how to continue.
    """
    try:
        yield
    except (KeyboardInterrupt, InterruptedRunError) as stop:
        trained = run.record["status"] == "completed"
        _leave(run, "interrupted", hub)
        if isinstance(stop, InterruptedRunError):
            raise
        signum = stop.signum if isinstance(stop, Signalled) else signal.SIGINT
        outcome = "is trained, but its evaluation was interrupted" if trained else "was interrupted"
        raise InterruptedRunError(f"{run.id} {outcome}", signum=signum, hint=_resume_with(run)) from None
    except LostError as error:
        _leave(run, "failed", hub)
        raise lost_in(error, run.reference) from error
    except BaseException as error:
        unfinished = run.record["status"] == "running"
        _leave(run, "failed", hub)
        if unfinished and isinstance(error, OutputError | OSError) and not isinstance(error, BrokenPipeError):
            message = error.message if isinstance(error, OutputError) else f"cannot write {error.filename or run.path}"
            reason = f": {error.strerror}" if isinstance(error, OSError) else ""
            hint = f"once it can be written, {_resume_with(run)}" if run.path.is_dir() else _again(run)
            raise OutputError(f"{run.id}: {message}{reason}", hint=hint) from None
        if isinstance(error, MemoryError | RuntimeError) and "memory" in str(error).lower():
            reason = str(error).splitlines()[0]
            hint = f"with --from {run.reference} lower --batch-size or {run.spec.size_flag}"
            raise VaectlError(f"{run.id}: {reason}", hint=hint) from None
        raise
    finally:
        run.close()


def _leave(run: Run, status: str, hub: Hub) -> None:
    """Record how an incomplete run ended; an error in doing so is dropped, because it would hide the first one."""
    with contextlib.suppress(VaectlError, OSError):
        if run.record["status"] == "running":
            run.finish(status)
    with contextlib.suppress(Exception):
        hub.tell(RunEnded(run, "stopped", {}))


def interrupted(run: Run, state: TrainState, signum: int) -> InterruptedRunError:
    """The error for a training that a signal stopped between two steps."""
    if state.batch:
        position = f"in epoch {state.epoch + 1}, after {state.batch} of {amount(state.batches, 'batch', 'batches')}"
    else:
        position = f"after epoch {state.epoch}" if state.epoch else "before its first batch"
    return InterruptedRunError(
        f"{run.id} was interrupted {position}; progress is saved", signum=signum, hint=_resume_with(run)
    )


def diverged(run: Run, state: TrainState, end: Stopped) -> DivergedError:
    """The error for a training that met a number which is not finite."""
    training = run.spec.training
    weights = f"the weights of epoch {end.best_epoch} are kept" if end.best_epoch else "no epoch was finished"
    after = f" after {amount(state.rollbacks, 'rollback')}" if state.rollbacks else ""
    advice = [f"a lower --lr (it was {state.lr:g})"]
    advice.append(f"a lower --grad-clip (it was {training.grad_clip:g})" if training.grad_clip else "--grad-clip 1")
    if training.on_nonfinite == "stop":
        advice.append("--on-nonfinite rollback")
    hint = f"with --from {run.reference} try {' or '.join(advice)}"
    return DivergedError(f"{run.id} diverged{after}: {end.problem}; {weights}", hint=hint)


def _resume_with(run: Run) -> str:
    return f"resume with: vaectl train --resume {run.reference}"


def _again(run: Run) -> str:
    """The hint for a run whose folder, and with it every checkpoint, is no longer there."""
    command = shlex.join(["vaectl", *run.record["argv"]])
    return f"its folder is gone, and nothing is left to resume; begin again with: {command}"
