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

# the names of the bound's terms in every objective
BOUND = ("recon", "kl")


@dataclass(frozen=True)
class TrainingSet:
    """The size of a training set and of its batches.

    Attributes:
        examples: Training examples (N).
        batch_size: Examples in an optimizer step; the last step of an epoch may have fewer.
    """

    examples: int
    batch_size: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return -(-self.examples // self.batch_size)


@dataclass(frozen=True)
class Loss:
    """The loss of a step.

    Attributes:
        total: The scalar that the model minimises.
        terms: Its terms by name, by example (B,). Terms other than the bound's (``BOUND``) are reported by name.
        adversary: The scalar that the objective's own parameters minimise; None if it has none.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    adversary: Tensor | None = None


@dataclass(frozen=True)
class AdversaryTraining:
    """How the parameters of an objective are trained, by an Adam optimizer of their own.

    Attributes:
        lr: Learning rate; None uses the model's.
        betas: Decay of Adam's two moments.
    """

    lr: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)


class Objective(ModelPart):
    """The base class of objectives, modules that compute a loss from a draw and a scheduled number.

    Its constructor takes the training set, the latent space of the model, which is made first, and keyword options.
    State that it learns without a gradient, such as a controller's weight, is in buffers. Its own parameters, such as a
    discriminator's, are trained on ``Loss.adversary``, whose gradient never reaches the model. Several processes share
    every batch: an objective that is not a mean over examples uses ``draw.mean`` or sets ``needs_pairs``.

    Attributes:
        takes: The kinds of latents that it can train, see ``Posterior.gives``.
        draws: Draws of z for each example (K).
        warmup_epochs: Epochs until the weight of the KL reaches its final value; the best weights are chosen among the
            epochs from then on.
        needs_factors: Whether it needs the KL or log-probabilities by latent dimension: q and p must factorise.
        needs_pairs: Whether it compares the examples of a batch with each other, so that one process needs them all.
        needs_one_level: Whether it cannot train a model with several levels of latents.
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
        """The number that ``forward`` takes at an optimizer step (0 before the first update)."""

    @abstractmethod
    def forward(self, draw: Draw, scheduled: Tensor | float) -> Loss:
        """The loss of a draw; ``scheduled`` is a tensor () in training, because its steps are recorded."""

    @abstractmethod
    def beta(self, step: int) -> float:
        """The weight of the KL at a step."""

    def settled(self, epoch: int, validation: Mapping[str, float]) -> bool:
        """Whether the weights at the end of an epoch may be the best: warm-up is over, or a target is reached."""
        return epoch >= self.warmup_epochs

    def observe(self, draw: Draw) -> None:
        """Learn without a gradient from a training step; evaluations are not observed."""


class PriorFit(Objective):
    """The KL alone, ``mean_B(kl)``: the term of the bound that fitting the prior alone can improve."""

    takes: ClassVar[frozenset[str]] = frozenset({VECTORS, CODES, CODEBOOK})

    def beta(self, step: int) -> float:
        """1."""
        return 1.0

    def scheduled(self, step: int) -> float:
        """0, unused."""
        return 0.0

    def forward(self, draw: Draw, scheduled: Tensor | float) -> Loss:
        """The loss of a draw."""
        return Loss(draw.kl.mean(), {"kl": draw.kl})


def kl_weight(steps_per_epoch: int, beta: float, schedule: BetaSchedule, warmup_epochs: int, cycles: int) -> Schedule:
    """The weight of the KL by step.

    Raises:
        SettingError: The schedule and the warm-up contradict each other, or ``cycles`` is set for another schedule.
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
