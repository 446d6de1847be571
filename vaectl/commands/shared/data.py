"""The report of a data set on the screen, before a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaectl.commands.shared.render import Screen

if TYPE_CHECKING:
    from vaectl.data.base import Data
    from vaectl.data.report import Report


def shown_report(data: Data, screen: Screen, *, dry_run: bool) -> Report | None:
    """The report of a data set or None, shown on stderr unless the result will show it.

    Own data always have a report. For a built-in set it costs a pass over the data, and needs ``-v`` or ``--dry-run``.
    """
    from vaectl.data.loading import reported

    if data.report is None and not (dry_run or screen.verbose):
        return None
    report = reported(data)
    if not dry_run:
        show(report, screen)
    return report


def show(report: Report, screen: Screen) -> None:
    """Show the report of a data set on stderr."""
    for name, text in report.rows():
        screen.note(f"data: {name:<11} {text}")
