"""``vaectl runs``: list the runs, or show one. Needs no torch."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaectl.commands.shared.options import Json, ProgressMode, Quiet, Verbose, choice, complete_run, number, state
from vaectl.commands.shared.render import Screen, print_json, setting_text, showable
from vaectl.commands.shared.summary import glanced, summary
from vaectl.errors import UsageError, check_choice
from vaectl.runs.catalog import folder_text, listing, ranked
from vaectl.runs.lines import duration
from vaectl.runs.run import Run
from vaectl.system.text import harmless

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("id", "status", "dataset", "model", "latent", "beta", "epoch", "val elbo", "test elbo", "time", "started")
RIGHT_ALIGNED = {"latent", "beta", "epoch", "val elbo", "test elbo", "time"}
DROPPED_FIRST = ("started", "time", "beta", "model", "latent", "dataset", "epoch", "test elbo")
# orders by a figure: its name, and 1 if the largest comes first
BY_FIGURE = {"elbo": ("val_elbo", 1), "time": ("seconds", -1)}
SORTS = ("id", *BY_FIGURE)
SHOWN = 20


def runs_cli(
    context: typer.Context,
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="Show only this run.", autocompletion=complete_run, show_default=False),
    ] = None,
    sort: Annotated[
        str, choice("--sort", SORTS, "Order: by id, best validation ELBO first, or shortest time first.")
    ] = "id",
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            parser=number(int, 1, 1_000_000),
            show_default=f"{SHOWN}",
            help="Largest number of runs to show.",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show all runs.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
    progress: ProgressMode = "auto",
) -> None:
    """List runs, or show one."""
    screen = Screen(quiet, verbose, as_json, progress)
    check_choice("--sort", sort, SORTS)
    if everything and limit is not None:
        raise UsageError("--all and --limit cannot be given together")
    runs_dir = state(context).runs_dir
    if run is not None:
        if everything or limit is not None or sort != "id":
            raise UsageError("--sort, --limit and --all are for the list of runs, not for one RUN")
        _show(Run.open(run, runs_dir), screen)
        return
    paths = listing(runs_dir)
    hidden = 0 if everything else max(0, len(paths) - (limit or SHOWN))
    rows = _rows(paths, sort, len(paths) - hidden)
    if as_json:
        print_json(rows)
        return
    if not rows:
        screen.note(f"no runs in {folder_text(runs_dir)}; train one with: vaectl train")
        return
    cells = [_cells(row) for row in rows]
    if quiet:
        sys.stdout.writelines(f"{showable(row[0], screen.out.encoding)}\n" for row in cells)
    elif sys.stdout.isatty():
        screen.result(None, short="", text=screen.table(*_fitting(cells, screen.out.width)))
    else:
        screen.result(None, short="", text=[_tabbed(row) for row in (COLUMNS, *cells)])
    if hidden:
        screen.note(f"{hidden} more; show them with --all")
    for row in rows:
        if row["status"] == "crashed":
            screen.note(_resume_hint(Run(runs_dir / row["id"], {}), row["status"]))


def _rows(paths: list[Path], sort: str, most: int) -> list[dict[str, Any]]:
    """The rows of the list, at most so many; the other runs are not read."""
    if sort == "id":
        # the newest runs are the last
        return [summary(path) for path in paths[len(paths) - most :]]
    name, sign = BY_FIGURE[sort]

    def key(figures: Mapping[str, float | None]) -> float:
        value = figures[name]
        return -math.inf if value is None else sign * value

    # of equals the first comes first, and runs without the figure come last
    return list(islice(ranked(paths[::-1], lambda path: key(glanced(path)), summary, key), most))


def _resume_hint(run: Run, status: str) -> str:
    return f"{run.id} is {status}; resume with: vaectl train --resume {run.reference}"


def _fitting(cells: list[list[str]], width: int) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Columns and rows of the list without the columns for which a narrow terminal has no room."""
    names = list(COLUMNS)
    widths = {name: max(len(name), *(len(row[i]) for row in cells)) + 2 for i, name in enumerate(COLUMNS)}
    for name in DROPPED_FIRST:
        if sum(widths[column] for column in names) > width:
            names.remove(name)
    indices = [COLUMNS.index(name) for name in names]
    columns = [(name, "right" if name in RIGHT_ALIGNED else "left") for name in names]
    return columns, [[row[i] for i in indices] for row in cells]


def _tabbed(row: Sequence[str]) -> str:
    return "\t".join(map(harmless, row))


def _cells(row: dict[str, Any]) -> list[str]:
    def text(value: Any, form: str = "") -> str:
        return "-" if value is None else format(value, form)

    return [
        row["id"],
        row["status"],
        text(row["dataset"]),
        text(row["model"]),
        text(row["latent_dim"]),
        text(row["beta"], "g") if isinstance(row["beta"], int | float) else "-",
        f"{text(row['best_epoch'])}/{text(row['epochs'])}",
        text(row["val_elbo"], ".2f"),
        text(row["test_elbo"], ".2f"),
        "-" if row["seconds"] is None else duration(row["seconds"]),
        text(row["started"]).replace("T", " ")[:16],
    ]


def _show(run: Run, screen: Screen) -> None:
    row = summary(run.path)
    record = run.record
    document = {**record, "status": run.status, "path": str(run.path)}
    fields = [[name.replace("_", " "), cell] for name, cell in zip(COLUMNS, _cells(row), strict=True)]
    fields += [
        ["path", str(run.path)],
        ["parameters", f"{record['parameters']:,}"],
        ["device", record["device"]],
        ["command", " ".join(["vaectl", *map(str, record["argv"])])],
        ["git commit", str(record["git_commit"] or "-")],
        ["files", ", ".join(sorted(path.name for path in run.path.iterdir() if not path.name.startswith(".")))],
    ]
    changed = {path: value for path, value in run.spec.flat().items() if record["sources"].get(path) != "default"}
    fields += [[path, f"{setting_text(value)} ({record['sources'].get(path)})"] for path, value in changed.items()]
    if sys.stdout.isatty():
        text: list[str | Table] = [screen.table([("field", "left"), ("value", "left")], fields)]
    else:
        text = [_tabbed(row) for row in fields]
    screen.result(document, short=run.id, text=text)
    if row["status"] in ("crashed", "interrupted"):
        screen.note(_resume_hint(run, row["status"]))
