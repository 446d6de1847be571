"""The negative importance-weighted bound.

Shapes: ``K`` draws, ``B`` batch. Log quantities are in nats per example.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from torch import Tensor

from vaectl.config.values import BetaSchedule, Bounds, Count, NonNegative, Size
from vaectl.model.distributions.codes import LatentSpace
from vaectl.model.objectives.base import CYCLES, Loss, Objective, TrainingSet, kl_weight
from vaectl.model.vae import Draw


class IWAE(Objective):
    """The negative importance-weighted bound: ``-mean_B log 1/K sum_k w_k``, ``w = p(x|z) (p(z) / q(z|x))^beta``.

    The weights use the sampled log q and log p, never a closed-form KL. With beta at 1 this is the bound itself.

    Args:
        data: The training set.
        space: The latent space, unused.
        k: Draws for each example.
        gradient: ``reparameterized`` as in the paper, or ``doubly-reparameterized``, whose gradient for the encoder
            keeps its signal-to-noise ratio as K grows.
        beta: Weight of ``log q - log p``.
        schedule: How the weight rises over the warm-up, as for the ELBO.
        warmup_epochs: Epochs over which the weight rises from 0 to beta; 0 starts at beta.
        cycles: Rises of the cyclical schedule.

    Raises:
        SettingError: The schedule and the warm-up contradict each other.

    References:
        Importance Weighted Autoencoders (Burda et al., 2016), equations 8, 13 and 14,
        https://arxiv.org/abs/1509.00519;
        Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives (Tucker et al., 2019), equation 8,
        https://arxiv.org/abs/1810.04152
    """

    def __init__(
        self,
        data: TrainingSet,
        space: LatentSpace,
        *,
        k: Annotated[int, Bounds(1, 10_000)] = 5,
        gradient: Literal["reparameterized", "doubly-reparameterized"] = "reparameterized",
        beta: NonNegative = 1.0,
        schedule: BetaSchedule = "linear",
        warmup_epochs: Count = 0,
        cycles: Size = CYCLES,
    ) -> None:
        super().__init__()
        self._beta = kl_weight(data.steps_per_epoch, beta, schedule, warmup_epochs, cycles)
        self.draws = k
        self.warmup_epochs = warmup_epochs
        self.doubly = self.needs_one_level = gradient == "doubly-reparameterized"

    def beta(self, step: int) -> float:
        """The weight of ``log q - log p`` at a step."""
        return self._beta(step)

    def scheduled(self, step: int) -> float:
        """Beta."""
        return self._beta(step)

    def forward(self, draw: Draw, scheduled: Tensor | float) -> Loss:
        """The loss of a draw with beta as scheduled."""
        terms = {"recon": draw.recon, "kl": draw.kl}
        log_q = _path_only(draw) if self.doubly else draw.log_q
        log_w = draw.log_px + scheduled * (draw.log_p - log_q)  # (K, B)
        bound = log_w.logsumexp(0) - math.log(len(log_w))  # (B,)
        if self.doubly and draw.z.requires_grad:
            # the gradient at z has one normalised weight already; at beta = 1 the encoder's gradient needs its square
            weight = 1 - scheduled + scheduled * log_w.detach().softmax(0)  # (K, B)
            draw.z.register_hook(  # type: ignore[no-untyped-call]
                lambda g: g * weight.reshape(*weight.shape, *(1 for _ in g.shape[2:]))
            )
        return Loss(-bound.mean(), terms)


def _path_only(draw: Draw) -> Tensor:
    """log q(z|x) (K, B) with a gradient through z alone, not through the parameters of q."""
    score = draw.q.log_prob(draw.z.detach())
    path: Tensor = draw.log_q - score + score.detach()
    return path
