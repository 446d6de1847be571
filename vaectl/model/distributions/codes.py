"""Grids of codes from a finite codebook: their certain posterior, and their prior.

Shapes: ``*N`` draw and batch dimensions, ``B`` batch, ``K`` codes of the codebook, ``D`` numbers of a code, ``P``
positions of a grid of height ``h`` and width ``w``; a latent is (D, h, w). Log quantities are in nats.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, constraints, register_kl

# what a posterior's latents are: real vectors, codes from a fixed codebook, or codes from one that is learned
VECTORS, CODES, CODEBOOK = "vectors", "codes", "codebook"


@dataclass(frozen=True)
class LatentSpace:
    """What a latent is.

    Attributes:
        shape: Latent shape Z: (D,), or for a grid of codes (D, h, w).
        codebook_size: Codes K of the codebook; 0 for real vectors.
        levels: Levels of latents, each given those above it.
    """

    shape: tuple[int, ...]
    codebook_size: int = 0
    levels: int = 1

    @property
    def grid(self) -> tuple[int, ...]:
        """Height and width of the grid of codes."""
        return self.shape[1:]

    @property
    def uniform_nats(self) -> float:
        """``h w log K``: what naming a grid of codes costs when all are equally likely."""
        return math.prod(self.grid) * math.log(self.codebook_size)


class Codebook(ABC):
    """A head that has a codebook: what a prior over code indices asks of it."""

    @abstractmethod
    def vectors(self, indices: Tensor) -> Tensor:
        """The codes (*N, D, h, w) of indices (*N, h, w)."""

    @abstractmethod
    def nearest(self, z: Tensor) -> Tensor:
        """The indices (*N, h, w) of the codes nearest to any latents (*N, D, h, w)."""


@dataclass(frozen=True)
class CodeUsage:
    """How often each code of a codebook is used over a set of examples.

    Attributes:
        counts: Positions of all examples that a code stands at, int64 (K,).
    """

    counts: Tensor

    @property
    def used(self) -> int:
        """Codes that stand anywhere."""
        return int((self.counts > 0).sum())

    @property
    def perplexity(self) -> float:
        """``exp(-sum_k p_k log p_k)`` of the codes' frequencies: as many codes, evenly used, would be as varied."""
        return float(Categorical(probs=self.counts.double(), validate_args=False).entropy().exp())  # type: ignore[no-untyped-call]

    def metrics(self) -> dict[str, float]:
        """``codes_used`` of so many ``codes``, and their ``perplexity``."""
        return {"codes_used": self.used, "codes": len(self.counts), "perplexity": self.perplexity}


