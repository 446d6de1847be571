"""The errors that a person can meet: what is wrong, a hint where one helps, and the exit code."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from reprlib import Repr
from typing import Any

SHORT = Repr()
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 100
SHORT.maxlist = SHORT.maxtuple = SHORT.maxdict = 16


class VaectlError(Exception):
    """Something cannot be done: shown as ``error: message`` and ``hint: hint``, never as a traceback.

    Args:
        message: What is wrong, naming the flag or file and the value.
        hint: What to do about it, or None.
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
    """A file cannot be written where it was asked for."""

    code = "output"


class UsageError(VaectlError):
    """A flag, a value or a config file is wrong."""

    exit_code = 2
    code = "usage"


class SettingError(UsageError):
    """A setting has a value that is not allowed.

    Args:
        path: The setting's place in the spec, such as ``objective.beta``.
        problem: What is wrong with it, as the rest of a sentence that begins with its name.
        hint: What to do about it, or None.
    """

    def __init__(self, path: str, problem: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path} {problem}", hint=hint)
        self.path = path
        self.problem = problem

    def named(self, name: str) -> SettingError:
        """The same error under the name that the person typed, such as ``--beta``."""
        error = SettingError(self.path, self.problem, hint=self.hint)
        error.message = f"{name} {self.problem}"
        error.args = (error.message,)
        return error


class DivergedError(VaectlError):
    """Training met a loss or gradient that is not finite; the last good weights are kept."""

    exit_code = 3
    code = "diverged"


class InterruptedRunError(VaectlError):
    """A signal stopped the work; what was earned is saved. Its exit code is 128 + the signal's number."""

    code = "interrupted"

    def __init__(self, message: str, *, signum: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signum


class LostError(VaectlError):
    """Another process of this training failed or was lost.

    Args:
        message: What is known of it.
        hint: What to do about it, or None.
        exit_code: That of the process that failed.
        code: The kind of its failure.
        told: Whether this process is the one that tells it.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, exit_code: int = 1, code: str = "lost", told: bool = True
    ) -> None:
        super().__init__(message, hint=hint)
        self.exit_code, self.code, self.told = exit_code, code, told


def shown(value: Any) -> str:
    """A value as an error names it: cut short where it is long."""
    return SHORT.repr(value)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A hint that names the nearest known name, or None where none is near."""
    near = difflib.get_close_matches(name[:100], sorted(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """As ``nearest``, but lists the known names where none is near."""
    return nearest(name, known) or "known: " + ", ".join(sorted(known))


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
