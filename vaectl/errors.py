"""The errors that users can meet: a message, an optional hint, and the exit code."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from reprlib import Repr
from typing import Any

SHORT = Repr()
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 100
SHORT.maxlist = SHORT.maxtuple = SHORT.maxdict = 16


class VaectlError(Exception):
    """An expected error, shown as ``error: message`` and ``hint: hint``, never as a traceback.

    Args:
        message: The problem, naming the flag or file and the value.
        hint: What the user can do about it, or None.
    """

    exit_code = 1
    code = "error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RunError(VaectlError):
    """A run is missing, already there, or its files are damaged."""

    code = "run"


class DataError(VaectlError):
    """A data set is missing, unreadable or not what it says it is."""

    code = "data"


class OutputError(VaectlError):
    """An output file cannot be written."""

    code = "output"


class UsageError(VaectlError):
    """A flag, a value or a config file is wrong."""

    exit_code = 2
    code = "usage"


class SettingError(UsageError):
    """A setting has a value that is not allowed.

    Args:
        path: The path of the setting in the spec, such as ``objective.beta``.
        problem: The problem, as the rest of a sentence that begins with the setting's name.
        hint: What the user can do about it, or None.
    """

    def __init__(self, path: str, problem: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path} {problem}", hint=hint)
        self.path = path
        self.problem = problem

    def named(self, name: str) -> SettingError:
        """The same error under the name that the user typed, such as ``--beta``."""
        error = SettingError(self.path, self.problem, hint=self.hint)
        error.message = f"{name} {self.problem}"
        error.args = (error.message,)
        return error


class DivergedError(VaectlError):
    """A loss or gradient was not finite during training; the last good weights are kept."""

    exit_code = 3
    code = "diverged"


class InterruptedRunError(VaectlError):
    """A signal stopped the command; progress so far is saved. The exit code is 128 + the signal's number."""

    code = "interrupted"

    def __init__(self, message: str, *, signum: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signum


class LostError(VaectlError):
    """Another process of this training failed or was lost.

    Args:
        message: The problem.
        hint: What the user can do about it, or None.
        exit_code: Exit code of the process that failed.
        code: The kind of the failure.
        told: Whether this process is the one that reports the failure.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, exit_code: int = 1, code: str = "lost", told: bool = True
    ) -> None:
        super().__init__(message, hint=hint)
        self.exit_code, self.code, self.told = exit_code, code, told


def shown(value: Any) -> str:
    """The text of a value for an error, shortened if it is long."""
    return SHORT.repr(value)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """A hint with the most similar known name, or None if none is similar."""
    near = difflib.get_close_matches(name[:100], sorted(names), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else None


def which_part(name: str, names: Iterable[str]) -> str:
    """Like ``nearest`` for names of parts, data sets and recipes, which a plug-in may have more of."""
    own = "one of your own comes with --plugin FILE.py"
    return f"{near} {own}" if (near := nearest(name, names)) else own


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Like ``nearest``, but lists the known names if none is similar."""
    return nearest(name, names) or "known: " + ", ".join(sorted(names))


def check_choice(name: str, value: str, allowed: Collection[str], *, other: str = "") -> None:
    """Raise a UsageError unless ``value`` is one of ``allowed``, beside which ``other`` is said to be possible.

    Args:
        name: What the error calls the value, such as ``--split``.
        value: The value.
        allowed: The values that are allowed.
        other: What else is allowed, in words.
    """
    if value not in allowed:
        names = ", ".join(allowed) + (f", or {other}" if other else "")
        raise UsageError(f"{name} must be one of {names}; got '{value}'", hint=nearest(value, allowed))
