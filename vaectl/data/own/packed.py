"""Binary images that are drawn once and stored as bits, in an eighth of the memory of bytes.

Shapes: ``N`` examples of a source, ``B`` of them read at once, ``X`` data shape (C, H, W), ``P`` pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from vaectl.data.own.ahead import ahead
from vaectl.data.own.rows import PIECE_BYTES, Rows


@dataclass(frozen=True)
class PackedRows:
    """Binary draws of the examples of a source.

    Attributes:
        source: The grey levels.
        bits: The packed draws, uint8 (N, P / 8).
    """

    source: Rows
    bits: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """X."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype:
        """uint8, where 255 means 1."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.bits)

    def name(self, row: int) -> str:
        """The source's name for the example."""
        return self.source.name(row)

    def read(self, index: np.ndarray) -> np.ndarray:
        """Read examples as ``Rows.read`` does."""
        pixels = np.unpackbits(self.bits[index], axis=1, count=math.prod(self.shape))
        return pixels.reshape(len(index), *self.shape) * np.uint8(255)


def packed(
    source: Rows,
    rows: np.ndarray,
    random: np.random.RandomState,
    progress: Callable[[int], None] = lambda done: None,
) -> PackedRows:
    """Draw each pixel once from its Bernoulli distribution, bit for bit as ``base.binarized`` does in memory.

    Args:
        source: The grey levels.
        rows: Rows to draw, in this order (M,).
        random: Source of uniform numbers.
        progress: Called with the number of examples done.
    """
    pixels, white = math.prod(source.shape), 255 if source.dtype == np.uint8 else 1
    bits = np.zeros((len(source), -(-pixels // 8)), np.uint8)
    # uniform numbers take eight times the memory of bytes
    at_once, done = max(1, PIECE_BYTES // (8 * pixels)), 0
    chunks = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
    with closing(ahead(source.read, chunks, at_once * pixels * source.dtype.itemsize)) as pieces:
        for chunk, grey in zip(chunks, pieces, strict=True):
            draw = random.random_sample(grey.shape) * white < grey
            bits[chunk] = np.packbits(draw.reshape(len(chunk), -1), axis=1)
            done += len(chunk)
            progress(done)
    return PackedRows(source, bits)
