"""The errors that users can meet: a message, an optional hint, and the exit code."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from reprlib import Repr
from typing import Any

from vaectl.synonyms import VALUES, folded, meant

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


def amount(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun: ``1 sample``, ``1,000 samples``.

    Args:
        count: The count.
        noun: The noun for one.
        plural: The noun for several, if it is not made with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def similar(name: str, names: Iterable[str], synonyms: Mapping[str, tuple[str, ...]] = VALUES) -> str | None:
    """The known name that another program calls ``name``, or the one that is spelled most alike; None if there is none.

    Names that differ in their numbers alone, such as run3 and run99, are alike only if the numbers are.

    Args:
        name: A name that is unknown.
        names: The known names.
        synonyms: Words of other programs -> known names, as in ``synonyms.meant``.
    """
    names = sorted(names)
    if (word := meant(name[:100], names, synonyms)) is not None:
        return word or None
    spelled = {folded(known): known for known in names}
    near = difflib.get_close_matches(folded(name[:100]), spelled, n=5, cutoff=0.6)
    return next((spelled[other] for other in near if _numbers_are_alike(folded(name), other)), None)


def _numbers_are_alike(one: str, other: str) -> bool:
    ours, theirs = (re.sub(r"\D", "", text) for text in (one, other))
    if not ours or not theirs or re.sub(r"\d", "", one) != re.sub(r"\d", "", other):
        return True
    return difflib.SequenceMatcher(None, ours, theirs).ratio() >= 0.5


def nearest(name: str, names: Iterable[str], synonyms: Mapping[str, tuple[str, ...]] = VALUES) -> str | None:
    """A hint with the known name that was probably meant, or None; arguments as in ``similar``."""
    near = similar(name, names, synonyms)
    return f"did you mean '{near}'?" if near else None


def which_part(name: str, names: Iterable[str]) -> str:
    """Like ``nearest`` for names of parts, data sets and recipes, which a plug-in may have more of."""
    own = "one of your own comes with --plugin FILE.py"
    return f"{near} {own}" if (near := nearest(name, names)) else own


def did_you_mean(name: str, names: Collection[str]) -> str:
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
