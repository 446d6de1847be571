"""The help of the commands as plain text: sections of options, on as few lines as fit."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from vaectl.commands.shared.deferred import COMMANDS, EXAMPLES, PANELS

# widest text, and the widest name of an option beside its explanation, on a narrow and on a usual terminal
WIDEST, NARROW, USUAL = 100, 26, 30
NO_BREAK = "\N{NO-BREAK SPACE}"
OPTIONS, ARGUMENTS, MORE = "Options", "Arguments", "More options"
# the option of a command whose help leaves out what is rarely needed
EVERYTHING = "--help-all"


@dataclass(frozen=True)
class Entry:
    """An option or argument as the help shows it.

    Attributes:
        flags: The option's flags, the long one first; the argument's placeholder.
        value: The placeholder of its value; empty for a switch.
        text: The explanation.
        choices: The values that are possible, if it takes one of a few.
        default: The default, in words; empty if there is none to tell.
        variable: The environment variable that also sets it, or empty.
    """

    flags: tuple[str, ...]
    value: str
    text: str
    choices: tuple[str, ...]
    default: str
    variable: str

    def name(self, widest: int) -> str:
        """The flags with the placeholder; choices that make it wider than ``widest`` move to the explanation."""
        flags = ", ".join(self.flags)
        full = f"{flags} {self.value}".rstrip()
        return f"{flags} NAME" if self.choices and len(full) > widest else full

    def explanation(self, widest: int) -> str:
        """The text, with choices that ``name`` leaves out, default and variable in brackets."""
        listed = self.choices and self.name(widest).endswith(" NAME")
        facts = [f"one of {', '.join(self.choices)}"] if listed else []
        facts += [f"default: {self.default}"] if self.default else []
        facts += [f"env: {self.variable}"] if self.variable else []
        notes = f"[{'; '.join(facts)}]"
        # short notes stay on one line
        return " ".join([self.text, *([notes.replace(" ", NO_BREAK) if len(notes) <= 20 else notes] if facts else [])])


def entry(option: Any) -> Entry:
    """The entry of an option or argument of typer's."""
    if option.param_type_name == "argument":
        return Entry((str(option.metavar),), "", option.help or "", (), "", "")
    flags = tuple(sorted(option.opts, key=len, reverse=True))
    value = "" if option.is_flag else option.metavar or "VALUE"
    choices = tuple(value.split("|")) if "|" in value and value.islower() else ()
    default = option.show_default if isinstance(option.show_default, str) else ""
    if option.show_default is True and not option.is_flag and option.default is not None:
        default = str(option.default)
    return Entry(flags, value, option.help or "", choices, default, str(option.envvar or ""))


def sections(options: Sequence[Any]) -> dict[str, list[Entry]]:
    """The entries of options and arguments by section, in their order; the help option ends the last one."""
    by_title: dict[str, list[Entry]] = {}
    last = []
    for option in options:
        if getattr(option, "hidden", False):
            continue
        if "--help" in option.opts or EVERYTHING in option.opts:
            last.append(entry(option))
            continue
        title = ARGUMENTS if option.param_type_name == "argument" else option.rich_help_panel or OPTIONS
        by_title.setdefault(title, []).append(entry(option))
    by_title.setdefault(OPTIONS if not by_title else [*by_title][-1], []).extend(last)
    return by_title


def usage(name: str, options: Sequence[Any]) -> str:
    """How a command is called."""
    arguments = [option.metavar for option in options if option.param_type_name == "argument"]
    return " ".join(["vaectl", name, *arguments, "[OPTIONS]"])


def command_page(name: str, options: Sequence[Any], rare: Iterable[str] = ()) -> Iterator[str]:
    """The lines of a command's help.

    Args:
        name: The command.
        options: Its options and arguments.
        rare: Flags that are only named, not explained.
    """
    rare = {*rare}
    yield from _wrapped(COMMANDS[name])
    yield f"\n{_heading('Usage:')} {usage(name, options)}"
    unexplained = []
    for title, entries in sections(options).items():
        unexplained += [item.flags[0] for item in entries if item.flags[0] in rare]
        yield from _section(title, [item for item in entries if item.flags[0] not in rare])
    if unexplained:
        yield f"\n{_heading(f'{MORE}:')} explained by vaectl {name} {EVERYTHING}"
        yield from _wrapped("  ".join(unexplained), indent="  ")
    yield from _examples(EXAMPLES[name])


def app_page(text: str, options: Sequence[Any]) -> Iterator[str]:
    """The lines of the help without a command: the commands by panel, the options before a command, and examples."""
    yield from _wrapped(text)
    yield f"\n{_heading('Usage:')} vaectl [OPTIONS] COMMAND ..."
    for title, names in PANELS.items():
        yield f"\n{_heading(f'{title}:')}"
        yield from _rows({name: COMMANDS[name] for name in names}, max(map(len, COMMANDS)))
    for title, entries in sections(options).items():
        yield from _section(title, entries)
    yield from _examples(EXAMPLES[""])
    yield ""
    yield from _wrapped("vaectl COMMAND --help explains a command.")


def show(lines: Iterable[str], context: Any, formatter: Any) -> None:
    """Hand the lines to typer, which prints them; colours as ``NO_COLOR`` and ``FORCE_COLOR`` say."""
    context.color = _coloured()
    formatter.write("\n".join(lines))


def _section(title: str, entries: Sequence[Entry]) -> Iterator[str]:
    if entries:
        yield f"\n{_heading(f'{title}:')}"
        widest = USUAL if _width() >= 80 else NARROW
        yield from _rows({item.name(widest): item.explanation(widest) for item in entries}, widest)


def _rows(texts: Mapping[str, str], widest: int) -> Iterator[str]:
    """Names with their texts beside them, or below names that are wider than ``widest``."""
    for name, text in texts.items():
        room = _width() - widest - 4
        lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
        first, *others = (line.replace(NO_BREAK, " ") for line in lines)
        if len(name) > widest:
            yield f"  {_name(name)}"
            others.insert(0, first)
        else:
            yield f"  {_name(name)}{' ' * (widest - len(name))}  {first}".rstrip()
        yield from (f"{' ' * (widest + 4)}{line}" for line in others)


def _examples(commands: Sequence[str]) -> Iterator[str]:
    yield f"\n{_heading('Examples:')}"
    yield from (f"  {command}" for command in commands)


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, _width(), initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _width() -> int:
    return min(WIDEST, max(40, shutil.get_terminal_size().columns))


def _coloured() -> bool:
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _heading(text: str) -> str:
    return typer.style(text, bold=True) if _coloured() else text


def _name(text: str) -> str:
    return typer.style(text, fg="cyan") if _coloured() else text
