"""Priors over real vectors.

Shapes: ``D`` latent, ``C`` components, ``X`` data shape, ``N`` draws.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from vaectl.config.spec import Bounds
from vaectl.data.batch import Batch
from vaectl.model.distributions.codes import VECTORS, LatentSpace
from vaectl.model.distributions.pixels import at_least_fp32
from vaectl.model.layers.readout import Shape
from vaectl.model.parts import Encoder, Prior

Components = Annotated[int, Bounds(1, 10_000)]

# without it a learned prior and the posteriors could shrink together without end, at no cost to the bound
SCALE_FLOOR = 1e-3
# mean and standard deviation of initial pseudo-inputs: for data in [0, 1], before the logistic function, mostly dark
# and very different, so that no two components begin equal; for real data of unit scale
DARK_AND_WIDE, UNIT = (-2.0, 3.0), (0.0, 1.0)
# most numbers in memory at once in a (draws, components, latent) block of densities
NUMBERS_AT_ONCE = 2**22


class Mixture(MixtureSameFamily):
    """A mixture, ``p(z) = sum_c pi_c p_c(z)``, whose density is computed for some of the draws at a time.

    With 500 components in 40 dimensions, the 10,000 draws that an importance-weighted bound decodes together would take
    0.8 GB for each intermediate value.

    Args:
        logits: log pi_c plus any constant (C,).
        components: p_c, batch shape (C,).
    """

    def __init__(self, logits: Tensor, components: Distribution) -> None:
        weights = Categorical(logits=logits, validate_args=False)
        super().__init__(weights, components, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats (*N) of ``value`` (*N, *Z)."""
        leading = value.shape[: value.dim() - len(self.event_shape)]
        draws = value.reshape(-1, *self.event_shape)
        at_once = max(1, NUMBERS_AT_ONCE // (self._num_component * math.prod(self.event_shape)))
        density: Callable[[Tensor], Tensor] = super().log_prob
        return torch.cat([density(part) for part in torch.split(draws, at_once)]).view(leading)


class VectorPrior(Prior, ABC):
    """The base class of priors over vectors of real numbers."""

    takes: ClassVar[frozenset[str]] = frozenset({VECTORS})


class StandardNormal(VectorPrior):
    """The standard normal prior, ``p(z) = N(0, I)``.

    Args:
        space: The latent space: D numbers.
        shape: Data shape X, unused.
        support: Kind of the data, unused.
        given: Count of given numbers, unused.
    """

    mean: Tensor
    sigma: Tensor

    def __init__(self, space: LatentSpace, shape: Shape, support: str, given: int = 0) -> None:
        super().__init__()
        # buffers follow the model to its device; they are constants, so they are not saved
        self.register_buffer("mean", torch.zeros(space.shape), persistent=False)
        self.register_buffer("sigma", torch.ones(space.shape), persistent=False)

    def forward(self, encoder: Encoder, given: Tensor | None = None) -> Independent[Normal]:
        """p with batch shape () and event shape (D,)."""
        return Independent(Normal(self.mean, self.sigma, validate_args=False), 1, validate_args=False)


class MixturePrior(VectorPrior):
    """A mixture of Gaussians with diagonal covariance, all learned: ``p(z) = sum_c pi_c N(z; mu_c, diag(sigma_c^2))``.

    It begins near N(0, I): means of standard deviation 1/2, scales for the rest of the variance, and equal weights.

    Args:
        space: The latent space: D numbers.
        shape: Data shape X, unused.
        support: Kind of the data, unused.
        given: Count of given numbers, unused.
        components: C.

    References:
        VAE with a VampPrior (Tomczak and Welling, 2018), where it is a baseline,
        https://arxiv.org/abs/1705.07120
    """

    def __init__(
        self, space: LatentSpace, shape: Shape, support: str, given: int = 0, *, components: Components = 50
    ) -> None:
        super().__init__()
        self.mean = nn.Parameter(0.5 * torch.randn(components, *space.shape))
        # the inverse of softplus(s) + floor
        s = math.log(math.expm1(math.sqrt(0.75) - SCALE_FLOOR))
        self.scale = nn.Parameter(torch.full((components, *space.shape), s))
        self.logits = nn.Parameter(torch.zeros(components))

    def forward(self, encoder: Encoder, given: Tensor | None = None) -> Mixture:
        """p with batch shape () and event shape (D,)."""
        mean, s, logits = (at_least_fp32(value) for value in (self.mean, self.scale, self.logits))
        sigma = F.softplus(s) + SCALE_FLOOR
        return Mixture(logits, Independent(Normal(mean, sigma, validate_args=False), 1, validate_args=False))


class VampPrior(VectorPrior):
    """A mixture of the encoder's posteriors at C learned pseudo-inputs: ``p(z) = sum_c pi_c q(z|u_c)``.

    For data in [0, 1] the pseudo-inputs are the logistic function of the learned parameters.

    Args:
        space: The latent space: D numbers.
        shape: Data shape X.
        support: Kind of the data; values of all kinds but ``real`` lie in [0, 1].
        given: Count of given numbers, unused.
        components: C.
        weights: The weights pi_c: ``uniform``, 1/C as in the paper, or ``learned``.

    References:
        VAE with a VampPrior (Tomczak and Welling, 2018), section 3, https://arxiv.org/abs/1705.07120
    """

    logits: Tensor

    def __init__(
        self,
        space: LatentSpace,
        shape: Shape,
        support: str,
        given: int = 0,
        *,
        components: Components = 500,
        weights: Literal["uniform", "learned"] = "uniform",
    ) -> None:
        super().__init__()
        self.bounded = support != "real"
        mean, std = DARK_AND_WIDE if self.bounded else UNIT
        self.inputs = nn.Parameter(mean + std * torch.randn(components, *shape))
        if weights == "learned":
            self.logits = nn.Parameter(torch.zeros(components))
        else:
            self.register_buffer("logits", torch.zeros(components), persistent=False)

    @property
    def pseudo_inputs(self) -> Tensor:
        """u (C, *X), in the data's range."""
        return self.inputs.sigmoid() if self.bounded else self.inputs

    def forward(self, encoder: Encoder, given: Tensor | None = None) -> Mixture:
        """p with batch shape () and event shape (D,)."""
        components: Distribution = encoder(Batch(self.pseudo_inputs, given))  # batch shape (C,)
        return Mixture(at_least_fp32(self.logits), components)
