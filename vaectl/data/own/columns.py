"""Columns of a table of any format: the label, and numbers and labels gathered block by block.

Shapes: ``N`` rows, ``B`` rows of a block, ``W`` columns of numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaectl.data.own.rows import Encoding, are_bytes
from vaectl.data.own.source import Reading
from vaectl.errors import DataError, SettingError, nearest

LABEL_NAMES = ("label", "class", "target", "y")
MOST_COLUMNS = 65_536
# what to do with a table that is too large
STREAM_INSTEAD = "save the numbers as .npy, which can be streamed"


@dataclass(frozen=True)
class Table:
    """The complete rows of a table.

    Attributes:
        names: Name of each column of numbers (W).
        numbers: Their numbers.
        labels: The different labels, int64 or text, or None.
        codes: Position of each row's label among these, int32 (N,); empty if there are none.
        line_numbers: Number of each row in the file, from 1, int64 (N,).
        bad: Name and problem of each unusable row.
    """

    names: Sequence[str]
    numbers: Numbers
    labels: np.ndarray | None
    codes: np.ndarray
    line_numbers: np.ndarray
    bad: Sequence[tuple[str, str]]


class Numbers:
    """The numbers of a table: bytes as long as all are whole and from 0 to 255, else float32, as models see them.

    What they are is decided by their values in float64, before they are rounded.

    Args:
        most: Rows to expect, in memory that is only taken when it is written.
        width: W.
    """

    def __init__(self, most: int, width: int) -> None:
        self._values, self._count = np.empty((most, width), np.uint8), 0
        self._ends, self._low, self._high = True, np.inf, -np.inf

    @property
    def values(self) -> np.ndarray:
        """The rows so far, uint8 or float32 (N, W)."""
        return self._values[: self._count]

    def add(self, block: np.ndarray) -> None:
        """Add rows, float64 (B, W); all numbers are finite."""
        if not block.size:
            return
        self._low, self._high = min(self._low, float(block.min())), max(self._high, float(block.max()))
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

    def encoding(self, support: str | None) -> Encoding:
        """The encoding of the numbers, which in a table have no type that says whether they are whole.

        Args:
            support: The support that an existing model needs; None lets the values decide.
        """
        # a table of only 0, or only 1, may be anything
        if self._ends and self._low < self._high and support in (None, "binary"):
            return "binary"
        return "bytes" if self._values.dtype == np.uint8 and support in (None, "bytes") else "numbers"


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


def label_index(path: Path, names: Sequence[str], reading: Reading) -> int | None:
    """The index of the column that holds the labels, or None."""
    if reading.label_column is not None and (reading.demands_label or reading.label_column in names):
        if reading.label_column not in names:
            some = ", ".join(names[:20])
            raise SettingError(
                "data.label_column",
                f"names no column of {path.name}: '{reading.label_column:.100}'",
                hint=nearest(reading.label_column, names) or f"its columns: {some}",
            )
        return list(names).index(reading.label_column)
    candidates = [index for index, name in enumerate(names) if name.lower() in LABEL_NAMES]
    candidates.sort(key=lambda index: LABEL_NAMES.index(names[index].lower()))
    if candidates:
        reading.note(f"{path.name}: column '{names[candidates[0]]}' is the label")
    return candidates[0] if candidates else None


def no_numbers(path: Path, name: str, what: str) -> DataError:
    """The error for a column that holds something else than numbers."""
    return DataError(
        f"{path}: column '{name}' holds {what}, not numbers",
        hint=f"remove it from the file, or if it is the label: --label-column {name}",
    )
