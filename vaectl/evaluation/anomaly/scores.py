"""Anomaly scores for each example of a split; a higher one is more unusual.

Shapes: ``N`` examples, ``B`` batch, ``D`` latent (flattened). Log quantities are in nats per example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import numpy as np
import torch

from vaectl.data.examples import Examples
from vaectl.errors import DataError, UsageError
from vaectl.evaluation.anomaly.aggregate import MOST_DIMENSIONS, Aggregate
from vaectl.evaluation.anomaly.names import SCORES
from vaectl.evaluation.anomaly.regret import is_gaussian, likelihood_regret
from vaectl.evaluation.importance import importance_bound
from vaectl.evaluation.metrics import EVALUATION_BATCH
from vaectl.model.vae import VAE, evaluating
from vaectl.system.runtime import at_once

# draws of z for elbo and recon, and samples of the importance-weighted bound
DRAWS, SAMPLES = 8, 64
# scores that come from one pass over the examples
ONE_PASS = ("elbo", "recon", "kl", "distance")


def unavailable(model: VAE, split: Examples) -> dict[str, str]:
    """The scores that a model does not have, each with the reason, as the rest of a sentence.

    Args:
        model: The model, on the split's device.
        split: Examples that it takes, at least one.
    """
    if model.space.codebook_size:
        codes = "its latents are codes, which are deterministic"
        return {
            "bound": f"{codes}: it would be elbo", "distance": f"{codes} and have no distances", "regret": codes,
        }  # fmt: skip
    out = {}
    if math.prod(model.space.shape) > MOST_DIMENSIONS:
        out["distance"] = f"it has more than {MOST_DIMENSIONS:,} latent dimensions"
    with torch.no_grad(), evaluating(model, 0):
        if not is_gaussian(model.encode(split.batch(slice(0, 1)))):
            out["regret"] = "its posterior is not a Gaussian with diagonal covariance"
    return out


def anomaly_scores(
    model: VAE,
    split: Examples,
    names: Collection[str],
    *,
    aggregate: Aggregate | None = None,
    seed: int = 0,
    progress: Callable[[str, int], None] = lambda score, examples: None,
) -> dict[str, np.ndarray]:
    """Score every example of a split; the scores depend on the examples, their order and ``seed`` alone.

    ``elbo`` is -ELBO and ``recon`` -E log p(x|z) with the mean of 8 draws, ``kl`` KL(q(z|x) || p(z)), ``bound`` minus
    the importance-weighted bound with K = 64, ``distance`` that of ``Aggregate``, ``regret`` that of
    ``likelihood_regret``. A score that is not a number counts as infinite.

    Args:
        model: The model, on the split's device.
        split: The examples.
        names: Names of the scores, of ``SCORES``.
        aggregate: The training set's posteriors, for ``distance``.
        seed: Seed of the draws.
        progress: Called with the name of a score and the number of examples done.

    Returns:
        The scores by name, in the order of ``SCORES``, float64 (N,) each.

    Raises:
        DataError: The split is empty.
        UsageError: A score is unknown, or ``distance`` lacks its aggregate.
    """
    if unknown := [name for name in names if name not in SCORES]:
        raise UsageError(f"unknown score '{unknown[0]}'", hint=f"the scores are {', '.join(SCORES)}")
    if "distance" in names and aggregate is None:
        raise UsageError("the score distance needs the training set's aggregate posterior")
    if len(split) == 0:
        raise DataError("there are no examples to score")
    values: dict[str, np.ndarray] = {}
    if any(name in names for name in ONE_PASS):
        values = _one_pass(model, split, aggregate, seed, lambda done: progress("elbo", done))
    if "bound" in names:
        weighted = importance_bound(model, split, SAMPLES, seed=seed, progress=lambda done: progress("bound", done))
        values["bound"] = -weighted.bound.numpy()
    if "regret" in names:
        values["regret"] = likelihood_regret(
            model, split, seed=seed, progress=lambda done: progress("regret", done)
        ).numpy()
    return {name: np.where(np.isnan(values[name]), np.inf, values[name]) for name in SCORES if name in names}


@torch.no_grad()
def _one_pass(
    model: VAE, split: Examples, aggregate: Aggregate | None, seed: int, progress: Callable[[int], None]
) -> dict[str, np.ndarray]:
    """``elbo``, ``recon``, ``kl`` and, with an aggregate, ``distance``."""
    size, draws = max(1, at_once(EVALUATION_BATCH, split.shape) // DRAWS), DRAWS
    if model.space.codebook_size:
        draws = 1
    parts: dict[str, list[np.ndarray]] = {}
    done = 0
    with evaluating(model, seed):
        for batch in split.batches(size):
            draw = model.draw(batch, draws)
            values = {"elbo": -draw.elbo, "recon": draw.recon, "kl": draw.kl}
            if aggregate is not None:
                values["distance"] = aggregate.distance(draw.q.mean)
            for name, value in values.items():
                parts.setdefault(name, []).append(value.cpu().double().numpy())
            done += len(batch)
            progress(done)
    return {name: np.concatenate(values) for name, values in parts.items()}
