"""Likelihood heads: features -> p(x|z). Each declares the data supports it accepts.

Shapes: ``*N`` leading dimensions, ``F`` features, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent


class BernoulliLikelihood(nn.Module):
    """Independent Bernoulli pixels on logits l: ``log p(x|z) = sum_i x_i log s(l_i) + (1 - x_i) log s(-l_i)``.

    On grey levels in [0, 1] this is the cross-entropy (BCE with logits) of the usual VAE: a training
    objective with a floor above 0, and no density of grey pixels.

    Args:
        features: Number of features F that the network gives.
        shape: Data shape X.

    References:
        Auto-Encoding Variational Bayes (Kingma and Welling, 2014), appendix C.1, https://arxiv.org/abs/1312.6114
    """

    supports: ClassVar[frozenset[str]] = frozenset({"binary", "unit", "bytes"})

    def __init__(self, features: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.linear = nn.Linear(features, math.prod(shape))

    def forward(self, features: Tensor) -> Independent[Bernoulli]:
        """Features (*N, F) -> p with batch shape (*N) and event shape X."""
        logits = self.linear(features).unflatten(-1, self.shape)  # (*N, *X)
        pixels = Bernoulli(logits=logits, validate_args=False)
        return Independent(pixels, len(self.shape), validate_args=False)


LIKELIHOODS: dict[str, Callable[..., nn.Module]] = {"bernoulli": BernoulliLikelihood}
