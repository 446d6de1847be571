"""Train a new run, or show with --dry-run what would be trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaectl.commands.shared.data import show, shown_report
from vaectl.commands.shared.render import Screen, setting_text
from vaectl.config.settings import Resolved
from vaectl.errors import SettingError, VaectlError
from vaectl.runs.events import DataLoaded
from vaectl.runs.training import Plan, begin_run, plan_run
from vaectl.training.events import Hub

if TYPE_CHECKING:
    from vaectl.data.report import Report
    from vaectl.parallel.distributed import Processes


def train(
    resolved: Resolved,
    screen: Screen,
    runs_dir: Path,
    name: str | None,
    data_dir: Path | None,
    device: str,
    argv: Sequence[str],
    checkpoint_minutes: float,
    processes: Processes | None = None,
    *,
    dry_run: bool,
) -> None:
    """Train a new run with the resolved settings, or with ``dry_run`` only show what would be trained.

    This process leads the others of ``processes``. Errors are those of ``train_run``.
    """
    from vaectl.commands.train.screen import TrainScreen

    reporter = Reporter(screen, dry_run=dry_run)
    with TrainScreen(screen) as listener:
        hub = Hub([listener, reporter])
        try:
            plan = plan_run(resolved.spec, device=device, data_dir=data_dir, tell=hub.tell, processes=processes)
        except SettingError as error:
            reporter.show_late()
            raise resolved.named(error) from None
        except VaectlError:
            reporter.show_late()
            raise
        if dry_run:
            _show_plan(plan, resolved, reporter.report, screen)
            return
        begin_run(
            plan, runs_dir, name=name, hub=hub, checkpoint_minutes=checkpoint_minutes, argv=argv,
            sources=resolved.sources,
        )  # fmt: skip


class Reporter:
    """Shows the report of the data once they are loaded, or keeps it for the result of a dry run.

    Args:
        screen: The screen to show it on.
        dry_run: Whether the result will show it.
    """

    def __init__(self, screen: Screen, *, dry_run: bool) -> None:
        self.report: Report | None = None
        self._screen, self._dry_run = screen, dry_run

    def on(self, event: object) -> None:
        """Show the report of the data once they are loaded."""
        if isinstance(event, DataLoaded):
            self.report = shown_report(event.data, self._screen, dry_run=self._dry_run)

    def show_late(self) -> None:
        """Show the report that was kept for the result of a dry run that failed: it may say why."""
        if self._dry_run and self.report is not None:
            show(self.report, self._screen)


def _show_plan(plan: Plan, resolved: Resolved, report: Report | None, screen: Screen) -> None:
    """Show what would be trained."""
    flat = plan.spec.flat()
    sources = {path: resolved.sources.get(path, "default") for path in flat}
    document = {
        "config": plan.spec.to_json(), "sources": sources, "dataset": plan.data.info.to_json(),
        "parameters": plan.parameters, "report": None if report is None else report.to_json(),
    }  # fmt: skip
    rows = [[path, setting_text(value), sources[path]] for path, value in flat.items()]
    settings = screen.table([("setting", "left"), ("value", "left"), ("source", "left")], rows)
    data = screen.table([("data", "left"), ("", "left")], [] if report is None else [*map(list, report.rows())])
    screen.result(document, short=str(plan.parameters), text=[plan.title, data, settings])
