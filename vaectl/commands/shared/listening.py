"""The screen as a listener: shows the sentences, findings and progress of the core."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

from vaectl.commands.shared.render import Screen, print_error
from vaectl.evaluation.doctor import Finding
from vaectl.training.events import Found, Lost, Progress, Said


class Shown:
    """Shows sentences, findings and progress; a context whose end removes its bars.

    Args:
        screen: The screen to show them on.
    """

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self._bars = ExitStack()
        self._counts: dict[str, Callable[[int], None]] = {}
        self._download: Callable[[str, int, int], None] | None = None

    def __enter__(self) -> Shown:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def on(self, event: object) -> None:
        """Show an event."""
        if isinstance(event, Progress):
            self._advance(event)
        elif isinstance(event, Said):
            show = {"note": self.screen.note, "detail": self.screen.detail, "warning": self.screen.warn}
            show[event.kind](event.sentence)
        else:
            self.clear()
        if isinstance(event, Found):
            say(event.finding, self.screen)
        elif isinstance(event, Lost):
            print_error(event.error, as_json=self.screen.as_json)

    def clear(self) -> None:
        """Remove the bars."""
        self._bars.close()
        self._counts.clear()
        self._download = None

    def _advance(self, event: Progress) -> None:
        if event.unit == "bytes":
            if self._download is None:
                self._download = self._bars.enter_context(self.screen.downloading())
            self._download(event.what, event.done, event.total)
            return
        if event.what not in self._counts:
            self.clear()
            self._counts[event.what] = self._bars.enter_context(self.screen.counting(event.what, event.total))
        self._counts[event.what](event.done)


def say(finding: Finding, screen: Screen) -> None:
    """Show a finding of the doctor on stderr, as a note if it is harmless, else as a warning."""
    show = screen.note if finding.harmless else screen.warn
    show(finding.sentence)
