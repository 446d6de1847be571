"""One pass over all examples: unusable ones, a digest of each, and statistics of their numbers.

Shapes: ``N`` examples, ``B`` of them at once, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from vaectl.data.changes import COLOURED
from vaectl.data.own.ahead import ahead
from vaectl.data.own.rows import BadExampleError, Rows

# limits for what a thread reads at once: bytes, and examples, which are read one by one if one of them is bad
PIECE_BYTES, MOST_AT_ONCE = 1 << 22, 64
DIGEST_BYTES = 16
VALUES_AT_ONCE = 1 << 16


class Tally:
    """Running statistics of the numbers of a data set, in units of the model, where a byte is k / 255.

    Attributes:
        count, total, squares: How many numbers, their sum and the sum of their squares.
        low, high: Smallest and largest number at each pixel (*X).
        ends: Whether every number is 0 or 1.
        grey: Whether all are colours whose red, green and blue are alike.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.count, self.total, self.squares = 0, 0.0, 0.0
        self.low, self.high = np.full(shape, np.inf, np.float32), np.full(shape, -np.inf, np.float32)
        self.ends = True
        self.grey = shape[0] in COLOURED

    def add(self, stored: np.ndarray) -> None:
        """Add examples (B, *X), uint8 or float32."""
        if not len(stored):
            return
        scale = 1 / 255 if stored.dtype == np.uint8 else 1.0
        self.count += stored.size
        flat = stored.reshape(-1)
        for start in range(0, len(flat), PIECE_BYTES):  # in float64 a large image would take eight times its memory
            numbers = flat[start : start + PIECE_BYTES].astype(np.float64)
            self.total += float(numbers.sum()) * scale
            self.squares += float(np.square(numbers).sum()) * scale**2
        self.low = np.minimum(self.low, stored.min(0) * np.float32(scale))
        self.high = np.maximum(self.high, stored.max(0) * np.float32(scale))
        self.grey = self.grey and bool((stored[:, 1:3] == stored[:, :1]).all())
        self.ends = self.ends and bool(((stored == 0) | (stored == (255 if scale != 1 else 1))).all())

    @property
    def mean(self) -> float:
        """The mean of all numbers."""
        return self.total / max(1, self.count)

    @property
    def std(self) -> float:
        """The standard deviation of all numbers."""
        return float(max(0.0, self.squares / max(1, self.count) - self.mean**2) ** 0.5)

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest number."""
        return float(self.low.min()), float(self.high.max())

    @property
    def constant(self) -> int:
        """The number of pixels that are the same in every example."""
        return int((self.low == self.high).sum())

    @property
    def binary(self) -> bool:
        """Whether the numbers are 0 and 1 and both occur."""
        return self.ends and self.range == (0.0, 1.0)


@dataclass
class Survey:
    """The result of one pass.

    Attributes:
        usable: Whether each example can be used, bool (N,).
        digests: A digest of each usable example, uint8 (M, 16).
        ranges: Smallest and largest number of each usable example, float32 (M, 2).
        bad: The problem of each unusable example, by row.
        images: The usable examples (M, *X), or None if they were not kept in memory.
    """

    usable: np.ndarray
    digests: np.ndarray
    ranges: np.ndarray
    bad: dict[int, str]
    images: np.ndarray | None

    @property
    def good(self) -> np.ndarray:
        """Rows of the usable examples, ascending, int64 (M,)."""
        return np.flatnonzero(self.usable)

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Rows of the usable examples at ``positions`` (B,); the same array if all examples are usable."""
        return self.good[positions] if self.bad else positions

    def range(self, positions: np.ndarray) -> tuple[float, float]:
        """The smallest and the largest number of the usable examples at ``positions``, at least one."""
        low = min(float(self.ranges[piece, 0].min()) for piece in in_pieces(positions))
        return low, max(float(self.ranges[piece, 1].max()) for piece in in_pieces(positions))

    def forget(self) -> None:
        """Free what only a description of the examples needs: for short rows it takes more memory than they do."""
        self.digests, self.ranges = self.digests[:0].copy(), self.ranges[:0].copy()


def in_pieces(values: np.ndarray) -> Iterator[np.ndarray]:
    """Some values at a time, so that what is computed of them needs little memory."""
    for start in range(0, len(values), VALUES_AT_ONCE):
        yield values[start : start + VALUES_AT_ONCE]


def survey(rows: Rows, tally: Tally, *, keep: bool, progress: Callable[[int], None] = lambda done: None) -> Survey:
    """Read every example once.

    Args:
        rows: The examples.
        tally: The statistics to update.
        keep: Whether to keep the examples in memory.
        progress: Called with the number of examples done.
    """
    n, shape = len(rows), rows.shape
    each = rows.dtype.itemsize * math.prod(shape)
    at_once = max(1, min(MOST_AT_ONCE, PIECE_BYTES // max(1, each)))
    images = np.empty((n, *shape), rows.dtype) if keep else None
    digests, ranges = np.zeros((n, DIGEST_BYTES), np.uint8), np.zeros((n, 2), np.float32)
    usable, bad = np.zeros(n, bool), dict[int, str]()

    def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[int, str]]:
        good, stored, wrong = _readable(rows, index)
        return good, stored, digests_of(stored), wrong

    chunks = (np.arange(a, min(n, a + at_once)) for a in range(0, n, at_once))
    with closing(ahead(read, chunks, at_once * each)) as results:
        done = 0
        for good, stored, marks, wrong in results:
            usable[good], digests[good], bad = True, marks, bad | wrong
            ranges[good] = ranges_of(stored)
            tally.add(stored)
            if images is not None:
                images[good] = stored
            done += len(good) + len(wrong)
            progress(done)
    if bad:
        digests, ranges, images = digests[usable], ranges[usable], None if images is None else images[usable]
    return Survey(usable, digests, ranges, bad, images)


def digests_of(stored: np.ndarray) -> np.ndarray:
    """A digest of each example, uint8 (B, 16); equal numbers of the same type have equal digests."""
    if not len(stored):
        return np.empty((0, DIGEST_BYTES), np.uint8)
    lines = np.ascontiguousarray(stored).reshape(len(stored), -1).view(np.uint8)
    marks = b"".join(hashlib.blake2b(line.data, digest_size=DIGEST_BYTES).digest() for line in lines)
    return np.frombuffer(marks, np.uint8).reshape(len(stored), DIGEST_BYTES)


def ranges_of(stored: np.ndarray) -> np.ndarray:
    """The smallest and the largest number of each example, in units of the model, float32 (B, 2)."""
    lines = stored.reshape(len(stored), int(np.prod(stored.shape[1:])))
    scale = np.float32(1 / 255 if stored.dtype == np.uint8 else 1)
    return np.stack((lines.min(1), lines.max(1)), axis=1).astype(np.float32) * scale


def _readable(rows: Rows, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """The rows of the readable examples, the examples, and the problems of the others by row."""
    try:
        return index, rows.read(index), {}
    except BadExampleError:
        pass
    good, examples, wrong = list[int](), list[np.ndarray](), dict[int, str]()
    for row in index.tolist():
        try:
            examples.append(rows.read(np.array([row])))
            good.append(row)
        except BadExampleError as error:
            wrong[row] = error.problem
    stacked = np.concatenate(examples) if examples else np.empty((0, *rows.shape), rows.dtype)
    return np.array(good, np.int64), stacked, wrong
