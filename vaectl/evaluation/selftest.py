"""Checks of the package's estimators on models with known exact values.

Shapes: ``N`` examples, ``D`` latent. Log quantities are in nats per example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vaectl.data.base import Split
from vaectl.evaluation.importance import importance_bound
from vaectl.evaluation.information import information
from vaectl.evaluation.metrics import evaluate
from vaectl.evaluation.oracles import LinearGaussian, importance_gap, weight_moment
from vaectl.stats import Estimate, mean_and_se, paired_difference
from vaectl.system.runtime import seed_streams

# tolerance in nats for the worst example in fp32; the mean of thousands is more accurate
EXACT = 1e-5
STANDARD_ERRORS = 4
# number of standard errors by which the bound may decrease from one K to the next by chance
LADDER_ERRORS = 2
LADDER = (1, 10, 100, 1000, 5000)
# values of K with a known bound: 1 by the closed form, the others by an expansion in 1/K
PREDICTED = (1, 100, 1000, 5000)
WIDE = 2.0

# two strong latent dimensions, one on either side of the threshold of activity (variances 0.02 and 0.005), one inactive
NORMS = (1.5, 0.75, 0.0715, 0.0355, 0.0)
ACTIVE = 3
PIXELS, SCALE = 6, 0.5
# more examples than are encoded at once
SEPARATE = 3000

COUNT = 33


@dataclass(frozen=True)
class Check:
    """An estimate and its true value.

    Attributes:
        name: Name of the estimated quantity.
        expected: The true value.
        got: The estimate.
        tolerance: The largest allowed difference from the true value.
        rule: The origin of the tolerance, such as ``4 SE``.
        at_least: Whether the estimate may be larger than expected by any amount.
    """

    name: str
    expected: float
    got: float
    tolerance: float
    rule: str
    at_least: bool = False

    @property
    def passed(self) -> bool:
        """Whether the difference is at most the tolerance; False for NaN."""
        difference = self.got - self.expected
        return difference >= -self.tolerance and (self.at_least or difference <= self.tolerance)

    def to_json(self) -> dict[str, Any]:
        """``name``, ``expected``, ``got``, ``tolerance``, ``rule`` and ``passed``."""
        rule = f"at least, less {self.rule}" if self.at_least else f"within {self.rule}"
        values = {"expected": self.expected, "got": self.got, "tolerance": self.tolerance}
        return {"name": self.name, **values, "rule": rule, "passed": self.passed}


@dataclass(frozen=True)
class Bench:
    """The setup of the checks.

    Attributes:
        device: The device of the models.
        seed: Seed of the data and of every draw.
        examples: N for the bound, the KL and the comparison.
        weighted: N for the importance-weighted bounds.
        encoded: N for the mutual information.
        draws: Number of draws for the mutual information.
        oracle: The model.
    """

    device: torch.device
    seed: int = 0
    examples: int = 10_000
    weighted: int = 2000
    encoded: int = 5000
    draws: int = 4000
    oracle: LinearGaussian = field(default_factory=lambda: LinearGaussian.orthogonal(NORMS, PIXELS, SCALE))

    def split(self, oracle: LinearGaussian, n: int) -> Split:
        """``n`` examples drawn from a model, as a split of float32 values."""
        # a separate stream, so that the data and the draws of z are independent
        _, data_seed, _ = seed_streams(self.seed)
        x = oracle.sample(n, torch.Generator().manual_seed(data_seed)).float()
        return Split(x, torch.zeros(n, dtype=torch.int64), torch.arange(n)).to(self.device)


def checks(device: torch.device, seed: int = 0) -> Iterator[Check]:
    """Run the ``COUNT`` checks one after the other, and yield each result at once."""
    bench = Bench(device, seed)
    for group in GROUPS:
        yield from group(bench)


def check_bound(bench: Bench) -> Iterator[Check]:
    """Check the ELBO and its reconstruction term, with a posterior that is exact or too wide."""
    oracle, split = bench.oracle, bench.split(bench.oracle, bench.examples)
    x, log_p = split.images, oracle.log_evidence(split.images)
    full = evaluate(oracle.full_model().to(bench.device), split, seed=bench.seed).per_example
    yield _worst("ELBO error, worst example", full["elbo"], log_p)
    exact = evaluate(oracle.model().to(bench.device), split, seed=bench.seed).per_example
    yield _paired("ELBO, exact posterior", exact["elbo"], log_p)
    mean, variance = oracle.posterior(x).mean, oracle.covariance.diagonal()
    yield _paired("recon", exact["recon"], oracle.recon(mean, variance, x))
    expected = oracle.recon(mean, torch.zeros_like(variance), x)
    yield _worst("recon_at_mean error, worst example", exact["recon_at_mean"], expected)
    wide = evaluate(oracle.model(widen=WIDE).to(bench.device), split, seed=bench.seed).per_example
    gap = importance_gap(1, oracle.latent_dim, widen=WIDE)
    yield _paired("ELBO, posterior too wide", wide["elbo"], log_p - gap)


def check_kl(bench: Bench) -> Iterator[Check]:
    """Check the KL, in total and by dimension, in closed form and from draws, and the count of active units."""
    oracle, split = bench.oracle, bench.split(bench.oracle, bench.examples)
    variance = oracle.covariance.diagonal()
    # the textbook formula: Auto-Encoding Variational Bayes (Kingma and Welling, 2014), appendix B
    terms = 0.5 * (oracle.posterior(split.images).mean.square() + variance - 1 - variance.log())  # (N, D)
    exact = evaluate(oracle.model().to(bench.device), split, seed=bench.seed)
    yield _worst("kl error, worst example", exact.per_example["kl"], terms.sum(1))
    yield _worst("kl_per_dim error, worst dimension", exact.kl_per_dim, terms.mean(0))
    full = evaluate(oracle.full_model().to(bench.device), split, seed=bench.seed)
    yield _paired("kl from draws, without a closed form", full.per_example["kl"], terms.sum(1))
    yield Check(f"active units of {len(NORMS)}", ACTIVE, exact.active_units, 0, "0")


def check_importance(bench: Bench) -> Iterator[Check]:
    """Check the importance-weighted bound: exact for any K with the exact posterior, rising with one too wide."""
    oracle, split = bench.oracle, bench.split(bench.oracle, bench.weighted)
    log_p = oracle.log_evidence(split.images)
    model = oracle.model().to(bench.device)
    for samples in (1, 100):
        estimate = importance_bound(model, split, samples, seed=bench.seed)
        yield _worst(f"bound error, K = {samples}, worst example", estimate.bound, log_p)
        yield _worst(f"ess error, K = {samples}, worst example", estimate.ess, torch.full_like(log_p, samples))
    wide, before = oracle.model(widen=WIDE).to(bench.device), None
    for samples in LADDER:
        estimate = importance_bound(wide, split, samples, seed=bench.seed)
        if samples in PREDICTED:
            gap = importance_gap(samples, oracle.latent_dim, widen=WIDE)
            yield _paired(f"bound, K = {samples}, posterior too wide", estimate.bound, log_p - gap)
        if before is not None:
            step = paired_difference(estimate.bound.tolist(), before.tolist())
            yield _at_least(f"increase of the bound to K = {samples}", step, LADDER_ERRORS)
        before = estimate.bound
    yield _at_least("log p(x) above the last bound", paired_difference(log_p.tolist(), estimate.bound.tolist()))
    # the limit of ESS / K for many samples; at this K the next term of the expansion is below one percent
    expected = samples / weight_moment(2, oracle.latent_dim, WIDE, 0.0)
    ess = float(estimate.ess.mean())
    yield Check(f"ess, K = {samples}, posterior too wide", expected, ess, 0.01 * expected, "1 %")


def check_information(bench: Bench) -> Iterator[Check]:
    """Check the two bounds on the mutual information and the aggregate posterior's KL, up to a known bias."""
    # a model with little information, for which the bias is known well
    oracle = LinearGaussian.orthogonal((0.6, 0.4, 0.2), PIXELS, SCALE)
    split, true = bench.split(oracle, bench.encoded), oracle.mutual_information
    model = oracle.model().to(bench.device)
    estimate = information(model, split, draws=bench.draws, seed=bench.seed)
    # KL(q_N || q) of N Gaussian posteriors whose mean is q is about chi^2 / 2N, with chi^2 = exp(2 I) - 1
    bias = math.expm1(2 * true) / (2 * bench.encoded)
    yield _within("mutual information, from below", true - bias, estimate.mutual_information)
    yield _within("mutual information, from above", true + bias, estimate.mutual_information_upper)
    yield _within("aggregate KL", bias, estimate.aggregate_kl)
    kl = mean_and_se(evaluate(model, split, seed=bench.seed).per_example["kl"].tolist())
    information_mean, information_se = estimate.mutual_information
    both = Estimate(information_mean + estimate.aggregate_kl.mean, information_se + estimate.aggregate_kl.se)
    yield _within("mutual information + aggregate KL", kl.mean, both)
    # the aggregate of posteriors that are all shifted by one standard deviation is N(sigma, I)
    estimate = information(oracle.model(shift=1).to(bench.device), split, draws=bench.draws, seed=bench.seed)
    off = 0.5 * float(oracle.covariance.diagonal().sum())
    yield _within("aggregate KL, posterior off by sigma", off + bias, estimate.aggregate_kl)
    collapsed = LinearGaussian.orthogonal((0.0, 0.0), PIXELS, SCALE)
    estimate = information(collapsed.model().to(bench.device), bench.split(collapsed, 200), seed=bench.seed)
    yield _exact("mutual information, collapsed", 0.0, estimate.mutual_information.mean)
    yield _exact("aggregate KL, collapsed", 0.0, estimate.aggregate_kl.mean)
    separate = LinearGaussian.orthogonal((1.0, 1.0, 1.0, 1.0), PIXELS, 1e-3)
    estimate = information(separate.model().to(bench.device), bench.split(separate, SEPARATE), seed=bench.seed)
    name = f"information of {SEPARATE} separate latents"
    yield _exact(name, math.log(SEPARATE), estimate.mutual_information.mean)


