"""Real data on a scale of their own: as a model sees them, and as its distributions give them.

Shapes: ``*N`` draw and batch dimensions, ``B`` batch, ``X`` data shape.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from vaectl.data.batch import Batch
from vaectl.data.units import Units
from vaectl.model.distributions.pixels import log_prob_of_observed, mode_of, scale_of


class Scale(nn.Module):
    """The scale on which a model sees real data x: ``y = (x - loc) / scale``.

    Args:
        units: Location and scale.
        density: Whether log-probabilities are densities, which change with the unit; a squared error is counted on
            the model's scale.
    """

    loc: Tensor
    scale: Tensor
    log_scale: Tensor

    def __init__(self, units: Units, *, density: bool) -> None:
        super().__init__()
        loc, scale = (torch.tensor(values, dtype=torch.float64) for values in (units.loc, units.scale))
        log_scale = scale.log() if density else torch.zeros_like(scale)
        # constants that the run's record holds, so they are not saved with the weights
        for name, values in (("loc", loc), ("scale", scale), ("log_scale", log_scale)):
            self.register_buffer(name, values.float(), persistent=False)

    def seen(self, batch: Batch) -> Batch:
        """A batch as the model sees it; a missing value is 0 there, too."""
        values = (batch.x - self.loc) / self.scale
        if batch.observed is not None:
            values = torch.where(batch.observed, values, 0.0)
        return Batch(values, batch.given, batch.observed)


class Scaled(Distribution):
    """The distribution of ``x = loc + scale y`` for y from a model's likelihood, by the change of variables.

    ``log p(x) = log p(y) - sum_i log scale_i``, so that densities are in the data's units whatever the model sees.

    Args:
        base: The likelihood of y, batch shape (*N) and event shape X.
        units: Location and scale.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real

    def __init__(self, base: Distribution, units: Scale) -> None:
        self.base, self.units = base, units
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density in nats (*N) of ``value`` (*N, *X)."""
        out: Tensor = self.base.log_prob((value - self.units.loc) / self.units.scale)
        return out - self.units.log_scale.expand(self.event_shape).sum()

    @property
    def mean(self) -> Tensor:
        """The mean (*N, *X)."""
        return self._in_units(self.base.mean)

    @property
    def mode(self) -> Tensor:
        """A most probable value (*N, *X)."""
        return self._in_units(mode_of(self.base))

    @property
    def variance(self) -> Tensor:
        """The variance (*N, *X)."""
        variance: Tensor = self.base.variance * self.units.scale.square()
        return variance

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Reparameterised draws."""
        return self._in_units(self.base.rsample(sample_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws without a gradient."""
        return self._in_units(self.base.sample(sample_shape))

    def _in_units(self, y: Tensor) -> Tensor:
        return self.units.loc + self.units.scale * y


@log_prob_of_observed.register(Scaled)
def _log_prob_of_scaled(p: Scaled, value: Tensor, observed: Tensor) -> Tensor:
    seen = p.units.seen(Batch(value, observed=observed)).x
    constant = torch.where(observed, p.units.log_scale.expand(p.event_shape), 0.0)
    total: Tensor = log_prob_of_observed(p.base, seen, observed) - constant.flatten(1).sum(1)
    return total


@scale_of.register(Scaled)
def _scale_of_scaled(p: Scaled) -> Tensor | None:
    """The likelihood's own scale, on the scale of the model."""
    return scale_of(p.base)
