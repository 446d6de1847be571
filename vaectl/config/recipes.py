"""Recipes: name -> Spec, one function per paper. A recipe gives a run its defaults.

Each takes settings by the names of their flags, as ``Spec.changed`` does: ``vae(latent_dim=2, hidden_dims=(32, 16))``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from vaectl.config.datasets import DataOptions
from vaectl.config.spec import PARTS, Part, Spec

DATA_OPTIONS = dataclasses.asdict(DataOptions())


def vae(**settings: Any) -> Spec:
    """The variational autoencoder, with an MLP of 512 and 256 units and its mirror.

    Trained on MNIST for 30 epochs, with grey-level cross-entropy and beta warmed up over 10 epochs, its one-sample test
    ELBO is about -140 nats with 2 latent dimensions and -98 with 32.

    References:
        Auto-Encoding Variational Bayes (Kingma and Welling, 2014), https://arxiv.org/abs/1312.6114
    """
    return Spec(
        model="vae",
        latent_dim=32,
        data=Part("auto", DATA_OPTIONS),
        encoder=Part("mlp", {"hidden_dims": (512, 256), "activation": "silu"}),
        decoder=Part("mlp", {"hidden_dims": (256, 512), "activation": "silu"}),
        posterior=Part("gaussian", {"scale": "softplus"}),
        prior=Part("standard"),
        likelihood=Part("bernoulli"),
        objective=_elbo(),
    ).changed(**settings)


def beta_vae(**settings: Any) -> Spec:
    """The VAE with the KL weighted by beta = 4: fewer active dimensions, blurrier reconstructions.

    References:
        beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al.,
        2017), equation 4, https://openreview.net/forum?id=Sy2fzU9gl
    """
    return dataclasses.replace(vae(), model="beta-vae", objective=_elbo(beta=4.0)).changed(**settings)


def beta_tcvae(**settings: Any) -> Spec:
    """The VAE with the total correlation of its latents weighted by 6 and the rest of the KL by 1.

    References:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), equation 4,
        https://arxiv.org/abs/1802.04942
    """
    options = {
        "alpha": 1.0, "beta": 6.0, "gamma": 1.0, "schedule": "linear", "warmup_epochs": 0, "cycles": 4,
        "weights": "stratified",
    }  # fmt: skip
    return dataclasses.replace(vae(), model="beta-tcvae", objective=Part("tc", options)).changed(**settings)


def capacity_vae(**settings: Any) -> Spec:
    """The VAE whose KL follows a capacity that rises to 25 nats over 10 epochs.

    References:
        Understanding disentangling in beta-VAE (Burgess et al., 2018), equation 8, https://arxiv.org/abs/1804.03599
    """
    objective = Part("capacity", {"capacity": 25.0, "gamma": 100.0, "warmup_epochs": 10})
    return dataclasses.replace(vae(), model="capacity-vae", objective=objective).changed(**settings)


def control_vae(**settings: Any) -> Spec:
    """The VAE whose KL a controller steers to 10 nats.

    References:
        ControlVAE: Controllable Variational Autoencoder (Shao et al., 2020), https://arxiv.org/abs/2004.05988
    """
    objective = Part("kl-target", {"target": 10.0, "max_beta": 100.0, "k_p": 0.01, "k_i": 1e-3})
    return dataclasses.replace(vae(), model="control-vae", objective=objective).changed(**settings)


def iwae(**settings: Any) -> Spec:
    """The importance-weighted autoencoder with 5 samples.

    References:
        Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
    """
    schedule = {"schedule": "linear", "warmup_epochs": 0, "cycles": 4}
    options = {"k": 5, "gradient": "reparameterized", "beta": 1.0, **schedule}
    return dataclasses.replace(vae(), model="iwae", objective=Part("iwae", options)).changed(**settings)


def sigma_vae(**settings: Any) -> Spec:
    """The VAE with a Gaussian likelihood whose one scale fits the data, so that no weight of the KL has to be chosen.

    References:
        Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2021), section 3,
        https://arxiv.org/abs/2006.13202
    """
    likelihood = Part("gaussian", {"scale": "optimal", "sigma": 1.0, "floor": 1e-3})
    return dataclasses.replace(vae(), model="sigma-vae", likelihood=likelihood).changed(**settings)


def vamp_vae(**settings: Any) -> Spec:
    """The VAE whose prior is the mixture of its own posteriors at 500 learned pseudo-inputs.

    The paper warms beta up over 100 epochs; here, as in every recipe with an ELBO, there is no warm-up by default.

    References:
        VAE with a VampPrior (Tomczak and Welling, 2018), https://arxiv.org/abs/1705.07120
    """
    prior = Part("vamp", {"components": 500, "weights": "uniform"})
    return dataclasses.replace(vae(), model="vamp-vae", prior=prior).changed(**settings)


def vq_vae(**settings: Any) -> Spec:
    """The VQ-VAE: a grid of codes from a learned codebook, and a causal transformer fitted to them as a second stage.

    The paper's network has residual blocks after two convolutions of stride 2 (``--network resnet``), and its prior is
    a PixelCNN.

    References:
        Neural Discrete Representation Learning (van den Oord et al., 2017), https://arxiv.org/abs/1711.00937
    """
    posterior = Part("quantized", {"codes": 512, "codebook": "ema", "decay": 0.99, "revive": 0.03, "positions": 16})
    return _coded(vae(), "vq-vae", 64, posterior, Part("vq", {"commitment": 0.25})).changed(**settings)


def fsq_vae(**settings: Any) -> Spec:
    """The VQ-VAE with finite scalar quantisation: every number of a code is rounded, and no codebook is learned.

    References:
        Finite Scalar Quantization: VQ-VAE Made Simple (Mentzer et al., 2023), https://arxiv.org/abs/2309.15505
    """
    posterior = Part("fsq", {"levels": (8, 5, 5, 5), "positions": 16})
    return _coded(vae(), "fsq-vae", 4, posterior, _elbo()).changed(**settings)


def _coded(base: Spec, model: str, latent_dim: int, posterior: Part, objective: Part) -> Spec:
    network = Part("conv", {"width": 32, "depth": 2, "activation": "silu"})
    return dataclasses.replace(
        base,
        model=model,
        latent_dim=latent_dim,
        encoder=network,
        decoder=network,
        posterior=posterior,
        prior=Part("transformer", {"width": 128, "depth": 2, "heads": 4}),
        objective=objective,
        training=dataclasses.replace(base.training, prior_epochs=20),
    )


def filled(spec: Spec) -> Spec:
    """Fill in options that a spec's parts lack, from the parts of the same name in its recipe."""
    recipe = RECIPES[spec.model if spec.model in RECIPES else "vae"]()
    parts: dict[str, Any] = {}
    for name in PARTS:
        own, theirs = getattr(spec, name), getattr(recipe, name)
        if name == "data" or own.name == theirs.name:
            parts[name] = Part(own.name, {**theirs.options, **own.options})
    return dataclasses.replace(spec, **parts)


def _elbo(beta: float = 1.0) -> Part:
    schedule = {"schedule": "linear", "warmup_epochs": 0, "cycles": 4}
    return Part("elbo", {"beta": beta, **schedule, "free_bits": 0.0})


RECIPES: dict[str, Callable[..., Spec]] = {
    "vae": vae,
    "beta-vae": beta_vae,
    "beta-tcvae": beta_tcvae,
    "capacity-vae": capacity_vae,
    "control-vae": control_vae,
    "iwae": iwae,
    "sigma-vae": sigma_vae,
    "vamp-vae": vamp_vae,
    "vq-vae": vq_vae,
    "fsq-vae": fsq_vae,
}
