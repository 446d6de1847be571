"""Binary images that are drawn once, kept as bits: an eighth of the memory that bytes would take.

Shapes: ``N`` examples of a source, ``B`` of them read at once, ``X`` data shape (C, H, W), of ``P`` pixels.
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
    """Draws of the examples of a source.

    Attributes:
        source: Their grey levels.
        bits: uint8 (N, P / 8).
    """

    source: Rows
    bits: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """X."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype:
        """uint8, of which 255 is 1."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.bits)

    def name(self, row: int) -> str:
        """As the source's."""
        return self.source.name(row)

    def read(self, index: np.ndarray) -> np.ndarray:
        """As ``Rows``."""
        pixels = np.unpackbits(self.bits[index], axis=1, count=math.prod(self.shape))
        return pixels.reshape(len(index), *self.shape) * np.uint8(255)


def packed(
    source: Rows,
    places: np.ndarray,
    random: np.random.RandomState,
    progress: Callable[[int], None] = lambda done: None,
) -> PackedRows:
    """One Bernoulli draw of each pixel, to the bit those of ``base.binarized`` on the same examples in memory.

    Args:
        source: The grey levels.
        places: Rows to draw, in this order (M,).
        random: Source of uniform numbers.
        progress: Called with the number of examples done.
    """
    pixels, white = math.prod(source.shape), 255 if source.dtype == np.uint8 else 1
    bits = np.zeros((len(source), -(-pixels // 8)), np.uint8)
    # uniform numbers take eight times the memory of bytes
    at_once, done = max(1, PIECE_BYTES // (8 * pixels)), 0
    chunks = [places[start : start + at_once] for start in range(0, len(places), at_once)]
    with closing(ahead(source.read, chunks)) as found:
        for chunk, grey in zip(chunks, found, strict=True):
            drawn = random.random_sample(grey.shape) * white < grey
            bits[chunk] = np.packbits(drawn.reshape(len(chunk), -1), axis=1)
            done += len(chunk)
            progress(done)
    return PackedRows(source, bits)
