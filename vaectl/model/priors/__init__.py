"""Priors: name -> encoder -> p(z)."""

from __future__ import annotations

from vaectl.model.parts import Prior
from vaectl.model.priors.codes import TransformerPrior, UniformCodes
from vaectl.model.priors.vectors import Mixture, MixturePrior, StandardNormal, VampPrior

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

PRIORS: dict[str, type[Prior]] = {
    "standard": StandardNormal,
    "mixture": MixturePrior,
    "vamp": VampPrior,
    "uniform": UniformCodes,
    "transformer": TransformerPrior,
}
