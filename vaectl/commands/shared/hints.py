"""Errors before a command runs: unknown options and commands, and arguments out of place."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from vaectl.config.datasets import dataset_names, is_path
from vaectl.config.recipes import RECIPES
from vaectl.config.table import BY_NAME
from vaectl.config.values import canonical
from vaectl.errors import UsageError, similar
from vaectl.synonyms import COMMAND_ADVICE, COMMANDS, FLAG_ADVICE, FLAGS, folded

# options before the command, with their placeholders
BEFORE = {"--runs-dir": "--runs-dir DIR", "--debug": "--debug", "--version": "--version"}
NUMBER = re.compile(r"\d+")


def unknown_command(name: str, commands: Collection[str], rest: Sequence[str] = ()) -> UsageError:
    """The error for a command that does not exist.

    Args:
        name: The name that was typed.
        commands: The names of the commands.
        rest: The arguments after it, of which the first may be a run.
    """
    run = shlex.quote(rest[0]) if rest and not rest[0].startswith("-") else ""
    hint = COMMAND_ADVICE.get(folded(name))
    if hint is None:
        line = similar(name, {*commands, "--version", "--help"}, COMMANDS)
        hint = f"did you mean 'vaectl {line}'?" if line else f"the commands are {', '.join(commands)}"
    if run:
        hint = hint.replace("RUN", run).replace("run1", run)
    return UsageError(f"unknown command '{name}'", hint=hint)


def unknown_option(name: str, arguments: Sequence[str], command: str, flags: Collection[str]) -> UsageError:
    """The error for an option that a command does not have.

    Args:
        name: The option, or ``-l`` for a word such as ``-lr``.
        arguments: The arguments of the command.
        command: The command.
        flags: The options that it has.
    """
    if len(name) == 2:
        name = next((text.partition("=")[0] for text in arguments if text.startswith(name)), name)
    error = f"vaectl {command} has no option {name}"
    flag = f"--{folded(name)}"
    setting = BY_NAME.get(folded(name).replace("-", "_"))
    if advice := FLAG_ADVICE.get(folded(name)):
        return UsageError(error, hint=advice)
    if setting is not None and setting.flag not in flags:
        return UsageError(error, hint=f"{setting.flag} is a setting of vaectl train, and a trained run keeps its own")
    near = flag if flag in (*flags, *BEFORE) else similar(name, {*flags, *BEFORE}, FLAGS)
    if near in BEFORE:
        return UsageError(error, hint=f"{near} comes before the command: vaectl {BEFORE[near]} {command} ...")
    hint = f"did you mean '{near}'?" if near else f"its options are listed by: vaectl {command} --help"
    return UsageError(error, hint=hint)


def surplus(extra: str, arguments: Sequence[str], command: str, options: Sequence[Any]) -> UsageError:
    """The error for an argument that a command does not take.

    Args:
        extra: The first such argument.
        arguments: All arguments of the command.
        command: The command.
        options: The options that it has.
    """
    position = arguments.index(extra) if extra in arguments else 0
    before = dict(zip(("value", "flag"), arguments[:position][::-1], strict=False))
    switches = {flag for option in options if getattr(option, "is_flag", False) for flag in option.opts}
    lists = {flag for option in options if "," in (option.metavar or "") for flag in option.opts}
    if before.get("flag") in lists and NUMBER.fullmatch(extra) and NUMBER.fullmatch(before["value"]):
        numbers = [before["value"]]
        for text in arguments[position:]:
            if not NUMBER.fullmatch(text):
                break
            numbers.append(text)
        hint = f"write the numbers with commas between them: {before['flag']} {','.join(numbers)}"
    elif before.get("value") in switches:
        hint = f"{before['value']} is a switch, and takes no value"
    elif command == "train":
        hint = _meant_for_training(extra)
    elif any(option.param_type_name == "argument" for option in options):
        hint = "it takes one RUN; several are for vaectl compare" if command != "runs" else "it shows one RUN, or all"
    else:
        hint = f"its options are listed by: vaectl {command} --help"
    return UsageError(f"vaectl {command} takes no argument '{extra}'", hint=hint)


def _meant_for_training(extra: str) -> str:
    """The flag for an argument of ``vaectl train``, which takes none."""
    if Path(extra).suffix.lower() in (".toml", ".json"):
        return f"a file of settings is given with --config {extra}"
    for flag, names in (("--dataset", ("auto", *dataset_names())), ("--model", tuple(RECIPES))):
        name = canonical(extra, names)
        if name in names or (name := similar(extra, names)):
            return f"did you mean '{flag} {name}'?"
    if re.fullmatch(r"run\d+|latest(~\d+)?", extra):
        return f"a run is continued with --resume {extra}, and another begun with its settings with --from {extra}"
    if is_path(extra):
        return f"data are given with --dataset {extra}"
    return "every setting has a flag: vaectl train --help"


def explained(error: Exception, arguments: Sequence[str], command: str, options: Sequence[Any]) -> Exception:
    """An error of typer's parser in the words of this program, with a hint; an error that it does not know unchanged.

    Args:
        error: The error.
        arguments: The arguments of the command.
        command: The command.
        options: Its options and arguments.
    """
    name: str | None = getattr(error, "option_name", None)
    if name is not None and hasattr(error, "possibilities"):
        return unknown_option(name, arguments, command, {flag for option in options for flag in option.opts})
    if name is not None:
        value = next((option.metavar for option in options if name in option.opts and option.metavar), None)
        if value is not None:
            return UsageError(f"{name} needs a value: {name} {value}")
    missing = getattr(error, "param", None)
    if hasattr(error, "param_type") and missing is not None:
        return UsageError(
            f"vaectl {command} needs {missing.metavar}",
            hint="a RUN is an id such as run1, its number, its path, or latest; list them with: vaectl runs",
        )
    return error


def explained_before(error: Exception, options: Sequence[Any]) -> Exception:
    """An error in the options before the command, as ``explained``.

    Args:
        error: The error.
        options: The options before a command.
    """
    name: str | None = getattr(error, "option_name", None)
    if name is None or not hasattr(error, "possibilities"):
        return explained(error, (), "", options)
    flags = {flag for option in options for flag in option.opts}
    near = similar(name, flags, FLAGS)
    setting = BY_NAME.get(folded(name).replace("-", "_"))
    if setting is not None:
        hint = f"settings come after the command: vaectl train {setting.flag} ..."
    else:
        hint = f"did you mean '{near}'?" if near else "options of a command come after it: vaectl COMMAND --help"
    return UsageError(f"vaectl has no option {name} before the command", hint=hint)
