"""Objectives: (draw, step) -> Loss, what training minimises. The bound that is reported is ``Draw.elbo``.

Shapes: ``K`` draws, ``B`` batch, ``D`` latent. Log quantities are in nats per example.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from vaectl.errors import SettingError
from vaectl.schedules import Schedule, cosine_warmup, cyclical, linear_warmup, sigmoid_warmup
from vaectl.spec import Bounds, Count, NonNegative, Size
from vaectl.vae import Draw

BetaSchedule = Literal["constant", "linear", "cosine", "sigmoid", "cyclical"]
CYCLES = 4


@dataclass(frozen=True)
class Loss:
    """What a step minimises.

    Attributes:
        total: The scalar to differentiate.
        terms: Its parts by name, per example (B,).
    """

    total: Tensor
    terms: Mapping[str, Tensor]


class Objective(ABC):
    """What training minimises, a function of one draw and the optimizer step.

    Attributes:
        draws: Draws of z that it needs of each example (K).
        warmup_epochs: Epochs after which the weight of the KL first stands where it should; the best weights are
            sought from then on.
        needs_factors: Whether it needs the KL by latent dimension.
    """

    draws: int = 1
    warmup_epochs: int = 0
    needs_factors: bool = False

    @abstractmethod
    def __call__(self, draw: Draw, step: int) -> Loss:
        """The loss of a draw at an optimizer step (0 before the first update)."""

    @abstractmethod
    def beta(self, step: int) -> float:
        """The weight of the KL at a step."""

    def observe(self, draw: Draw) -> None:  # noqa: B027 (only a controller looks)
        """Learn from a training step that was taken; an evaluation is not to be observed."""


def kl_weight(
    steps_per_epoch: int, beta: float, schedule: BetaSchedule, warmup_epochs: int, cycles: int = CYCLES
) -> Schedule:
    """The weight of the KL by step.

    Raises:
        SettingError: The schedule and the epochs of warm-up contradict each other, or cycles are given to another one.
    """
    steps = warmup_epochs * steps_per_epoch
    if schedule == "constant" and steps:
        raise SettingError("objective.schedule", f"constant has no warm-up; --warmup-epochs is {warmup_epochs}")
    if schedule not in ("constant", "linear") and not steps:
        raise SettingError(
            "objective.schedule", f"{schedule} needs --warmup-epochs above 0", hint="such as --warmup-epochs 10"
        )
    if schedule != "cyclical" and cycles != CYCLES:
        raise SettingError("objective.cycles", f"is for the cyclical schedule; this one is {schedule}")
    if schedule == "cyclical":
        return cyclical(beta, steps, cycles)
    return {"cosine": cosine_warmup, "sigmoid": sigmoid_warmup}.get(schedule, linear_warmup)(beta, steps)


class ELBO(Objective):
    """The negative evidence lower bound with a weight on the KL: ``mean_B(recon) + beta(step) * KL``.

    KL is ``mean_B(kl)``, or with free bits ``sum_D max(free_bits, mean_B(kl_d))``: a latent dimension is not pressed
    below so many nats, so that none is given up early.

    Args:
        steps_per_epoch: Optimizer steps of an epoch.
        beta: Weight of the KL.
        schedule: How the weight rises over the warm-up: linear, cosine, sigmoid, or cyclical (rise, hold, again).
        warmup_epochs: Epochs over which the weight rises from 0 to beta; 0 starts at beta.
        cycles: Rises of the cyclical schedule.
        free_bits: Nats for each latent dimension that cost nothing.

    Raises:
        SettingError: The schedule and the warm-up contradict each other.

    References:
        beta-VAE (Higgins et al., 2017), equation 4, https://openreview.net/forum?id=Sy2fzU9gl;
        warm-up: Generating Sentences from a Continuous Space (Bowman et al., 2016), section 3.1,
        https://arxiv.org/abs/1511.06349;
        free bits: Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), equation 15,
        https://arxiv.org/abs/1606.04934
    """

    def __init__(
        self,
        steps_per_epoch: int,
        *,
        beta: NonNegative = 1.0,
        schedule: BetaSchedule = "linear",
        warmup_epochs: Count = 0,
        cycles: Size = CYCLES,
        free_bits: NonNegative = 0.0,
    ) -> None:
        self._beta = kl_weight(steps_per_epoch, beta, schedule, warmup_epochs, cycles)
        self.warmup_epochs = warmup_epochs
        self.free_bits = free_bits
        self.needs_factors = free_bits > 0

    def beta(self, step: int) -> float:
        """The weight of the KL at a step."""
        return self._beta(step)

    def __call__(self, draw: Draw, step: int) -> Loss:
        """The loss of a draw at an optimizer step (0 before the first update)."""
        terms = {"recon": draw.recon, "kl": draw.kl}
        if self.free_bits == 0:
            return Loss((terms["recon"] + self.beta(step) * terms["kl"]).mean(), terms)
        rate = draw.kl_per_dim.mean(0).clamp(min=self.free_bits).sum()  # (D,) -> ()
        return Loss(terms["recon"].mean() + self.beta(step) * rate, terms)


class Capacity(Objective):
    """The KL held at a capacity that rises: ``mean_B(recon) + gamma * |mean_B(kl) - C(step)|``.

    Args:
        steps_per_epoch: Optimizer steps of an epoch.
        capacity: C after the warm-up, in nats.
        gamma: Weight of the distance to it.
        warmup_epochs: Epochs over which C rises linearly from 0.

    References:
        Understanding disentangling in beta-VAE (Burgess et al., 2018), equation 8, https://arxiv.org/abs/1804.03599
    """

    def __init__(
        self,
        steps_per_epoch: int,
        *,
        capacity: NonNegative = 25.0,
        gamma: NonNegative = 100.0,
        warmup_epochs: Count = 10,
    ) -> None:
        self.capacity = linear_warmup(capacity, warmup_epochs * steps_per_epoch)
        self.gamma = gamma
        self.warmup_epochs = warmup_epochs

    def beta(self, step: int) -> float:
        """The weight of the distance between the KL and its capacity."""
        return self.gamma

    def __call__(self, draw: Draw, step: int) -> Loss:
        """The loss of a draw at an optimizer step (0 before the first update)."""
        terms = {"recon": draw.recon, "kl": draw.kl}
        distance = (terms["kl"].mean() - self.capacity(step)).abs()
        return Loss(terms["recon"].mean() + self.gamma * distance, terms)


class KLTarget(Objective):
    """The ELBO with the weight of the KL set after every step by a controller that steers the KL to a target.

    With the error ``e = target - mean_B(kl)`` the weight is ``k_p / (1 + exp(e)) + I`` with ``I`` the running sum of
    ``-k_i * e``, both kept within [0, max_beta].

    Args:
        steps_per_epoch: Optimizer steps of an epoch.
        target: The KL to reach, in nats per example.
        max_beta: Largest weight.
        k_p: Gain of the proportional part.
        k_i: Gain of the integral part, for each step.

    References:
        ControlVAE: Controllable Variational Autoencoder (Shao et al., 2020), equation 9 and algorithm 1,
        https://arxiv.org/abs/2004.05988
    """

    def __init__(
        self,
        steps_per_epoch: int,
        *,
        target: NonNegative = 10.0,
        max_beta: NonNegative = 100.0,
        k_p: NonNegative = 0.01,
        k_i: NonNegative = 1e-4,
    ) -> None:
        self.target, self.max_beta, self.k_p, self.k_i = target, max_beta, k_p, k_i
        # tensors on the draws' device, so that a step on an accelerator does not wait for their values
        self._integral = self._weight = torch.zeros(())

    def beta(self, step: int) -> float:
        """The weight of the KL as the controller has it now, whatever the step."""
        return self._weight.item()

    def __call__(self, draw: Draw, step: int) -> Loss:
        """The loss of a draw with the weight as it is now."""
        terms = {"recon": draw.recon, "kl": draw.kl}
        return Loss((terms["recon"] + self._weight.to(draw.x.device) * terms["kl"]).mean(), terms)

    def observe(self, draw: Draw) -> None:
        """Set the weight for the next step from the KL of this one."""
        error = self.target - draw.kl.detach().mean()
        proportional = self.k_p * torch.sigmoid(-error)
        # the bounds keep the sum from winding up while the weight stands at one of them
        self._integral = (self._integral.to(error.device) - self.k_i * error).clamp(0, self.max_beta)
        self._weight = (proportional + self._integral).clamp(0, self.max_beta)


class IWAE(Objective):
    """The negative importance-weighted bound: ``-mean_B log 1/K sum_k w_k``, ``w = p(x|z) (p(z) / q(z|x))^beta``.

    The weights use the sampled log q and log p, never a closed-form KL. With beta at 1 this is the bound itself.

    Args:
        steps_per_epoch: Optimizer steps of an epoch.
        k: Draws of each example.
        gradient: ``reparameterized`` as in the paper, or ``doubly-reparameterized``, whose signal for the encoder does
            not drown in noise as K grows.
        beta: Weight of ``log q - log p``.
        schedule: How the weight rises over the warm-up, as for the ELBO.
        warmup_epochs: Epochs over which the weight rises from 0 to beta; 0 starts at beta.

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
        steps_per_epoch: int,
        *,
        k: Annotated[int, Bounds(1, 10_000)] = 5,
        gradient: Literal["reparameterized", "doubly-reparameterized"] = "reparameterized",
        beta: NonNegative = 1.0,
        schedule: BetaSchedule = "linear",
        warmup_epochs: Count = 0,
    ) -> None:
        self._beta = kl_weight(steps_per_epoch, beta, schedule, warmup_epochs)
        self.draws = k
        self.warmup_epochs = warmup_epochs
        self.doubly = gradient == "doubly-reparameterized"

    def beta(self, step: int) -> float:
        """The weight of ``log q - log p`` at a step."""
        return self._beta(step)

    def __call__(self, draw: Draw, step: int) -> Loss:
        """The loss of a draw at an optimizer step (0 before the first update)."""
        terms = {"recon": draw.recon, "kl": draw.kl}
        log_q = _path_only(draw) if self.doubly else draw.log_q
        log_w = draw.log_px + self.beta(step) * (draw.log_p - log_q)  # (K, B)
        bound = log_w.logsumexp(0) - math.log(len(log_w))  # (B,)
        if self.doubly and draw.z.requires_grad:
            # what reaches z carries one normalised weight already; at beta = 1 the encoder's gradient needs its square
            beta = self.beta(step)
            weight = 1 - beta + beta * log_w.detach().softmax(0)  # (K, B)
            draw.z.register_hook(  # type: ignore[no-untyped-call]
                lambda g: g * weight.reshape(*weight.shape, *(1 for _ in g.shape[2:]))
            )
        return Loss(-bound.mean(), terms)


def _path_only(draw: Draw) -> Tensor:
    """log q(z|x) (K, B) whose gradient runs through z alone, without that of q's own parameters."""
    score = draw.q.log_prob(draw.z.detach())
    path: Tensor = draw.log_q - score + score.detach()
    return path


OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "elbo": ELBO,
    "iwae": IWAE,
    "capacity": Capacity,
    "kl-target": KLTarget,
}
