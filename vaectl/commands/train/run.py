"""Inside ``vaectl train``: the events of a training, shown and saved as they come, and how it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vaectl.commands.shared.doctor import Doctor
from vaectl.commands.shared.evaluation import evaluate_into
from vaectl.commands.shared.render import Screen, duration, finite, plus_minus, sparkline
from vaectl.commands.shared.summary import activity
from vaectl.commands.train.processes import lost_in, match, unstuck
from vaectl.commands.train.screen import EpochScreen
from vaectl.data.base import Data
from vaectl.errors import DivergedError, InterruptedRunError, LostError, OutputError, RunError, VaectlError
from vaectl.parallel.distributed import Processes
from vaectl.runs.run import Run, now
from vaectl.system.reading import has_numbers
from vaectl.system.signals import Signalled, noting
from vaectl.training.state import TrainState
from vaectl.training.tensorboard import TensorBoard
from vaectl.training.trainer import Epoch, PriorBegan, RolledBack, Step, Stopped, fit


@contextmanager
def kept(run: Run) -> Iterator[None]:
    """Within the block a run is trained: however the block ends, ``run.json`` says so and the run is let go of."""
    try:
        yield
    except (KeyboardInterrupt, InterruptedRunError) as stop:
        trained = run.record["status"] == "completed"
        _leave(run, "interrupted")
        if isinstance(stop, InterruptedRunError):
            raise
        signum = stop.signum if isinstance(stop, Signalled) else signal.SIGINT
        done = "is trained, but its evaluation was interrupted" if trained else "was interrupted"
        raise InterruptedRunError(f"{run.id} {done}", signum=signum, hint=_resume_with(run)) from None
    except LostError as error:
        _leave(run, "failed")
        raise lost_in(error, run.reference) from error
    except BaseException as error:
        unfinished = run.record["status"] == "running"
        _leave(run, "failed")
        if unfinished and isinstance(error, OutputError | OSError) and not isinstance(error, BrokenPipeError):
            message = error.message if isinstance(error, OutputError) else f"cannot write {error.filename or run.path}"
            reason = f": {error.strerror}" if isinstance(error, OSError) else ""
            hint = f"once it can be written, {_resume_with(run)}"
            raise OutputError(f"{run.id}: {message}{reason}", hint=hint) from None
        if isinstance(error, MemoryError | RuntimeError) and "memory" in str(error).lower():
            reason = str(error).splitlines()[0]
            hint = f"with --from {run.reference} lower --batch-size or {run.spec.size_flag}"
            raise VaectlError(f"{run.id}: {reason}", hint=hint) from None
        raise
    finally:
        run.close()


def _leave(run: Run, status: str) -> None:
    """Record how a run ended that did not reach its end; what ended it must not be hidden by a failure to do so."""
    with contextlib.suppress(VaectlError, OSError):
        if run.record["status"] == "running":
            run.finish(status)


def train_run(
    run: Run, state: TrainState, data: Data, screen: Screen, checkpoint_minutes: float, processes: Processes
) -> None:
    """Train a run from where it stands, evaluate the best weights on the test split, and show the outcome.

    Args:
        run: The run, created or resumed.
        state: Where it stands.
        data: Its data.
        screen: Where to show it.
        checkpoint_minutes: Time between two checkpoints within an epoch; there is one at the end of each, too.
        processes: The processes that train it, of which this one leads.

    Raises:
        DivergedError: A loss was not finite.
        InterruptedRunError: A signal came; all that was done so far is saved.
        LostError: Another process failed.
    """
    spec = run.spec
    started = saved = time.monotonic()
    match(processes, state, run.reference)
    on_device = data.to(state.device)
    pictured = on_device.validation if len(data.validation) else on_device.test
    shown = EpochScreen(screen, state.last_epoch, spec.latent_dim)
    events_of = run.file("tensorboard")
    board = TensorBoard(
        events_of, state.step if events_of.exists() else None, span=data.info.range, names=data.info.classes
    )
    run.log(shown.header())
    doctor = Doctor(run, screen, run.history())
    end: Stopped | None = None
    events = fit(state.model, state.objective, on_device, spec.training, state, processes=processes)
    try:
        shown.start()
        with noting() as processes.heard, unstuck(processes, run.reference):
            for event in events:
                if isinstance(event, Step):
                    shown.step(event)
                    if processes.stop or time.monotonic() - saved >= 60 * checkpoint_minutes:
                        _save(run, state)
                        saved = time.monotonic()
                elif isinstance(event, Epoch):
                    board.epoch(event)
                    board.pictures(state.model, pictured, event.step)
                    row = _save_epoch(run, state, event)
                    saved = time.monotonic()
                    run.log(shown.row(event))
                    shown.epoch(event)
                    doctor.visit(row)
                elif isinstance(event, RolledBack):
                    _tell(run, screen, event)
                elif isinstance(event, PriorBegan):
                    _begin_prior(run, screen, event)
                    shown.extend(event.last_epoch)
                else:
                    end = event
                if processes.stop:
                    break
        events.close()
        shown.stop()
        signum = processes.stop
        processes.disconnect()
        # also one that came to this process alone, after the last step
        if (signum := signum or processes.stop) and (end is None or end.reason != "diverged"):
            raise _interrupted(run, state, signum)
        assert end is not None
        if end.reason == "diverged":
            raise _diverged(run, state, end)
        best = run.load_model("best", state.device)
        # trained is trained: from here on an interruption costs no more than the evaluation
        run.update(status="completed", finished=now())
        board.latent_space(best, pictured, on_device.train, end.step)
    finally:
        shown.stop()
        board.close()
    document, _ = evaluate_into(run, best, on_device, "test", "best", 0, screen)
    findings = doctor.conclude(document["metrics"])
    run.finish("completed", metrics=finite(document["metrics"]))
    seconds = time.monotonic() - started
    why = f" (stopped by --patience after epoch {end.epoch})" if end.reason == "patience" else ""
    conclusion = f"{run.id} completed in {duration(seconds)}{why}"
    document |= {"findings": [finding.to_json() for finding in findings], "seconds": seconds}
    show_outcome(run, conclusion, document, screen)


def show_outcome(run: Run, conclusion: str, document: dict[str, Any], screen: Screen) -> None:
    """Show the result of a training that reached its end.

    Args:
        run: The run.
        conclusion: How it ended, as the beginning of a sentence.
        document: ``measure``, ``metrics``, ``findings`` and ``seconds``.
        screen: Where to.
    """
    validation, best_epoch, metrics = run.record["validation"], run.record["best_epoch"], document["metrics"]
    text = [f"{conclusion}: best epoch {best_epoch}"]
    if has_numbers(validation, "elbo"):
        text[0] += f", validation elbo {validation['elbo']:.2f} nats"
    se = plus_minus(metrics["elbo_se"]) if has_numbers(metrics, "elbo_se") else ""
    text.append(
        f"  test elbo {metrics['elbo']:.2f}{se} nats, {document['measure']}   recon {metrics['recon']:.2f}   "
        f"kl {metrics['kl']:.2f}   {'codes' if 'codes_used' in metrics else 'active'} "
        f"{activity(metrics, run.spec.latent_dim)}"
    )
    with contextlib.suppress(RunError):  # a damaged history is no reason to hide the result
        courses = [row["validation"] for row in run.history() if has_numbers(row.get("validation"), "elbo", "kl")]
        if courses:
            curve = {key: sparkline([course[key] for course in courses]) for key in ("elbo", "kl")}
            text.append(f"  val elbo {curve['elbo']}   kl {curve['kl']}")
    result = {
        "run": run.id, "status": run.status, "path": str(run.path), "best_epoch": best_epoch,
        "measure": document["measure"], "metrics": metrics,
        "validation": validation, "findings": document["findings"], "seconds": document["seconds"],
    }  # fmt: skip
    screen.result(result, short=run.id, text=text)
    name = run.reference
    screen.note(f"  next: vaectl sample {name} -n 64 -o grid.png   ·   vaectl plot-latent {name}", "dim")


def _save(run: Run, state: TrainState) -> None:
    # a step may have left numbers that are not finite, which no checkpoint may hold; on the CPU the next step notices,
    # elsewhere the end of the epoch does
    if state.finite:
        run.save_checkpoint(state)


def _save_epoch(run: Run, state: TrainState, event: Epoch) -> dict[str, Any]:
    """Keep an epoch's weights and figures, and return the latter as the history holds them."""
    row = dataclasses.asdict(event)
    # the standard error of a single example is not a number
    validation = finite(dict(event.validation))
    row["validation"] = validation or None
    del row["improved"], row["best_epoch"]
    # first the history: where the process dies in between, the epoch is done again and its row is written again
    run.append_history(row)
    run.save_checkpoint(state, best=event.improved)
    if event.improved:
        run.update(best_epoch=event.epoch, validation=validation)
    return row


