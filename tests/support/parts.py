"""Parts that only tests have: what a conditional model, missing values, several levels and an adversary ask for.

Shapes: as in ``vaectl.model.parts``; ``D_1`` and ``D_2`` latent dimensions of the upper and the lower level.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from tests.support.specs import spec_of
from tests.support.toys import toy_data
from vaectl.config.spec import Part, Spec
from vaectl.config.values import NonNegative, Size
from vaectl.data.base import Data, Split
from vaectl.model.builder import FAMILIES
from vaectl.model.distributions.codes import VECTORS, LatentSpace
from vaectl.model.distributions.levels import Levels
from vaectl.model.layers.readout import Shape
from vaectl.model.objectives import ELBO, AdversaryTraining, Loss, TrainingSet
from vaectl.model.parts import Encoder, Network, Posterior, Prior, Sizes
from vaectl.model.vae import Draw


class Informed(Network):
    """One layer of inputs, what is given, and which values were observed: ``h = silu(W [x, given, observed] + b)``."""

    def __init__(self, sizes: Sizes, *, units: Size = 16) -> None:
        super().__init__()
        self.sizes, self.features = sizes, (units,)
        self.dims = len(sizes.inputs)
        inputs = math.prod(sizes.inputs) * (2 if sizes.missing else 1) + sizes.given
        self.linear = nn.Linear(inputs, units)

    def forward(self, x: Tensor, given: Tensor | None = None, observed: Tensor | None = None) -> Tensor:
        pieces = [x.flatten(x.dim() - self.dims)]
        if self.sizes.given:
            assert given is not None
            pieces.append(given.expand(*pieces[0].shape[:-1], -1))
        if self.sizes.missing:
            assert observed is not None
            pieces.append(observed.flatten(observed.dim() - self.dims).float())
        return F.silu(self.linear(torch.cat(pieces, -1)))

    def describe(self) -> str:
        return f"{self.linear.in_features}-{self.linear.out_features}"


class GivenPrior(Prior):
    """``p(z|given) = N(W given, I)``."""

    takes: ClassVar[frozenset[str]] = frozenset({VECTORS})

    def __init__(self, space: LatentSpace, shape: Shape, support: str, given: int = 0) -> None:
        super().__init__()
        self.mean = nn.Linear(given, *space.shape)

    def forward(self, encoder: Encoder, given: Tensor | None = None) -> Independent[Normal]:
        assert given is not None
        mean = self.mean(given)  # (B, D)
        return Independent(Normal(mean, torch.ones_like(mean), validate_args=False), 1, validate_args=False)


def normal(numbers: Tensor) -> Independent[Normal]:
    mean, s = numbers.chunk(2, -1)
    return Independent(Normal(mean, F.softplus(s) + 1e-3, validate_args=False), 1, validate_args=False)


class TwoLevels(Posterior):
    """``q(z|x) = q(z_1|x) q(z_2|x, z_1)``, both Gaussian."""

    gives: ClassVar[str] = VECTORS

    def __init__(self, features: Shape, latent_dim: int) -> None:
        super().__init__()
        upper = latent_dim // 2
        self.space = LatentSpace((latent_dim,), levels=2)
        self.sizes = (upper, latent_dim - upper)
        self.upper = nn.Linear(*features, 2 * upper)
        self.lower = nn.Linear(*features, 2 * self.sizes[1])
        self.below = nn.Linear(upper, 2 * self.sizes[1])

    def forward(self, features: Tensor) -> Levels:
        def at(level: int, above: Tensor) -> Independent[Normal]:
            return normal(self.lower(features) + self.below(above) if level else self.upper(features))

        return Levels(self.sizes, at, features.shape[:-1], features)


class TwoLevelPrior(Prior):
    """``p(z) = N(z_1; 0, I) p(z_2|z_1)``, the latter Gaussian."""

    takes: ClassVar[frozenset[str]] = frozenset({VECTORS})

    def __init__(self, space: LatentSpace, shape: Shape, support: str, given: int = 0) -> None:
        super().__init__()
        upper = space.shape[0] // 2
        self.sizes = (upper, space.shape[0] - upper)
        self.below = nn.Linear(upper, 2 * self.sizes[1])

    def forward(self, encoder: Encoder, given: Tensor | None = None) -> Levels:
        zeros = self.below.weight.new_zeros(self.sizes[0])
        top = Independent(Normal(zeros, torch.ones_like(zeros), validate_args=False), 1, validate_args=False)
        return Levels(self.sizes, lambda level, above: normal(self.below(above)) if level else top, (), zeros)


class Critic(ELBO):
    """The ELBO, and a critic that tells latents from ones whose dimensions are shuffled over the batch.

    References:
        Disentangling by Factorising (Kim and Mnih, 2018), algorithm 2, https://arxiv.org/abs/1802.05983
    """

    needs_pairs = True
    adversary = AdversaryTraining(lr=3e-3, betas=(0.5, 0.9))

    def __init__(self, data: TrainingSet, space: LatentSpace, *, gamma: NonNegative = 2.0, units: Size = 8) -> None:
        super().__init__(data, space)
        self.gamma = gamma
        self.critic = nn.Sequential(nn.Linear(*space.shape, units), nn.SiLU(), nn.Linear(units, 1))

    def forward(self, draw: Draw, scheduled: Tensor | float) -> Loss:
        bound = super().forward(draw, scheduled)
        z = draw.z[0]  # (B, D)
        told = self.critic(z).squeeze(-1)  # (B,)
        shuffled = torch.stack([column.roll(d + 1) for d, column in enumerate(z.detach().unbind(1))], 1)
        real, fake = self.critic(z.detach()).squeeze(-1), self.critic(shuffled).squeeze(-1)
        adversary = F.softplus(-real).mean() + F.softplus(fake).mean()
        return Loss(bound.total + self.gamma * told.mean(), {**bound.terms, "total_correlation": told}, adversary)


class Counting(Informed):
    """A network that asks for a tensor's value, which no recording can repeat; it says so."""

    recordable: ClassVar[bool] = False

    def forward(self, x: Tensor, given: Tensor | None = None, observed: Tensor | None = None) -> Tensor:
        assert float(x.sum()) >= 0
        return super().forward(x, given, observed)


