"""Images in the rows of a table or of an array of two axes: the axes that their numbers have.

Shapes: ``N`` rows, ``W`` columns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import product

from vaectl.data.own.rows import Layout
from vaectl.errors import SettingError

# names of columns of pixels: pixel0, pixel_0, px0, image0, p1; and 1x1, row by column
COUNTED = re.compile(r"(pixels?|px|images?|img|p)[ _.-]?(\d{1,6})", re.IGNORECASE)
PLACED = re.compile(r"(?:pixel|px)?[ _.-]?(\d{1,5})\s?[x_]\s?(\d{1,5})", re.IGNORECASE)
# numbers of channels, the most usual first
CHANNELS = (3, 1, 4, 2)
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
    if len(axes) == 3 and not {axes[0], axes[2]} & {*CHANNELS}:
        raise SettingError("data.shape", f"must have at most {max(CHANNELS)} channels, first or last; got {said}")
    if math.prod(axes) != width:
        square, hint = square_axes(width), None
        if math.prod(axes) == width - 1:
            hint = "one column may be the label: --label-column NAME, or a number to be left out: --drop-column NAME"
        elif square:
            hint = f"if the rows are squares: --shape {','.join(map(str, square))}"
        raise SettingError(
            "data.shape",
            f"must have as many numbers as a row of {name}, {width:,}; {said} has {math.prod(axes):,}",
            hint=hint,
        )
    if len(axes) == 2:
        return axes, "grey"
    # of 3, 8, 4 the colours are the 3
    last = [CHANNELS.index(side) if side in CHANNELS else len(CHANNELS) for side in (axes[0], axes[2])]
    return axes, "channels last" if last[1] <= last[0] else "channels first"


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
    numbers = [int(match[2]) for match in matches if match]
    # p1, p2, ... may be the points of a questionnaire, too
    least = SMALLEST if matches and matches[0] and matches[0][1].lower() == "p" else 4
    return len(numbers) == len(names) >= least and numbers[0] <= 1 and numbers == [*range(numbers[0], numbers[-1] + 1)]


def _placed_axes(names: Sequence[str]) -> tuple[int, int] | None:
    matches = [PLACED.fullmatch(name.strip()) for name in names]
    places = [(int(match[1]), int(match[2])) for match in matches if match]
    if len(places) != len(names) or len(names) < 4 or not places[0][0] == places[0][1] <= 1:
        return None
    first, (row, column) = places[0][0], places[-1]
    height, width = row - first + 1, column - first + 1
    if height * width != len(names):
        return None
    return (height, width) if places == [*product(range(first, row + 1), range(first, column + 1))] else None
