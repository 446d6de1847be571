"""The end of a training: recording it, and the error that says how to continue."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vaectl.errors import DivergedError, InterruptedRunError, LostError, OutputError, RunError, VaectlError, amount
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
    """Record in ``run.json`` and ``train.log`` how the block, which trains a run, ends, and release the run.

    Raises:
        InterruptedRunError: A signal came.
        LostError, OutputError, VaectlError: The error that ended the training, with a hint that says how to continue.
    """
    try:
        yield
    except BaseException as raised:
        error = _explained(run, raised)
        with contextlib.suppress(OutputError):
            for line in _lines(error):  # the screen may be gone
                run.log(line)
        _leave(run, "interrupted" if isinstance(error, InterruptedRunError) else "failed", hub)
        if error is raised:
            raise
        raise error from raised
    finally:
        run.close()


def _explained(run: Run, error: BaseException) -> BaseException:
    """The error to raise for one that ended a training: it says how to continue, if that is known."""
    status = run.record["status"]
    if isinstance(error, KeyboardInterrupt):
        signum = error.signum if isinstance(error, Signalled) else signal.SIGINT
        outcome = "is trained, but its evaluation was interrupted" if status == "completed" else "was interrupted"
        return InterruptedRunError(f"{run.id} {outcome}", signum=signum, hint=_resume_with(run))
    if isinstance(error, LostError):
        return lost_in(error, run.reference)
    if status == "running" and isinstance(error, OutputError | RunError | OSError) and (gone := _gone(run)):
        return gone
    if status == "running" and isinstance(error, OutputError | OSError) and not isinstance(error, BrokenPipeError):
        message = error.message if isinstance(error, OutputError) else f"cannot write {error.filename or run.path}"
        reason = f": {error.strerror}" if isinstance(error, OSError) else ""
        return OutputError(f"{run.id}: {message}{reason}", hint=f"once it can be written, {_resume_with(run)}")
    if isinstance(error, MemoryError | RuntimeError) and "memory" in str(error).lower():
        reason = str(error).splitlines()[0]
        hint = f"with --from {run.reference} lower --batch-size or {run.spec.size_flag}"
        return VaectlError(f"{run.id}: {reason}", hint=hint)
    return error


def _lines(error: BaseException) -> list[str]:
    """An error as lines of the log."""
    if not isinstance(error, VaectlError):
        return [f"error: {type(error).__name__}: {error}"]
    return [f"error: {error.message}", *([f"hint: {error.hint}"] if error.hint else [])]


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
    scale = run.data_info.hard_scale
    advice = [f"--normalize standard ({scale})"] if scale else []
    advice += [f"a lower --lr (it was {state.lr:g})"]
    advice.append(f"a lower --grad-clip (it was {training.grad_clip:g})" if training.grad_clip else "--grad-clip 1")
    if training.on_nonfinite == "stop":
        advice.append("--on-nonfinite rollback")
    hint = f"with --from {run.reference} try {' or '.join(advice)}"
    return DivergedError(f"{run.id} diverged{after}: {end.problem}; {weights}", hint=hint)


def _gone(run: Run) -> OutputError | None:
    """The error for a run whose folder or record is no longer there; None if both are."""
    missing = next((path for path in (run.path, run.path / "run.json") if not os.path.exists(path)), None)
    if missing is None:
        return None
    hint = "if it was moved, resume the run by its new path: vaectl train --resume PATH; else train it again"
    return OutputError(f"{run.id}: {missing} was deleted or moved during the training", hint=hint)


def _resume_with(run: Run) -> str:
    if gone := _gone(run):
        return f"{gone.message}; {gone.hint}"
    return f"resume with: vaectl train --resume {run.reference}"
