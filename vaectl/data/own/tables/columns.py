"""Columns of a table of any format: numbers, labels and line numbers gathered block by block.

Shapes: ``N`` rows, ``B`` rows of a block, ``W`` columns of numbers.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vaectl.data.own.rows import Encoding, are_bytes
from vaectl.data.units import Column, Kind
from vaectl.errors import SettingError

MOST_COLUMNS = 65_536
# what to do with a table that is too large
STREAM_INSTEAD = "save the numbers as .npy, which can be streamed"
# a column with more different numbers than these is not taken for one of classes
MOST_FEW = 100


@dataclass(frozen=True)
class Table:
    """The complete rows of a table.

    Attributes:
        every: Names of all columns in the file; of lists, the names of their numbers stand for them.
        names: Name of each column of numbers (W).
        numbers: Their numbers.
        line_numbers: Number of each row in the file.
        labels: The different labels, int64 or text, or None.
        codes: Position of each row's label among these, int32 (N,); empty if there are none.
        groups: Number of each row's group, int64 (N,), or None.
        bad: Name and problem of each unusable row.
        bools: Names of the columns of true and false.
        named: Whether the file names its columns.
        axes: Axes of the image that each row holds, if the file says so.
    """

    every: Sequence[str]
    names: Sequence[str]
    numbers: Numbers
    line_numbers: LineNumbers
    labels: np.ndarray | None = None
    codes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    groups: np.ndarray | None = None
    bad: Sequence[tuple[str, str]] = ()
    bools: frozenset[str] = frozenset()
    named: bool = True
    axes: tuple[int, ...] | None = None

    def columns(self) -> tuple[Column, ...]:
        """The columns of numbers, with what their numbers are in the file."""
        kinds: list[Kind] = ["whole" if whole else "real" for whole in self.numbers.profile.whole]
        return tuple(
            Column(name, "bool" if name in self.bools else kind) for name, kind in zip(self.names, kinds, strict=True)
        )


class Profile:
    """What the numbers of each column are, by their values in float64, before they are rounded.

    Attributes:
        whole: Whether all numbers are whole, bool (W).
        low, high: Smallest and largest number, (W).
        few: The different numbers of the first and of the last column, or None if they are many.
    """

    def __init__(self, width: int) -> None:
        self.whole = np.ones(width, bool)
        self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)
        self.few: dict[int, set[float] | None] = {index: set[float]() for index in ({0, width - 1} if width else ())}
        # columns of which each number is the one above plus 1, and their last numbers
        self._counting, self._last = np.arange(width), np.full(width, np.nan)

    def add(self, block: np.ndarray) -> None:
        """Add rows, float64 (B, W); all numbers are finite."""
        columns = np.flatnonzero(self.whole)
        if len(columns):
            numbers = block[:, columns] if len(columns) < len(self.whole) else block
            self.whole[columns] = (numbers == np.rint(numbers)).all(0)
        self.low, self.high = np.minimum(self.low, block.min(0)), np.maximum(self.high, block.max(0))
        for index, values in self.few.items():
            if values is not None:
                values |= set(np.unique(block[:, index]).tolist())
                self.few[index] = values if len(values) <= MOST_FEW else None
        if len(self._counting):
            numbers = block[:, self._counting]
            steps = (np.diff(numbers, axis=0) == 1).all(0) & (np.isnan(self._last) | (numbers[0] == self._last + 1))
            self._counting, self._last = self._counting[steps], numbers[-1, steps]

    @property
    def counting(self) -> list[int]:
        """The columns that count the rows: each number is the one above plus 1."""
        counting: list[int] = self._counting.tolist()
        return counting


class Numbers:
    """The numbers of a table: held as bytes as long as all are whole and from 0 to 255, else as float32.

    Args:
        most: Rows to expect, in memory that is only taken when it is written.
        width: W.
    """

    def __init__(self, most: int, width: int) -> None:
        self._values, self._count = np.empty((most, width), np.uint8), 0
        self._ends, self.profile = True, Profile(width)

    @property
    def values(self) -> np.ndarray:
        """The rows so far, uint8 or float32 (N, W)."""
        return self._values[: self._count]

    @property
    def are_bytes(self) -> bool:
        """Whether all numbers are whole and from 0 to 255."""
        return self._values.dtype == np.uint8

    @property
    def are_small(self) -> bool:
        """Whether all numbers are 0 or 1."""
        return self._ends

    def add(self, block: np.ndarray) -> None:
        """Add rows, float64 (B, W); all numbers are finite."""
        if not block.size:
            return
        self.profile.add(block)
        self._ends = self._ends and bool(((block == 0) | (block == 1)).all())
        end = self._count + len(block)
        whole = self._values.dtype == np.uint8 and are_bytes(block)
        dtype = np.dtype(np.uint8 if whole else np.float32)
        if end > len(self._values) or dtype != self._values.dtype:
            larger = np.empty((max(end, len(self._values)), block.shape[1]), dtype)
            larger[: self._count] = self.values
            self._values = larger
        with np.errstate(over="ignore"):  # numbers too large for a float32 are later rejected as not finite
            self._values[self._count : end] = block
        self._count = end

    def encoding(self, support: str | None, *, pixels: bool) -> Encoding:
        """The encoding of the numbers, which in a table have no type that says what they are.

        Args:
            support: The support that an existing model needs; None lets names and values decide.
            pixels: Whether they are pixels, of which bytes are grey levels; other columns are numbers as they are.
        """
        # a table of only 0, or only 1, may be anything
        differ = bool(self.profile.low.min(initial=np.inf) < self.profile.high.max(initial=-np.inf))
        if self._ends and differ and support in (None, "binary"):
            return "binary"
        return "bytes" if self.are_bytes and (support == "bytes" or (support is None and pixels)) else "numbers"


class LineNumbers:
    """The line of each row in its file, of which only breaks in the count take memory."""

    def __init__(self) -> None:
        self._rows, self._lines, self._count = array("q"), array("q"), 0

    def add(self, lines: np.ndarray) -> None:
        """Add the lines of some rows, int64 (B,), ascending."""
        if not len(lines):
            return
        expected = self._lines[-1] + self._count - self._rows[-1] if self._count else None
        breaks = (np.flatnonzero(np.diff(lines) != 1) + 1).tolist()
        for position in [*([] if lines[0] == expected else [0]), *breaks]:
            self._rows.append(self._count + position)
            self._lines.append(int(lines[position]))
        self._count += len(lines)

    def __getitem__(self, row: int) -> int:
        place = bisect_right(self._rows, row) - 1
        return self._lines[place] + row - self._rows[place]


class Labels:
    """The labels of a table, of which each different one is kept once."""

    def __init__(self) -> None:
        self._codes, self._blocks = dict[str, int](), list[np.ndarray]()

    def add(self, texts: Iterable[str]) -> None:
        """Add the labels of some rows."""
        codes = self._codes
        self._blocks.append(np.fromiter((codes.setdefault(text, len(codes)) for text in texts), np.int32))

    def codes(self) -> np.ndarray:
        """The position in ``kinds`` of each row's label, int32 (N,)."""
        return np.concatenate([np.zeros(0, np.int32), *self._blocks])

    def hashes(self) -> np.ndarray:
        """A number for each row's label, int64 (N,), which is the same for equal labels of other files."""
        marks = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in self._codes)
        numbers: np.ndarray = np.frombuffer(marks, np.int64)[self.codes()]
        return numbers

    def kinds(self, path: Path, name: str) -> np.ndarray:
        """The different labels, in the order of their first row: int64 if all are whole numbers, else text.

        Args:
            path: The table.
            name: The column of the labels.

        Raises:
            SettingError: They are real numbers.
        """
        try:
            numbers = np.array([float(text) for text in self._codes], np.float64)
        except ValueError:
            return np.array(list(self._codes), dtype=object)
        if np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all() and (np.abs(numbers) < 2**53).all():
            return numbers.astype(np.int64)
        raise SettingError(
            "data.label_column", f"must name a column of classes; '{name}' of {path.name} holds real numbers"
        )
