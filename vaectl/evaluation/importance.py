"""The importance-weighted bound on the evidence, for any number of samples in bounded memory.

Shapes: ``N`` examples, ``B`` batch, ``k`` draws at a time of ``K`` in all. Log quantities are in nats per example.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vaectl.data.examples import Examples
from vaectl.errors import DataError
from vaectl.model.vae import VAE, Draw, evaluating
from vaectl.stats import mean_and_se
from vaectl.system.runtime import at_once, keep_freed_memory

# most draws in memory at once, over examples and samples, fewer for large images; with the seed it determines the draws
DRAWS_AT_ONCE = 10_000
# draws that a CPU decodes at once: so few that a layer's output is still in the cache when the next layer reads it
DECODED_AT_ONCE = 2000


@dataclass(frozen=True)
class ImportanceBound:
    """The bound for every example, and the effective sample size of its weights.

    Attributes:
        samples: K.
        bound: ``log 1/K sum_k w_k`` in nats, float64 (N,).
        ess: Effective sample size ``(sum w)^2 / sum w^2``, from 1 to K, float64 (N,).
    """

    samples: int
    bound: Tensor
    ess: Tensor

    def to_json(self) -> dict[str, float]:
        """``samples``, ``bound`` and ``bound_se`` in nats (standard error over examples), and the mean ``ess``."""
        mean, se = mean_and_se(self.bound.tolist())
        return {"samples": self.samples, "bound": mean, "bound_se": se, "ess": self.ess.mean().item()}


@torch.no_grad()
def importance_bound(
    model: VAE,
    split: Examples,
    samples: int,
    *,
    seed: int = 0,
    progress: Callable[[int], None] = lambda examples: None,
) -> ImportanceBound:
    """Estimate ``E log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x)``, z_k from q, for every example of a split.

    The bound is at most log p(x) and rises with K; for K = 1 it is the ELBO, estimated with one sample. The weights use
    the sampled log q and log p, never a closed-form KL.

    Args:
        model: The model, on the split's device.
        split: The examples.
        samples: Number of draws K for each example.
        seed: Seed of the draws.
        progress: Called with the number of examples done.

    Raises:
        DataError: The split is empty.
        ValueError: ``samples`` is below 1.

    References:
        Importance Weighted Autoencoders (Burda et al., 2016), equation 8, https://arxiv.org/abs/1509.00519
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1; got {samples}")
    if len(split) == 0:
        raise DataError("the split has no examples to evaluate")
    draws = at_once(DRAWS_AT_ONCE, split.shape)
    examples_at_once = max(1, draws // samples)
    # allocated first: small tensors kept between large freed ones would prevent the heap from shrinking
    bound, ess = torch.empty(2, len(split), dtype=torch.float64)
    done = 0
    keep_freed_memory()
    with evaluating(model, seed):
        unconditional = None
        for batch in split.batches(examples_at_once):
            q = model.encode(batch)
            if batch.given is None:  # the same for all batches, and expensive for a VampPrior
                p = unconditional = unconditional or model.prior_at()
            else:
                p = model.prior_at(batch.given)
            # log sum w and log sum w^2, accumulated over chunks of draws
            first = torch.full((len(batch),), -math.inf, dtype=torch.float64)
            second = first.clone()
            chunk = max(1, DECODED_AT_ONCE // len(batch)) if batch.device.type == "cpu" else samples
            for start in range(0, samples, draws):
                latents = q.sample((min(draws, samples - start),))
                for z in torch.split(latents, chunk):  # (k, B, *Z)
                    draw = Draw(batch, q, z, p, model.decode(z, batch.given))
                    log_w = (draw.log_px + draw.log_p - draw.log_q).cpu().double()  # (k, B)
                    first = torch.logaddexp(first, log_w.logsumexp(0))
                    second = torch.logaddexp(second, (2 * log_w).logsumexp(0))
            bound[done : done + len(batch)] = first - math.log(samples)
            ess[done : done + len(batch)] = (2 * first - second).exp()
            done += len(batch)
            progress(done)
    return ImportanceBound(samples, bound, ess)
