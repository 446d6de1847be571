"""Priors: encoder -> p(z). A prior may look through the encoder, and never owns it.

Shapes: ``D`` latent.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal


class StandardNormal(nn.Module):
    """The standard normal prior, ``p(z) = N(0, I)``.

    Args:
        latent_dim: Number of latent dimensions D.
    """

    mean: Tensor
    sigma: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        # buffers follow the model to its device; they hold nothing learned, so they are not saved
        self.register_buffer("mean", torch.zeros(latent_dim), persistent=False)
        self.register_buffer("sigma", torch.ones(latent_dim), persistent=False)

    def forward(self, encoder: nn.Module) -> Independent[Normal]:
        """p with batch shape () and event shape (D,)."""
        return Independent(Normal(self.mean, self.sigma, validate_args=False), 1, validate_args=False)


PRIORS: dict[str, Callable[..., nn.Module]] = {"standard": StandardNormal}
