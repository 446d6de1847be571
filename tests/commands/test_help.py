"""The help: plain, dense, whole at every width, with examples that are true."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import typer

from docs import reference
from tests.conftest import Cli
from vaectl.cli import app
from vaectl.commands.shared.deferred import COMMANDS, EXAMPLES, PANELS, Deferred
from vaectl.config.table import RARE, SETTINGS

WIDTHS = (60, 80, 120)
PAGES = ("", *COMMANDS)


def help_of(cli: Cli, name: str, flag: str = "--help") -> str:
    result = cli(*[name] * bool(name), flag)
    assert result.exit_code == 0
    assert result.stderr == ""
    return result.stdout


def options_of(name: str) -> list[Any]:
    command: Any = Deferred(name).command if name else typer.main.get_command(app)
    return list(command.params)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_help_is_whole_at_every_width(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, width: int) -> None:
    """No line is wider than the terminal, nothing is cut, and every flag is there with its default told once."""
    monkeypatch.setenv("COLUMNS", str(width))
    texts = [help_of(cli, name)]
    if name == "train":
        texts.append(help_of(cli, name, "--help-all"))
    for text in texts:
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text
        for noise in ("<bool>", "<str>", "(auto)", "[default: (", "[required]", "╭", "\N{NO-BREAK SPACE}", "\033"):
            assert noise not in text
        for option in options_of(name):
            if option.param_type_name == "option":
                assert all(re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text) for flag in option.opts)
        for entry in re.split(r"\n(?=\S|  \S)", text):
            assert entry.count("default:") <= 1, entry


@pytest.mark.parametrize("name", PAGES)
def test_help_has_examples_that_parse(cli: Cli, name: str) -> None:
    """As they stand: an option of an example that is renamed breaks it."""
    text = help_of(cli, name)
    examples = [line.strip() for line in text.partition("Examples:\n")[2].splitlines() if line.startswith("  vaectl ")]
    assert tuple(examples) == EXAMPLES[name]
    assert examples
    for example in examples:
        program, command, *arguments = shlex.split(example)
        assert program == "vaectl"
        context = Deferred(command).make_context(command, arguments)
        assert context.args == []
        assert len(f"  {example}") <= min(WIDTHS)


def test_commands_are_in_panels(cli: Cli) -> None:
    text = help_of(cli, "")
    assert [name for names in PANELS.values() for name in names] == list(COMMANDS)
    positions = [text.index(f"\n{title}:\n") for title in PANELS]
    assert positions == sorted(positions)
    for names in PANELS.values():
        assert all(re.search(rf"^  {name} +[A-Z]", text, re.MULTILINE) for name in names)


def test_the_help_of_train_is_short_and_names_all(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns it has two thirds of the 185 lines that it had; what is rare is explained by --help-all."""
    monkeypatch.setenv("COLUMNS", "80")
    short, whole = help_of(cli, "train"), help_of(cli, "train", "--help-all")
    assert len(short.splitlines()) < 115
    assert "More options: explained by vaectl train --help-all" in short
    assert "More options" not in whole
    named = short.partition("More options:")[2].partition("\n\n")[0].split()
    assert {*RARE} <= {*named}
    for flag in RARE:
        assert not re.search(rf"^  {flag} [A-Zn]", short, re.MULTILINE)
        assert re.search(rf"^  {flag}\b", whole, re.MULTILINE)
    words = re.sub(r"\s+", " ", whole)
    for setting in SETTINGS:
        assert setting.help in words


def test_colours_are_asked_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\033" not in help_of(cli, "runs")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\033[1mUsage:" in help_of(cli, "runs")


def test_no_arguments_show_the_help(cli: Cli) -> None:
    result = cli()
    assert result.exit_code == 2
    assert "Usage: vaectl [OPTIONS] COMMAND" in result.output


def test_the_reference_is_that_of_the_program() -> None:
    """Where this fails, ``just docs`` writes it anew; it explains every option of every command."""
    text = reference.page()
    assert reference.PAGE.read_text(encoding="utf-8") == text
    for name in COMMANDS:
        section = text.partition(f"\n## `vaectl {name}`\n")[2].partition("\n## ")[0]
        for option in options_of(name):
            assert "`" + ", ".join(sorted(option.opts, key=len, reverse=True)) in section or option.metavar in section
