"""The options that commands share, each with its help."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from vaectl.commands.shared.render import PROGRESS
from vaectl.commands.shared.state import State
from vaectl.config.datasets import BUILT_IN
from vaectl.config.spec import ALL, SPLITS
from vaectl.config.table import BY_NAME, MACHINE
from vaectl.config.values import Bounds, canonical, coerce
from vaectl.errors import SettingError, VaectlError, check_choice
from vaectl.runs.catalog import NAME
from vaectl.runs.run import CHECKPOINTS
from vaectl.system.runtime import DEVICES


def state(context: typer.Context) -> State:
    """The state that the app's callback put into the context."""
    current = context.find_object(State)
    assert current is not None
    return current


# all else in a summary could be more than text to a shell: zsh would run $(...), and Typer takes [...] for markup
UNUSUAL = re.compile(r"[^A-Za-z0-9 ._,=-]")


def offered(values: Iterable[tuple[str, str]], incomplete: str) -> list[tuple[str, str]]:
    """The completions of a word, without values that are no names and that a shell could therefore misread.

    Args:
        values: Each possible value with a summary, which may be empty.
        incomplete: The word so far.
    """
    return [
        (value, UNUSUAL.sub("_", summary))
        for value, summary in values
        if value.startswith(incomplete) and NAME.fullmatch(value)
    ]


def complete_run(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Run ids that begin with what was typed, each with a summary, newest first."""
    from vaectl.commands.shared.summary import summaries

    root = context.find_root().params.get("runs_dir") or Path("runs")
    try:
        return offered(summaries(Path(root), incomplete), incomplete)
    except VaectlError:
        return []


def complete_label(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The names of the classes of the run on the command line that begin with what was typed."""
    from vaectl.runs.run import Run

    # where an option still lacks its value, arguments are not yet told from each other
    name = context.params.get("run") or next(iter(context.args), "")
    try:
        run = Run.open(str(name), context.find_root().params.get("runs_dir") or Path("runs"))
        return offered(((name, "") for name in run.data_info.classes), incomplete)
    except VaectlError:
        return []


def number(kind: type, low: float, high: float) -> Callable[[Any], Any]:
    """A parser for numbers from ``low`` to ``high``, whose errors name the value and the bounds."""

    def parse(value: Any) -> Any:
        try:
            return coerce("", value, Annotated[kind, Bounds(low, high)])
        except SettingError as error:
            raise typer.BadParameter(error.problem) from None

    return parse


OUTPUT = "Output"


def completing(names: Collection[str]) -> Callable[[str], list[tuple[str, str]]] | None:
    """A shell completion for values that are one of some names; None if there are no names."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        return offered(((name, "") for name in names), incomplete)

    return complete if names else None


def choice(flag: str, names: Collection[str], help_text: str, **options: Any) -> Any:
    """An option whose value is one of some names, which its help lists and a shell completes.

    Args:
        flag: The flag.
        names: The names.
        help_text: The help.
        options: Further arguments of ``typer.Option``.
    """
    defaults = {
        "metavar": "|".join(names), "autocompletion": completing(names), "parser": lambda text: canonical(text, names),
    }  # fmt: skip
    return typer.Option(flag, help=help_text, **defaults | options)


def seed_option(help_text: str, default: str | bool = True) -> Any:
    """``--seed``; a command that does not always use it has None as its default, and ``default`` as the one shown."""
    return typer.Option(
        "--seed",
        metavar="N",
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
PathArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[PATH]",
        help="Your own data: an image, a folder, an array or a table, or - for standard input; by default the run's "
        "test split.",
        show_default=False,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only the id, path or number.", rich_help_panel=OUTPUT)
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print more on stderr: settings, files, times.", rich_help_panel=OUTPUT)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, also for errors.", rich_help_panel=OUTPUT)]
ProgressMode = Annotated[
    str,
    choice(
        "--progress",
        PROGRESS,
        "How to show progress on stderr; auto is a bar on a terminal.",
        envvar="VAECTL_PROGRESS",
        rich_help_panel=OUTPUT,
    ),
]
Device = Annotated[
    str,
    choice(
        "--device",
        DEVICES,
        "Where to compute; auto takes a GPU if there is one.",
        metavar="auto|cpu|cuda|cuda:N|mps",
        rich_help_panel=MACHINE,
    ),
]
Seed = Annotated[int, seed_option("Seed of every random draw.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite an existing output file.")]
Checkpoint = Annotated[
    str, choice("--checkpoint", CHECKPOINTS, "Weights of the best validation epoch, or of the last epoch.")
]
SPLIT_NAMES = (*SPLITS, ALL)


def check_split(name: str | None) -> None:
    """Raise a UsageError unless ``--split`` is absent, a split or ``all``."""
    if name is not None:
        check_choice("--split", name, SPLIT_NAMES)


OtherSplit = Annotated[
    str | None,
    choice(
        "--split",
        SPLIT_NAMES,
        "Split of the data set; all takes one split after the other.",
        show_default="test; all for another data set by path",
    ),
]
OtherDataset = Annotated[
    str | None,
    choice(
        "--dataset",
        BUILT_IN,
        "Another data set of the same shape, by name or path; its images are resized as the run's were.",
        metavar=BY_NAME["dataset"].placeholder,
        parser=BY_NAME["dataset"].spelled,
        show_default="the run's own",
    ),
]
Rows = Annotated[
    str | None,
    typer.Option(
        "--rows",
        metavar="N,N,...",
        show_default=False,
        help="Only these rows of the split or of the file, counted from 0, such as 3,17 or 0-9.",
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        "--label",
        metavar="CLASS",
        show_default=False,
        help="Only examples of this class, by name or number.",
        autocompletion=complete_label,
    ),
]
Pair = Annotated[
    tuple[str, str] | None,
    typer.Option("--pair", metavar="A B", show_default=False, help="Only these two: rows, or files of one example."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        readable=False,
        help="Folder of data sets. [env: VAECTL_DATA_DIR]",
        show_default="the run's own",
        rich_help_panel=MACHINE,
    ),
]


def output_option(help_text: str, default: str | bool = False, metavar: str = "FILE") -> Any:
    """``-o``; ``default`` describes the path without it."""
    return typer.Option("-o", "--output", metavar=metavar, readable=False, show_default=default, help=help_text)
