"""The objective of VQ-VAEs: reconstruction, and the distance between vectors and codes.

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
    """The loss ``mean_B(recon + |sg z_e - e|^2 + c |z_e - sg e|^2)`` with sg the stop-gradient.

    The squares are sums over the grid and the numbers of a code, as the reconstruction is one over pixels, so the loss
    depends neither on the batch size nor on how a set is split into batches. The second term moves the codebook, unless
    moving averages do, and the third moves the encoder. The KL is not part of the loss: under the uniform prior it is a
    constant, and a prior over codes is fitted once the codes no longer change.

    Args:
        data: The training set, unused.
        space: The latent space, unused.
        commitment: Weight c of the third term.

    References:
        Neural Discrete Representation Learning (van den Oord et al., 2017), equation 3, https://arxiv.org/abs/1711.00937
    """

    takes: ClassVar[frozenset[str]] = frozenset({CODEBOOK})

    def __init__(self, data: TrainingSet, space: LatentSpace, *, commitment: NonNegative = 0.25) -> None:
        super().__init__()
        self.commitment = commitment

    def beta(self, step: int) -> float:
        """1: the KL has no weight."""
        return 1.0

    def scheduled(self, step: int) -> float:
        """0, unused."""
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
