"""The negative ELBO with a weight on its KL: scheduled, at a capacity, or steered to a target.

Shapes: ``B`` batch, ``D`` latent. Log quantities are in nats per example.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from vaectl.config.values import BetaSchedule, Count, NonNegative, Size
from vaectl.model.distributions.codes import CODES, VECTORS, LatentSpace
from vaectl.model.objectives.base import CYCLES, Loss, Objective, TrainingSet, kl_weight
from vaectl.model.objectives.schedules import linear_warmup
from vaectl.model.vae import Draw
from vaectl.stats import on_target


class ELBO(Objective):
    """The negative evidence lower bound with a weight on the KL: ``mean_B(recon) + beta(step) * KL``.

    KL is ``mean_B(kl)``, or with free bits ``sum_D max(free_bits, mean_B(kl_d))``: nothing
    pushes a latent dimension below ``free_bits`` nats, so that none collapses early.

    Args:
        data: The training set.
        space: The latent space, unused.
        beta: Weight of the KL.
        schedule: How the weight rises over the warm-up: linear, cosine, sigmoid, or cyclical (rise and hold, repeated).
        warmup_epochs: Epochs over which the weight rises from 0 to beta; 0 starts at beta.
        cycles: Rises of the cyclical schedule.
        free_bits: Nats by latent dimension that are not penalised.

    Raises:
        SettingError: The schedule and the warm-up contradict each other.

    References:
        beta-VAE (Higgins et al., 2017), equation 4, https://openreview.net/forum?id=Sy2fzU9gl;
        warm-up: Generating Sentences from a Continuous Space (Bowman et al., 2016), section 3.1,
        https://arxiv.org/abs/1511.06349;
        free bits: Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), equation 15,
        https://arxiv.org/abs/1606.04934
    """

    takes: ClassVar[frozenset[str]] = frozenset({VECTORS, CODES})

    def __init__(
        self,
        data: TrainingSet,
        space: LatentSpace,
        *,
        beta: NonNegative = 1.0,
        schedule: BetaSchedule = "linear",
        warmup_epochs: Count = 0,
        cycles: Size = CYCLES,
        free_bits: NonNegative = 0.0,
    ) -> None:
        super().__init__()
        self._beta = kl_weight(data.steps_per_epoch, beta, schedule, warmup_epochs, cycles)
        self.warmup_epochs = warmup_epochs
        self.free_bits = free_bits
        self.needs_factors = free_bits > 0

    def beta(self, step: int) -> float:
        """The weight of the KL at a step."""
        return self._beta(step)

    def scheduled(self, step: int) -> float:
        """Beta."""
        return self._beta(step)

    def forward(self, draw: Draw, scheduled: Tensor | float) -> Loss:
        """The loss of a draw with beta as scheduled."""
        terms = {"recon": draw.recon, "kl": draw.kl}
        if self.free_bits == 0:
            return Loss((terms["recon"] + scheduled * terms["kl"]).mean(), terms)
        rate = draw.mean(draw.kl_per_dim).clamp(min=self.free_bits).sum()  # (D,) -> ()
        return Loss(terms["recon"].mean() + scheduled * rate, terms)


class Capacity(Objective):
    """The KL held at a capacity that rises: ``mean_B(recon) + gamma * |mean_B(kl) - C(step)|``.

    Args:
        data: The training set.
        space: The latent space, unused.
        capacity: C after the warm-up, in nats.
        gamma: Weight of the distance to the capacity.
        warmup_epochs: Epochs over which C rises linearly from 0.

    References:
        Understanding disentangling in beta-VAE (Burgess et al., 2018), equation 8, https://arxiv.org/abs/1804.03599
    """

    def __init__(
        self,
        data: TrainingSet,
        space: LatentSpace,
        *,
        capacity: NonNegative = 25.0,
        gamma: NonNegative = 100.0,
        warmup_epochs: Count = 10,
    ) -> None:
        super().__init__()
        self.capacity = linear_warmup(capacity, warmup_epochs * data.steps_per_epoch)
        self.gamma = gamma
        self.warmup_epochs = warmup_epochs

    def beta(self, step: int) -> float:
        """The weight of the distance between the KL and its capacity."""
        return self.gamma

    def scheduled(self, step: int) -> float:
        """The capacity, in nats."""
        return self.capacity(step)

    def forward(self, draw: Draw, scheduled: Tensor | float) -> Loss:
        """The loss of a draw with the capacity as scheduled."""
        terms = {"recon": draw.recon, "kl": draw.kl}
        distance = (draw.mean(terms["kl"]) - scheduled).abs()
        return Loss(terms["recon"].mean() + self.gamma * distance, terms)


class KLTarget(Objective):
    """The negative ELBO with a controller that sets the KL's weight after every step to steer the KL to a target.

    With the error ``e = target - mean_B(kl)`` the weight is ``k_p / (1 + exp(e)) + I`` with ``I`` the running sum of
    ``-k_i * e``, both clamped to [0, max_beta].

    Args:
        data: The training set.
        space: The latent space, unused.
        target: The KL to reach, in nats per example.
        max_beta: Largest weight.
        k_p: Gain of the proportional part.
        k_i: Gain of the integral part, per step. The paper's 1e-4 suits KLs of hundreds of nats and more steps.

    References:
        ControlVAE: Controllable Variational Autoencoder (Shao et al., 2020), equation 9 and algorithm 1,
        https://arxiv.org/abs/2004.05988
    """

    def __init__(
        self,
        data: TrainingSet,
        space: LatentSpace,
        *,
        target: NonNegative = 10.0,
        max_beta: NonNegative = 100.0,
        k_p: NonNegative = 0.01,
        k_i: NonNegative = 1e-3,
    ) -> None:
        super().__init__()
        self.target, self.max_beta, self.k_p, self.k_i = target, max_beta, k_p, k_i
        # buffers, so that a step on an accelerator does not wait for their values and resumed runs restore them
        self.integral: Tensor
        self.weight: Tensor
        self.register_buffer("integral", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    def beta(self, step: int) -> float:
        """The current weight of the KL, whatever the step."""
        return self.weight.item()

    def scheduled(self, step: int) -> float:
        """0, unused: the controller's weight is a buffer."""
        return 0.0

    def forward(self, draw: Draw, scheduled: Tensor | float) -> Loss:
        """The loss of a draw with the current weight."""
        terms = {"recon": draw.recon, "kl": draw.kl}
        return Loss((terms["recon"] + self.weight * terms["kl"]).mean(), terms)

    def settled(self, epoch: int, validation: Mapping[str, float]) -> bool:
        """Whether the validation KL is at the target; always true without a validation split."""
        return not validation or on_target(validation["kl"], self.target)

    def observe(self, draw: Draw) -> None:
        """Set the weight for the next step from the KL of this one."""
        error = self.target - draw.mean(draw.kl.detach())
        proportional = self.k_p * torch.sigmoid(-error)
        # the bounds keep the sum from growing while the weight is at one of them
        integral = (self.integral - self.k_i * error).clamp(0, self.max_beta)
        weight = (proportional + integral).clamp(0, self.max_beta)
        for buffer, new in ((self.integral, integral), (self.weight, weight)):
            buffer.copy_(torch.where(error.isfinite(), new, buffer))  # a step that is not finite is skipped
