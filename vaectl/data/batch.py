"""Batches of examples: values, numbers to condition models on, and a mask of observed values.

Shapes: ``B`` batch, ``X`` data shape, ``C`` given numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Examples as a model sees them.

    Attributes:
        x: Values, float32 (B, *X); a missing value is 0.
        given: Labels, attributes or numbers that the model is conditioned on, float32 (B, C), or None.
        observed: Which values were observed, bool (B, *X); None if all were.
    """

    x: Tensor
    given: Tensor | None = None
    observed: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def device(self) -> torch.device:
        """The device of the values."""
        return self.x.device

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Apply a function to every tensor; it must keep rows whole."""
        given, observed = (None if t is None else change(t) for t in (self.given, self.observed))
        return Batch(change(self.x), given, observed)

    def rows(self, index: Tensor | slice) -> Batch:
        """Select examples."""
        return self.map(lambda t: t[index])

    def to(self, device: torch.device) -> Batch:
        """Move the batch to a device."""
        return self.map(lambda t: t.to(device))


def as_batch(examples: Batch | Tensor) -> Batch:
    """Wrap values (B, *X) as a complete batch that is conditioned on nothing; return a batch unchanged."""
    return Batch(examples) if isinstance(examples, Tensor) else examples
