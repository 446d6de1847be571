"""Mutual information and the aggregate posterior, on models where both are known and on the extremes."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch.distributions import Distribution, Independent, Laplace

from tests.support.toys import drawn, points, toy_data
from vaectl.config.recipes import vae
from vaectl.data.base import Split
from vaectl.errors import DataError
from vaectl.evaluation import information as module
from vaectl.evaluation.information import Information, information
from vaectl.evaluation.metrics import evaluate
from vaectl.evaluation.oracles import Affine, LinearGaussian
from vaectl.model.builder import build
from vaectl.model.distributions.codes import VECTORS, LatentSpace
from vaectl.model.parts import Encoder, Posterior
from vaectl.model.vae import VAE

ORACLE = LinearGaussian.orthogonal((0.8, 0.5, 0.2), 6, 0.5)
EXAMPLES = 3000


@pytest.fixture(scope="module")
def split() -> Split:
    return points(drawn(ORACLE, EXAMPLES))


@pytest.fixture(scope="module")
def found(split: Split) -> Information:
    return information(ORACLE.model(), split, draws=EXAMPLES)


def bias() -> float:
    """KL(q_N || p) of N Gaussian posteriors with mean p: chi^2 / 2N to first order, chi^2 = exp(2 I) - 1."""
    return math.expm1(2 * ORACLE.mutual_information) / (2 * EXAMPLES)


def test_the_true_value_lies_between_the_bounds(found: Information) -> None:
    """I(x; z) = 1/2 sum log(1 + w^2 / s^2), within 4 standard errors of each bound and of what each is biased by."""
    true = ORACLE.mutual_information
    lower, upper = found.mutual_information, found.mutual_information_upper
    assert lower.mean - 4 * lower.se < true < upper.mean + 4 * upper.se
    assert lower.mean < upper.mean
    assert upper.mean - lower.mean == pytest.approx(2 * bias(), rel=0.5)
    assert abs(lower.mean - (true - bias())) < 4 * lower.se
    assert abs(upper.mean - (true + bias())) < 4 * upper.se


def test_the_exact_posterior_adds_up_to_the_prior(found: Information) -> None:
    """KL(q_N(z) || p(z)) is only what N examples leave: its known bias, within 4 standard errors."""
    assert abs(found.aggregate_kl.mean - bias()) < 4 * found.aggregate_kl.se
    assert found.aggregate_kl.se < 0.01


@pytest.mark.parametrize(("widen", "shift"), [(1.0, 1.0), (2.0, 0.0), (0.5, 0.3)])
def test_an_aggregate_that_is_not_the_prior(split: Split, widen: float, shift: float) -> None:
    """The aggregate of shifted and widened posteriors is N(c sigma, 1 + (a^2 - 1) sigma^2), whose KL is known."""
    result = information(ORACLE.model(widen=widen, shift=shift), split, draws=EXAMPLES)
    sigma2 = ORACLE.covariance.diagonal()
    variance = 1 + (widen**2 - 1) * sigma2
    true = float(0.5 * (shift**2 * sigma2 + variance - 1 - variance.log()).sum())
    # a narrow posterior leaves more between the examples than the exact one; here at most ten times as much
    assert (
        true - 4 * result.aggregate_kl.se < result.aggregate_kl.mean < true + 4 * result.aggregate_kl.se + 10 * bias()
    )


def test_information_and_the_aggregate_gap_make_up_the_kl(found: Information, split: Split) -> None:
    """ELBO surgery: mean KL = mutual information + KL of the aggregate, up to the noise of the draws."""
    kl = evaluate(ORACLE.model(), split).metrics()["kl"]
    both = found.mutual_information.mean + found.aggregate_kl.mean
    assert abs(both - kl) < 4 * (found.mutual_information.se + found.aggregate_kl.se)


def test_a_full_covariance_has_the_same_information(split: Split) -> None:
    """Nothing but q.log_prob is used: a posterior of full covariance gives the same values for the same draws."""
    model = ORACLE.full_model()
    result = information(model, split, draws=EXAMPLES)
    true = ORACLE.mutual_information
    assert abs(result.mutual_information.mean - true) < 4 * result.mutual_information.se + bias()
    assert abs(result.aggregate_kl.mean - bias()) < 4 * result.aggregate_kl.se


def test_a_posterior_that_is_not_gaussian(split: Split) -> None:
    """Laplace posteriors, with no closed form of anything: the bounds are in order, and make up the sampled KL."""

    class LaplaceHead(Posterior):
        gives = VECTORS
        space = LatentSpace((3,))

        def forward(self, features: torch.Tensor) -> Distribution:
            return Independent(Laplace(features[..., :3], 0.3), 1)

    gaussian = ORACLE.model()
    result = information(VAE(Encoder(Affine(len(ORACLE.b)), LaplaceHead()), gaussian.prior, gaussian.decoder), split)
    assert 1 < result.mutual_information.mean < result.mutual_information_upper.mean
    assert result.mutual_information.mean < result.ceiling
    assert result.aggregate_kl.mean > 0


def test_a_collapsed_posterior_says_nothing() -> None:
    """With q(z|x) = p(z) mutual information and gap are 0, to 1e-6 nats."""
    oracle = LinearGaussian.orthogonal((0.0, 0.0), 4, 0.5)
    result = information(oracle.model(), points(drawn(oracle, 100)))
    for estimate in (result.mutual_information, result.mutual_information_upper, result.aggregate_kl):
        assert estimate.mean == pytest.approx(0, abs=1e-6)


def test_separate_codes_reach_the_ceiling() -> None:
    """Codes that never overlap name their example: log N, the ceiling, while the upper bound is far above it."""
    oracle = LinearGaussian.orthogonal((1.0, 1.0, 1.0, 1.0), 6, 1e-3)
    result = information(oracle.model(), points(drawn(oracle, 150)))
    assert result.mutual_information.mean == pytest.approx(math.log(150), abs=1e-9)
    assert result.ceiling == math.log(150)
    assert result.mutual_information_upper.mean > 100


def test_the_lower_bound_is_never_above_the_ceiling() -> None:
    """Draw by draw: the mixture holds its own component, so log q - log q_N is at most log N."""
    for scale in (1e-3, 1e-2, 0.1):
        oracle = LinearGaussian.orthogonal((1.0, 1.0), 4, scale)
        result = information(oracle.model(), points(drawn(oracle, 40)))
        assert result.mutual_information.mean <= result.ceiling + 1e-12


def test_every_example_twice() -> None:
    """Duplicates say nothing new: the mixture is the same, and so is the ceiling that separate codes reach, log N/2."""
    oracle = LinearGaussian.orthogonal((1.0, 1.0, 1.0, 1.0), 6, 1e-3)
    x = drawn(oracle, 100)
    result = information(oracle.model(), points(torch.cat((x, x))))
    assert result.mutual_information.mean == pytest.approx(math.log(100), abs=1e-6)
    assert result.mutual_information_upper.mean == pytest.approx(math.log(199), abs=1e-6)


def test_the_draws_are_of_a_random_choice_of_examples() -> None:
    """One example a hundred times, then a hundred different ones: log 2 or log 200 nats, each half of the time.

    Of the 100 drawn the number of different ones is hypergeometric, with the variance 25 * 100 / 199. Sorted data are
    usual, and the first rows of them are no sample.
    """
    oracle = LinearGaussian.orthogonal((1.0, 1.0, 1.0, 1.0), 6, 1e-3)
    x = drawn(oracle, 101)
    result = information(oracle.model(), points(torch.cat((x[:1].expand(100, -1), x[1:]))), draws=100)
    step = math.log(200) - math.log(2)
    error = step * (25 * 100 / 199) ** 0.5 / 100
    assert abs(result.mutual_information.mean - (math.log(2) + step / 2)) < 4 * error


def test_a_single_example_has_no_upper_bound() -> None:
    result = information(ORACLE.model(), points(drawn(ORACLE, 1)))
    assert result.mutual_information.mean == 0 == result.ceiling
    assert math.isnan(result.mutual_information_upper.mean)
    assert (result.draws, result.examples) == (1, 1)


@pytest.mark.parametrize("numbers", [1, 1000, 40_000])
def test_blocks_make_no_difference(split: Split, numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of a block of densities changes the values by rounding only."""
    few = split.first(700)
    whole = information(ORACLE.model(), few, draws=60)
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", numbers)
    again = information(ORACLE.model(), few, draws=60)
    for name in ("mutual_information", "mutual_information_upper", "aggregate_kl"):
        assert getattr(again, name) == pytest.approx(getattr(whole, name), abs=1e-6)


