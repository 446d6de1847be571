"""Distributions over pixels that torch lacks or gets wrong, and functions of any distribution.

Shapes: ``*N`` draw and batch dimensions, ``X`` data shape, ``R`` rank. ``*N, *X`` is the batch shape of every class
here; the heads wrap it in ``Independent``, so that X becomes the event. Arguments are not validated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import singledispatch
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Laplace, Normal, constraints

from vaectl.errors import UsageError
from vaectl.parallel.shares import batch_mean

# bytes over 255: 256 levels from 0 to 1
LEVELS = 256
TOP = LEVELS - 1
# most pixels whose 256 logits are in memory at once
PIXELS_AT_ONCE = 2**16


def at_least_fp32(t: Tensor) -> Tensor:
    """Convert half precision to float32: log-probabilities and scales are never computed in half precision."""
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t


def base_of(p: Distribution) -> Distribution:
    """The distribution inside any number of ``Independent``."""
    while isinstance(p, Independent):
        p = p.base_dist
    return p


@singledispatch
def log_prob_of_observed(p: Distribution, value: Tensor, observed: Tensor) -> Tensor:
    """log p in nats (*N) of the observed values in ``value`` (B, *X).

    Args:
        p: A distribution of independent values, with batch shape (*N), where B is the last of N, and event shape X.
        value: The data; a missing value may be any finite number.
        observed: Which values were observed, bool (B, *X).

    Raises:
        UsageError: The values are not independent, so that none can be left out.
    """
    raise UsageError(f"{type(p).__name__} has no log-probability of a part of an example")


@log_prob_of_observed.register(Independent)
def _log_prob_of_independent(p: Independent[Any], value: Tensor, observed: Tensor) -> Tensor:
    base = base_of(p)
    each = base.log_prob_where(value, observed) if isinstance(base, BatchScaled) else base.log_prob(value)
    return torch.where(observed, each, 0.0).flatten(len(p.batch_shape)).sum(-1)


@singledispatch
def scale_of(p: Distribution) -> Tensor | None:
    """The scale of a location-scale family (*N, *X), as the model sees the data; None if p has none."""
    base = base_of(p)
    return base.scale if isinstance(base, Normal | Laplace | DiscretizedLogistic | BatchScaled) else None


def mode_of(p: Distribution) -> Tensor:
    """A most probable value (*N, *X); for an even Bernoulli, whose mode is nan in torch, it is 1."""
    mode: Tensor = p.mode
    undecided = mode.isnan()
    # if the mean is nan too, the weights are, and nan stays visible
    return torch.where(undecided & p.mean.isfinite(), 1.0, mode) if undecided.any() else mode


class _Levels(constraints.Constraint):
    """The 256 values k / 255."""

    is_discrete = True

    def check(self, value: Any) -> Any:
        k = value * TOP
        return ((k - k.round()).abs() < 1e-3) & (value >= 0) & (value <= 1)


class ContinuousBernoulli(Distribution):
    """The continuous Bernoulli on [0, 1] by its logit l: ``log p(x) = x log s(l) + (1 - x) log s(-l) + log C(l)``.

    ``C(l) = l / tanh(l / 2)``, and 2 at l = 0. torch's class of this name computes from a probability, clamped at 1e-7:
    beyond a logit of 16 it loses the normaliser and its gradient, and its mean stays below 0.938; from a logit of 0.004
    on the deviation of its mean from 1/2 is lost to cancellation.

    Args:
        logits: l, any finite numbers (*N, *X).

    References:
        The continuous Bernoulli: fixing a pervasive error in variational autoencoders (Loaiza-Ganem and Cunningham,
        2019), section 3, https://arxiv.org/abs/1907.06845
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True
    # below this |l| the closed forms subtract nearly equal numbers, so series take over
    _NEAR: ClassVar[float] = 0.5
    _NEAR_QUANTILE: ClassVar[float] = 0.05

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density (*N, *X)."""
        logits, value = torch.broadcast_tensors(self.logits, value)  # type: ignore[no-untyped-call]
        return self.log_normaliser - F.binary_cross_entropy_with_logits(logits, value, reduction="none")

    @property
    def log_normaliser(self) -> Tensor:
        """log C(l), with the series of ``log(u / tanh u)`` in u = l / 2 near 0."""
        a = self.logits.abs()
        near = a < self._NEAR
        # each branch gets harmless numbers where the other one is used, so that its gradient there is finite
        far = torch.where(near, 1.0, a)
        u2 = (torch.where(near, self.logits, 0.0) / 2).square()
        series = u2 * (1 / 3 - u2 * (7 / 90 - u2 * (62 / 2835 - u2 * (127 / 18900 - u2 * 146 / 66825))))
        return torch.where(near, math.log(2) + series, far.log() - (far / 2).tanh().log())

    @property
    def mean(self) -> Tensor:
        """``1 / (1 - e^-l) - 1 / l``, with the series of ``1 / tanh u - 1 / u`` in u = l / 2 near 0."""
        a = self.logits.abs()
        near = a < self._NEAR
        far = torch.where(near, 1.0, a)
        u = torch.where(near, self.logits, 0.0) / 2
        u2 = u.square()
        series = u * (1 / 3 - u2 * (1 / 45 - u2 * (2 / 945 - u2 / 4725)))
        # the mean at -|l|, which lies near 0; the mean at |l| follows by symmetry
        low = 1 / far - (-far).exp() / -torch.expm1(-far)
        return torch.where(near, 0.5 + series / 2, torch.where(self.logits < 0, low, 1 - low))

    @property
    def mode(self) -> Tensor:
        """1 for positive logits, 0 for negative ones, and 1/2 for 0, where all values are equally likely."""
        return (self.logits.sign() + 1) / 2

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile ``log(1 + u (e^l - 1)) / l`` of a probability u."""
        return self._quantile(torch.where(self.logits > 0, 1 - value, value))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Reparameterised draws, by the inverse distribution function."""
        shape = self._extended_shape(sample_shape)
        return self._quantile(torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device))

    def _quantile(self, u: Tensor) -> Tensor:
        """The quantile for -|l|, which cannot overflow, mirrored for positive logits."""
        # |l| with a gradient at 0
        a = torch.where(self.logits > 0, self.logits, -self.logits)
        near = a < self._NEAR_QUANTILE
        far = torch.where(near, 1.0, a)
        # log E e^(-a b) over a coin b of probability u, by its cumulants
        variance = u * (1 - u)
        third, fourth = variance * (1 - 2 * u), variance * (1 - 6 * variance)
        small = torch.where(near, a, 0.0)
        series = u - small * (variance / 2 - small * (third / 6 - small * fourth / 24))
        low = torch.where(near, series, -torch.log1p(u * torch.expm1(-far)) / far).clamp(0, 1)
        return torch.where(self.logits > 0, 1 - low, low)


class SquaredError(Distribution):
    """A Gaussian of unit scale without its constant: ``log p(x) = -(x - mu)^2 / 2``, which integrates to sqrt(2 pi).

    Draws come from the Gaussian.

    Args:
        loc: mu (*N, *X).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"loc": constraints.real}
    support = constraints.real

    def __init__(self, loc: Tensor) -> None:
        self.loc = loc
        super().__init__(loc.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Minus half the squared error (*N, *X), which is not a log-probability."""
        return -0.5 * (value - self.loc).square()

    @property
    def mean(self) -> Tensor:
        """The location mu."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """The location mu."""
        return self.loc

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of N(mu, 1)."""
        shape = self._extended_shape(sample_shape)
        return torch.normal(self.loc.detach().expand(shape), 1.0)


class BatchScaled(Distribution):
    """A location-scale family whose log-probability takes its scale from the batch it evaluates.

    Args:
        family: The family.
        loc: Location (*N, *X).
        scale: The scale of draws, broadcastable to ``loc``.
        power: Power of the residuals r in a batch's scale ``(mean |r|^power)^(1/power)``.
        floor: The smallest scale, as the model sees the data.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real

    def __init__(
        self, family: type[Normal] | type[Laplace], loc: Tensor, scale: Tensor, power: int, floor: float
    ) -> None:
        self.family, self.loc, self.scale = family, loc, scale.expand(loc.shape)
        self.power, self.floor = power, floor
        super().__init__(loc.shape, validate_args=False)

    def moment(self, value: Tensor, observed: Tensor | None = None) -> Tensor:
        """``mean |value - loc|^power`` over the batch's observed values (), without a gradient."""
        powers = (value - self.loc).detach().abs().pow(self.power)
        if observed is None:
            return batch_mean(powers.mean())
        mask = observed.expand_as(powers)
        return batch_mean(torch.where(mask, powers, 0.0).mean()) / batch_mean(mask.to(powers.dtype).mean()).clamp(
            min=torch.finfo(powers.dtype).tiny
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density (*N, *X) under the scale of ``value`` itself."""
        return self._log_prob(value, self.moment(value))

    def log_prob_where(self, value: Tensor, observed: Tensor) -> Tensor:
        """The log density (*N, *X) under the scale of the observed values."""
        return self._log_prob(value, self.moment(value, observed))

    def _log_prob(self, value: Tensor, moment: Tensor) -> Tensor:
        scale = scale_of_moment(moment, self.power, self.floor)
        out: Tensor = self.family(self.loc, scale, validate_args=False).log_prob(value)  # type: ignore[no-untyped-call]
        return out

    @property
    def mean(self) -> Tensor:
        """The location."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """The location."""
        return self.loc

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws with ``scale``."""
        out: Tensor = self.family(self.loc, self.scale, validate_args=False).sample(sample_shape)
        return out


def scale_of_moment(moment: Tensor, power: int, floor: float) -> Tensor:
    """The maximum-likelihood scale () for residuals r with ``moment = mean |r|^power``, at least ``floor``."""
    return moment.pow(1 / power).clamp(min=floor)


class LowRankCategorical(Distribution):
    """A categorical over the 256 levels, with logits ``W c + b`` computed for part of the pixels at a time.

    All logits of 1000 MNIST images would take 0.8 GB, and an importance-weighted bound decodes ten times as many.

    Args:
        factors: c (*N, *X, R).
        weight: W (256, R).
        bias: b (256,).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"factors": constraints.real_vector}
    support = _Levels()

    def __init__(self, factors: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.factors, self.weight, self.bias = factors, weight, bias
        super().__init__(factors.shape[:-1], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-probability of the byte nearest to ``255 value`` (*N, *X)."""
        index, _ = torch.broadcast_tensors((value * TOP).round().long(), self.factors[..., 0])  # type: ignore[no-untyped-call]
        factors = self.factors.expand(*index.shape, -1)
        log_p = self._over_pixels(lambda logits, k: -F.cross_entropy(logits, k, reduction="none"), factors, index)
        return log_p.view(index.shape)

    @property
    def mean(self) -> Tensor:
        """``sum_k (k / 255) p_k``."""
        levels = torch.linspace(0, 1, LEVELS, dtype=self.factors.dtype, device=self.factors.device)
        return self._over_pixels(lambda logits: logits.softmax(-1) @ levels, self.factors).view(self.batch_shape)

    @property
    def mode(self) -> Tensor:
        """The most probable level, or the lowest of several."""
        best = self._over_pixels(lambda logits: logits.argmax(-1), self.factors)
        return best.view(self.batch_shape).to(self.factors.dtype) / TOP

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws k / 255."""

        def draw(logits: Tensor) -> Tensor:
            k: Tensor = Categorical(logits=logits, validate_args=False).sample(sample_shape)  # type: ignore[no-untyped-call]
            return k

        with torch.no_grad():
            levels = self._over_pixels(draw, self.factors)
        return levels.view(self._extended_shape(sample_shape)).to(self.factors.dtype) / TOP

    def _over_pixels(self, reduce: Callable[..., Tensor], factors: Tensor, *values: Tensor) -> Tensor:
        """Apply ``reduce(logits (n, 256), values (n,)...) -> (..., n)`` to n pixels at a time and join the results."""
        flat = (factors.flatten(0, -2), *(value.flatten() for value in values))
        chunks = zip(*(torch.split(tensor, PIXELS_AT_ONCE) for tensor in flat), strict=True)
        # autocast would make the logits in half precision again
        with torch.autocast(factors.device.type, enabled=False):
            weight, bias = at_least_fp32(self.weight), at_least_fp32(self.bias)
            return torch.cat([reduce(F.linear(part, weight, bias), *more) for part, *more in chunks], dim=-1)


class DiscretizedLogistic(Distribution):
    """A logistic cut into the 256 levels: ``p(x) = s((x + h - mu) / b) - s((x - h - mu) / b)``, h = 1/510.

    The lowest and the highest level include the tails below and above them.

    Args:
        loc: mu (*N, *X).
        scale: b above 0, broadcastable to ``loc``.

    References:
        Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016),
        https://arxiv.org/abs/1606.04934; PixelCNN++ (Salimans et al., 2017), equation 2,
        https://arxiv.org/abs/1701.05517
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"loc": constraints.real, "scale": constraints.positive}
    support = _Levels()

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.loc, self.scale = loc, scale.expand(loc.shape)
        super().__init__(loc.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-probability of the byte nearest to ``255 value`` (*N, *X), by ``s(a) s(-b) (1 - e^(b - a))``."""
        k = (value * TOP).round()
        above = F.logsigmoid(((k + 0.5) / TOP - self.loc) / self.scale)
        below = F.logsigmoid((self.loc - (k - 0.5) / TOP) / self.scale)
        width = torch.log(-torch.expm1(-1 / (TOP * self.scale)))
        # an open end has probability 1, and a level with an open end has no width term
        lowest, highest = k <= 0, k >= TOP
        zero = torch.zeros_like(width)
        return (
            torch.where(highest, zero, above)
            + torch.where(lowest, zero, below)
            + torch.where(lowest | highest, zero, width)
        )

    @property
    def mean(self) -> Tensor:
        """The exact mean: ``sum_(k = 1..255) P(x >= k / 255) / 255``."""
        total = torch.zeros_like(self.loc)
        for k in range(1, LEVELS):
            total = total + torch.sigmoid((self.loc - (k - 0.5) / TOP) / self.scale)
        return total / TOP

    @property
    def mode(self) -> Tensor:
        """The level nearest to mu, or an end level if it is more probable with its tail."""
        nearest = (self.loc.clamp(0, 1) * TOP).round() / TOP
        levels = torch.stack((nearest, torch.zeros_like(nearest), torch.ones_like(nearest)))
        best = self.log_prob(levels).argmax(0, keepdim=True)
        return levels.gather(0, best).squeeze(0)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws k / 255."""
        shape = self._extended_shape(sample_shape)
        with torch.no_grad():
            draws = self.loc + self.scale * torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device).logit()
            return (draws * TOP).round().clamp(0, TOP) / TOP
