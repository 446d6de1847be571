"""Pixels in [0, 1] as bytes, or as 0 and 1, for a model that takes no others.

Shapes: ``N`` examples, ``B`` of them read at once, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from vaectl.data.base import Split, scaled
from vaectl.data.examples import Examples
from vaectl.data.own.rows import Rows
from vaectl.data.own.streamed import StreamedSplit


@dataclass(frozen=True)
class RequantisedRows:
    """The rows of a source as bytes.

    Attributes:
        source: Pixels in [0, 1], float32, or bytes.
        binary: Whether pixels become 0, or 255 from one half on.
    """

    source: Rows
    binary: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """X."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype:
        """uint8."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.source)

    def name(self, row: int) -> str:
        """The source's name for the example."""
        return self.source.name(row)

    def read(self, index: np.ndarray) -> np.ndarray:
        """Read examples as ``Rows.read`` does."""
        return _as_bytes(torch.from_numpy(self.source.read(index)), binary=self.binary).numpy()


def requantised(split: Examples, *, binary: bool) -> Examples:
    """A split as bytes k nearest to 255 x, or as 0 and 1 with 1 for x from one half on; x is in [0, 1]."""
    if isinstance(split, StreamedSplit):
        return dataclasses.replace(split, source=RequantisedRows(split.source, binary))
    assert isinstance(split, Split)
    return dataclasses.replace(split, images=_as_bytes(split.images, binary=binary))


def _as_bytes(stored: torch.Tensor, *, binary: bool) -> torch.Tensor:
    values = scaled(stored)
    return (values >= 0.5).to(torch.uint8) * 255 if binary else (values * 255).round().clamp(0, 255).to(torch.uint8)
