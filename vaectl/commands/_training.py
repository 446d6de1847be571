"""Inside ``vaectl train``: the events of a training, shown and saved as they come, and how it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from vaectl.commands._epochs import EpochScreen
from vaectl.commands._evaluation import ailments, evaluate_into, say
from vaectl.commands._render import Screen, duration, finite, plus_minus, sparkline
from vaectl.data import Data
from vaectl.doctor import Finding, examine
from vaectl.errors import DivergedError, InterruptedRunError
from vaectl.objectives import Objective
from vaectl.runs import Run, now
from vaectl.tracking import TensorBoard
from vaectl.trainer import Epoch, Step, Stopped, fit
from vaectl.vae import VAE


def train_run(run: Run, model: VAE, objective: Objective, data: Data, screen: Screen) -> None:
    """Train a model into its run, evaluate the best weights on the test split, and show the outcome.

    Raises:
        DivergedError: A loss was not finite.
        InterruptedRunError: A signal came; the weights so far are saved.
    """
    spec = run.spec
    started = time.monotonic()
    device = next(model.parameters()).device
    shown = EpochScreen(screen, spec.training.epochs, spec.latent_dim)
    board = TensorBoard(run.path / "tensorboard")
    on_device = dataclasses.replace(
        data, train=data.train.to(device), validation=data.validation.to(device), test=data.test.to(device)
    )
    pictured = on_device.validation if len(data.validation) else on_device.test
    run.log(shown.header())
    shown.start()
    doctor = Doctor(run, screen)
    last: Epoch | None = None
    end: Stopped | None = None
    events = fit(model, objective, on_device, spec.training)
    try:
        with _first_signal() as received:
            for event in events:
                if isinstance(event, Step):
                    shown.step(event)
                elif isinstance(event, Epoch):
                    row = _save_epoch(run, model, event)
                    board.epoch(event)
                    board.pictures(model, pictured, event.step)
                    run.log(shown.row(event))
                    shown.epoch(event)
                    doctor.visit(row)
                    last = event
                else:
                    end = event
                if received:
                    break
        events.close()
        shown.stop()
        if received and end is None:
            _interrupted(run, model, last, received[0])
        assert end is not None
        if end.reason == "diverged":
            raise DivergedError(
                f"{run.id} diverged: {end.problem}; "
                + (f"the weights of epoch {end.best_epoch} are kept" if end.best_epoch else "no epoch was finished"),
                hint=f"try a lower --lr (it was {spec.training.lr:g}) or "
                + (f"a lower --grad-clip (it was {clip:g})" if (clip := spec.training.grad_clip) else "--grad-clip 1"),
            )
        best = run.load_model("best", device)
        # trained is trained: from here on an interruption costs no more than the evaluation
        run.update(status="completed", finished=now())
        board.latent_space(best, pictured, on_device.train, end.step)
    finally:
        shown.stop()
        board.close()
    _finish(run, best, on_device, end, screen, doctor, time.monotonic() - started)


class Doctor:
    """Says each ailment of a training once, on the screen and in the run's log.

    Args:
        run: The run in training.
        screen: Where to.
    """

    def __init__(self, run: Run, screen: Screen) -> None:
        self._run, self._screen = run, screen
        self._spec, self._sizes = run.spec, run.data_info.sizes
        self._rows: list[dict[str, Any]] = []
        self._said: set[str] = set()

    def visit(self, row: dict[str, Any]) -> None:
        """Look at the epochs so far, of which ``row`` is the newest."""
        self._rows.append(row)
        self._say(examine(self._spec, self._rows, self._sizes))

    def conclude(self, metrics: Mapping[str, Any]) -> list[Finding]:
        """Look at the finished model, and return all that ails it, said before or not."""
        found = ailments(self._run, metrics, self._screen)
        self._say(found)
        return found

    def _say(self, found: list[Finding]) -> None:
        for finding in found:
            if finding.name not in self._said:
                self._said.add(finding.name)
                self._run.log(finding.sentence)
                say(finding, self._screen)


def _save_epoch(run: Run, model: VAE, event: Epoch) -> dict[str, Any]:
    """Keep an epoch's weights and figures, and return the latter as the history holds them."""
    row = dataclasses.asdict(event)
    # the standard error of a single example is not a number
    validation = finite(dict(event.validation))
    row["validation"] = validation or None
    del row["improved"], row["best_epoch"]
    run.save_weights("last", model)
    if event.improved:
        run.save_weights("best", model)
        run.update(best_epoch=event.epoch, validation=validation)
    run.append_history(row)
    return row


def _finish(run: Run, model: VAE, data: Data, end: Stopped, screen: Screen, doctor: Doctor, seconds: float) -> None:
    document, _ = evaluate_into(run, model, data, "test", "best", 0, screen)
    metrics = document["metrics"]
    findings = doctor.conclude(metrics)
    run.finish("completed", metrics=finite(metrics))
    validation = run.record["validation"]
    history = run.history()
    why = f" (stopped by --patience after epoch {end.epoch})" if end.reason == "patience" else ""
    text = [f"{run.id} completed in {duration(seconds)}{why}: best epoch {end.best_epoch}"]
    if validation:
        text[0] += f", validation elbo {validation['elbo']:.2f} nats"
        curve = {key: sparkline([row["validation"][key] for row in history]) for key in ("elbo", "kl")}
        text.append(f"  val elbo {curve['elbo']}   kl {curve['kl']}")
    text.insert(
        1,
        f"  test elbo {metrics['elbo']:.2f}{plus_minus(metrics['elbo_se'])} nats, {document['measure']}   "
        f"recon {metrics['recon']:.2f}   "
        f"kl {metrics['kl']:.2f}   active {metrics['active_units']}/{run.spec.latent_dim}",
    )
    result = {
        "run": run.id, "status": run.status, "path": str(run.path), "best_epoch": end.best_epoch,
        "measure": document["measure"], "metrics": metrics,
        "validation": validation, "findings": [finding.to_json() for finding in findings], "seconds": seconds,
    }  # fmt: skip
    screen.result(result, short=run.id, text=text)
    screen.note(f"  next: vaectl sample {run.id} -n 64 -o grid.png   ·   vaectl plot-latent {run.id}", "dim")


def _interrupted(run: Run, model: VAE, last: Epoch | None, signum: int) -> None:
    # on an accelerator a step that diverged in this epoch has not been noticed yet
    if all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        run.save_weights("last", model)
    kept = f"the best weights, of epoch {last.best_epoch}, are kept" if last else "no epoch was finished"
    again = f"start again from epoch 1 with: vaectl train --from {run.id}"
    raise InterruptedRunError(f"{run.id} was interrupted: {kept}", signum=signum, hint=again)


@contextmanager
def _first_signal() -> Iterator[list[int]]:
    """Within the block the first Ctrl-C or SIGTERM is only noted; the second acts as it always does."""
    received: list[int] = []
    previous: dict[int, Any] = {}

    def restore() -> None:
        for signum, handler in previous.items():
            signal.signal(signum, handler)

    def note(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        restore()

    with contextlib.suppress(ValueError):  # off the main thread the caller owns the signals
        for signum in (signal.SIGINT, signal.SIGTERM):
            previous[signum] = signal.signal(signum, note)
    try:
        yield received
    finally:
        restore()