def test_batches_of_examples_make_no_difference(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoded 64 at a time instead of all at once, the same examples give the same within the noise of the draws."""
    few = split.first(700)
    whole = information(ORACLE.model(), few, draws=700)
    monkeypatch.setattr(module, "EXAMPLES_AT_ONCE", 64)
    again = information(ORACLE.model(), few, draws=700)
    difference = again.mutual_information.mean - whole.mutual_information.mean
    assert abs(difference) < 4 * whole.mutual_information.se
    assert again.aggregate_kl.mean == pytest.approx(whole.aggregate_kl.mean, abs=6 * whole.aggregate_kl.se)


def test_no_block_is_larger_than_allowed(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """The densities are computed in blocks of (draws, examples, latent) of at most so many numbers."""
    sizes: list[int] = []
    model = ORACLE.model()
    forward = model.encoder.forward

    def watched(x: torch.Tensor) -> Distribution:
        q = forward(x)
        log_prob = q.log_prob

        def count(z: torch.Tensor) -> torch.Tensor:
            sizes.append(len(z) * len(x) * z.shape[-1])
            return log_prob(z)

        monkeypatch.setattr(q, "log_prob", count)
        return q

    monkeypatch.setattr(model.encoder, "forward", watched)
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", 30_000)
    information(model, split, draws=50)
    assert max(sizes) <= 30_000
    assert sum(sizes) == 50 * EXAMPLES * 3, "every draw under every posterior"


def test_the_seed_decides_and_nothing_else_is_disturbed(split: Split) -> None:
    """Two calls agree to the digit, another seed differs, and mode and random stream are as before."""
    model = ORACLE.model().train()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (information(model, split, draws=100, seed=3) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert information(model, split, draws=100, seed=4) != first


def test_a_trained_shape_of_model_and_its_document() -> None:
    """On a real network: fewer draws than examples, progress up to N, and a document that JSON takes."""
    data = toy_data()
    model, _ = build(vae(), data.info)
    seen: list[int] = []
    result = information(model, data.test, draws=30, progress=seen.append)
    assert (result.draws, result.examples, seen[-1]) == (30, 100, 100)
    document = json.loads(json.dumps(result.to_json()))
    assert set(document) == {"ceiling", "draws", "examples", "estimator"}
    metrics = result.metrics()
    assert set(metrics) == {
        "mutual_information", "mutual_information_se", "mutual_information_upper", "mutual_information_upper_se",
        "aggregate_kl", "aggregate_kl_se",
    }  # fmt: skip
    assert metrics["mutual_information"] == result.mutual_information.mean


def test_bad_requests(split: Split) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        information(ORACLE.model(), split, draws=0)
    with pytest.raises(DataError, match="no examples"):
        information(ORACLE.model(), split.first(0))
