"""Distributions over grids of codes: the deterministic posterior and the prior.

Shapes: ``*N`` draw and batch dimensions, ``B`` batch, ``K`` codes of the codebook, ``D`` numbers of a code, ``P``
positions of a grid of height ``h`` and width ``w``. A latent is (D, h, w). Log quantities are in nats.
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

# the kinds of latents: real vectors, codes of a fixed codebook, codes of a learned codebook
VECTORS, CODES, CODEBOOK = "vectors", "codes", "codebook"


@dataclass(frozen=True)
class LatentSpace:
    """The shape of a latent.

    Attributes:
        shape: Latent shape Z: (D,), or for a grid of codes (D, h, w).
        codebook_size: Codes K of the codebook; 0 for real vectors.
        levels: Number of levels, each conditioned on the levels above it.
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
        """``h w log K``, the cost of a grid of codes if all are equally likely."""
        return math.prod(self.grid) * math.log(self.codebook_size)


class Codebook(ABC):
    """The base class of heads that have a codebook, for priors over code indices."""

    @abstractmethod
    def vectors(self, indices: Tensor) -> Tensor:
        """The codes (*N, D, h, w) of indices (*N, h, w)."""

    @abstractmethod
    def nearest(self, z: Tensor) -> Tensor:
        """The indices (*N, h, w) of the codes nearest to vectors (*N, D, h, w)."""


@dataclass(frozen=True)
class CodeUsage:
    """How often each code of a codebook is used over a set of examples.

    Attributes:
        counts: Uses of each code over all positions of all examples, int64 (K,).
    """

    counts: Tensor

    @property
    def used(self) -> int:
        """The number of codes that are used at all."""
        return int((self.counts > 0).sum())

    @property
    def perplexity(self) -> float:
        """``exp(-sum_k p_k log p_k)`` with p the frequencies of the codes; K if all are used equally often."""
        return float(Categorical(probs=self.counts.double(), validate_args=False).entropy().exp())  # type: ignore[no-untyped-call]

    def metrics(self) -> dict[str, float]:
        """``codes_used``, the number of ``codes`` in the codebook, and the ``perplexity``."""
        return {"codes_used": self.used, "codes": len(self.counts), "perplexity": self.perplexity}


class Quantized(Distribution):
    """A deterministic posterior: ``q(z|x) = 1`` for the codes nearest to the encoder's output.

    Its draws are these codes; their gradient goes straight through to the encoder's output.

    Args:
        encoded: The encoder's output (B, D, h, w).
        vectors: The codes nearest to it (B, D, h, w), with a gradient if the codebook learns from one.
        indices: The indices of these codes, int64 (B, h, w).
        by_gradient: Whether the codebook learns from the gradient of an objective.

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

    def usage(self, codebook_size: int, rows: slice = slice(None)) -> Tensor:
        """Count the uses of each of K codes in ``rows`` of the batch, int64 (K,) on the CPU."""
        return torch.bincount(self.indices[rows].flatten().cpu(), minlength=codebook_size)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """The codes (*sample_shape, B, D, h, w)."""
        return self.mean.expand(*sample_shape, *self.vectors.shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """The codes (*sample_shape, B, D, h, w) with the gradient of the encoder's output."""
        # exactly the codes, since the difference is 0
        z = self.vectors.detach() + (self.encoded - self.encoded.detach())
        return z.expand(*sample_shape, *z.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """log q(z|x), the logarithm of a probability (*N, B): 0 for the codes, minus infinity for all others."""
        same = (value == self.vectors.detach()).flatten(-3).all(-1)
        return torch.zeros_like(same, dtype=self.vectors.dtype).masked_fill(~same, -math.inf)


class CodeDistribution(Distribution):
    """A prior over grids of codes, uniform or autoregressive.

    Args:
        space: The latent space: the grid and K.
        codebook: The head that has the codes.
        like: A tensor whose type and device are used.
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
        """Whether every grid of codes is equally likely."""
        return self._log_prob_of is None

    @property
    def variance(self) -> Tensor:
        """NaN (D, h, w), because the numbers of a code have no scale of their own."""
        return self.like.new_full(self.event_shape, math.nan)

    def log_prob_of(self, indices: Tensor) -> Tensor:
        """log p in nats (*N) of grids of codes by their indices (*N, h, w)."""
        before = indices.shape[:-2]
        if self._log_prob_of is None:
            return self.like.new_full(before, -self.space.uniform_nats)
        return self._log_prob_of(indices.reshape(math.prod(before), *indices.shape[-2:])).reshape(before)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats (*N) of the codes nearest to ``value`` (*N, D, h, w)."""
        return self.log_prob_of(self.codebook.nearest(value))

    def sample(self, sample_shape: Any = (), temperature: float = 1.0) -> Tensor:
        """Draws (*sample_shape, D, h, w); at temperature 0 each code is the most likely given those before it."""
        n = math.prod(sample_shape)
        if self._draw is None:
            indices = torch.randint(self.space.codebook_size, (n, *self.space.grid), device=self.like.device)
        else:
            indices = self._draw(n, temperature)
        return self.codebook.vectors(indices.reshape(*sample_shape, *self.space.grid))


def draw_at(logits: Tensor, temperature: float) -> Tensor:
    """Draw from categorical distributions with logits (N, K) divided by the temperature; at 0 take the mode (N,)."""
    if temperature == 0:
        return logits.argmax(-1)
    # the largest logit at 0, so that no temperature is too low to divide by
    lowered = logits - logits.amax(-1, keepdim=True)
    indices: Tensor = Categorical(logits=lowered / temperature, validate_args=False).sample()  # type: ignore[no-untyped-call]
    return indices


@singledispatch
def tempered(p: Distribution, n: int, temperature: float) -> Tensor:
    """Draw ``n`` latents (n, *Z) from a prior, with the distance from its mean multiplied by ``temperature``.

    Codes have no mean; for them the log-probabilities are divided by the temperature.
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
