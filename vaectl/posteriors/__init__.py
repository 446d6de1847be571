"""Posterior heads: name -> features -> q(z|x)."""

from __future__ import annotations

from collections.abc import Callable

from vaectl.posteriors.base import Posterior
from vaectl.posteriors.gaussian import GaussianPosterior
from vaectl.posteriors.quantized import FiniteScalarQuantizer, QuantizedPosterior, VectorQuantizer

__all__ = [
    "POSTERIORS", "FiniteScalarQuantizer", "GaussianPosterior", "Posterior", "QuantizedPosterior", "VectorQuantizer",
]  # fmt: skip

POSTERIORS: dict[str, Callable[..., Posterior]] = {
    "gaussian": GaussianPosterior,
    "quantized": VectorQuantizer,
    "fsq": FiniteScalarQuantizer,
}
