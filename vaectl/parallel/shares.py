"""The share of a batch that one of several processes computes, and means over the whole batch.

Shapes: ``B`` batch, ``b`` rows of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """The rows of a batch that one of several processes computes.

    A process without a row takes one with weight 0, so that all processes do the same work.

    Attributes:
        rows: The rows.
        count: Number of rows that count: all (b), or 0 for a row with weight 0.
        size: Number of examples in the batch (B).
        add: A tensor -> its sum over all processes, without a gradient.
    """

    rows: slice
    count: int
    size: int
    add: Callable[[Tensor], Tensor]

    @property
    def weight(self) -> float:
        """The fraction of the batch in this share, b / B."""
        return self.count / self.size

    def padded(self, own: Tensor) -> Tensor:
        """Put the values of this share's rows (b, ...), or none (0, ...), into a batch (B, ...) of zeros."""
        start = self.rows.start
        before, after = (own.new_zeros(n, *own.shape[1:]) for n in (start, self.size - start - len(own)))
        return torch.cat((before, own, after))


_SHARE: ContextVar[Share | None] = ContextVar("share", default=None)


@contextmanager
def sharing(share: Share | None) -> Iterator[None]:
    """Set the share of the batch that is computed within the block; None for the whole batch."""
    before = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(before)


def current_share() -> Share | None:
    """The share of the batch that is being computed; None if one process computes all of it."""
    return _SHARE.get()


def batch_mean(own: Tensor) -> Tensor:
    """The mean over the whole batch, from the mean over the rows of this process.

    Its gradient is that of ``own``, which is correct once all gradients are weighted by their share and summed. Every
    process must call it equally often.

    Args:
        own: A mean over the rows of this process, of any shape.
    """
    share = current_share()
    if share is None:
        return own
    whole = share.add(own.detach() * share.weight)
    return whole + (own - own.detach()) if own.requires_grad else whole
