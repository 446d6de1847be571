"""Write the command line reference, ``docs/cli.md``, from the options of the commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from vaectl.cli import app
from vaectl.commands.shared.deferred import COMMANDS, EXAMPLES, PANELS, Deferred
from vaectl.commands.shared.help import NO_BREAK, sections, usage

PAGE = Path(__file__).parent / "cli.md"
# no name is too wide for a page
ANY = 10_000


def page() -> str:
    """The reference as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    group: Any = typer.main.get_command(app)
    yield from ("# Command line reference", "", "Written by `just docs` from the program.", "", "## `vaectl`", "")
    yield from _options(group.params)
    yield from ("Commands:", "")
    for title, names in PANELS.items():
        yield f"- {title}: " + ", ".join(f"[`{name}`](#vaectl-{name})" for name in names)
    for name, text in COMMANDS.items():
        options = Deferred(name).command.params
        yield from ("", f"## `vaectl {name}`", "", text, "", f"Usage: `{usage(name, options)}`", "")
        yield from _options(options)
        yield from ("Examples:", "", "```sh", *EXAMPLES[name], "```")


def _options(options: Any) -> Iterator[str]:
    for title, entries in sections(options).items():
        yield from (f"{title}:", "")
        for item in entries:
            yield f"- `{item.name(ANY)}`: {item.explanation(ANY)}".replace(NO_BREAK, " ")
        yield ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
