"""The names of recipes and parts, for help and completion without torch; written by ``just docs``."""

from __future__ import annotations

RECIPES = (
    "vae",
    "beta-vae",
    "beta-tcvae",
    "capacity-vae",
    "control-vae",
    "iwae",
    "sigma-vae",
    "vamp-vae",
    "vq-vae",
    "fsq-vae",
)
NETWORKS = (
    "mlp",
    "conv",
    "resnet",
)
PRIORS = (
    "standard",
    "mixture",
    "vamp",
    "uniform",
    "transformer",
)
LIKELIHOODS = (
    "bernoulli",
    "continuous-bernoulli",
    "gaussian",
    "laplace",
    "mse",
    "categorical",
    "discretized-logistic",
)
OBJECTIVES = (
    "elbo",
    "iwae",
    "capacity",
    "kl-target",
    "tc",
    "vq",
)
