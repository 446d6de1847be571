"""Posterior heads: name -> features -> q(z|x)."""

from __future__ import annotations

from vaectl.model.parts import Posterior
from vaectl.model.posteriors.gaussian import GaussianPosterior
from vaectl.model.posteriors.quantized import FiniteScalarQuantizer, QuantizedPosterior, VectorQuantizer

__all__ = [
    "POSTERIORS", "FiniteScalarQuantizer", "GaussianPosterior", "Posterior", "QuantizedPosterior", "VectorQuantizer",
]  # fmt: skip

POSTERIORS: dict[str, type[Posterior]] = {
    "gaussian": GaussianPosterior,
    "quantized": VectorQuantizer,
    "fsq": FiniteScalarQuantizer,
}
