"""Likelihood heads: features -> p(x|z). Each names the kinds of data that it takes, and the measure for each.

Shapes: ``*N`` leading dimensions, ``F`` features, flat or a map, ``X`` data shape (C, H, W). Data are ``binary`` ({0,
1}), ``bytes`` (k / 255), ``unit`` (any real number in [0, 1]) or ``real``.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Laplace, Normal

from vaectl.config.spec import Bounds
from vaectl.data.batch import Batch
from vaectl.errors import SettingError
from vaectl.model.distributions.bernoulli import LogitBernoulli
from vaectl.model.distributions.pixels import (
    LEVELS,
    BatchScaled,
    ContinuousBernoulli,
    DiscretizedLogistic,
    LowRankCategorical,
    SquaredError,
    at_least_fp32,
    base_of,
    scale_of_moment,
)
from vaectl.model.layers.linear import Linear
from vaectl.model.layers.readout import Shape, readout
from vaectl.model.parts import Likelihood

# the measures of log-probabilities; values of different measures are never compared
BINARY_PROBABILITY = "probability of binary pixels"
BYTE_PROBABILITY = "probability of bytes"
DENSITY = "density"
CROSS_ENTROPY = "grey-level cross-entropy"
SQUARED_ERROR = "squared error"
DISCRETE = frozenset({BINARY_PROBABILITY, BYTE_PROBABILITY})

Positive = Annotated[float, Bounds(0, 1e6, above=True)]
Rank = Annotated[int, Bounds(1, LEVELS)]
SIGMA, FLOOR = 1.0, 1e-3
# a learned scale begins at 1/2 = softplus(START), the largest standard deviation that values in [0, 1] can have
START = math.log(math.expm1(0.5))
# decay of the running error at each batch: it averages over about the last hundred
DECAY = 0.99


def _pixels(layer: nn.Module, features: Tensor) -> Tensor:
    """A layer's outputs, one for each pixel (*N, *X) or several (*N, *X, R)."""
    return at_least_fp32(layer(features))


def _event(pixels: Distribution, shape: Shape) -> Independent[Any]:
    return Independent(pixels, len(shape), validate_args=False)


