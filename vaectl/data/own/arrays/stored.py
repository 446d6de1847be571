"""Arrays whose numbers are read when they are needed, whatever file holds them.

Shapes: ``N`` examples, ``B`` of them read at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vaectl.data.own.arrays.problems import PROBLEMS, first_line
from vaectl.errors import DataError


class Stored(Protocol):
    """An array (N, ...) that several threads can read at once; a ``numpy`` array and a memory map are such."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis, N first."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, index: slice | np.ndarray, /) -> np.ndarray:
        """The examples of a slice, or at ascending rows, int64 (B,), each of them once: a new array (B, ...)."""


@dataclass(frozen=True)
class Sliced:
    """An array of which a library reads a range of rows.

    Attributes:
        shape: Length of each axis, N first.
        dtype: Type of the numbers.
        rows: Reads the rows from one number to another, which is left out.
        name: The file and the array, for errors.
        chunk: Rows that the library unpacks together; 1 if it reads each alone.
        at: Reads ascending rows, if the library does so faster than in ranges; or None.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    rows: Callable[[int, int], np.ndarray]
    name: str
    chunk: int = 1
    at: Callable[[np.ndarray], np.ndarray] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | np.ndarray, /) -> np.ndarray:
        """Read as ``Stored`` says.

        Raises:
            DataError: The file is damaged there.
        """
        try:
            if isinstance(index, slice):
                start, stop, _ = index.indices(len(self))
                return self._range(start, max(start, stop))
            return self._runs(index)
        except PROBLEMS as error:
            raise DataError(f"{self.name} is damaged: {first_line(error)}") from None

    def _range(self, start: int, stop: int) -> np.ndarray:
        if start == stop:
            return np.empty((0, *self.shape[1:]), self.dtype)
        values = np.asarray(self.rows(start, stop))
        if values.shape != (stop - start, *self.shape[1:]):
            raise ValueError(f"rows {start} to {stop} have shape {values.shape}")
        return values

    def _runs(self, index: np.ndarray) -> np.ndarray:
        if self.at is not None and len(index) and int(index[-1] - index[0]) >= len(index):
            return np.asarray(self.at(index))
        out = np.empty((len(index), *self.shape[1:]), self.dtype)
        # rows that follow each other, or that are unpacked together, are read at once
        apart = (np.diff(index) != 1) & (np.diff(index // self.chunk) != 0)
        for places in np.split(np.arange(len(index)), np.flatnonzero(apart) + 1):
            if len(places):
                start = int(index[places[0]])
                out[places] = self._range(start, int(index[places[-1]]) + 1)[index[places] - start]
        return out


@dataclass(frozen=True)
class Viewed:
    """Another view of each example of an array, such as with its axes exchanged.

    Attributes:
        array: The array.
        shape: Length of each axis of the view, N first.
        dtype: Type of its numbers.
        view: Makes the view of some examples.
    """

    array: Stored
    shape: tuple[int, ...]
    dtype: np.dtype
    view: Callable[[np.ndarray], np.ndarray]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | np.ndarray, /) -> np.ndarray:
        """Read as ``Stored`` says."""
        return self.view(self.array[index])


@dataclass(frozen=True)
class Chained:
    """Arrays of examples of one shape and type, one after another.

    Attributes:
        arrays: The arrays.
    """

    arrays: Sequence[Stored]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis, N first."""
        return (len(self), *self.arrays[0].shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers."""
        return self.arrays[0].dtype

    def __len__(self) -> int:
        return sum(map(len, self.arrays))

    def __getitem__(self, index: slice | np.ndarray, /) -> np.ndarray:
        """Read as ``Stored`` says."""
        rows = np.arange(len(self))[index] if isinstance(index, slice) else index
        ends = np.cumsum([len(array) for array in self.arrays])
        parts = [np.empty((0, *self.shape[1:]), self.dtype)]
        for array, start, end in zip(self.arrays, [0, *ends.tolist()], ends.tolist(), strict=False):
            inside = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)]
            if len(inside):
                parts.append(array[inside - start])
        return np.concatenate(parts)


def reshaped(array: Stored, axes: tuple[int, ...]) -> Viewed:
    """The array (N, *axes) with the numbers of each example in their order."""
    return Viewed(array, (len(array), *axes), array.dtype, lambda part: part.reshape(len(part), *axes))


def transposed(array: Stored, order: tuple[int, ...]) -> Stored:
    """The array with its axes in another order, of which the first stays."""
    if order == tuple(range(len(order))):
        return array
    shape = tuple(array.shape[axis] for axis in order)
    return Viewed(array, shape, array.dtype, lambda part: part.transpose(order))


def taken(array: Stored, index: np.ndarray) -> np.ndarray:
    """The examples at rows in any order, int64 (B,), which may be repeated."""
    if isinstance(array, np.ndarray) or bool((np.diff(index) > 0).all()):
        return array[index]
    ascending, place = np.unique(index, return_inverse=True)
    return array[ascending][place]
