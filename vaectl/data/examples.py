"""What the examples of a split are to the rest of vaectl, wherever they are.

Shapes: ``N`` examples of a split, ``B`` batch, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vaectl.data.batch import Batch


class Examples(Protocol):
    """Examples of one split, wherever they are: a ``Split`` holds them, a ``StreamedSplit`` reads them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, X."""

    @property
    def labels(self) -> Tensor:
        """Class of each example, int64 (N,); -1 where it has none."""

    @property
    def rows(self) -> Tensor:
        """Row of each example in the source's training, validation or test array, int64 (N,)."""

    @property
    def factors(self) -> Mapping[str, np.ndarray]:
        """What the examples were made from, by name (N,), where that is known; never on a device."""

    @property
    def given(self) -> Tensor | None:
        """What a model is conditioned on, float32 (N, C); None without."""

    @property
    def device(self) -> torch.device:
        """Where batches are."""

    def __len__(self) -> int:
        """N."""

    def batch(self, index: Tensor | slice) -> Batch:
        """The examples at ``index`` as the model sees them."""

    def batches(self, size: int) -> Iterator[Batch]:
        """All examples in order, ``size`` at a time; the last batch may be smaller."""

    def feed(self, order: Tensor, size: int, start: int = 0) -> Generator[tuple[Tensor, ...]]:
        """What an epoch's batches from the ``start``-th on are made from by ``training_batch``, one after the other.

        Args:
            order: The epoch's order of the examples (N,).
            size: Examples in a batch.
            start: Batches of the epoch that are done.

        Yields:
            Tensors of B rows; of the same number, shapes and types for all batches of ``size``.
        """

    def training_batch(self, fed: Sequence[Tensor], rows: slice = slice(None)) -> Batch:
        """The examples of a batch that ``feed`` yielded, as training sees them; only ``rows`` of them."""

    def stored(self, size: int) -> Iterator[np.ndarray]:
        """All examples in order as they are stored, ``size`` at a time: uint8 of which 255 is 1, or float32."""

    def to(self, device: torch.device) -> Examples:
        """The same split on a device."""

    def first(self, n: int) -> Examples:
        """Its first ``n`` examples, or all where there are fewer."""


def given_for(split: Examples, n: int) -> Tensor | None:
    """What ``n`` samples of a conditional model are conditioned on (n, C): the same as the split's examples in order.

    They begin again after the last one; None if the split is not made for a conditional model.
    """
    if split.given is None:
        return None
    return split.given[torch.arange(n, device=split.given.device) % len(split)].to(split.device)
