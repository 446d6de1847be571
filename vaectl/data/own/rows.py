"""Examples that are read by row when they are needed, from an array or from files of their own.

Shapes: ``N`` examples, ``B`` of them read at once, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from vaectl.data.changes import Change
from vaectl.errors import DataError

# what is read of an array at once
PIECE_BYTES = 1 << 22
# an array's axes: a table's (N, W), images' (N, H, W), (N, H, W, C) or (N, C, H, W)
Layout = Literal["table", "grey", "channels last", "channels first"]
# what numbers are as pixels: 0 and 1 as 0 and 255, bytes, 16 bits / 65535, or as they are
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
        row: Its row.
        problem: What is the matter, as the rest of a sentence that begins with its name.
    """

    def __init__(self, row: int, problem: str) -> None:
        super().__init__(f"example {row} {problem}")
        self.row, self.problem = row, problem


class Rows(Protocol):
    """Examples that are read by row, by several threads at once."""

    @property
    def shape(self) -> tuple[int, ...]:
        """X."""

    @property
    def dtype(self) -> np.dtype:
        """Of what is read: uint8, or float32."""

    def __len__(self) -> int:
        """N."""

    def name(self, row: int) -> str:
        """What a person calls an example."""

    def read(self, index: np.ndarray) -> np.ndarray:
        """The examples at rows ``index`` (B,): an array (B, *X) of its own.

        Raises:
            BadExampleError: One cannot be read, has another shape, or holds a number that is not finite.
        """


@dataclass(frozen=True)
class ArrayRows:
    """The rows of an array, in memory or mapped from a file.

    Attributes:
        array: (N, ...), of numbers or bools.
        layout: Its axes.
        encoding: What its numbers are.
        change: What is done to each image, or None.
        word: What a person calls an example, before its number.
        first: The number of the first.
    """

    array: np.ndarray
    layout: Layout
    encoding: Encoding
    change: Change | None = None
    word: str = "row"
    first: int = 0

    @property
    def native(self) -> tuple[int, ...]:
        """The shape of an example before it is changed."""
        return arranged(self.array[:0], self.layout).shape[1:]

    @property
    def shape(self) -> tuple[int, ...]:
        """X."""
        return self.change.shape(self.native) if self.change else self.native

    @property
    def dtype(self) -> np.dtype:
        """Of what is read."""
        return np.dtype(np.uint8 if self.encoding in ("binary", "bytes") else np.float32)

    def __len__(self) -> int:
        return len(self.array)

    def name(self, row: int) -> str:
        """``row 17``."""
        return f"{self.word} {row + self.first}"

    def read(self, index: np.ndarray) -> np.ndarray:
        """As ``Rows``."""
        stored = encoded(arranged(self.array[index], self.layout), self.encoding)
        if stored.dtype != np.uint8 and not (finite := np.isfinite(stored).reshape(len(stored), -1).all(1)).all():
            raise BadExampleError(int(index[~finite][0]), "holds a number that is not finite")
        if self.change is None:
            return np.ascontiguousarray(stored)
        out = np.empty((len(stored), *self.shape), stored.dtype)
        for place, image in enumerate(stored):
            out[place] = self.change(image)
        return out


def arranged(array: np.ndarray, layout: Layout) -> np.ndarray:
    """A view of an array's examples as (B, C, H, W); a table has one row of pixels."""
    views = {"table": lambda: array[:, None, None], "grey": lambda: array[:, None],
             "channels last": lambda: array.transpose(0, 3, 1, 2), "channels first": lambda: array}  # fmt: skip
    view: np.ndarray = views[layout]()
    return view


def encoded(array: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Numbers as they are stored: uint8 of which 255 is 1, or float32."""
    if encoding == "bytes":
        return array.astype(np.uint8)
    if encoding == "binary":
        return array.astype(np.uint8) * np.uint8(255)
    with np.errstate(over="ignore"):  # what is too large for a float32 is found as not finite
        numbers = array.astype(np.float32)
    return numbers * np.float32(1 / 65535) if encoding == "sixteen" else numbers


def encoding_of(arrays: Sequence[np.ndarray], support: str | None = None) -> Encoding:
    """What the numbers of arrays of one data set are.

    bools, and 0 and 1 alone, are binary; whole numbers from 0 to 255 are bytes; other unsigned 16-bit ones are parts of
    65535; the rest is taken as it is.

    Args:
        arrays: The arrays of all parts of the data set.
        support: That of the data which a model is there for, and which these are to be like; None lets them decide.

    Raises:
        DataError: They are no numbers, or not like such data.
    """
    kinds = {array.dtype.kind for array in arrays}
    if not kinds <= set("buif"):
        wrong = next(array.dtype for array in arrays if array.dtype.kind not in "buif")
        raise DataError(f"it holds {wrong} where numbers are needed")
    whole, low, high, only_ends = "f" not in kinds, np.inf, -np.inf, True
    for piece in pieces(arrays):
        numbers = piece[np.isfinite(piece)] if piece.dtype.kind == "f" else piece
        if numbers.size:
            low, high = min(low, float(numbers.min())), max(high, float(numbers.max()))
            only_ends = only_ends and bool(((numbers == 0) | (numbers == 1)).all())
        if not only_ends and not whole:
            break
    # an array of nothing but 0, or 1, may be anything
    if only_ends and (kinds == {"b"} or low < high) and support in (None, "binary"):
        return "binary"
    if support == "real":
        return "numbers"
    if whole and low >= 0 and high <= 255 and support in (None, "bytes", "binary"):
        return "bytes"
    if whole and {array.dtype for array in arrays} == {np.dtype(np.uint8)}:
        return "bytes"
    if {array.dtype for array in arrays} == {np.dtype(np.uint16)}:
        return "sixteen"
    return "numbers"


def are_bytes(numbers: np.ndarray) -> bool:
    """Whether numbers are whole and from 0 to 255."""
    return bool(numbers.size and numbers.min() >= 0 and numbers.max() <= 255 and (numbers == np.rint(numbers)).all())


def pieces(arrays: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The arrays a few rows at a time."""
    for array in arrays:
        at_once = max(1, PIECE_BYTES // max(1, array[:1].nbytes))
        for start in range(0, len(array), at_once):
            yield array[start : start + at_once]


def layout_of(shape: tuple[int, ...]) -> Layout:
    """The axes of an array of examples, told by their lengths: an image has at most four channels, or fewer than rows.

    Raises:
        DataError: It has as many axes as no examples have.
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
