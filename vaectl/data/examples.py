"""The protocol of a split's examples, in memory or streamed.

Shapes: ``N`` examples of a split, ``B`` batch, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vaectl.data.batch import Batch

# images whose edge is measured, and the shortest side of one that has an edge around something
EDGE_IMAGES, LEAST_SIDE = 200, 3


class Examples(Protocol):
    """The examples of a split: a ``Split`` holds them in memory, a ``StreamedSplit`` reads them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, X."""

    @property
    def labels(self) -> Tensor:
        """Class of each example, int64 (N,); -1 if it has none."""

    @property
    def rows(self) -> Tensor:
        """Row of each example in the source's training, validation or test array, int64 (N,)."""

    @property
    def factors(self) -> Mapping[str, np.ndarray]:
        """Known factors of the examples by name (N,); never on a device."""

    @property
    def given(self) -> Tensor | None:
        """Numbers that a model is conditioned on, float32 (N, C), or None."""

    @property
    def device(self) -> torch.device:
        """The device of batches."""

    def __len__(self) -> int:
        """The number of examples N."""

    def batch(self, index: Tensor | slice) -> Batch:
        """The examples at ``index`` as the model sees them."""

    def batches(self, size: int) -> Iterator[Batch]:
        """All examples in order, ``size`` at a time; the last batch may be smaller."""

    def feed(self, order: Tensor, size: int, start: int = 0) -> Generator[tuple[Tensor, ...]]:
        """Yield the tensors from which ``training_batch`` makes each batch of an epoch.

        Args:
            order: The epoch's order of the examples (N,).
            size: Examples in a batch.
            start: Number of batches to skip.

        Yields:
            Tensors with B rows; their number, shapes and types are the same for all full batches.
        """

    def training_batch(self, tensors: Sequence[Tensor], rows: slice = slice(None)) -> Batch:
        """The examples of a batch from ``feed`` as training sees them; only ``rows`` of them."""

    def stored(self, size: int) -> Iterator[np.ndarray]:
        """All examples in order in their stored form, ``size`` at a time: uint8, with 255 for 1, or float32."""

    def to(self, device: torch.device) -> Examples:
        """The same split on a device."""

    def first(self, n: int) -> Examples:
        """The first ``n`` examples, or all if there are fewer."""


def edge_of(split: Examples) -> float | None:
    """The mean of the outermost pixels of the first images of a split in [0, 1]; None for rows of a table."""
    if min(split.shape[1:]) < LEAST_SIDE or not len(split):
        return None
    total, count = 0.0, 0
    for stored in split.first(EDGE_IMAGES).stored(EDGE_IMAGES):
        lines = (stored[..., 0, :], stored[..., -1, :], stored[..., 0], stored[..., -1])
        scale = 255 if stored.dtype == np.uint8 else 1
        total += sum(float(line.mean(dtype=np.float64)) * line.size for line in lines) / scale
        count += sum(line.size for line in lines)
    return min(1.0, max(0.0, total / count))


def given_for(split: Examples, n: int, device: torch.device | None = None) -> Tensor | None:
    """The ``given`` of the split's examples in order (n, C), repeated as needed, to condition ``n`` samples on.

    None if the split has none. The result is on ``device``, by default the split's.
    """
    if split.given is None:
        return None
    return split.given[torch.arange(n, device=split.given.device) % len(split)].to(device or split.device)
