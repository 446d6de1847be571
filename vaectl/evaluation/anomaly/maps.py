"""The unexpectedness of each value: maps of local defects, and the columns behind a score.

Shapes: ``B`` batch, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaectl.data.batch import Batch
from vaectl.errors import UsageError
from vaectl.model.distributions.pixels import base_of
from vaectl.model.distributions.scaled import Scaled
from vaectl.model.vae import VAE, evaluating


@dataclass(frozen=True)
class Surprise:
    """The reconstruction of examples, and the unexpectedness of their values.

    Attributes:
        mean: The mean of p(x|z) at the posterior mean, in the data's units (B, *X).
        nats: ``-log p(x_i|z)`` there for each value, on the scale on which the model sees the data (B, *X); 0 for a
            missing value. Their sum is ``recon_at_mean`` but for the constant of that scale.
    """

    mean: Tensor
    nats: Tensor


@torch.no_grad()
def surprise(model: VAE, batch: Batch) -> Surprise:
    """Decode the posterior means, and compare each value with its distribution.

    Of several quantities that were tried on pasted patches this one found them best, see ``docs/anomalies.md``.

    Args:
        model: The model, on the batch's device.
        batch: The examples.

    Raises:
        UsageError: The values of an example are not independent given its latent.
    """
    with evaluating(model, 0):
        px = model.reconstruct(batch)
        inner, x = (px.base, px.units.seen(batch).x) if isinstance(px, Scaled) else (px, batch.x)
        nats = -base_of(inner).log_prob(x)
    if nats.shape != x.shape:
        raise UsageError("this model's likelihood is not a product over values, so it has no map of them")
    if batch.observed is not None:
        nats = torch.where(batch.observed, nats, 0.0)
    return Surprise(px.mean, nats)
