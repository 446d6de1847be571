"""Distributions over several levels of latents, each level given those above it.

Shapes: ``*N`` draw and batch dimensions, ``D`` latent of all levels together, ``D_l`` of level ``l``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints


class Levels(Distribution):
    """The product ``p(z) = p(z_1) prod_l p(z_l | z_1, ..., z_(l-1))`` over the parts z_l of a vector z.

    Args:
        sizes: D_l of each level, from the top.
        at: (level l, from 0; the levels above it (*N, D_1 + ... + D_(l-1)), empty for level 0) -> the distribution of
            that level, event shape (D_l,). N broadcasts with ``batch_shape``.
        batch_shape: Batch shape of the product.
        like: A tensor whose type and device are used.

    References:
        Ladder Variational Autoencoders (Sønderby et al., 2016), equations 1 to 3, https://arxiv.org/abs/1602.02282
    """

    has_rsample = True
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(
        self, sizes: Sequence[int], at: Callable[[int, Tensor], Distribution], batch_shape: Sequence[int], like: Tensor
    ) -> None:
        self.sizes, self.at, self.like = tuple(sizes), at, like
        super().__init__(torch.Size(batch_shape), torch.Size((sum(sizes),)), validate_args=False)

    def levels(self, z: Tensor) -> Iterator[tuple[Distribution, Tensor]]:
        """The distribution of each level given those above it in z (*N, D), and its part of z (*N, D_l)."""
        start = 0
        for level, size in enumerate(self.sizes):
            yield self.at(level, z[..., :start]), z[..., start : start + size]
            start += size

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats (*N), the sum over levels."""
        terms = [p.log_prob(part) for p, part in self.levels(value)]
        return torch.stack(torch.broadcast_tensors(*terms)).sum(0)  # type: ignore[no-untyped-call]

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Reparameterised draws (*sample_shape, *batch_shape, D), from the top level down."""
        return self._down(sample_shape, lambda p, shape: p.expand(shape).rsample())

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws (*sample_shape, *batch_shape, D), from the top level down."""
        with torch.no_grad():
            return self._down(sample_shape, lambda p, shape: p.expand(shape).sample())

    @property
    def mean(self) -> Tensor:
        """The mean of each level given the means above it (*batch_shape, D); exact for the top level."""
        return self._down((), lambda p, shape: p.expand(shape).mean)

    @property
    def variance(self) -> Tensor:
        """The variance of each level given the means above it (*batch_shape, D); exact for the top level."""
        return torch.cat([p.expand(self.batch_shape).variance for p, _ in self.levels(self.mean)], dim=-1)

    def _down(self, sample_shape: Any, take: Callable[[Distribution, torch.Size], Tensor]) -> Tensor:
        """A value of each level given those above it, (*sample_shape, *batch_shape, D)."""
        shape = torch.Size((*sample_shape, *self.batch_shape))
        z = self.like.new_empty(*shape, 0)
        for level in range(len(self.sizes)):
            z = torch.cat((z, take(self.at(level, z), shape)), dim=-1)
        return z
