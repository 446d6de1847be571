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
        at: Level l, from 0, and all levels above it (*N, D_1 + ... + D_(l-1)) -> their distribution, with batch shape
            (*N) and event shape (D_l,). For level 0 the latter is empty, with the batch shape of the whole. N must
            broadcast with that batch shape, as arguments of a log-probability do.
        batch_shape: Batch shape of the whole.

    References:
        Ladder Variational Autoencoders (Sønderby et al., 2016), equations 1 to 3, https://arxiv.org/abs/1602.02282
    """

    has_rsample = True
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(
        self, sizes: Sequence[int], at: Callable[[int, Tensor], Distribution], batch_shape: Sequence[int]
    ) -> None:
        self.sizes, self.at = tuple(sizes), at
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
        z = self._nothing(sample_shape)
        for level in range(len(self.sizes)):
            z = torch.cat((z, self.at(level, z).rsample()), dim=-1)
        return z

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws (*sample_shape, *batch_shape, D), from the top level down."""
        with torch.no_grad():
            z = self._nothing(sample_shape)
            for level in range(len(self.sizes)):
                z = torch.cat((z, self.at(level, z).sample()), dim=-1)
        return z

    @property
    def mean(self) -> Tensor:
        """The mean of each level given the means above it (*batch_shape, D), which is exact for the top level."""
        z = self._nothing(())
        for level in range(len(self.sizes)):
            z = torch.cat((z, self.at(level, z).mean), dim=-1)
        return z

    @property
    def variance(self) -> Tensor:
        """The variance of each level given the means above it (*batch_shape, D), which is exact for the top level."""
        return torch.cat([p.variance for p, _ in self.levels(self.mean)], dim=-1)

    def _nothing(self, sample_shape: Any) -> Tensor:
        like = self.at(0, torch.empty(*self.batch_shape, 0)).mean
        return like.new_empty(*sample_shape, *self.batch_shape, 0)
