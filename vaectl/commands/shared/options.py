"""The options that commands share, each with its help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from vaectl.commands.shared.render import setting_text
from vaectl.commands.shared.state import State
from vaectl.config.recipes import RECIPES
from vaectl.config.settings import NAMES
from vaectl.config.spec import Bounds, coerce
from vaectl.errors import SettingError, VaectlError


def state(context: typer.Context) -> State:
    """The state that the app's callback left in the context."""
    found = context.find_object(State)
    assert found is not None
    return found


def complete_run(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Run ids that begin with what was typed, each with a summary, newest first."""
    from vaectl.commands.shared.summary import summaries

    root = context.find_root().params.get("runs_dir") or Path("runs")
    try:
        return [(run_id, text) for run_id, text in summaries(Path(root)) if run_id.startswith(incomplete)]
    except VaectlError:
        return []


def number(kind: type, low: float, high: float) -> Callable[[Any], Any]:
    """A parser of numbers from ``low`` to ``high`` whose error says what was given and what is allowed."""

    def parse(given: Any) -> Any:
        try:
            return coerce("", given, Annotated[kind, Bounds(low, high)])
        except SettingError as error:
            raise typer.BadParameter(error.problem) from None

    return parse


OUTPUT, MACHINE = "Output", "Machine"


def seed_option(help_text: str, default: str | bool = True) -> Any:
    """``--seed``; where a seed is not always of use its parameter is None by default, and ``default`` says so."""
    return typer.Option(
        "--seed",
        metavar="INT",
        parser=number(int, 0, 2**32 - 1),
        help=help_text,
        show_default=default,
        rich_help_panel=MACHINE,
    )


RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run: its id, number, path, 'latest' or 'latest~N'.",
        autocompletion=complete_run,
        show_default=False,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only the id, path or number.", rich_help_panel=OUTPUT)
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more on stderr: settings, files, times.", rich_help_panel=OUTPUT)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for errors too.", rich_help_panel=OUTPUT)]
ProgressMode = Annotated[
    str,
    typer.Option(
        "--progress",
        metavar="auto|bar|plain|none",
        envvar="VAECTL_PROGRESS",
        help="How to show progress on stderr; auto is a bar on a terminal.",
        rich_help_panel=OUTPUT,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N|mps",
        help="Where to compute; auto takes a GPU where there is one.",
        rich_help_panel=MACHINE,
    ),
]
Seed = Annotated[int, seed_option("Seed of every random draw.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite an existing output file.")]
Checkpoint = Annotated[
    str, typer.Option("--checkpoint", metavar="best|last", help="Weights of the best validation epoch, or the last.")
]
SplitName = Annotated[
    str, typer.Option("--split", metavar="test|validation|train", help="Which examples of the data set.")
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        readable=False,
        help="Folder of data sets; also VAECTL_DATA_DIR.",
        show_default="the one the run was trained with",
        rich_help_panel=MACHINE,
    ),
]


def output_option(help_text: str, default: str | bool = False, metavar: str = "FILE") -> Any:
    """``-o``, with what is written where it is not given."""
    return typer.Option("-o", "--output", metavar=metavar, readable=False, show_default=default, help=help_text)


def setting(flag: str, help_text: str, panel: str, metavar: str | None = None, recipe: str = "vae") -> Any:
    """The option of a setting, with the default of a recipe in its help: ``vae``, or the one that is named there."""
    name = flag.removeprefix("--").replace("-", "_")
    path = next(iter(NAMES[name]))
    default = RECIPES[recipe]().flat()[path]
    if isinstance(default, bool):
        return typer.Option(flag, help=help_text, show_default=False, rich_help_panel=panel)
    if metavar is None:
        metavar = {int: "INT", float: "FLOAT"}[type(default)]
    text: str | bool = False if default is None else setting_text(default)
    if recipe != "vae":
        text = f"{recipe}: {setting_text(default)}"
    return typer.Option(flag, metavar=metavar, help=help_text, show_default=text, rich_help_panel=panel)
