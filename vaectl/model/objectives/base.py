"""The base class of objectives, (draw, scheduled number) -> Loss, and the KL weight by step.

Shapes: ``K`` draws, ``B`` batch. Log quantities are in nats per example.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vaectl.config.values import BetaSchedule
from vaectl.errors import SettingError
from vaectl.model.distributions.codes import CODEBOOK, CODES, VECTORS
from vaectl.model.objectives.schedules import Schedule, cosine_warmup, cyclical, linear_warmup, sigmoid_warmup
from vaectl.model.parts import ModelPart
from vaectl.model.vae import Draw

CYCLES = 4


# the terms of the bound, by the names that every objective gives them
BOUND = ("recon", "kl")


@dataclass(frozen=True)
class TrainingSet:
    """What an objective must know about the data it is trained on.

    Attributes:
        examples: Training examples (N).
        batch_size: Examples in an optimizer step; the last of an epoch may have fewer.
    """

    examples: int
    batch_size: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return -(-self.examples // self.batch_size)


@dataclass(frozen=True)
class Loss:
    """What a step minimises.

    Attributes:
        total: The scalar that the model minimises.
        terms: Its parts by name, by example (B,). Those that are no terms of the bound (``BOUND``) are reported.
        adversary: The scalar that the objective's own parameters minimise; None if it has none.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    adversary: Tensor | None = None


@dataclass(frozen=True)
class AdversaryTraining:
    """How the parameters of an objective are trained, by an Adam of their own.

    Attributes:
        lr: Learning rate; None for the model's.
        betas: Decay of Adam's two moments.
    """

    lr: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)


class Objective(ModelPart):
    """What training minimises, a module of one draw and a scheduled number.

    Its constructor takes the training set, the latent space of the model, which is made before it, and keyword options.
    What it learns as it goes, such as a controller's weight, are its buffers. Parameters of its own, such as a
    discriminator's, are trained on ``Loss.adversary``, whose gradient never reaches the model. Several processes share
    every batch: an objective that is not a mean over examples takes ``draw.mean``, or says ``needs_pairs``.

    Attributes:
        takes: The kinds of latents that it can train with, out of those that posteriors give.
        draws: Draws of z that it needs of each example (K).
        warmup_epochs: Epochs after which the weight of the KL first stands where it should; the best weights are
            sought from then on.
        needs_factors: Whether it needs the KL, or log-probabilities, by latent dimension: q and p must factorise.
        needs_pairs: Whether it compares the examples of a batch with each other, so that one process must have all.
        needs_one_level: Whether it cannot train a model of several levels of latents.
        adversary: How its own parameters are trained, if it has any.
    """

    takes: ClassVar[frozenset[str]] = frozenset({VECTORS})
    draws: int = 1
    warmup_epochs: int = 0
    needs_factors: bool = False
    needs_pairs: bool = False
    needs_one_level: bool = False
    adversary: AdversaryTraining = AdversaryTraining()

    @abstractmethod
    def scheduled(self, step: int) -> float:
        """The number that ``forward`` needs to know of an optimizer step (0 before the first update)."""

    @abstractmethod
    def forward(self, draw: Draw, scheduled: Tensor | float) -> Loss:
        """The loss of a draw, where ``scheduled`` is that number: a tensor () in training, which repeats its steps."""

    @abstractmethod
    def beta(self, step: int) -> float:
        """The weight of the KL at a step."""

    def settled(self, epoch: int, validation: Mapping[str, float]) -> bool:
        """Whether the weights at an epoch's end are of the model that was asked for: the best are sought there."""
        return epoch >= self.warmup_epochs

    def observe(self, draw: Draw) -> None:
        """Learn without a gradient from a training step that was taken; evaluations are not observed."""


class PriorFit(Objective):
    """The KL alone, ``mean_B(kl)``: the part of the bound that a prior can gain when nothing else changes."""

    takes: ClassVar[frozenset[str]] = frozenset({VECTORS, CODES, CODEBOOK})

    def beta(self, step: int) -> float:
        """1."""
        return 1.0

    def scheduled(self, step: int) -> float:
        """Nothing."""
        return 0.0

    def forward(self, draw: Draw, scheduled: Tensor | float) -> Loss:
        """The loss of a draw."""
        return Loss(draw.kl.mean(), {"kl": draw.kl})


def kl_weight(steps_per_epoch: int, beta: float, schedule: BetaSchedule, warmup_epochs: int, cycles: int) -> Schedule:
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