PARTS: dict[str, dict[str, Any]] = {
    "encoder": {"informed": Informed, "counting": Counting},
    "decoder": {"informed": Informed, "counting": Counting},
    "prior": {"given": GivenPrior, "two-levels": TwoLevelPrior},
    "posterior": {"two-levels": TwoLevels},
    "objective": {"critic": Critic},
}


def register() -> None:
    """Make these parts members of their families, in a process of their own."""
    for family, members in PARTS.items():
        FAMILIES[family].update(members)  # type: ignore[attr-defined]


INFORMED = Part("informed")
MODELS: dict[str, dict[str, Any]] = {
    "conditional": {"encoder": INFORMED, "decoder": INFORMED, "prior": Part("given")},
    "masked": {"encoder": INFORMED},
    "masked, optimal scale": {"encoder": INFORMED, "likelihood": Part("gaussian", {"scale": "optimal"})},
    "two levels": {"posterior": Part("two-levels"), "prior": Part("two-levels"), "latent_dim": 4},
    "two levels, iwae": {
        "posterior": Part("two-levels"), "prior": Part("two-levels"), "latent_dim": 4,
        "objective": Part("iwae", {"k": 3}),
    },
    "two levels, free bits": {
        "posterior": Part("two-levels"), "prior": Part("two-levels"), "latent_dim": 4,
        "objective": Part("elbo", {"free_bits": 0.05}),
    },
    "adversary": {"objective": Part("critic"), "latent_dim": 4},
}  # fmt: skip


def spec_for(model: str, **training: Any) -> Spec:
    """A small spec of one of ``MODELS``."""
    return spec_of(training, **MODELS[model])


def data_for(model: str, train: int = 300) -> Data:
    """Toy data as a model asks for them: with their labels given, or with three values in ten missing."""
    data = toy_data(train)
    splits = {name: data.split(name) for name in ("train", "validation", "test")}
    if model == "conditional":
        made = {name: dataclasses.replace(split, given=labels_of(split)) for name, split in splits.items()}
        return dataclasses.replace(data, **made, info=dataclasses.replace(data.info, given=2))
    if model.startswith("masked"):
        made = {name: masked(split, seed) for seed, (name, split) in enumerate(splits.items())}
        return dataclasses.replace(data, **made, info=dataclasses.replace(data.info, missing=True))
    return data


def labels_of(split: Any) -> Tensor:
    return F.one_hot(split.labels, 2).float()


def masked(split: Any, seed: int) -> Split:
    observed = torch.rand(split.images.shape, generator=torch.Generator().manual_seed(seed)) < 0.7
    return dataclasses.replace(split, images=torch.where(observed, split.images, 0), observed=observed)
