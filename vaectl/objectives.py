"""Objectives: (draw, step) -> Loss, what training minimises. The bound that is reported is ``Draw.elbo``.

Shapes: ``B`` batch. Log quantities are in nats per example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from vaectl.schedules import linear_warmup
from vaectl.spec import Count, NonNegative
from vaectl.vae import Draw


@dataclass(frozen=True)
class Loss:
    """What a step minimises.

    Attributes:
        total: The scalar to differentiate: a mean over examples.
        terms: Its parts by name, per example (B,).
    """

    total: Tensor
    terms: Mapping[str, Tensor]


class ELBO:
    """The negative evidence lower bound with a weight on the KL: ``mean_B(recon + beta(step) * kl)``.

    Args:
        steps_per_epoch: Optimizer steps of an epoch.
        beta: Weight of the KL.
        warmup_epochs: Epochs over which the weight rises linearly from 0 to beta; 0 starts at beta.

    References:
        beta-VAE (Higgins et al., 2017), equation 4, https://openreview.net/forum?id=Sy2fzU9gl;
        warm-up: Generating Sentences from a Continuous Space (Bowman et al., 2016), section 3.1,
        https://arxiv.org/abs/1511.06349
    """

    def __init__(self, steps_per_epoch: int, *, beta: NonNegative = 1.0, warmup_epochs: Count = 0) -> None:
        self.beta = linear_warmup(beta, warmup_epochs * steps_per_epoch)
        self.warmup_epochs = warmup_epochs

    def __call__(self, draw: Draw, step: int) -> Loss:
        """The loss of a draw at an optimizer step (0 before the first update)."""
        terms = {"recon": draw.recon, "kl": draw.kl}
        return Loss((terms["recon"] + self.beta(step) * terms["kl"]).mean(), terms)


OBJECTIVES: dict[str, Callable[..., ELBO]] = {"elbo": ELBO}
