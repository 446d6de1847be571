"""Examples that are read by row when they are needed, from an array or from separate files.

Shapes: ``N`` examples, ``B`` of them read at once, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from vaectl.data.changes import Change
from vaectl.data.own.arrays.stored import Stored, taken
from vaectl.errors import DataError

# bytes of an array that are read at once
PIECE_BYTES = 1 << 22
# the axes of an array: (N, W) for a table; (N, H, W), (N, H, W, C) or (N, C, H, W) for images
Layout = Literal["table", "grey", "channels last", "channels first"]
# how numbers become pixels: 0 and 1 as 0 and 255, bytes, 16 bits / 65535, or unchanged
Encoding = Literal["binary", "bytes", "sixteen", "numbers"]
SCALINGS: dict[Encoding, str] = {
    "binary": "0 and 1",
    "bytes": "uint8 / 255",
    "sixteen": "uint16 / 65535",
    "numbers": "numbers as they are",
}


class BadExampleError(DataError):
    """An example cannot be used.

    Args:
        row: The row of the example.
        problem: The problem, as the rest of a sentence that begins with the example's name.
    """

    def __init__(self, row: int, problem: str) -> None:
        super().__init__(f"example {row} {problem}")
        self.row, self.problem = row, problem


class Rows(Protocol):
    """Examples that several threads can read by row at once."""

    @property
    def shape(self) -> tuple[int, ...]:
        """X."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers that ``read`` returns: uint8 or float32."""

    def __len__(self) -> int:
        """N."""

    def name(self, row: int) -> str:
        """Name of an example in messages."""

    def read(self, index: np.ndarray) -> np.ndarray:
        """Read the examples at rows ``index`` (B,) into a new array (B, *X).

        Raises:
            BadExampleError: An example cannot be read, has another shape, or holds a non-finite number.
        """


@dataclass(frozen=True)
class ArrayRows:
    """The rows of an array, in memory or in a file.

    Attributes:
        array: (N, ...), numbers or bools.
        layout: The axes of the array.
        encoding: The meaning of its numbers.
        change: The change applied to each image, or None.
        word: Noun for an example in messages, before its number.
        first: The number of the first example.
    """

    array: Stored
    layout: Layout
    encoding: Encoding
    change: Change | None = None
    word: str = "row"
    first: int = 0

    @property
    def native(self) -> tuple[int, ...]:
        """Shape of an example before ``change``."""
        return arranged(np.empty((0, *self.array.shape[1:]), self.array.dtype), self.layout).shape[1:]

    @property
    def shape(self) -> tuple[int, ...]:
        """X."""
        return self.change.shape(self.native) if self.change else self.native

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers that ``read`` returns."""
        return np.dtype(np.uint8 if self.encoding in ("binary", "bytes") else np.float32)

    def __len__(self) -> int:
        return len(self.array)

    def name(self, row: int) -> str:
        """``row 17``."""
        return f"{self.word} {row + self.first}"

    def emptied(self) -> ArrayRows:
        """The same rows without any example, which tell only what examples are like."""
        return dataclasses.replace(self, array=np.empty((0, *self.array.shape[1:]), self.array.dtype))

    def read(self, index: np.ndarray) -> np.ndarray:
        """Read examples as ``Rows.read`` does."""
        stored = encoded(arranged(taken(self.array, index), self.layout), self.encoding)
        if stored.dtype != np.uint8 and not (finite := np.isfinite(stored).reshape(len(stored), -1).all(1)).all():
            raise BadExampleError(int(index[~finite][0]), "holds a number that is not finite")
        if self.change is None:
            return np.ascontiguousarray(stored)
        out = np.empty((len(stored), *self.shape), stored.dtype)
        for position, image in enumerate(stored):
            out[position] = self.change(image)
        return out


def arranged(array: np.ndarray, layout: Layout) -> np.ndarray:
    """A view of an array of examples as (B, C, H, W); a table has one row of pixels."""
    views = {"table": lambda: array[:, None, None], "grey": lambda: array[:, None],
             "channels last": lambda: array.transpose(0, 3, 1, 2), "channels first": lambda: array}  # fmt: skip
    view: np.ndarray = views[layout]()
    return view


def encoded(array: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Convert numbers to their stored form: uint8, with 255 for a binary 1, or float32."""
    if encoding == "bytes":
        return array.astype(np.uint8)
    if encoding == "binary":
        return array.astype(np.uint8) * np.uint8(255)
    with np.errstate(over="ignore"):  # numbers too large for a float32 are later rejected as not finite
        numbers = array.astype(np.float32)
    return numbers * np.float32(1 / 65535) if encoding == "sixteen" else numbers


def encoding_of(arrays: Sequence[Stored], support: str | None = None, *, numbers: bool = False) -> Encoding:
    """Determine the encoding of the numbers of one data set.

    Bools, and arrays of only 0 and 1, are binary; whole numbers from 0 to 255 are bytes; other unsigned 16-bit numbers
    are divided by 65535; all others are unchanged.

    Args:
        arrays: The arrays of all parts of the data set.
        support: The support that an existing model needs; None lets the values decide.
        numbers: Whether whole numbers are the numbers of columns, not pixels.
    """
    kinds = {array.dtype.kind for array in arrays}
    small = all(array.dtype == np.uint8 for array in arrays)
    whole, low, high, only_ends = "f" not in kinds, np.inf, -np.inf, True
    for piece in pieces(arrays):
        finite = piece[np.isfinite(piece)] if piece.dtype.kind == "f" else piece
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            only_ends = only_ends and bool(((finite == 0) | (finite == 1)).all())
        if not only_ends and (small or numbers or not whole):  # nothing that follows makes a difference
            break
    # an array of only 0, or only 1, may be anything
    if only_ends and (kinds == {"b"} or low < high) and support in (None, "binary"):
        return "binary"
    if support == "real" or numbers:
        return "numbers"
    if whole and low >= 0 and high <= 255 and support in (None, "bytes", "binary"):
        return "bytes"
    if small:
        return "bytes"
    if {array.dtype for array in arrays} == {np.dtype(np.uint16)}:
        return "sixteen"
    return "numbers"


def are_bytes(numbers: np.ndarray) -> bool:
    """Whether all numbers are whole and from 0 to 255."""
    return bool(numbers.size and numbers.min() >= 0 and numbers.max() <= 255 and (numbers == np.rint(numbers)).all())


def pieces(arrays: Sequence[Stored]) -> Iterator[np.ndarray]:
    """Iterate over the arrays a few rows at a time."""
    for array in arrays:
        at_once = max(1, PIECE_BYTES // max(1, array.dtype.itemsize * math.prod(array.shape[1:])))
        for start in range(0, len(array), at_once):
            yield array[start : start + at_once]


def layout_of(shape: tuple[int, ...]) -> Layout:
    """Infer the axes of an array from their lengths: an image has at most four channels, or fewer channels than rows.

    Raises:
        DataError: The array does not have two, three or four axes.
    """
    if len(shape) == 2:
        return "table"
    if len(shape) == 3:
        return "grey"
    if len(shape) != 4:
        raise DataError(f"an array of shape {shape} holds neither images nor a table")
    _, first, second, last = shape
    usual = (1, 3, 4, 2)
    if first in usual and last in usual:
        return "channels last" if usual.index(last) < usual.index(first) else "channels first"
    if first in usual or last in usual:
        return "channels first" if first in usual else "channels last"
    return "channels last" if last < min(first, second) else "channels first"
