"""The Gaussian posterior.

Shapes: ``*N`` leading dimensions, ``F`` features, flat or a map, ``D`` latent.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Independent, Normal

from vaectl.config.values import PosteriorScale
from vaectl.model.distributions.codes import VECTORS, LatentSpace
from vaectl.model.distributions.pixels import at_least_fp32
from vaectl.model.layers.readout import Shape, readout
from vaectl.model.parts import Posterior

# keeps log sigma finite when softplus underflows to 0 (below about -104 in fp32)
SCALE_FLOOR = 1e-6


class GaussianPosterior(Posterior):
    """A Gaussian with diagonal covariance, ``q(z|x) = N(mu(x), diag(sigma(x)^2))``.

    Args:
        features: Shape F of the network's features.
        latent_dim: Number of latent dimensions D.
        scale: How sigma is computed from an unbounded input s: ``softplus`` is ``softplus(s) + 1e-6``;
            ``log-variance`` is ``exp(s / 2)``, which overflows in fp32 for s above 177.

    References:
        Auto-Encoding Variational Bayes (Kingma and Welling, 2014), appendix C.2, https://arxiv.org/abs/1312.6114
    """

    gives: ClassVar[str] = VECTORS

    def __init__(self, features: Shape, latent_dim: int, *, scale: PosteriorScale = "softplus") -> None:
        super().__init__()
        self.scale = scale
        self.space = LatentSpace((latent_dim,))
        self.linear = readout(features, (2 * latent_dim,))

    def forward(self, features: Tensor) -> Independent[Normal]:
        """Features (*N, *F) -> q with batch shape (*N) and event shape (D,)."""
        mean, s = at_least_fp32(self.linear(features)).chunk(2, dim=-1)  # (*N, D) each
        sigma = F.softplus(s) + SCALE_FLOOR if self.scale == "softplus" else (0.5 * s).exp()
        return Independent(Normal(mean, sigma, validate_args=False), 1, validate_args=False)
