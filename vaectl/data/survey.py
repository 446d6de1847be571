"""One pass over examples: which cannot be used, a digest of each, and what numbers they hold.

Shapes: ``N`` examples, ``B`` of them at once, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from vaectl.data.own.ahead import ahead
from vaectl.data.own.rows import BadExampleError, Rows

# bytes of examples that a thread reads at once, and how many examples at most: a bad one is looked for among them
PIECE_BYTES, MOST_AT_ONCE = 1 << 22, 64
DIGEST_BYTES = 16


class Tally:
    """What numbers a data set holds, added up as they come; in units of the model, where a byte is k / 255.

    Attributes:
        count, total, squares: Numbers, their sum and that of their squares.
        low, high: Smallest and largest number at each pixel (*X).
        ends: Whether every number is 0 or 1.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.count, self.total, self.squares = 0, 0.0, 0.0
        self.low, self.high = np.full(shape, np.inf, np.float32), np.full(shape, -np.inf, np.float32)
        self.ends = True

    def add(self, stored: np.ndarray) -> None:
        """Add examples (B, *X), uint8 or float32."""
        if not len(stored):
            return
        scale = 1 / 255 if stored.dtype == np.uint8 else 1.0
        numbers = stored.astype(np.float64)
        self.count += stored.size
        self.total += float(numbers.sum()) * scale
        self.squares += float(np.square(numbers).sum()) * scale**2
        self.low = np.minimum(self.low, stored.min(0) * np.float32(scale))
        self.high = np.maximum(self.high, stored.max(0) * np.float32(scale))
        self.ends = self.ends and bool(((stored == 0) | (stored == (255 if scale != 1 else 1))).all())

    @property
    def mean(self) -> float:
        """The mean of all numbers."""
        return self.total / max(1, self.count)

    @property
    def std(self) -> float:
        """Their standard deviation."""
        return float(max(0.0, self.squares / max(1, self.count) - self.mean**2) ** 0.5)

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest of them."""
        return float(self.low.min()), float(self.high.max())

    @property
    def constant(self) -> int:
        """Pixels that are the same in every example."""
        return int((self.low == self.high).sum())

    @property
    def binary(self) -> bool:
        """Whether there are 0 and 1 and nothing else."""
        return self.ends and self.range == (0.0, 1.0)


@dataclass(frozen=True)
class Survey:
    """What one pass found.

    Attributes:
        good: Rows that can be used, ascending, int64 (M,).
        digests: A digest of each of them, uint8 (M, 16).
        ranges: Smallest and largest number of each of them, float32 (M, 2).
        bad: What is the matter with the others, by row.
        images: The examples that can be used (M, *X), or None where they were not kept.
    """

    good: np.ndarray
    digests: np.ndarray
    ranges: np.ndarray
    bad: dict[int, str]
    images: np.ndarray | None


def survey(rows: Rows, tally: Tally, *, keep: bool, progress: Callable[[int], None] = lambda done: None) -> Survey:
    """Read every example once.

    Args:
        rows: The examples.
        tally: What their numbers are added to.
        keep: Whether to keep them in memory.
        progress: Called with the number of examples done.
    """
    n, shape = len(rows), rows.shape
    at_once = max(1, min(MOST_AT_ONCE, PIECE_BYTES // max(1, rows.dtype.itemsize * int(np.prod(shape)))))
    images = np.empty((n, *shape), rows.dtype) if keep else None
    digests, ranges = np.zeros((n, DIGEST_BYTES), np.uint8), np.zeros((n, 2), np.float32)
    usable, bad = np.zeros(n, bool), dict[int, str]()

    def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[int, str]]:
        good, stored, wrong = _readable(rows, index)
        return good, stored, digests_of(stored), wrong

    with closing(ahead(read, (np.arange(a, min(n, a + at_once)) for a in range(0, n, at_once)))) as found:
        done = 0
        for good, stored, marks, wrong in found:
            usable[good], digests[good], bad = True, marks, bad | wrong
            ranges[good] = ranges_of(stored)
            tally.add(stored)
            if images is not None:
                images[good] = stored
            done += len(good) + len(wrong)
            progress(done)
    rows_used = np.flatnonzero(usable)
    if images is not None and bad:
        images = images[rows_used]
    return Survey(rows_used, digests[rows_used], ranges[rows_used], bad, images)


def digests_of(stored: np.ndarray) -> np.ndarray:
    """A digest of each example, uint8 (B, 16): the same for the same numbers of one type."""
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
    """Those of some examples that can be read, their rows, and what is the matter with the others."""
    try:
        return index, rows.read(index), {}
    except BadExampleError:
        pass
    good, found, wrong = list[int](), list[np.ndarray](), dict[int, str]()
    for row in index.tolist():
        try:
            found.append(rows.read(np.array([row])))
            good.append(row)
        except BadExampleError as error:
            wrong[row] = error.problem
    stored = np.concatenate(found) if found else np.empty((0, *rows.shape), rows.dtype)
    return np.array(good, np.int64), stored, wrong