def check_comparison(bench: Bench) -> Iterator[Check]:
    """Check the paired difference and its spread for a model whose posterior is off by exactly half a nat."""
    oracle, split = bench.oracle, bench.split(bench.oracle, bench.examples)
    shift = 1 / math.sqrt(oracle.latent_dim)
    models = (oracle.model(shift=shift), oracle.model())
    off, exact = (evaluate(model.to(bench.device), split, seed=bench.seed).per_example["elbo"] for model in models)
    difference = paired_difference(off.tolist(), exact.tolist())
    yield _within("half a nat between two models", -0.5, difference)
    # with common draws the difference is Gaussian over examples: z moves by shift * sigma_d, and only the noise part
    # of the residual remains, shift * w_d^2 / (w_d^2 + s^2) in each dimension
    spread = shift * float(oracle.mean_variance.norm()) / math.sqrt(bench.examples)
    tolerance = STANDARD_ERRORS * spread / math.sqrt(2 * (bench.examples - 1))
    yield Check("standard error of that half nat", spread, difference.se, tolerance, f"{STANDARD_ERRORS} SE")


GROUPS: tuple[Callable[[Bench], Iterator[Check]], ...] = (
    check_bound,
    check_kl,
    check_importance,
    check_information,
    check_comparison,
)


def _exact(name: str, expected: float, got: float) -> Check:
    return Check(name, expected, got, EXACT, f"{EXACT:g}")


def _worst(name: str, got: Tensor, expected: Tensor) -> Check:
    """Check that the largest difference is 0."""
    return _exact(name, 0.0, float((got - expected).abs().max()))


def _within(name: str, expected: float, estimate: Estimate) -> Check:
    return Check(name, expected, estimate.mean, STANDARD_ERRORS * estimate.se, f"{STANDARD_ERRORS} SE")


def _paired(name: str, got: Tensor, expected: Tensor) -> Check:
    """Check a mean over examples against the mean of the expected values, with the spread of their differences."""
    truth = float(expected.mean())
    difference = paired_difference(got.tolist(), expected.tolist())
    return _within(name, truth, Estimate(truth + difference.mean, difference.se))


def _at_least(name: str, estimate: Estimate, errors: int = STANDARD_ERRORS) -> Check:
    return Check(name, 0.0, estimate.mean, errors * estimate.se, f"{errors} SE", at_least=True)