class OneParameterLikelihood(Likelihood):
    """Independent pixels of a family with one unbounded parameter, predicted for each pixel.

    Args:
        features: Shape F of the network's features.
        shape: Data shape X.
    """

    def __init__(self, features: Shape, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.linear = readout(features, shape)

    @abstractmethod
    def pixels(self, parameter: Tensor) -> Distribution:
        """The pixels' distribution, with the parameter's shape (*N, *X) as batch shape."""

    def forward(self, features: Tensor) -> Independent[Any]:
        """Features (*N, *F) -> p with batch shape (*N) and event shape X."""
        return _event(self.pixels(_pixels(self.linear, features)), self.shape)


class BernoulliLikelihood(OneParameterLikelihood):
    """Independent Bernoulli pixels on logits l: ``log p(x|z) = sum_i x_i log s(l_i) + (1 - x_i) log s(-l_i)``.

    On grey levels in [0, 1] this is the cross-entropy (BCE with logits) of the usual VAE: a training
    objective with a floor above 0, and no density of grey pixels.

    References:
        Auto-Encoding Variational Bayes (Kingma and Welling, 2014), appendix C.1, https://arxiv.org/abs/1312.6114
    """

    measures: ClassVar[Mapping[str, str]] = {
        "binary": BINARY_PROBABILITY,
        "unit": CROSS_ENTROPY,
        "bytes": CROSS_ENTROPY,
    }

    def pixels(self, parameter: Tensor) -> LogitBernoulli:
        """Bernoullis by their logits."""
        return LogitBernoulli(parameter)


class ContinuousBernoulliLikelihood(OneParameterLikelihood):
    """The cross-entropy of grey levels with the normaliser that makes it a density: ``sum_i bernoulli_i + log C(l_i)``.

    References:
        The continuous Bernoulli: fixing a pervasive error in variational autoencoders (Loaiza-Ganem and Cunningham,
        2019), section 3, https://arxiv.org/abs/1907.06845
    """

    measures: ClassVar[Mapping[str, str]] = {"unit": DENSITY, "bytes": DENSITY}

    def pixels(self, parameter: Tensor) -> ContinuousBernoulli:
        """Continuous Bernoullis by their logits."""
        return ContinuousBernoulli(parameter)


class SquaredErrorLikelihood(OneParameterLikelihood):
    """The deterministic decoder of the literature: ``-1/2 sum_i (x_i - mu_i(z))^2``, not a log-probability.

    It is a Gaussian of unit scale without its constant; ``gaussian`` with scale 'fixed' has the same gradient.
    """

    measures: ClassVar[Mapping[str, str]] = dict.fromkeys(("binary", "unit", "bytes", "real"), SQUARED_ERROR)

    def pixels(self, parameter: Tensor) -> SquaredError:
        """Squared errors around the mean image."""
        return SquaredError(parameter)


class FixedScale(nn.Module):
    """A fixed scale."""

    sigma: Tensor

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.register_buffer("sigma", torch.tensor(sigma), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """The scale ()."""
        return at_least_fp32(self.sigma)


class LearnedScale(nn.Module):
    """A scale ``softplus(s + START) + floor``, with one learned s, or one s per pixel computed from the features.

    s begins at or near 0, and the scale of pixels in [0, 1] then falls. A smaller initial scale would multiply the
    location's gradient by its inverse square; a scale that begins at 1 takes longer to fall.

    Args:
        features: Shape F of the features.
        shape: Data shape X for a scale per pixel, or () for one shared scale.
        floor: The smallest scale, as the model sees the data.
    """

    def __init__(self, features: Shape, shape: Shape, floor: float) -> None:
        super().__init__()
        self.shape, self.floor = shape, floor
        if shape:
            self.linear = readout(features, shape)
        else:
            self.s = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """The scale (*N, *X), or () if it is shared."""
        s = _pixels(self.linear, features) if self.shape else at_least_fp32(self.s)
        return F.softplus(s + START) + self.floor


class OptimalScale(nn.Module):
    """The scale of highest likelihood given the residuals r: ``(mean |r|^power)^(1/power)``, at least ``floor``.

    A training batch has its own. Evaluation uses a running mean of ``|r|^power`` over training batches, so that the
    scale does not depend on the evaluated data. The mean decays exponentially and is corrected for its initial value.

    Args:
        power: 2 for a Gaussian's standard deviation, 1 for a Laplace's mean absolute error.
        floor: The smallest scale, as the model sees the data.
    """

    moment: Tensor
    weight: Tensor

    def __init__(self, power: int, floor: float) -> None:
        super().__init__()
        self.power, self.floor = power, floor
        self.register_buffer("moment", torch.ones(()))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """The running scale (); 1 before the first batch."""
        return scale_of_moment(at_least_fp32(self.moment), self.power, self.floor)

    @torch.no_grad()
    def learn(self, moment: Tensor) -> None:
        """Update the running mean with a batch's mean of ``|r|^power`` (), unless it is not finite."""
        finite = moment.isfinite()
        weight = self.weight * DECAY + (1 - DECAY)
        running = self.moment.lerp(moment.to(self.moment.dtype), (1 - DECAY) / weight)
        self.weight.copy_(torch.where(finite, weight, self.weight))
        self.moment.copy_(torch.where(finite, running, self.moment))


class LocationScaleLikelihood(Likelihood):
    """Independent pixels of a location-scale family around a mean image, normaliser included.

    Args:
        features: Shape F of the network's features.
        shape: Data shape X.
        scale: ``shared`` learns one scale; ``per-pixel`` predicts each; ``optimal`` is the best for the training batch,
            which gives the ELBO the same gradient as differentiating through it; ``fixed`` is ``sigma``.
        sigma: The fixed scale, as the model sees the data.
        floor: The smallest scale, unless it is fixed: the density of pixels with a few exact values is unbounded.

    Raises:
        SettingError: ``sigma`` is set but the scale is not fixed, or ``floor`` is set and the scale is fixed.

    References:
        Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2021),
        https://arxiv.org/abs/2006.13202
    """

    measures: ClassVar[Mapping[str, str]] = {"unit": DENSITY, "bytes": DENSITY, "real": DENSITY}
    family: ClassVar[type[Normal] | type[Laplace]]
    power: ClassVar[int]

    def __init__(
        self,
        features: Shape,
        shape: Shape,
        *,
        scale: Literal["fixed", "shared", "per-pixel", "optimal"] = "shared",
        sigma: Positive = SIGMA,
        floor: Positive = FLOOR,
    ) -> None:
        super().__init__()
        if scale != "fixed" and sigma != SIGMA:
            raise SettingError(
                "likelihood.sigma", f"is for scale 'fixed'; the scale is '{scale}'", hint=f"leave it at {SIGMA}"
            )
        if scale == "fixed" and floor != FLOOR:
            raise SettingError(
                "likelihood.floor",
                "is for scales that are learned; the scale is 'fixed'",
                hint=f"leave it at {FLOOR:g}",
            )
        self.shape = shape
        self.floor = None if scale == "fixed" else floor
        self.linear = readout(features, shape)
        scales: dict[str, Callable[[], nn.Module]] = {
            "fixed": lambda: FixedScale(sigma),
            "shared": lambda: LearnedScale(features, (), floor),
            "per-pixel": lambda: LearnedScale(features, shape, floor),
            "optimal": lambda: OptimalScale(self.power, floor),
        }
        self.scale = scales[scale]()

    def forward(self, features: Tensor) -> Independent[Any]:
        """Features (*N, *F) -> p with batch shape (*N) and event shape X."""
        loc = _pixels(self.linear, features)  # (*N, *X)
        scale = self.scale(features)
        if self.training and isinstance(self.scale, OptimalScale):
            return _event(BatchScaled(self.family, loc, scale, self.power, self.scale.floor), self.shape)
        return _event(self.family(loc, scale, validate_args=False), self.shape)

    def observe(self, px: Distribution, batch: Batch) -> None:
        """Update an optimal scale from the residuals of a training step."""
        pixels = base_of(px)
        if isinstance(pixels, BatchScaled) and isinstance(self.scale, OptimalScale):
            self.scale.learn(pixels.moment(batch.x, batch.observed))


class GaussianLikelihood(LocationScaleLikelihood):
    """``log p(x|z) = sum_i log N(x_i; mu_i(z), sigma_i^2)``; the scale is the standard deviation sigma."""

    family = Normal
    power = 2


class LaplaceLikelihood(LocationScaleLikelihood):
    """``log p(x|z) = -sum_i (|x_i - mu_i(z)| / b_i + log 2 b_i)``; the scale is the mean absolute deviation b."""

    family = Laplace
    power = 1


class CategoricalLikelihood(Likelihood):
    """Independent pixels over 256 unordered levels: ``p(x_i = k / 255 | z) = softmax_k(W c_i(z) + b)``.

    Args:
        features: Shape F of the network's features.
        shape: Data shape X.
        rank: Factors c_i that the network predicts for each pixel. All pixels share W (256, rank), because a linear
            layer to 256 logits for each pixel would have 100 million weights on MNIST.

    References:
        Pixel Recurrent Neural Networks (van den Oord et al., 2016), section 2.2, https://arxiv.org/abs/1601.06759
    """

    measures: ClassVar[Mapping[str, str]] = {"bytes": BYTE_PROBABILITY}

    def __init__(self, features: Shape, shape: Shape, *, rank: Rank = 16) -> None:
        super().__init__()
        self.shape = (*shape, rank)
        self.linear = readout(features, self.shape)
        self.levels = Linear(rank, LEVELS)

    def forward(self, features: Tensor) -> Independent[LowRankCategorical]:
        """Features (*N, *F) -> p with batch shape (*N) and event shape X."""
        factors = _pixels(self.linear, features)  # (*N, *X, R)
        return _event(LowRankCategorical(factors, self.levels.weight, self.levels.bias), self.shape[:-1])


class DiscretizedLogisticLikelihood(Likelihood):
    """Independent pixels of a logistic distribution cut into the 256 levels, with open ends.

    Args:
        features: Shape F of the network's features.
        shape: Data shape X.
        scale: ``per-pixel`` predicts each scale; ``shared`` learns one.
        floor: The smallest scale, relative to the range of the data; the default is a quarter of a level.

    References:
        PixelCNN++ (Salimans et al., 2017), equation 2 with one component, https://arxiv.org/abs/1701.05517;
        Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016),
        https://arxiv.org/abs/1606.04934
    """

    measures: ClassVar[Mapping[str, str]] = {"bytes": BYTE_PROBABILITY}

    def __init__(
        self,
        features: Shape,
        shape: Shape,
        *,
        scale: Literal["shared", "per-pixel"] = "per-pixel",
        floor: Positive = FLOOR,
    ) -> None:
        super().__init__()
        self.shape, self.floor = shape, floor
        self.linear = readout(features, shape)
        self.scale = LearnedScale(features, shape if scale == "per-pixel" else (), floor)

    def forward(self, features: Tensor) -> Independent[DiscretizedLogistic]:
        """Features (*N, *F) -> p with batch shape (*N) and event shape X."""
        loc = _pixels(self.linear, features)  # (*N, *X)
        return _event(DiscretizedLogistic(loc, self.scale(features)), self.shape)


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": BernoulliLikelihood,
    "continuous-bernoulli": ContinuousBernoulliLikelihood,
    "gaussian": GaussianLikelihood,
    "laplace": LaplaceLikelihood,
    "mse": SquaredErrorLikelihood,
    "categorical": CategoricalLikelihood,
    "discretized-logistic": DiscretizedLogisticLikelihood,
}
