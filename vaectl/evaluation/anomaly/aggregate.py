"""The moments of the training set's posteriors, and distances from that Gaussian.

Shapes: ``N`` examples, ``B`` batch, ``D`` latent (flattened).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vaectl.data.examples import Examples
from vaectl.data.thinned import thinned
from vaectl.errors import DataError
from vaectl.evaluation.metrics import EVALUATION_BATCH
from vaectl.model.vae import VAE, evaluating
from vaectl.system.runtime import at_once

# training examples, spread evenly over the split, whose posteriors make up the moments
MOST_EXAMPLES = 20_000
# most latent dimensions, whose covariance has their square of numbers
MOST_DIMENSIONS = 4096


@dataclass(frozen=True)
class Aggregate:
    """The first two moments of the mean of the posteriors q(z|x_n), float64.

    Attributes:
        mean: (D,).
        covariance: Covariance of the posterior means plus the mean of the posterior variances (D, D).
        examples: Number of examples.
    """

    mean: Tensor
    covariance: Tensor
    examples: int

    def distance(self, means: Tensor) -> Tensor:
        """The Mahalanobis distance ``sqrt((m - mean)^T covariance^-1 (m - mean))`` (B,) of posterior means (B, D).

        References:
            On the generalised distance in statistics (Mahalanobis, 1936)
        """
        factor = torch.linalg.cholesky(self.covariance)
        centred = (means.flatten(1).cpu().double() - self.mean).T  # (D, B)
        out: Tensor = torch.linalg.solve_triangular(factor, centred, upper=False).square().sum(0).sqrt()
        return out


@torch.no_grad()
def aggregate_posterior(
    model: VAE,
    examples: Examples,
    *,
    most: int = MOST_EXAMPLES,
    progress: Callable[[int], None] = lambda examples: None,
) -> Aggregate:
    """The moments of the aggregate posterior of (training) examples, at most ``most`` of them, spread evenly.

    Args:
        model: The model, on the examples' device.
        examples: The examples.
        most: Most examples to encode.
        progress: Called with the number of examples done.

    Raises:
        DataError: There are no examples.
    """
    if len(examples) == 0:
        raise DataError("there are no training examples, whose latents the distance is measured from")
    first = outer = variances = torch.zeros((), dtype=torch.float64)
    # sums of differences from one latent: an aggregate far from 0 would lose its variance to rounding
    origin, done = None, 0
    with evaluating(model, 0):
        for batch in thinned(examples, most).batches(at_once(EVALUATION_BATCH, examples.shape)):
            q = model.encode(batch)
            means = q.mean.flatten(1).cpu().double()  # (B, D)
            origin = means[0] if origin is None else origin
            first, outer = first + (means - origin).sum(0), outer + (means - origin).T @ (means - origin)
            variances = variances + q.variance.flatten(1).cpu().double().sum(0)
            done += len(batch)
            progress(done)
    assert origin is not None
    shift = first / done
    covariance = outer / done - torch.outer(shift, shift) + torch.diag(variances / done)
    return Aggregate(origin + shift, covariance, done)
