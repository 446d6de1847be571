"""Types of settings, with the numbers and names that each may take, and how a text becomes one."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from vaectl.errors import SettingError, nearest, shown

Name = TypeVar("Name")


@dataclass(frozen=True)
class Bounds:
    """The numbers that a setting may take: ``low <= x <= high``, or ``low < x`` if ``above`` is set."""

    low: float
    high: float
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return (
            math.isfinite(value) and value <= self.high and (value > self.low or (value == self.low and not self.above))
        )

    def __str__(self) -> str:
        low, high = (f"{end:g}" if abs(end) < 1e5 else f"{end:,.0f}" for end in (self.low, self.high))
        return f"above {low} and at most {high}" if self.above else f"from {low} to {high}"


# whole numbers
Count = Annotated[int, Bounds(0, 1_000_000)]
Size = Annotated[int, Bounds(1, 1_000_000)]
LatentDim = Annotated[int, Bounds(1, 16384)]
Seed = Annotated[int, Bounds(0, 2**32 - 1)]
Width = Annotated[int, Bounds(1, 1024)]
Depth = Annotated[int, Bounds(0, 8)]
MOST_CODES = 2**16
CodebookSize = Annotated[int, Bounds(2, MOST_CODES)]
Dims = Annotated[tuple[int, ...], Bounds(1, 16384)]
ImageSize = Annotated[tuple[int, ...] | None, Bounds(1, 4096)]
# the shape of an image, (H, W), (H, W, C) or (C, H, W)
Shape = Annotated[tuple[int, ...] | None, Bounds(1, 65536)]
Channels = Annotated[int | None, Bounds(1, 3)]
# texts
Names = tuple[str, ...] | None
# numbers
NonNegative = Annotated[float, Bounds(0, 1e6)]
LearningRate = Annotated[float, Bounds(0, 100, above=True)]
WeightDecay = Annotated[float, Bounds(0, 100)]
Factor = Annotated[float, Bounds(0, 1, above=True)]
ValidationFraction = Annotated[float, Bounds(0, 0.9)]
TestFraction = Annotated[float, Bounds(0, 0.9, above=True)]
# names
Activation = Literal["silu", "relu", "gelu", "tanh", "softplus"]
PosteriorScale = Literal["softplus", "log-variance"]
BetaSchedule = Literal["constant", "linear", "cosine", "sigmoid", "cyclical"]
Binarize = Literal["none", "static", "dynamic"]
Storage = Literal["auto", "resident", "stream"]
Normalize = Literal["auto", "none", "standard", "minmax", "robust"]
Precision = Literal["fp32", "bf16"]
OnNonfinite = Literal["stop", "rollback"]


def canonical(value: Any, names: Iterable[Name]) -> Name | Any:
    """The one of ``names`` that a text spells in upper or lower case, with or without dashes; others unchanged."""
    if not isinstance(value, str):
        return value
    return {_letters(str(name)): name for name in names}.get(_letters(value), value)


def _letters(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


def coerce(path: str, value: Any, hint: Any) -> Any:
    """Convert a value to the type of an annotation, and check its bounds.

    Takes any value that a flag or a file can hold: a whole float for an int, ``"512,256"`` or a list for a tuple,
    ``"true"`` for a bool, a name in upper or lower case.

    Args:
        path: The setting's name, for the error.
        value: The value to convert.
        hint: int, float, bool, str, ``tuple[int, ...]``, ``tuple[str, ...]``, a Literal or a union with None, maybe
            Annotated with Bounds.

    Raises:
        SettingError: The value has another type or is out of bounds.
    """
    bounds = None
    if get_origin(hint) is Annotated:
        hint, bounds = get_args(hint)[:2]
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return None
        (hint,) = [option for option in get_args(hint) if option is not type(None)]
        if get_origin(hint) is Annotated:
            hint, bounds = get_args(hint)[:2]
    if get_origin(hint) is Literal:
        names = get_args(hint)
        name = canonical(value, names)
        if name not in names:
            allowed = ", ".join(map(str, names))
            raise SettingError(path, f"must be one of {allowed}; got {shown(value)}", hint=nearest(str(value), names))
        return name
    if get_origin(hint) is tuple:
        # as other programs, and Python, write it: [512, 256]
        items = value.strip().strip("[]()").split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            items = [items]
        if get_args(hint)[0] is str:
            return _texts(path, items)
        if not 1 <= len(items) <= 64:
            raise SettingError(path, f"must be 1 to 64 whole numbers; got {shown(value)}")
        element = Annotated[get_args(hint)[0], bounds] if bounds else get_args(hint)[0]
        try:
            return tuple(coerce(path, item, element) for item in items)
        except SettingError:
            raise SettingError(
                path, f"must be whole numbers {bounds or ''} separated by commas, such as 512,256; got {shown(value)}"
            ) from None
    return _scalar(path, value, hint, bounds)


def _texts(path: str, items: list[Any] | tuple[Any, ...]) -> tuple[str, ...]:
    """The texts of a list, stripped; a number, such as a class, becomes one."""
    texts = tuple(str(item).strip() if isinstance(item, str | int) else "" for item in items)
    if not texts or not all(texts):
        raise SettingError(path, f"must be names separated by commas; got {shown(list(items))}")
    return texts


def _scalar(path: str, value: Any, kind: type, bounds: Bounds | None) -> Any:
    noun = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[kind]
    rule = f"must be {noun}" + (f" {bounds}" if bounds else "")
    error = SettingError(path, f"{rule}; got {shown(value)}")
    if kind is bool and isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if kind in (bool, str):
        if not isinstance(value, kind):
            raise error
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise error
    try:
        number = kind(value)
        exact = float(number) == float(value)
    except (ValueError, OverflowError):
        raise error from None
    if not exact or (bounds is not None and number not in bounds):
        raise error
    return number
