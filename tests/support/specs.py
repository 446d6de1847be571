"""Specs of small models, and the kinds of training that resume and several processes are tried on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from vaectl.config.recipes import RECIPES
from vaectl.config.spec import Part, Spec

SMALL_NETWORK = Part("mlp", {"hidden_dims": (16,)})


def spec_of(training: Mapping[str, Any] | None = None, *, recipe: str = "vae", **fields: Any) -> Spec:
    """A small spec: 2 latent dimensions, 16 hidden units, three epochs of batches of 100, unless told otherwise.

    Args:
        training: Training settings.
        recipe: The recipe that gives everything else.
        **fields: Parts of the spec and its size.
    """
    usual = RECIPES[recipe]()
    settings = {"epochs": 3, "batch_size": 100, **(training or {})}
    small = {"latent_dim": 2, "encoder": SMALL_NETWORK, "decoder": SMALL_NETWORK, **fields}
    return dataclasses.replace(usual, training=dataclasses.replace(usual.training, **settings), **small)


# what a training may have to remember -> the parts that make it so
VARIANTS: dict[str, dict[str, Any]] = {
    "elbo with warm-up": {"objective": Part("elbo", {"warmup_epochs": 2})},
    "iwae": {"objective": Part("iwae", {"k": 3})},
    "tc": {"objective": Part("tc")},
    "kl-target, a controller with a state": {"objective": Part("kl-target", {"target": 3.0})},
    "optimal scale, running statistics": {"likelihood": Part("gaussian", {"scale": "optimal"})},
    "vamp prior": {"prior": Part("vamp", {"components": 5})},
    "codes by moving averages": {
        "posterior": Part("quantized", {"codes": 8}), "prior": Part("uniform"), "objective": Part("vq")
    },
    "codes by their loss": {
        "posterior": Part("quantized", {"codes": 8, "codebook": "loss"}), "prior": Part("uniform"),
        "objective": Part("vq"),
    },
}  # fmt: skip
