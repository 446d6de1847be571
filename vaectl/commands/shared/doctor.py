"""The doctor's findings, told on the screen and in a run's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vaectl.commands.shared.render import Screen
from vaectl.errors import RunError
from vaectl.evaluation.doctor import Finding, examine
from vaectl.runs.run import Run


def ailments(run: Run, metrics: Mapping[str, Any], screen: Screen) -> list[Finding]:
    """What ails a run as evaluated; of a damaged history it says so, and judges without."""
    try:
        history = run.history()
    except RunError as error:
        screen.warn(error.message)
        history = []
    return examine(run.spec, history, run.data_info.sizes, metrics)


def say(finding: Finding, screen: Screen) -> None:
    """Show a finding of the doctor on stderr: what does no harm as a note, the rest as a warning."""
    show = screen.note if finding.harmless else screen.warn
    show(finding.sentence)


class Doctor:
    """Says each ailment of a training once, on the screen and in the run's log.

    Args:
        run: The run in training.
        screen: Where to.
        rows: The epochs of its history so far.
    """

    def __init__(self, run: Run, screen: Screen, rows: Sequence[dict[str, Any]]) -> None:
        self._run, self._screen = run, screen
        self._spec, self._sizes = run.spec, run.data_info.sizes
        self._rows = list(rows)
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
