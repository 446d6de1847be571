"""The objectives by name: (draw, scheduled number) -> the loss that training minimises."""

from __future__ import annotations

from vaectl.model.objectives.base import AdversaryTraining, Loss, Objective, PriorFit, TrainingSet
from vaectl.model.objectives.elbo import ELBO, Capacity, KLTarget
from vaectl.model.objectives.iwae import IWAE
from vaectl.model.objectives.tc import TotalCorrelation
from vaectl.model.objectives.vq import VQ

__all__ = [
    "ELBO",
    "IWAE",
    "OBJECTIVES",
    "VQ",
    "AdversaryTraining",
    "Capacity",
    "KLTarget",
    "Loss",
    "Objective",
    "PriorFit",
    "TotalCorrelation",
    "TrainingSet",
]  # fmt: skip

OBJECTIVES: dict[str, type[Objective]] = {
    "elbo": ELBO,
    "iwae": IWAE,
    "capacity": Capacity,
    "kl-target": KLTarget,
    "tc": TotalCorrelation,
    "vq": VQ,
}
