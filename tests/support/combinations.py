"""Combinations of parts that are tried: every member of a family, registered by whom ever, meets members of the others.

A combination names (network, posterior, prior, likelihood, objective); encoder and decoder are of one kind.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch

from tests.support.toys import toy_data
from vaectl.config.recipes import RECIPES
from vaectl.config.spec import Part, Spec
from vaectl.data.info import DataInfo
from vaectl.errors import UsageError
from vaectl.model.builder import build
from vaectl.model.distributions.codes import VECTORS
from vaectl.model.likelihoods import LIKELIHOODS
from vaectl.model.networks import DECODERS, ENCODERS
from vaectl.model.objectives import OBJECTIVES
from vaectl.model.posteriors import POSTERIORS
from vaectl.model.priors import PRIORS

Parts = tuple[str, str, str, str, str]

# options of members whose default size would make these tests slow
SMALL: dict[str, dict[str, Any]] = {
    "mixture": {"components": 5},
    "vamp": {"components": 5},
    "transformer": {"width": 8, "depth": 1, "heads": 2},
    "quantized": {"codes": 8},
    "fsq": {"levels": [3]},
    "conv": {"width": 4},
    "resnet": {"width": 4, "blocks": 1},
}
# data support -> what examples of bytes become as such data
AS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "binary": torch.round,
    "bytes": lambda x: x,
    "unit": lambda x: 0.001 + 0.9987 * x,
    "real": lambda x: 4 * x - 2,
}


def gives(posterior: str) -> str:
    """The kind of latents that a posterior gives."""
    member: Any = POSTERIORS[posterior]
    kind: str = member.gives
    return kind


def suited(members: Mapping[str, Any], posterior: str) -> list[str]:
    """The priors, or the objectives, that take what a posterior gives."""
    return [name for name, member in members.items() if gives(posterior) in member.takes]


def usual(posterior: str) -> Parts:
    """A posterior with the first part of each other family that goes with it; codes lie on a grid, which maps give."""
    network = "mlp" if gives(posterior) == VECTORS else "conv"
    prior, objective = suited(PRIORS, posterior)[0], suited(OBJECTIVES, posterior)[0]
    return network, posterior, prior, next(iter(LIKELIHOODS)), objective


def small(name: str) -> Part:
    """A member of a family with options that keep it small."""
    return Part(name, SMALL.get(name, {}))


def combined(network: str, posterior: str, prior: str, likelihood: str, objective: str) -> Spec:
    """The spec of a combination with 3 latent dimensions."""
    return dataclasses.replace(
        RECIPES["vae"](),
        latent_dim=3,
        encoder=small(network if network in ENCODERS else "mlp"),
        decoder=small(network if network in DECODERS else "mlp"),
        posterior=small(posterior),
        prior=small(prior),
        likelihood=small(likelihood),
        objective=small(objective),
    )


def measures_of(likelihood: str) -> Mapping[str, str]:
    """The kinds of data that a likelihood takes, and what its log-probability is then of."""
    member: Any = LIKELIHOODS[likelihood]
    measures: Mapping[str, str] = member.measures
    return measures


def examples_for(likelihood: str, support: str | None = None) -> tuple[DataInfo, torch.Tensor]:
    """Toy data (9, 1, 6, 6) of a kind, by default the first that a likelihood takes, and their description."""
    data = toy_data()
    support = support or next(iter(measures_of(likelihood)))
    return dataclasses.replace(data.info, support=support), AS[support](data.train.batch(slice(0, 9)).x)


def gives_the_factors_it_needs(parts: Parts) -> bool:
    """Whether posterior and prior factorise where an objective needs the KL by latent dimension, as building says."""
    objective: Any = OBJECTIVES[parts[4]]
    if not getattr(objective, "needs_factors", False):
        return True
    try:
        build(combined(*parts), examples_for(parts[3])[0])
    except UsageError:
        return False
    return True


def combinations() -> list[Parts]:
    """Every two members of two families; all at once would be a product that each new part multiplies."""
    return [
        parts
        for posterior in POSTERIORS
        for parts in itertools.product(
            dict.fromkeys([*ENCODERS, *DECODERS]),
            [posterior],
            suited(PRIORS, posterior),
            LIKELIHOODS,
            suited(OBJECTIVES, posterior),
        )
        if sum(name != other for name, other in zip(parts, usual(posterior), strict=True)) <= 2
        and gives_the_factors_it_needs(parts)
    ]


COMBINATIONS = combinations()
