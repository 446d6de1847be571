"""The listeners of every training: the log, the keeper of checkpoints, and the doctor."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vaectl.errors import RunError
from vaectl.evaluation.doctor import Finding, examine
from vaectl.runs.events import RunBegan, RunEnded, TrainingBegan
from vaectl.runs.lines import Lines, conclusion
from vaectl.runs.run import Run
from vaectl.system.files import finite
from vaectl.training.events import Found, Said, Tell

if TYPE_CHECKING:
    from vaectl.training.state import TrainState
    from vaectl.training.trainer import Epoch, Logged


class Log:
    """Writes ``train.log``.

    Args:
        run: The run, which is locked by this process.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._lines = Lines(run.spec, 0)

    def on(self, event: object) -> None:
        """Write the line of an event that has one."""
        from vaectl.training.trainer import Epoch, PriorBegan

        if isinstance(event, RunBegan):
            self._run.log(event.line)
        elif isinstance(event, TrainingBegan):
            self._lines.epochs = event.last_epoch
            self._run.log(self._lines.header())
        elif isinstance(event, Epoch):
            self._run.log(self._lines.row(event))
            if event.terms:
                self._run.log(self._lines.terms(event))
        elif isinstance(event, Found):
            self._run.log(event.finding.sentence)
        elif isinstance(event, Said):
            if event.kind != "detail":
                self._run.log(f"{'warning: ' if event.kind == 'warning' else ''}{event.sentence}")
        elif isinstance(event, RunEnded):
            if event.document:
                for line in conclusion(event):
                    self._run.log(line)
        elif sentence := self._lines.sentence(event):
            self._run.log(sentence)
        if isinstance(event, PriorBegan):
            self._lines.epochs = event.last_epoch


class Keeper:
    """Saves the progress of a training: its histories, checkpoints, and the best epoch.

    Args:
        run: The run, which is locked by this process.
        state: The state of its training.
        minutes: Minutes between checkpoints within an epoch; each epoch also ends with one.
    """

    def __init__(self, run: Run, state: TrainState, minutes: float) -> None:
        self._run, self._state, self._seconds = run, state, 60 * minutes
        self._saved = time.monotonic()

    def on(self, event: object) -> None:
        """Save an epoch or the figures of steps; after a step, write a checkpoint if the last one is too old."""
        from vaectl.training.trainer import Epoch, Logged, RolledBack, Step

        if isinstance(event, Epoch):
            self._keep(event)
        elif isinstance(event, Logged):
            self._run.append_steps(_row(event))
        elif isinstance(event, RolledBack):
            self._run.rewind_steps(event.step)
        elif isinstance(event, Step) and time.monotonic() - self._saved >= self._seconds:
            self.save()

    def save(self) -> None:
        """Write a checkpoint."""
        # a step may have left numbers that are not finite, which no checkpoint may hold; on the CPU the next step
        # detects them, on other devices the end of the epoch does
        if self._state.finite:
            self._run.save_checkpoint(self._state)
        self._saved = time.monotonic()

    def _keep(self, event: Epoch) -> None:
        # the history first: if the process dies in between, the epoch is trained and its row written again
        self._run.append_history(history_row(event))
        self._run.save_checkpoint(self._state, best=event.improved)
        if event.improved:
            self._run.update(best_epoch=event.epoch, validation=finite(dict(event.validation)))
        self._saved = time.monotonic()


class Doctor:
    """Reports each finding on a training once.

    Args:
        run: The run in training.
        tell: Called with a ``Found`` event for each finding.
    """

    def __init__(self, run: Run, tell: Tell) -> None:
        self._run, self._tell = run, tell
        self._spec, self._info = run.spec, run.data_info
        self._rows = run.history()
        self._names: set[str] = set()

    def on(self, event: object) -> None:
        """Examine the epochs so far, once another has ended."""
        from vaectl.training.trainer import Epoch

        if isinstance(event, Epoch):
            self._rows.append(history_row(event))
            self._report(examine(self._spec, self._rows, self._info.sizes, hard_scale=self._info.hard_scale))

    def conclude(self, metrics: Mapping[str, Any]) -> list[Finding]:
        """Examine the finished model, and return all findings, also those reported before."""
        findings = diagnose(self._run, metrics, self._tell)
        self._report(findings)
        return findings

    def _report(self, findings: list[Finding]) -> None:
        for finding in findings:
            if finding.name not in self._names:
                self._names.add(finding.name)
                self._tell(Found(finding))


def diagnose(run: Run, metrics: Mapping[str, Any], tell: Tell) -> list[Finding]:
    """The doctor's findings on an evaluated run; a damaged history causes a warning, and is not used."""
    try:
        rows = run.history()
    except RunError as error:
        tell(Said(error.message, "warning"))
        rows = []
    info = run.data_info
    return examine(run.spec, rows, info.sizes, metrics, hard_scale=info.hard_scale)


def history_row(event: Epoch) -> dict[str, Any]:
    """An epoch's row in ``metrics.jsonl``."""
    row = _row(event)
    row["validation"] = row["validation"] or None
    del row["improved"], row["best_epoch"]
    return row


def _row(event: Epoch | Logged) -> dict[str, Any]:
    # the standard error of a single example is not a number, and what an accelerator computes may not be one
    row: dict[str, Any] = finite(dataclasses.asdict(event))
    if not row["terms"]:
        del row["terms"]
    return row