def _tell(run: Run, screen: Screen, event: RolledBack) -> None:
    sentence = (
        f"{event.problem}: back to the beginning of epoch {event.epoch} with --lr {event.lr:.3g} "
        f"(rollback {event.rollbacks} of {run.spec.training.max_rollbacks})"
    )
    run.log(sentence)
    screen.warn(sentence)


def _begin_prior(run: Run, screen: Screen, event: PriorBegan) -> None:
    sentence = (
        f"epoch {event.epoch + 1} on: the {run.spec.prior.name} prior alone, fitted to the codes of epoch "
        f"{event.best_epoch}"
    )
    run.log(sentence)
    screen.note(sentence)


def _interrupted(run: Run, state: TrainState, signum: int) -> InterruptedRunError:
    if state.batch:
        place = f"in epoch {state.epoch + 1}, after {state.batch} of {state.batches} batches"
    else:
        place = f"after epoch {state.epoch}" if state.epoch else "before its first batch"
    return InterruptedRunError(
        f"{run.id} was interrupted {place}; what was done is saved", signum=signum, hint=_resume_with(run)
    )


def _diverged(run: Run, state: TrainState, end: Stopped) -> DivergedError:
    training = run.spec.training
    kept = f"the weights of epoch {end.best_epoch} are kept" if end.best_epoch else "no epoch was finished"
    after = f" after {state.rollbacks} rollbacks" if state.rollbacks else ""
    advice = [f"a lower --lr (it was {state.lr:g})"]
    advice.append(f"a lower --grad-clip (it was {training.grad_clip:g})" if training.grad_clip else "--grad-clip 1")
    if training.on_nonfinite == "stop":
        advice.append("--on-nonfinite rollback")
    hint = f"with --from {run.reference} try {' or '.join(advice)}"
    return DivergedError(f"{run.id} diverged{after}: {end.problem}; {kept}", hint=hint)


def _resume_with(run: Run) -> str:
    return f"resume with: vaectl train --resume {run.reference}"
