"""``vaectl compare``: settings, metrics and pictures of runs side by side. The text needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from vaectl.commands._options import (
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
from vaectl.commands._render import Screen, Tables, finite, setting_text
from vaectl.commands._session import Session, data_directory
from vaectl.errors import UsageError
from vaectl.files import check_output
from vaectl.runs import Run
from vaectl.runtime import check_device

if TYPE_CHECKING:
    from vaectl.comparison import Comparison, Row

FORMATS = (".html", ".png", ".md", ".json")
MOST_COLUMNS, MOST_RUNS = 20, 100


@dataclass(frozen=True)
class Sheet:
    """A comparison as a person reads it: lines, two tables, lines; the first header of a table is its title."""

    title: str
    above: list[str]
    tables: Tables
    below: list[str]


def compare_cli(
    context: typer.Context,
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN [RUN ...]",
            autocompletion=complete_run,
            show_default=False,
            help="Two or more runs; the first is the baseline.",
        ),
    ],
    group: Annotated[
        bool, typer.Option("--group", help="Compare settings: runs that differ in nothing but the seed are one group.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show the settings that are the same, too.")] = False,
    output: Annotated[
        Path | None,
        output_option("Write a report: .html or .png with pictures, .md or .json without."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite an existing report.")] = False,
    data_dir: DataDir = None,
    device: Device = "auto",
    seed: Annotated[int | None, seed_option("Seed of a report's samples and test images.", "0")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
) -> None:
    """Settings, metrics and pictures of two or more runs, side by side."""
    from vaectl.comparison import compare
    from vaectl.grouping import compare_groups, seed_groups

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
        data_directory(data_dir)
    opened = [Run.open(reference, state(context).runs_dir) for reference in runs]
    if not 2 <= len(opened) <= MOST_RUNS:
        raise UsageError(f"compare takes 2 to {MOST_RUNS} runs; got {len(opened)}")
    if len({run.path.resolve() for run in opened}) < len(opened):
        raise UsageError("compare takes different runs; one was given twice")
    groups = seed_groups(opened) if group else None
    columns = len(opened if groups is None else groups)
    if columns > MOST_COLUMNS:
        hint = "--group takes the seeds of one setting together" if groups is None else None
        raise UsageError(f"compare shows up to {MOST_COLUMNS} side by side; got {columns}", hint=hint)
    for run in opened:
        screen.detail(f"{run.id}: {run.path}")
    _evaluate_missing(opened, screen, device, data_dir)
    found = compare(opened) if groups is None else compare_groups(groups)
    shown = sheet(found, everything=everything)
    if output is not None:
        from vaectl.commands import _report

        figure = _report.pictures(found, screen, device, data_dir, seed or 0) if pictured else None
        _report.write(output, found, shown, figure)
        screen.note(f"report: {output}")
    elbo = found.rows[0].values
    short = "\t".join("-" if value is None else f"{value:.4f}" for value in elbo)
    pieces: list[str | Table] = [*shown.above, *screen.tables(shown.tables), *shown.below]
    screen.result(finite(found.to_json()), short=short, text=pieces)


def sheet(found: Comparison, *, everything: bool) -> Sheet:
    """The comparison as a person reads it, with the settings that differ or with all."""
    from vaectl.comparison import SPLIT

    labels = found.labels
    shown = found.settings if everything else found.differing
    names = _short_names(found.settings)
    heads = [(label, "right") for label in labels]
    settings = [[f"  {names[path]}", *map(setting_text, values)] for path, values in shown.items()]
    changes: list[tuple[str, str]] = []
    for label in labels[1:]:
        changes += [("change" if len(labels) == 2 else f"{label} change", "left"), ("", "left")]
        changes += [("95 % interval", "left")] if found.grouped else []
    counts = " / ".join(map(str, found.n if len(set(found.n)) > 1 else found.n[:1]))
    width = max(len(_name(row)) for row in found.rows)
    metrics = [
        [f"  {_name(row).ljust(width)}{_label(row, found)}", *_cells(row), *_changes(row, found)] for row in found.rows
    ]
    below = [f"no verdicts: {reason}" for reason in found.reasons]
    below += [f"no verdict for {label}: {why}" for label, why in zip(labels, found.withheld, strict=True) if why]
    return Sheet(
        " and ".join(labels),
        _legend(found) if found.grouped else [],
        [
            ([(f"settings: {len(found.differing)} of {len(found.settings)} differ", "left"), *heads], settings),
            ([(f"metrics ({SPLIT}, {counts} images)", "left"), *heads, *changes], metrics),
        ],
        below,
    )


def _legend(found: Comparison) -> list[str]:
    """Which runs each group has, and what its numbers are means and deviations over."""
    lines = [
        f"{column.label}: {', '.join(run.id for run in column.runs)}  "
        f"({'seed' if len(column.seeds) == 1 else 'seeds'} {', '.join(map(str, column.seeds))})"
        for column in found.columns
    ]
    sizes = sorted({len(column.runs) for column in found.columns} - {1})
    if sizes:
        lines.append(f"mean ± standard deviation over {' or '.join(map(str, sizes))} seeds")
    if any(se is not None for row in found.rows for se in row.delta_se):
        lines.append("change ± standard error over seeds and test images; a verdict where the 95 % interval excludes 0")
    return lines


def _name(row: Row) -> str:
    if row.metric.samples is not None:
        return f"bound K={row.metric.samples}"
    return {"active_units": "active", "mutual_information": "information ≥"}.get(row.metric.name, row.metric.name)


def _label(row: Row, found: Comparison) -> str:
    arrow = {1: " ↑", -1: " ↓", 0: "  "}[row.metric.direction]
    if row.metric.unit == "count":
        sizes = [column.runs[0].spec.latent_dim for column in found.columns]
        return f"{arrow} of {sizes[0] if len(set(sizes)) == 1 else '/'.join(map(str, sizes))}"
    return f"{arrow} {row.metric.unit}"


def _cells(row: Row) -> list[str]:
    cells = []
    for value, sd in zip(row.values, row.sd, strict=True):
        # the mean of a count over seeds is no whole number
        digits = 2 if isinstance(value, float) and row.metric.unit == "count" else row.metric.digits
        cells.append(
            "-" if value is None else f"{value:.{digits}f}" + (f" ± {sd:.{digits}f}" if sd is not None else "")
        )
    return cells


def _changes(row: Row, found: Comparison) -> list[str]:
    cells: list[str] = []
    for place in range(1, len(found.columns)):
        delta, se, ends = row.delta[place], row.delta_se[place], row.interval[place]
        digits = 2 if isinstance(delta, float) and row.metric.unit == "count" else row.metric.digits
        text = "-" if delta is None else f"{delta:+.{digits}f}"
        cells += [text + (f" ± {se:.{digits}f}" if se is not None else ""), row.verdict[place] or ""]
        if found.grouped:
            cells.append("" if ends is None else f"{ends[0]:+.{digits}f} to {ends[1]:+.{digits}f}")
    return cells


def _short_names(settings: dict[str, Any]) -> dict[str, str]:
    """Each path's last word, where no other path ends in it."""
    last = {path: path.rpartition(".")[2] for path in settings}
    counts = list(last.values())
    return {path: name if counts.count(name) == 1 else path for path, name in last.items()}


def _evaluate_missing(runs: Sequence[Run], screen: Screen, device: str, data_dir: Path | None) -> None:
    """Evaluate the best weights of runs that keep no evaluation of them (an interrupted one, say)."""
    from vaectl.commands._evaluation import evaluated, kept_evaluation
    from vaectl.comparison import CHECKPOINT, SPLIT

    for run in runs:
        if kept_evaluation(run, SPLIT, CHECKPOINT) is None:
            screen.note(f"{run.id} has no evaluation of its {CHECKPOINT} weights yet: evaluating")
            evaluated(Session(run, screen, device, data_dir), SPLIT, CHECKPOINT)
