"""What an objective is, (draw, scheduled number) -> Loss, and the weight of its KL by step.

Shapes: ``K`` draws, ``B`` batch. Log quantities are in nats per example.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from vaectl.config.values import BetaSchedule
from vaectl.errors import SettingError
from vaectl.model.distributions.codes import CODEBOOK, CODES, VECTORS
from vaectl.model.objectives.schedules import Schedule, cosine_warmup, cyclical, linear_warmup, sigmoid_warmup
from vaectl.model.vae import Draw

CYCLES = 4


@dataclass(frozen=True)
class TrainingSet:
    """What an objective must know of the data it is trained on.

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
        total: The scalar to differentiate.
        terms: Its parts by name, per example (B,).
    """

    total: Tensor
    terms: Mapping[str, Tensor]


class Objective(nn.Module, ABC):
    """What training minimises, a module of one draw and a scheduled number; what it learns as it goes are its buffers.

    Attributes:
        takes: The kinds of latents that it can train with, of what posteriors give.
        draws: Draws of z that it needs of each example (K).
        warmup_epochs: Epochs after which the weight of the KL first stands where it should; the best weights are
            sought from then on.
        needs_factors: Whether it needs the KL, or log-probabilities, by latent dimension: q and p must factorise.
        needs_pairs: Whether it compares the examples of a batch with each other, so that one process must have all.
    """

    takes: ClassVar[frozenset[str]] = frozenset({VECTORS})
    draws: int = 1
    warmup_epochs: int = 0
    needs_factors: bool = False
    needs_pairs: bool = False

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
        """Learn from a training step that was taken; an evaluation is not to be observed.

        It may change only what buffers hold, in place, for training repeats a recording of it.
        """


class PriorFit(Objective):
    """The KL alone, ``mean_B(kl)``: what is left of the bound for a prior to gain when nothing else changes."""

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
