"""Priors: name -> encoder -> p(z)."""

from __future__ import annotations

from collections.abc import Callable

from vaectl.priors.base import Prior
from vaectl.priors.codes import TransformerPrior, UniformCodes
from vaectl.priors.vectors import Mixture, MixturePrior, StandardNormal, VampPrior

__all__ = [
    "PRIORS",
    "Mixture",
    "MixturePrior",
    "Prior",
    "StandardNormal",
    "TransformerPrior",
    "UniformCodes",
    "VampPrior",
]

PRIORS: dict[str, Callable[..., Prior]] = {
    "standard": StandardNormal,
    "mixture": MixturePrior,
    "vamp": VampPrior,
    "uniform": UniformCodes,
    "transformer": TransformerPrior,
}
