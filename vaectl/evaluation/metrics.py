"""Estimates on a split: the bound, its terms, active units.

Shapes: ``N`` examples, ``B`` batch, ``D`` latent (flattened). Log quantities are in nats per example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaectl.data.batch import Batch
from vaectl.data.examples import Examples
from vaectl.errors import DataError
from vaectl.evaluation.columns import Explained
from vaectl.model.distributions.codes import CodeUsage, Quantized
from vaectl.model.distributions.pixels import log_prob_of_observed, scale_of
from vaectl.model.objectives import Loss
from vaectl.model.vae import VAE, Draw, evaluating
from vaectl.parallel.distributed import ALONE, Processes
from vaectl.stats import Estimate, mean_and_se
from vaectl.system.runtime import at_once

# examples per batch, smaller for large images; fixed, so that results do not depend on the training's batch size
EVALUATION_BATCH = 1000
ACTIVE_VARIANCE = 0.01
# a posterior's standard deviation outside this range, or a likelihood's scale within 5 % of its floor, is saturated
POSTERIOR_RANGE = (1e-3, 1e3)
NEAR_FLOOR = 1.05


@dataclass(frozen=True)
class Evaluation:
    """The results of one pass over a split.

    Attributes:
        per_example: ``elbo``, ``recon``, ``kl`` and ``recon_at_mean`` in nats, and ``mse``, the mean squared error by
            pixel of the mean image at the posterior mean, in squared units of the data, float64 (N,) each.
        mean_variance: Variance over examples of the posterior mean, by latent dimension, float64 (D,).
        prior_variance: Variance of the prior, by latent dimension, float64 (D,).
        kl_per_dim: Mean KL by latent dimension in nats, float64 (D,); empty if the KL does not factorise.
        saturation: Fraction of saturated scales of the ``posterior`` and the ``likelihood``; 0 for distributions
            without a scale.
        usage: The usage of the codebook if the latents are codes, else None.
        loss: The mean of the objective, or None without one.
        r2: R2 of the mean at the posterior mean by column of a table (W); empty for images.
    """

    per_example: dict[str, Tensor]
    mean_variance: Tensor
    prior_variance: Tensor
    kl_per_dim: Tensor
    saturation: dict[str, float]
    usage: CodeUsage | None
    loss: float | None
    r2: Sequence[float] = ()

    @property
    def active_units(self) -> int:
        """The number of latent dimensions with ``Var_x(E_q[z]) > 0.01 Var_p(z)``, the usual 0.01 for unit variance.

        References:
            Importance Weighted Autoencoders (Burda et al., 2016), section 5.1, https://arxiv.org/abs/1509.00519
        """
        return int((self.mean_variance > ACTIVE_VARIANCE * self.prior_variance).sum())

    def metrics(self) -> dict[str, float]:
        """Means over examples by name, each with its standard error over examples (``elbo_se``), and the counts.

        The counts are ``active_units``, or for codes ``codes_used``, ``codes`` and ``perplexity``. ``rate_bits`` is the
        KL in bits, the cost of a latent (with bits-back coding for a random one); ``uniform_bits`` is the cost of a
        grid of codes if all were equally likely.
        """
        out: dict[str, float] = {}
        for name, values in self.per_example.items():
            out[name], out[f"{name}_se"] = mean_and_se(values.tolist())
        saturation = {f"{name}_saturation": part for name, part in self.saturation.items()}
        out["rate_bits"], out["rate_bits_se"] = (out[name] / math.log(2) for name in ("kl", "kl_se"))
        counts = {"active_units": self.active_units} if self.usage is None else self.usage.metrics()
        if self.usage is not None:
            positions = int(self.usage.counts.sum()) // len(self.per_example["elbo"])
            counts |= {"uniform_bits": positions * math.log2(len(self.usage.counts))}
        return out | counts | saturation


def bits_per_dim(elbo: Tensor, shape: Sequence[int]) -> Estimate:
    """``-elbo / (dimensions ln 2)``, in bits for each dimension of the data, with its standard error over examples.

    Args:
        elbo: Log-probabilities of discrete data, or lower bounds on them, in nats (N,).
        shape: Data shape X.
    """
    return mean_and_se((-elbo / (math.prod(shape) * math.log(2))).tolist())


@torch.no_grad()
def evaluate(
    model: VAE,
    split: Examples,
    *,
    seed: int = 0,
    at_mean: bool = True,
    loss: Callable[[Draw], Loss] | None = None,
    loss_draws: int = 1,
    progress: Callable[[int], None] = lambda examples: None,
    processes: Processes = ALONE,
) -> Evaluation:
    """Estimate the ELBO at beta = 1 and its terms with one sample for every example of a split.

    The draws of z depend on ``seed`` alone, so two calls agree, and training is not affected.

    Args:
        model: The model, on the split's device.
        split: The examples.
        seed: Seed of the posterior samples.
        at_mean: Whether to decode the posterior mean as well, for ``recon_at_mean`` (not a bound) and ``mse``.
        loss: The objective at a step, to average over the split as well.
        loss_draws: Draws for each example that the objective needs.
        progress: Called with the number of examples done.
        processes: The processes that each call this with equal arguments, to share every batch.

    Raises:
        DataError: The split is empty.
    """
    if len(split) == 0:
        raise DataError("the split has no examples to evaluate")
    names = ["elbo", "recon", "kl", *(["recon_at_mean", "mse"] if at_mean else [])]
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    first, second, kl_dims = (torch.zeros((), dtype=torch.float64) for _ in range(3))
    saturated, objective, done = {"posterior": 0.0, "likelihood": 0.0}, 0.0, 0
    floor = model.decoder.head.floor
    prior_variance = torch.zeros((), dtype=torch.float64)
    explained: Explained | None = None
    with evaluating(model, seed):
        counts = torch.zeros(model.space.codebook_size, dtype=torch.int64)
        for batch in split.batches(at_once(EVALUATION_BATCH, split.shape)):
            with processes.sharing(len(batch)) as share:
                own = batch if share is None else batch.rows(share.rows)
                count = len(own) if share is None else share.count
                draw = model.draw(own)
                mean = draw.q.mean  # (B, *Z)
                values_of = {"recon": draw.recon, "kl": draw.kl, "elbo": draw.elbo}
                if at_mean:
                    px = model.decode(mean, own.given)
                    values_of |= _at_mean(own, px)
                    if split.shape[:2] == (1, 1):
                        explained = explained or Explained(batch.x[0])
                        explained.add(own.rows(slice(count)), px.mean[:count])
                for name, values in values_of.items():
                    rows[name].append(values if share is None else share.padded(values[:count]))
                if loss is not None:
                    many = draw if loss_draws == 1 else model.draw(own, loss_draws)
                    objective += float(loss(many).total) * count
            means = mean[:count].flatten(1).cpu().double()  # (B, D)
            first, second = first + means.sum(0), second + means.square().sum(0)
            if isinstance(draw.q, Quantized):
                counts += draw.q.usage(len(counts), slice(count))
            kl_dims = kl_dims + draw.kl_per_dim[:count].cpu().double().sum(0)
            saturated["posterior"] += count * _part(scale_of(draw.q), *POSTERIOR_RANGE)
            if floor is not None:
                saturated["likelihood"] += count * _part(scale_of(draw.px), NEAR_FLOOR * floor, math.inf)
            prior_variance = prior_variance + _prior_variance(draw, count)
            done += len(batch)
            progress(done)
    n = len(split)
    per_example = {name: torch.cat(parts).cpu().double() for name, parts in rows.items()}
    others = torch.tensor([*saturated.values(), objective], dtype=torch.float64)
    first, second, kl_dims, prior_variance, others, *columns = processes.sum(
        (first, second, kl_dims, prior_variance, others, *per_example.values())
    )
    [counts] = processes.sum((counts,))
    if explained is not None:
        [explained.sums] = processes.sum((explained.sums,))
    posterior, likelihood, objective = others.tolist()
    return Evaluation(
        per_example=dict(zip(per_example, columns, strict=True)),
        mean_variance=second / n - (first / n) ** 2,
        prior_variance=prior_variance / n,
        kl_per_dim=kl_dims / n,
        saturation={"posterior": posterior / n, "likelihood": likelihood / n},
        usage=CodeUsage(counts) if len(counts) else None,
        loss=None if loss is None else objective / n,
        r2=() if explained is None else explained.r2(),
    )


def _at_mean(batch: Batch, px: Distribution) -> dict[str, Tensor]:
    """The reconstruction term and the mean squared error by observed value (B,), for the likelihood at the mean."""
    if batch.observed is None:
        return {"recon_at_mean": -px.log_prob(batch.x), "mse": (px.mean - batch.x).square().flatten(1).mean(1)}
    squares = torch.where(batch.observed, (px.mean - batch.x).square(), 0.0).flatten(1).sum(1)
    return {
        "recon_at_mean": -log_prob_of_observed(px, batch.x, batch.observed),
        "mse": squares / batch.observed.flatten(1).sum(1).clamp(min=1),
    }


def _prior_variance(draw: Draw, count: int) -> Tensor:
    """The prior's variance by latent dimension (D,), summed over the first ``count`` examples.

    It differs between examples below the top level, and if the model is conditioned on something.
    """
    variances = []
    for level in draw.levels:
        variance = level.p.variance.cpu().double()
        if level.p.batch_shape:
            variance = variance.reshape(-1, len(draw.batch), *level.p.event_shape)[:, :count].mean(0)
            variances.append(variance.flatten(1).sum(0))
        else:
            variances.append(count * variance.flatten())
    return torch.cat(variances)


def _part(scale: Tensor | None, low: float, high: float) -> float:
    """The fraction of the scales outside of ``low`` to ``high``."""
    return 0.0 if scale is None else float(((scale < low) | (scale > high)).float().mean())
