"""The documentation is true: every command of every page runs, twice, and every option that it names is there."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Cli
from tests.support.pages import Reader, commands, furnish, inline, pages, shrunk, words
from vaectl.commands.shared.deferred import Deferred
from vaectl.errors import VaectlError

# page -> commands that its reader has typed before
BEFORE = {
    "README.md": (),
    "docs/anomalies.md": (),
    "docs/codes.md": ("vaectl train",),
    "docs/data.md": (),
    "docs/files.md": (),
    "docs/networks.md": (),
    "docs/numerics.md": (),
    "docs/quickstart.md": (),
    "docs/reliability.md": ("vaectl train",),
    "docs/tutorial.md": (),
}
LONG = ("docs/codes.md", "docs/networks.md", "docs/quickstart.md", "docs/tutorial.md")
# read by test_help, test_plugins and test_python_page
ELSEWHERE = ("docs/cli.md", "docs/plugins.md", "docs/python.md")
DIVERGES = "vaectl train --dataset digits --hidden-dims 16 --latent-dim 2 --epochs 5 --lr 1 --grad-clip 0 --posterior-scale log-variance"  # noqa: E501
# programs other than vaectl -> how many lines of the pages begin with them; nobody runs these here
OTHERS = {"python3": 3, "just": 2, "torchrun": 5, "python": 1, "tensorboard": 2}

# in the text of a page: forms of commands, not commands
PLACEHOLDER = re.compile(r"\.\.\.|[\[|]|\b(RUN|FILE|DIR|NAME|ID|K|N|COMMAND|PATH)\b")


def path(name: str) -> Path:
    return REPOSITORY / name


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in BEFORE]
)
def test_a_page_runs_from_top_to_bottom(cli: Cli, isolated: Path, name: str) -> None:
    """In a folder with a small MNIST and a tenth of the epochs; what does not begin a run is typed twice."""
    furnish(isolated)
    reader = Reader(cli, {DIVERGES: 3})
    for line in BEFORE[name]:
        reader.type(line)
    reader.read(path(name))
    own = [line for page, line in commands() if page == path(name) and line.startswith("vaectl ")]
    assert len(reader.typed) >= len(own) + len(BEFORE[name])


def test_no_page_is_left_out() -> None:
    """Every page with a vaectl command in a block is run."""
    found = {str(page.relative_to(REPOSITORY)) for page, line in commands() if line.startswith("vaectl ")}
    assert found <= {*BEFORE, *ELSEWHERE}
    assert {*BEFORE} <= {str(page.relative_to(REPOSITORY)) for page in pages()}


def test_lines_that_are_not_run_are_counted() -> None:
    """Installing, torchrun and TensorBoard; a line of another program must be counted here."""
    others: dict[str, int] = {}
    for _, line in commands():
        program = line.split()[0]
        if program != "vaectl" and not line.startswith("run=$(vaectl"):
            others[program] = others.get(program, 0) + 1
    assert others == OTHERS


def parses(arguments: list[str]) -> None:
    """Fail unless a command line without ``vaectl`` can be parsed; options before the command are left out."""
    rest = list(itertools.dropwhile(lambda text: text.startswith("-"), arguments))
    if rest[:1] == ["help"] or not rest:
        return
    context = Deferred(rest[0]).make_context(rest[0], rest[1:])
    assert context.args == []


def test_commands_of_torchrun_parse() -> None:
    found = [line for _, line in commands() if " -m vaectl " in line]
    assert len(found) == 6
    for line in found:
        arguments = words(line.partition(" -m vaectl ")[2])
        parses([text for text in arguments if text != "..."])


def test_commands_within_the_text_parse() -> None:
    """An option that is renamed must not stay in the text of a page; only forms with placeholders are left out."""
    parsed = 0
    for page, line in inline():
        arguments = words(line)[1:]
        # a bare name is that of the command; the log tells what was typed in its day
        if (
            page.name == "log.md"
            or PLACEHOLDER.search(line)
            or len(arguments) == 1
            or {"--help", "--help-all", "-h"} & {*arguments}
        ):
            continue
        try:
            parses(arguments)
        except VaectlError as error:
            raise AssertionError(f"{page}: {line}: {error}") from error
        parsed += 1
    assert parsed > 20


def test_what_is_printed_can_be_typed_twice(cli: Cli) -> None:
    """The advice after a training: it writes no file that a second time finds in its way."""
    result = cli("train", "--dataset", "digits", "--hidden-dims", "8", "--epochs", "1")
    (advice,) = [line for line in result.stderr.splitlines() if line.startswith("  next: ")]
    reader = Reader(cli)
    for line in advice.removeprefix("  next: ").split("   ·   "):
        reader.type(line)
    assert len(reader.typed) == 2


def test_readme_and_quickstart_may_be_followed_in_one_folder() -> None:
    """Every command that names a file overwrites it, because the other page may have written it."""
    for page, line in commands():
        arguments = words(line) if line.startswith("vaectl ") else []
        if "-o" in arguments or "--per-example" in arguments:
            assert "-f" in arguments, f"{page}: {line}"


def test_the_size_of_a_page_is_cut() -> None:
    assert shrunk(["train", "--epochs", "60", "--beta", "5"]) == ["train", "--epochs", "6", "--beta", "5"]
    assert shrunk(["train", "--epochs", "1", "--warmup-epochs", "5"])[3:] == ["--warmup-epochs", "1"]
    assert shrunk(["train", "--lr", "1"]) == ["train", "--lr", "1", "--epochs", "3"]
    assert shrunk(["train", "--resume", "run1"]) == ["train", "--resume", "run1"]
    assert shrunk(["eval", "run1"]) == ["eval", "run1"]


def test_parameters_are_those_that_the_pages_say(cli: Cli, isolated: Path) -> None:
    """The tutorial's text says 1.15 million; its code, and this program, have 1,068,820."""
    furnish(isolated)
    text = path("docs/tutorial.md").read_text(encoding="utf-8")
    for flags, count in {
        "--latent-dim 2": "1,068,820", "--latent-dim 2 --hidden-dims 256,128": "469,268", "": "1,091,920",
    }.items():  # fmt: skip
        short = cli("train", "--dataset", "mnist", *flags.split(), "--dry-run", "-q").stdout
        assert f"{int(short):,}" == count
        assert count in text
