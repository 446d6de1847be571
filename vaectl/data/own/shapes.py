"""Images that lie in the rows of a table or of an array of two axes: the axes that their numbers have.

Shapes: ``N`` rows, ``W`` columns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from vaectl.data.own.rows import Layout
from vaectl.errors import SettingError

# names of columns of pixels: pixel0, pixel_0, px0, p1; and 1x1, row by column
COUNTED = re.compile(r"(?:pixels?|px|p)[ _.-]?(\d{1,6})", re.IGNORECASE)
PLACED = re.compile(r"(?:pixel|px)?[ _.-]?(\d{1,5})\s?[x_]\s?(\d{1,5})", re.IGNORECASE)
MOST_CHANNELS = 4
# fewer columns than these are not taken for pixels unless their names say so
SMALLEST = 64


def image_axes(shape: Sequence[int], width: int, name: str) -> tuple[tuple[int, ...], Layout]:
    """The axes of the image that a row of ``width`` numbers holds, and their meaning as in ``ArrayRows``.

    ``array.reshape(len(array), *axes)`` is the array (N, *axes) to read with that layout.

    Args:
        shape: The setting: (H, W), (H, W, C), or (C, H, W) with the colours one after another; C is 4 at most.
        width: W.
        name: What holds the rows, for the error.

    Raises:
        SettingError: It is not such a shape, or has another number of pixels.
    """
    said, axes = ",".join(map(str, shape)), tuple(shape)
    if len(axes) not in (2, 3):
        raise SettingError("data.shape", f"must be H,W or H,W,C or C,H,W; got {said}")
    if len(axes) == 3 and min(axes[0], axes[2]) > MOST_CHANNELS:
        raise SettingError("data.shape", f"must have at most {MOST_CHANNELS} channels, first or last; got {said}")
    if math.prod(axes) != width:
        square = square_axes(width)
        raise SettingError(
            "data.shape",
            f"must have as many numbers as a row of {name}, {width:,}; {said} has {math.prod(axes):,}",
            hint=f"if the rows are squares: --shape {','.join(map(str, square))}" if square else None,
        )
    if len(axes) == 2:
        return axes, "grey"
    return axes, "channels last" if axes[2] <= MOST_CHANNELS else "channels first"


def are_pixels(names: Sequence[str]) -> bool:
    """Whether the names of columns are those of pixels in their order: ``pixel0 ...``, ``1x1 1x2 ...``."""
    return _are_counted(names) or _placed_axes(names) is not None


def pixel_axes(names: Sequence[str]) -> tuple[int, int] | None:
    """The height and the width of an image whose pixels have these names; None if the names do not say.

    Pixels that are only counted make a square.
    """
    return _placed_axes(names) or (square_axes(len(names), least=4) if _are_counted(names) else None)


def square_axes(width: int, *, least: int = SMALLEST) -> tuple[int, int] | None:
    """The sides of a square of ``width`` pixels; None if there is none, or it has fewer than ``least`` pixels."""
    side = math.isqrt(width)
    return (side, side) if side * side == width and width >= least else None


def _are_counted(names: Sequence[str]) -> bool:
    matches = [COUNTED.fullmatch(name.strip()) for name in names]
    numbers = [int(match[1]) for match in matches if match]
    return len(numbers) == len(names) > 3 and numbers[0] <= 1 and numbers == [*range(numbers[0], numbers[-1] + 1)]


def _placed_axes(names: Sequence[str]) -> tuple[int, int] | None:
    matches = [PLACED.fullmatch(name.strip()) for name in names]
    places = [(int(match[1]), int(match[2])) for match in matches if match]
    if len(places) != len(names) or len(names) < 4 or not places[0][0] == places[0][1] <= 1:
        return None
    first, (row, column) = places[0][0], places[-1]
    height, width = row - first + 1, column - first + 1
    expected = [(y, x) for y in range(first, row + 1) for x in range(first, column + 1)]
    return (height, width) if height * width == len(names) and places == expected else None
