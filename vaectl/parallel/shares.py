"""The share of a batch that a process computes, and means over the whole batch.

Shapes: ``B`` batch and ``b`` of its rows here.
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

    A process for which there is no row takes one all the same, at weight 0: all then do the same work.

    Attributes:
        rows: The rows.
        count: How many of them count: all (b), or none of the one that is taken all the same.
        size: Examples in the batch (B).
        add: A tensor -> its sum over all processes, without a gradient.
    """

    rows: slice
    count: int
    size: int
    add: Callable[[Tensor], Tensor]

    @property
    def weight(self) -> float:
        """The part of the batch that counts here, b / B."""
        return self.count / self.size

    def within(self, own: Tensor) -> Tensor:
        """The values of the own rows (b, ...), or none (0, ...), in their place in the batch (B, ...); 0 elsewhere."""
        start = self.rows.start
        before, after = (own.new_zeros(n, *own.shape[1:]) for n in (start, self.size - start - len(own)))
        return torch.cat((before, own, after))


_SHARE: ContextVar[Share | None] = ContextVar("share", default=None)


@contextmanager
def sharing(share: Share | None) -> Iterator[None]:
    """Within the block what is computed is a share of a batch, or all of it where that is None."""
    before = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(before)


def current_share() -> Share | None:
    """The share of the batch that is computed now; None where one process computes all of it."""
    return _SHARE.get()


def batch_mean(own: Tensor) -> Tensor:
    """The mean over the whole batch, of the mean over the rows that are computed here.

    Its gradient is that of the own mean, which is right once all gradients are weighted by their share and added up.
    Every process must call it as often as the others.

    Args:
        own: A mean over the rows that are computed here, of any shape.
    """
    share = current_share()
    if share is None:
        return own
    whole = share.add(own.detach() * share.weight)
    return whole + (own - own.detach()) if own.requires_grad else whole