class Quantized(Distribution):
    """A posterior that is certain of its codes: ``q(z|x) = 1`` for the codes nearest to the encoder's output.

    Its draws are those codes; their gradient goes straight through to the encoder's output.

    Args:
        encoded: The encoder's output (B, D, h, w).
        vectors: The codes nearest to it, with a gradient where the codebook learns from one (B, D, h, w).
        indices: Which codes they are, int64 (B, h, w).
        by_gradient: Whether the codes learn from the gradient of an objective.

    References:
        Neural Discrete Representation Learning (van den Oord et al., 2017), equations 1 and 2,
        https://arxiv.org/abs/1711.00937
    """

    has_rsample = True
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, encoded: Tensor, vectors: Tensor, indices: Tensor, *, by_gradient: bool) -> None:
        self.encoded, self.vectors, self.indices, self.by_gradient = encoded, vectors, indices, by_gradient
        super().__init__(encoded.shape[:1], encoded.shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The codes (B, D, h, w)."""
        return self.vectors.detach()

    @property
    def mode(self) -> Tensor:
        """The codes (B, D, h, w)."""
        return self.mean

    @property
    def variance(self) -> Tensor:
        """0 (B, D, h, w)."""
        return torch.zeros_like(self.mean)

    def usage(self, codes: int, rows: slice = slice(None)) -> Tensor:
        """How often each of K codes stands in ``rows`` of the batch, int64 (K,) on the CPU."""
        return torch.bincount(self.indices[rows].flatten().cpu(), minlength=codes)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """The codes, as often as asked for."""
        return self.mean.expand(*sample_shape, *self.vectors.shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """The codes, as often as asked for, with the gradient of the encoder's output."""
        # to the bit the codes: the difference is 0
        z = self.vectors.detach() + (self.encoded - self.encoded.detach())
        return z.expand(*sample_shape, *z.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """log q(z|x), the logarithm of a probability: 0 for the codes themselves, minus infinity for others (*N, B)."""
        same = (value == self.vectors.detach()).flatten(-3).all(-1)
        return torch.zeros_like(same, dtype=self.vectors.dtype).masked_fill(~same, -math.inf)


class CodeDistribution(Distribution):
    """A prior over grids of codes, uniform or autoregressive.

    Args:
        space: The grid and K.
        codebook: The codes.
        like: A tensor of the type and on the device to use.
        log_prob_of: Indices (N, h, w) -> log p in nats (N,); None for the uniform prior, ``-h w log K``.
        draw: (n, temperature) -> indices (n, h, w) of draws; None for the uniform prior.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(
        self,
        space: LatentSpace,
        codebook: Codebook,
        like: Tensor,
        log_prob_of: Callable[[Tensor], Tensor] | None = None,
        draw: Callable[[int, float], Tensor] | None = None,
    ) -> None:
        self.space, self.codebook, self.like = space, codebook, like
        self._log_prob_of, self._draw = log_prob_of, draw
        super().__init__(torch.Size(), torch.Size(space.shape), validate_args=False)

    @property
    def is_uniform(self) -> bool:
        """Whether all grids of codes are alike."""
        return self._log_prob_of is None

    @property
    def variance(self) -> Tensor:
        """Not a number (D, h, w): the numbers of a code are the encoder's own, and have no scale."""
        return self.like.new_full(self.event_shape, math.nan)

    def log_prob_of(self, indices: Tensor) -> Tensor:
        """log p of grids of codes (*N, h, w), in nats (*N)."""
        before = indices.shape[:-2]
        if self._log_prob_of is None:
            return self.like.new_full(before, -self.space.uniform_nats)
        return self._log_prob_of(indices.reshape(math.prod(before), *indices.shape[-2:])).reshape(before)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats (*N) of the codes nearest to ``value`` (*N, D, h, w)."""
        return self.log_prob_of(self.codebook.nearest(value))

    def sample(self, sample_shape: Any = (), temperature: float = 1.0) -> Tensor:
        """Codes (*sample_shape, D, h, w); of temperature 0 each is the likeliest given those before it."""
        n = math.prod(sample_shape)
        if self._draw is None:
            indices = torch.randint(self.space.codebook_size, (n, *self.space.grid), device=self.like.device)
        else:
            indices = self._draw(n, temperature)
        return self.codebook.vectors(indices.reshape(*sample_shape, *self.space.grid))


def drawn_at(logits: Tensor, temperature: float) -> Tensor:
    """One draw of each categorical distribution whose logits (N, K) are divided by the temperature; at 0 the mode."""
    if temperature == 0:
        return logits.argmax(-1)
    # the likeliest at 0, so that no temperature is too low to divide by
    lowered = logits - logits.amax(-1, keepdim=True)
    drawn: Tensor = Categorical(logits=lowered / temperature, validate_args=False).sample()  # type: ignore[no-untyped-call]
    return drawn


@singledispatch
def tempered(p: Distribution, n: int, temperature: float) -> Tensor:
    """``n`` draws (n, *Z) of a prior, each as far from its mean as ``temperature`` times the draw would be.

    Of codes, which have no mean, the logarithms of the probabilities are divided by the temperature instead.
    """
    z = p.sample(() if p.batch_shape else (n,))  # (n, *Z)
    return z if temperature == 1.0 else p.mean + temperature * (z - p.mean)


@tempered.register
def _tempered_codes(p: CodeDistribution, n: int, temperature: float) -> Tensor:
    return p.sample((n,), temperature)


@register_kl(Quantized, CodeDistribution)  # type: ignore[no-untyped-call, untyped-decorator]
def _kl_quantized_codes(q: Quantized, p: CodeDistribution) -> Tensor:
    # q has no entropy
    return -p.log_prob_of(q.indices)
