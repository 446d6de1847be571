"""Mutual information between latents and examples, and the aggregate posterior's KL to the prior.

Shapes: ``N`` examples, ``B`` batch, ``M`` draws in all and ``m`` at a time, ``Z`` latent shape. Log quantities are in
nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from vaectl.data.examples import Examples
from vaectl.errors import DataError
from vaectl.model.vae import VAE, evaluating
from vaectl.stats import Estimate, mean_and_se
from vaectl.system.runtime import at_once

# examples encoded at once, and numbers in memory at once in a (draws, examples, latent) block of densities; a block is
# two megabytes, and a processor whose cache holds it works several times as fast as on a larger one
EXAMPLES_AT_ONCE = 1000
NUMBERS_AT_ONCE = 500_000

ESTIMATOR = "mixture of all posteriors of the split; Poole et al. (2019), section 2.5"


@dataclass(frozen=True)
class Information:
    """Estimates over draws z_i ~ q(z|x_i), each with its standard error over the draws, in nats.

    With q_N(z) the mean of q(z|x_n) over the N examples of the split:

    Attributes:
        mutual_information: ``E log q(z|x) - log q_N(z)``, between the latent and the index of its example in the split;
            on average at most I_q(x; z) over the population, and never above ``ceiling``.
        mutual_information_upper: The same without x_i in q_N: on average at least I_q(x; z); nan for N = 1.
        aggregate_kl: ``E log q_N(z) - log p(z)``, the part of the mean KL that is not information: KL(q_N(z) || p(z)).
        draws: M.
        examples: N.
    """

    mutual_information: Estimate
    mutual_information_upper: Estimate
    aggregate_kl: Estimate
    draws: int
    examples: int

    @property
    def ceiling(self) -> float:
        """The largest possible ``mutual_information``, log N."""
        return math.log(self.examples)

    def metrics(self) -> dict[str, float]:
        """The estimates by name, each with its standard error over the draws (``mutual_information_se``)."""
        out: dict[str, float] = {}
        for name in ("mutual_information", "mutual_information_upper", "aggregate_kl"):
            out[name], out[f"{name}_se"] = getattr(self, name)
        return out

    def to_json(self) -> dict[str, Any]:
        """The ``estimator``, its ``draws`` and ``examples``, and the ``ceiling``."""
        return {"estimator": ESTIMATOR, "draws": self.draws, "examples": self.examples, "ceiling": self.ceiling}


@torch.no_grad()
def information(
    model: VAE,
    split: Examples,
    *,
    draws: int = 1000,
    seed: int = 0,
    progress: Callable[[int], None] = lambda examples: None,
) -> Information:
    """Estimate two bounds on the mutual information of examples and latents, and KL(q_N(z) || p(z)).

    One latent is drawn for each of ``draws`` examples, which are chosen without replacement (all if there are fewer).
    Both mixtures average its density under the posteriors of the split's examples. For each draw the mutual
    information and the aggregate KL add up to ``log q(z|x) - log p(z)``, whose mean is the KL.

    Args:
        model: The model, on the split's device.
        split: The examples.
        draws: M.
        seed: Seed of the choice and of the draws.
        progress: Called with the number of examples done.

    Raises:
        DataError: The split is empty.
        ValueError: ``draws`` is below 1.

    References:
        On Variational Bounds of Mutual Information (Poole et al., 2019), section 2.5: InfoNCE with a tractable
        conditional, and the leave-one-out upper bound, https://arxiv.org/abs/1905.06922;
        ELBO surgery: yet another way to carve up the variational evidence lower bound (Hoffman and Johnson, 2016),
        http://approximateinference.org/accepted/HoffmanJohnson2016.pdf
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1; got {draws}")
    n = len(split)
    if n == 0:
        raise DataError("the split has no examples to evaluate")
    size = at_once(EXAMPLES_AT_ONCE, split.shape)
    with evaluating(model, seed):
        index = torch.randperm(n)[:draws]  # (M,)
        on_device = index.to(split.device)
        parts = [
            (batch.given, model.encode(batch).sample()) for batch in map(split.batch, torch.split(on_device, size))
        ]
        z = torch.cat([part for _, part in parts])
        given = None if parts[0][0] is None else torch.cat([rows for rows, _ in parts if rows is not None])
        log_p = model.prior_at(given).log_prob(z).cpu().double()  # (M,)
        own = torch.full((len(z),), -math.inf, dtype=torch.float64)
        others = own.clone()  # log of the sum over n of q(z_i|x_n), without the example of z_i
        done = 0
        for batch in split.batches(size):
            q = model.encode(batch)
            block_size = max(1, NUMBERS_AT_ONCE // (len(batch) * z[0].numel()))
            for block in torch.split(torch.arange(len(z)), block_size):
                log_q = q.log_prob(z[block][:, None]).cpu().double()  # (m, B)
                column = index[block] - done
                (here,) = torch.nonzero((column >= 0) & (column < len(batch)), as_tuple=True)
                own[block[here]] = log_q[here, column[here]]
                log_q[here, column[here]] = -math.inf
                others[block] = torch.logaddexp(others[block], log_q.logsumexp(1))
            done += len(batch)
            progress(done)
    mixture = torch.logaddexp(own, others) - math.log(n)
    upper = mean_and_se((own - others + math.log(n - 1)).tolist()) if n > 1 else Estimate(math.nan, math.nan)
    return Information(
        mutual_information=mean_and_se((own - mixture).tolist()),
        mutual_information_upper=upper,
        aggregate_kl=mean_and_se((mixture - log_p).tolist()),
        draws=len(z),
        examples=n,
    )
