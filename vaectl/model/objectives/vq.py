"""The objective of a VQ-VAE: reconstruction, and the distance between vectors and codes.

Shapes: ``B`` batch. Log quantities are in nats per example.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from vaectl.config.spec import NonNegative
from vaectl.model.distributions.codes import CODEBOOK, LatentSpace, Quantized
from vaectl.model.objectives.base import Loss, Objective, TrainingSet
from vaectl.model.vae import Draw


class VQ(Objective):
    """Reconstruction, encoder and codebook drawn to each other: ``mean_B(recon + |sg z_e - e|^2 + c |z_e - sg e|^2)``.

    The squares are sums over the grid and the numbers of a code, as the reconstruction is one over pixels, so that the
    loss depends neither on the batch size nor on how a set is split into batches. The second term moves the codebook,
    unless moving averages do that, and the third the encoder. The KL is a constant of both under the uniform prior, and
    is no part of the loss: a prior of codes is fitted when they have come to rest.

    Args:
        data: The training set, which plays no part.
        space: The latent space, which plays no part.
        commitment: Weight c of the third term.

    References:
        Neural Discrete Representation Learning (van den Oord et al., 2017), equation 3, https://arxiv.org/abs/1711.00937
    """

    takes: ClassVar[frozenset[str]] = frozenset({CODEBOOK})

    def __init__(self, data: TrainingSet, space: LatentSpace, *, commitment: NonNegative = 0.25) -> None:
        super().__init__()
        self.commitment = commitment

    def beta(self, step: int) -> float:
        """1: nothing weights the KL."""
        return 1.0

    def scheduled(self, step: int) -> float:
        """Nothing."""
        return 0.0

    def forward(self, draw: Draw, scheduled: Tensor | float) -> Loss:
        """The loss of a draw."""
        q = draw.q
        assert isinstance(q, Quantized)
        commitment = (q.encoded - q.vectors.detach()).square().flatten(1).sum(1)  # (B,)
        terms = {"recon": draw.recon, "commitment": commitment}
        total = draw.recon + self.commitment * commitment
        if q.by_gradient:
            terms["codebook"] = (q.encoded.detach() - q.vectors).square().flatten(1).sum(1)  # (B,)
            total = total + terms["codebook"]
        return Loss(total.mean(), terms)
