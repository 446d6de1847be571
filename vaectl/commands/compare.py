"""``vaectl compare``: settings, metrics and pictures of runs side by side. The text needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
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
MOST_RUNS = 20


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
    for run in opened:
        screen.detail(f"{run.id}: {run.path}")
    _evaluate_missing(opened, screen, device, data_dir)
    found = compare(opened)
    shown = tables(found, everything=everything)
    if output is not None:
        from vaectl.commands import _report

        figure = _report.pictures(found, screen, device, data_dir, seed or 0) if pictured else None
        _report.write(output, found, shown, figure)
        screen.note(f"report: {output}")
    elbo = found.rows[0].values
    short = "\t".join("-" if value is None else f"{value:.4f}" for value in elbo)
    pieces: list[str | Table] = [*screen.tables(shown)]
    pieces += [f"no verdicts: {reason}" for reason in found.reasons]
    screen.result(finite(found.to_json()), short=short, text=pieces)


def tables(found: Comparison, *, everything: bool) -> Tables:
    """The comparison as two tables, the settings and the metrics; the first header is the table's title."""
    from vaectl.comparison import SPLIT

    ids = [run.id for run in found.runs]
    shown = found.settings if everything else found.differing
    names = _short_names(found.settings)
    heads = [(run_id, "right") for run_id in ids]
    settings = [[f"  {names[path]}", *map(setting_text, values)] for path, values in shown.items()]
    changes: list[tuple[str, str]] = []
    for run_id in ids[1:]:
        changes += [("change" if len(ids) == 2 else f"{run_id} change", "left"), ("", "left")]
    counts = " / ".join(map(str, found.n if len(set(found.n)) > 1 else found.n[:1]))
    metrics = [[f"  {_label(row, found)}", *_cells(row), *_change(row)] for row in found.rows]
    return [
        ([(f"settings: {len(found.differing)} of {len(found.settings)} differ", "left"), *heads], settings),
        ([(f"metrics ({SPLIT}, {counts} images)", "left"), *heads, *changes], metrics),
    ]


def _label(row: Row, found: Comparison) -> str:
    metric = row.metric
    arrow = {1: " ↑", -1: " ↓", 0: "  "}[metric.direction]
    if metric.unit == "count":
        sizes = {run.spec.latent_dim for run in found.runs}
        each = [run.spec.latent_dim for run in found.runs]
        return f"active{arrow} of {each[0] if len(sizes) == 1 else '/'.join(map(str, each))}"
    return f"{metric.name.ljust(6)}{arrow} {metric.unit}"


def _cells(row: Row) -> list[str]:
    form = "d" if row.metric.unit == "count" else ".2f"
    return ["-" if value is None else format(value, form) for value in row.values]


def _change(row: Row) -> list[str]:
    cells: list[str] = []
    for delta, se, verdict in zip(row.delta[1:], row.delta_se[1:], row.verdict[1:], strict=True):
        text = "-" if delta is None else format(delta, "+d" if row.metric.unit == "count" else "+.2f")
        cells += [text + (f" ± {se:.2f}" if se is not None else ""), verdict or ""]
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
