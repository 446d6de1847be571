"""The screen of a training: a row for each epoch, and in between a bar or a line each minute."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.text import Text

from vaectl.commands.shared.listening import Shown
from vaectl.commands.shared.render import Heartbeat, Screen, setting_text, sparkline
from vaectl.config.spec import Spec
from vaectl.errors import RunError
from vaectl.runs.events import RunBegan, RunEnded, TrainingBegan
from vaectl.runs.lines import COLUMNS, Lines, conclusion
from vaectl.runs.run import Run
from vaectl.system.reading import has_numbers
from vaectl.training.trainer import Epoch, Logged, PriorBegan, RolledBack, Step, Stopped

# columns for everything beside the bar
FIELDS_WIDTH = 54


class Field(ProgressColumn):
    """A progress column that shows one text field of its task, never wrapped."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def render(self, task: Task) -> Text:
        """The present text of the field."""
        return Text(str(task.fields.get(self._name, "")), no_wrap=True)


class EpochScreen:
    """Shows the events of ``fit``: a row for each epoch, and a bar that moves.

    Args:
        screen: The screen to show them on.
        spec: The run's spec.
        epochs: Total number of epochs.
    """

    def __init__(self, screen: Screen, spec: Spec, epochs: int) -> None:
        self._screen, self._lines = screen, Lines(spec, epochs)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._beat = Heartbeat()
        self._epoch_started = self._started = time.monotonic()
        # epochs done when this process began, and the first and the last batch that it took of this epoch
        self._begun: float | None = None
        self._first = self._last = 0
        self._loss = ""

    def on(self, event: object) -> None:
        """Show an event."""
        if isinstance(event, Step):
            self.step(event)
        elif isinstance(event, Logged):
            self._loss = f"loss {event.loss:.2f}"
        elif isinstance(event, Epoch):
            if self._screen.progress != "none":
                self._screen.note(self._lines.row(event, self._screen.err.width))
                if event.terms:
                    self._screen.detail(self._lines.terms(event))
        elif isinstance(event, RolledBack):
            self._screen.warn(self._lines.sentence(event))
        elif isinstance(event, PriorBegan):
            self._screen.note(self._lines.sentence(event))
            self._lines.epochs = event.last_epoch
        elif isinstance(event, Stopped):
            self.stop()

    def start(self) -> None:
        """Show the header, and the bar if it can move."""
        if self._screen.progress == "none":
            return
        self._screen.note(self._lines.header(self._screen.err.width), "bold")
        if self._screen.progress == "bar":
            names = ("count", "loss", "rate", "eta")
            width = min(30, max(5, self._screen.err.width - FIELDS_WIDTH))
            columns = (Field("epoch"), BarColumn(width), *map(Field, names))
            self._bar = Progress(*columns, console=self._screen.err, transient=True)
            self._task = self._bar.add_task("", total=None)
            self._bar.start()

    def step(self, event: Step) -> None:
        """Move the bar, or once a minute print the progress."""
        if self._begun is None:
            self._begun = event.epoch - 1 + (event.batch - 1) / event.batches
        # an epoch begins, or training was rolled back
        if event.batch == 1 or self._first == 0 or event.batch < self._last:
            self._epoch_started, self._first = time.monotonic(), event.batch
        self._last = event.batch
        if self._bar is not None and self._task is not None:
            fields = self.standing(event)
            self._bar.update(self._task, total=event.batches, completed=event.batch, **fields)
        elif self._screen.progress == "plain" and self._beat.due():
            self._screen.note("  ".join(filter(None, self.standing(event).values())))

    def stop(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def standing(self, event: Step) -> dict[str, Any]:
        """The texts beside the bar by field."""
        now = time.monotonic()
        seconds = max(now - self._epoch_started, 1e-9)
        # the clock of an epoch starts when its first batch has ended
        rate = (event.batch - self._first) * event.examples / seconds if event.batch < event.batches else 0.0
        position = event.epoch - 1 + event.batch / event.batches
        # after a rollback there may be less than there was at the beginning
        done = max(position - (self._begun or 0.0), 1 / event.batches)
        left = (now - self._started) * (self._lines.epochs - position) / done
        hours, minutes, seconds_left = int(left) // 3600, int(left) // 60 % 60, int(left) % 60
        eta = f"{hours}:{minutes:02d}:{seconds_left:02d}" if hours else f"{minutes}:{seconds_left:02d}"
        return {
            "epoch": f"{event.epoch}/{self._lines.epochs}".rjust(COLUMNS[0][1]),
            "count": f"{event.batch}/{event.batches}",
            "loss": self._loss,
            "rate": f"{rate / 1000:.1f}k img/s" if rate else "",
            "eta": f"eta {eta}",
        }


class TrainScreen(Shown):
    """Shows a run from its beginning to its end.

    Args:
        screen: The screen to show it on.
    """

    def __init__(self, screen: Screen) -> None:
        super().__init__(screen)
        self._run: Run | None = None
        self._epochs: EpochScreen | None = None

    def on(self, event: object) -> None:
        """Show an event."""
        super().on(event)
        if self._epochs is not None:
            self._epochs.on(event)
        if isinstance(event, RunBegan):
            self._run = event.run
            self._begin(event)
        elif isinstance(event, TrainingBegan):
            assert self._run is not None
            self._epochs = EpochScreen(self.screen, self._run.spec, event.last_epoch)
            self._epochs.start()
        elif isinstance(event, RunEnded) and event.document:
            self._show_outcome(event)

    def __exit__(self, *error: Any) -> None:
        if self._epochs is not None:
            self._epochs.stop()
        super().__exit__(*error)

    def _begin(self, event: RunBegan) -> None:
        self.screen.note(event.line, "bold")
        if not event.resumed:
            self.screen.detail(f"files: {event.run.path}")
            for path, value in event.run.spec.flat().items():
                self.screen.detail(f"  {path} = {setting_text(value)} ({event.run.record['sources'][path]})")

    def _show_outcome(self, event: RunEnded) -> None:
        """Show the result of a training that reached its end."""
        run = event.run
        result: dict[str, Any] = {
            "run": run.id, "status": run.status, "path": str(run.path), "model": run.spec.model,
            "seed": run.spec.training.seed, "parameters": run.record["parameters"],
            "best_epoch": run.record["best_epoch"], "measure": event.document["measure"],
            "metrics": event.document["metrics"], "validation": run.record["validation"],
            "findings": event.document["findings"], "seconds": event.document["seconds"],
        }  # fmt: skip
        self.screen.result(result, short=run.id, text=[*conclusion(event), *_courses(run)])
        name = run.reference
        self.screen.note(f"  next: vaectl sample {name} -n 64   ·   vaectl plot-latent {name}", "dim")


def _courses(run: Run) -> list[str]:
    """Sparklines of the validation ELBO and its KL."""
    with contextlib.suppress(RunError):  # a damaged history is no reason to hide the result
        rows = [row["validation"] for row in run.history() if has_numbers(row.get("validation"), "elbo", "kl")]
        if rows:
            curve = {key: sparkline([row[key] for row in rows]) for key in ("elbo", "kl")}
            return [f"  val elbo {curve['elbo']}   kl {curve['kl']}"]
    return []
