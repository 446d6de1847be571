"""Likelihood regret: how much the bound gains when the posterior is fitted to one example.

Shapes: ``N`` examples, ``B`` batch, ``K`` draws, ``D`` latent. Log quantities are in nats per example.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from vaectl.data.batch import Batch
from vaectl.data.examples import Examples
from vaectl.errors import DataError, UsageError
from vaectl.model.distributions.pixels import base_of
from vaectl.model.vae import VAE, Draw, evaluating
from vaectl.system.runtime import at_once

# examples that are fitted at once; they do not affect each other
REGRET_BATCH = 500
STEPS, RATE = 50, 0.1
# draws in a step, and in the comparison of the two posteriors: half of them are the mirror images of the others
STEP_DRAWS, FINAL_DRAWS = 2, 16
# Adam's decays of the running means, and the number that keeps its steps finite
DECAYS, TINY = (0.9, 0.99), 1e-8


def is_gaussian(q: Distribution) -> bool:
    """Whether a posterior is a Gaussian with diagonal covariance."""
    return isinstance(q, Independent) and isinstance(base_of(q), Normal)


def likelihood_regret(
    model: VAE,
    split: Examples,
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: Callable[[int], None] = lambda examples: None,
) -> Tensor:
    """The bound with a posterior fitted to each example minus the bound with the encoder's, float64 (N,), at least 0.

    Mean and log scale of a Gaussian are fitted by Adam from the encoder's, in a fixed number of steps whose size falls
    to 0. Both bounds are then estimated with the same random numbers, which the fit has not seen. The encoder's own
    posterior is one of the candidates, so a smaller bound counts as no gain. The model is not changed.

    Args:
        model: The model, on the split's device.
        split: The examples.
        steps: Steps of the fit.
        seed: Seed of the draws.
        progress: Called with the number of examples done.

    Raises:
        DataError: The split is empty.
        UsageError: The model's posterior is not a Gaussian with diagonal covariance.

    References:
        Likelihood Regret: An Out-of-Distribution Detection Score For Variational Auto-encoder (Xiao, Yan and Amit,
        2020), https://arxiv.org/abs/2003.02977
    """
    if len(split) == 0:
        raise DataError("the split has no examples to evaluate")
    out, done = torch.empty(len(split), dtype=torch.float64), 0
    with evaluating(model, seed), torch.no_grad():
        for batch in split.batches(at_once(REGRET_BATCH, split.shape)):
            q = model.encode(batch)
            if not is_gaussian(q):
                raise UsageError("likelihood regret is defined here for Gaussian posteriors alone")
            base = base_of(q)
            parameters = torch.stack((base.mean, base.stddev.log()))  # (2, B, D)
            p = model.prior_at(batch.given)
            fitted = _fit(model, batch, p, parameters, steps)
            noise = _mirrored(FINAL_DRAWS, base.mean)
            # of variance 1 exactly, so that a bound that is quadratic in z has no error of sampling
            noise = noise / noise.square().mean(0).sqrt()
            before, after = (_bound(model, batch, p, t, noise) for t in (parameters, fitted))
            gain = (after - before).cpu().double()
            # a fit that ran into infinities found nothing; an example whose own bound is one is beyond all others
            gain = torch.where(after.cpu().isfinite(), gain.clamp(min=0), 0.0)
            out[done : done + len(batch)] = torch.where(before.cpu().isfinite(), gain, math.inf)
            done += len(batch)
            progress(done)
    return out


def _fit(model: VAE, batch: Batch, p: Distribution, parameters: Tensor, steps: int) -> Tensor:
    """Mean and log scale (2, B, D) after so many steps of Adam on each example's own bound."""
    current, first, second = parameters, torch.zeros_like(parameters), torch.zeros_like(parameters)
    for step in range(1, steps + 1):
        with torch.enable_grad():
            leaf = current.detach().requires_grad_()
            # a sum over examples, whose gradients are those of each alone
            total = _bound(model, batch, p, leaf, _mirrored(STEP_DRAWS, leaf[0])).sum()
            [gradient] = torch.autograd.grad(total, leaf)
        gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
        first, second = (
            decay * mean + (1 - decay) * power
            for decay, mean, power in zip(DECAYS, (first, second), (gradient, gradient.square()), strict=True)
        )
        (unbiased, spread) = (mean / (1 - decay**step) for decay, mean in zip(DECAYS, (first, second), strict=True))
        rate = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        current = current + rate * unbiased / (spread.sqrt() + TINY)
    return current


def _bound(model: VAE, batch: Batch, p: Distribution, parameters: Tensor, noise: Tensor) -> Tensor:
    """The bound (B,) for a posterior with mean and log scale (2, B, D), with standard normal draws (K, B, D)."""
    mean, scale = parameters[0], parameters[1].exp()
    q = Independent(Normal(mean, scale, validate_args=False), mean.dim() - 1, validate_args=False)
    z = mean + scale * noise
    return Draw(batch, q, z, p, model.decode(z, batch.given)).elbo


def _mirrored(draws: int, like: Tensor) -> Tensor:
    """Standard normal draws (K, B, D), half of which are the negatives of the others."""
    half = torch.randn(draws // 2, *like.shape, dtype=like.dtype, device=like.device)
    return torch.cat((half, -half))
