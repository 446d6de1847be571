"""The screen of a training: a row an epoch, and a bar, or a line a minute, in between."""

from __future__ import annotations

import time

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.text import Text

from vaectl.commands.shared.render import Heartbeat, Screen, duration, showable
from vaectl.commands.shared.summary import activity
from vaectl.training.trainer import Epoch, Step

# name, width, and the order in which columns go when the terminal is narrow (0 stays)
COLUMNS = (
    ("epoch", 7, 0),
    ("elbo", 10, 1),
    ("recon", 10, 3),
    ("kl", 8, 4),
    ("beta", 6, 5),
    ("val elbo", 10, 0),
    ("active", 8, 6),
    ("time", 8, 7),
)
BEST_WIDTH = 2


def within(value: float, column: str) -> str:
    """A number with as many digits as leave a space before it in its column."""
    (width,) = [width for name, width, _ in COLUMNS if name == column]
    texts = [f"{value:.2f}", f"{value:.0f}", f"{value:.3g}"]
    return next((text for text in texts if len(text) < width), texts[-1])


class Field(ProgressColumn):
    """A progress column of one text field of its task, never wrapped."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def render(self, task: Task) -> Text:
        """The field as it is now."""
        return Text(str(task.fields.get(self._name, "")), no_wrap=True)


class EpochScreen:
    """Shows the events of ``fit``.

    Args:
        screen: Where to.
        epochs: Epochs in all.
        latent_dim: Latent dimensions, for the active ones among them.
    """

    def __init__(self, screen: Screen, epochs: int, latent_dim: int) -> None:
        self._screen, self._epochs, self._latent_dim = screen, epochs, latent_dim
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._beat = Heartbeat()
        self._epoch_started = self._started = time.monotonic()
        # the epochs done when this process began, its first batch of the epoch, and its last
        self._begun: float | None = None
        self._first = self._last = 0

    def header(self) -> str:
        """The column names."""
        return self._join({name: name for name, _, _ in COLUMNS})

    def row(self, event: Epoch) -> str:
        """An epoch's row; a star marks the best weights so far."""
        validation = event.validation
        cells = {
            "epoch": f"{event.epoch}/{self._epochs}",
            "elbo": within(event.elbo, "elbo"),
            "recon": within(event.recon, "recon"),
            "kl": within(event.kl, "kl"),
            "beta": f"{event.beta:.2f}",
            "val elbo": within(validation["elbo"], "val elbo") if validation else "-",
            "active": activity(validation, self._latent_dim) if validation else "-",
            "time": duration(event.seconds),
        }
        return self._join(cells) + (" *" if event.improved and validation else "")

    def start(self) -> None:
        """Show the header, and the bar where it may move."""
        if self._screen.progress == "none":
            return
        self._screen.note(self.header(), "bold")
        if self._screen.progress == "bar":
            columns = (Field("epoch"), BarColumn(bar_width=30), Field("count"), Field("rate"), Field("eta"))
            self._bar = Progress(*columns, console=self._screen.err, transient=True)
            self._task = self._bar.add_task("", total=None)
            self._bar.start()

    def step(self, event: Step) -> None:
        """Move the bar, or say once a minute where training stands."""
        if self._begun is None:
            self._begun = event.epoch - 1 + (event.batch - 1) / event.batches
        # an epoch begins, or training was rolled back
        if event.batch == 1 or self._first == 0 or event.batch < self._last:
            self._epoch_started, self._first = time.monotonic(), event.batch
        self._last = event.batch
        if self._bar is not None and self._task is not None:
            epoch, count, rate, eta = self._standing(event)
            self._bar.update(
                self._task, total=event.batches, completed=event.batch, epoch=epoch, count=count, rate=rate, eta=eta
            )
        elif self._screen.progress == "plain" and self._beat.due():
            self._screen.note("  ".join(self._standing(event)))

    def epoch(self, event: Epoch) -> None:
        """Leave the epoch's row on the screen."""
        if self._screen.progress != "none":
            self._screen.note(self.row(event))

    def extend(self, epochs: int) -> None:
        """From here on there are so many epochs in all."""
        self._epochs = epochs

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _standing(self, event: Step) -> tuple[str, str, str, str]:
        now = time.monotonic()
        seconds = max(now - self._epoch_started, 1e-9)
        # the clock of an epoch starts when its first batch has ended
        rate = (event.batch - self._first) * event.examples / seconds if event.batch < event.batches else 0.0
        place = event.epoch - 1 + event.batch / event.batches
        # after a rollback there may be less than there was at the beginning
        done = max(place - (self._begun or 0.0), 1 / event.batches)
        left = (now - self._started) * (self._epochs - place) / done
        hours, minutes, seconds_left = int(left) // 3600, int(left) // 60 % 60, int(left) % 60
        eta = f"{hours}:{minutes:02d}:{seconds_left:02d}" if hours else f"{minutes}:{seconds_left:02d}"
        return (
            f"{event.epoch}/{self._epochs}".rjust(COLUMNS[0][1]),
            f"{event.batch}/{event.batches}",
            f"{rate / 1000:.1f}k img/s" if rate else "",
            f"eta {eta}",
        )

    def _join(self, cells: dict[str, str]) -> str:
        shown = list(COLUMNS)
        room = self._screen.err.width - BEST_WIDTH
        while sum(width for _, width, _ in shown) > room and any(order for _, _, order in shown):
            shown.remove(max(shown, key=lambda column: column[2]))
        return showable("".join(cells[name].rjust(width) for name, width, _ in shown), self._screen.err.encoding)
