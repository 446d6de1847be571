"""``vaectl compare``: settings, metrics and pictures of runs side by side. The text needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaectl.commands.compare.sheet import sheet
from vaectl.commands.shared.options import (
    DataDir,
    Device,
    Json,
    ProgressMode,
    Quiet,
    Verbose,
    complete_run,
    output_option,
    seed_option,
    state,
)
from vaectl.commands.shared.plugins import Plugins, load
from vaectl.commands.shared.render import Screen
from vaectl.commands.shared.session import Session
from vaectl.data.location import find_directory
from vaectl.errors import UsageError
from vaectl.runs.run import Run
from vaectl.system.files import check_output, finite, write_output
from vaectl.system.runtime import check_device

if TYPE_CHECKING:
    from rich.table import Table

FORMATS = (".html", ".png", ".md", ".json")
MOST_COLUMNS, MOST_RUNS = 20, 100


def compare_cli(
    context: typer.Context,
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN [RUN ...]",
            autocompletion=complete_run,
            show_default=False,
            help=f"2 to {MOST_COLUMNS} runs, with --group up to {MOST_RUNS}; the first is the baseline.",
        ),
    ],
    group: Annotated[
        bool, typer.Option("--group", help="Compare settings: runs that differ only in the seed form a group.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also show settings that are the same.")] = False,
    output: Annotated[
        Path | None,
        output_option("Write a report: .html or .png with pictures, .md or .json without."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite an existing report.")] = False,
    data_dir: DataDir = None,
    plugin: Plugins = None,
    device: Device = "auto",
    seed: Annotated[int | None, seed_option("Seed of a report's samples and test images.", "0")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
) -> None:
    """Compare two or more runs side by side: settings, metrics and pictures."""
    from vaectl.runs.comparison import CHECKPOINT, SPLIT, compare
    from vaectl.runs.evaluating import kept_evaluation
    from vaectl.runs.grouping import compare_groups, seed_groups

    screen = Screen(quiet, verbose, as_json, progress)
    pictured = output is not None and output.suffix.lower() in (".html", ".png")
    if seed is not None and not pictured:
        raise UsageError("--seed is for the pictures of -o FILE.html or FILE.png")
    if force and output is None:
        raise UsageError("--force without -o has nothing to overwrite")
    if output is not None:
        check_output(output, FORMATS, force=force)
    check_device(device)
    if data_dir is not None:
        find_directory(data_dir)
    # counted before they are opened, which takes a while for hundreds
    if not 2 <= len(runs) <= MOST_RUNS:
        raise UsageError(f"compare takes 2 to {MOST_RUNS} runs; got {len(runs)}")
    if not group:
        _check_columns(len(runs), "--group shows the seeds of one setting in one column")
    opened = [Run.open(reference, state(context).runs_dir) for reference in runs]
    paths = [run.path.resolve() for run in opened]
    if twin := next((path.name for path in paths if paths.count(path) > 1), None):
        raise UsageError(f"compare takes different runs; {twin} was given twice")
    groups = seed_groups(opened) if group else None
    if groups is not None:
        _check_columns(len(groups), None)
    for run in opened:
        screen.detail(f"{run.id}: {run.path}")
    missing = [run for run in opened if kept_evaluation(run, SPLIT, CHECKPOINT) is None]
    if plugin or pictured or missing:  # else no model is made, and a plug-in would be imported for nothing
        load(plugin, screen)
    _evaluate_all(missing, screen, device, data_dir)
    comparison = compare(opened) if groups is None else compare_groups(groups)
    page = sheet(comparison, everything=everything)
    if output is not None:
        from vaectl.commands.compare import report as _report

        figures = _report.pictures(comparison, screen, device, data_dir, seed or 0) if pictured else []
        write_output(output, lambda path: _report.write(path, comparison, page, figures), force=force)
        screen.note(f"report: {output}")
    elbo = comparison.rows[0].values
    short = "\t".join("-" if value is None else f"{value:.4f}" for value in elbo)
    pieces: list[str | Table] = [*page.above, *page.fitted(screen), *page.below]
    screen.result(finite(comparison.to_json()), short=short, text=pieces)
    for note in page.notes:
        screen.note(note)


def _check_columns(columns: int, hint: str | None) -> None:
    if columns > MOST_COLUMNS:
        raise UsageError(f"compare shows up to {MOST_COLUMNS} side by side; got {columns}", hint=hint)


def _evaluate_all(runs: Sequence[Run], screen: Screen, device: str, data_dir: Path | None) -> None:
    """Evaluate the best weights of runs without an evaluation of them, such as interrupted ones."""
    from vaectl.runs.comparison import CHECKPOINT, SPLIT

    for run in runs:
        screen.note(f"{run.id} has no evaluation of its {CHECKPOINT} weights yet: evaluating")
        Session(run, screen, device, data_dir).evaluation(SPLIT, CHECKPOINT)
