"""Anomaly scores against closed forms, p-values against counting, AUROC and its intervals against what is known."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Laplace, Normal, kl_divergence

from tests.support.own import load
from tests.support.toys import drawn, points, toy_data
from vaectl import vae, vq_vae
from vaectl.config.recipes import RECIPES
from vaectl.data.base import Split
from vaectl.data.batch import Batch
from vaectl.data.info import DataInfo
from vaectl.data.thinned import thinned
from vaectl.data.units import Units
from vaectl.errors import DataError, UsageError
from vaectl.evaluation.anomaly.aggregate import Aggregate, aggregate_posterior
from vaectl.evaluation.anomaly.calibration import check_rows, least_rows, p_values
from vaectl.evaluation.anomaly.detection import detection
from vaectl.evaluation.anomaly.labels import Truth, truth_of
from vaectl.evaluation.anomaly.maps import surprise
from vaectl.evaluation.anomaly.names import SCORES
from vaectl.evaluation.anomaly.regret import is_gaussian, likelihood_regret
from vaectl.evaluation.anomaly.scores import anomaly_scores, unavailable
from vaectl.evaluation.metrics import evaluate
from vaectl.evaluation.oracles import LinearGaussian
from vaectl.model.builder import build
from vaectl.model.vae import VAE

ORACLE = LinearGaussian.orthogonal([2.0, 1.0, 0.5], pixels=9, scale=0.5)


def weights(model: VAE) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


# --- the scores -------------------------------------------------------------------------------------------------------


def test_scores_of_an_exact_model_are_minus_its_evidence() -> None:
    """With the exact posterior elbo and bound are -log p(x) for every example; the signs are those of a score."""
    x = drawn(ORACLE, 300)
    model, split = ORACLE.model(), points(x)
    scores = anomaly_scores(model, split, ("elbo", "bound", "recon", "kl"))
    evidence = ORACLE.log_evidence(x).numpy()
    assert list(scores) == ["elbo", "bound", "recon", "kl"]
    assert all(values.dtype == np.float64 and values.shape == (300,) for values in scores.values())
    np.testing.assert_allclose(scores["bound"], -evidence, atol=1e-3)
    # 8 draws of an ELBO whose recon varies between draws
    assert abs((scores["elbo"] + evidence).mean()) < 0.1
    assert np.corrcoef(scores["elbo"], -evidence)[0, 1] > 0.9
    q = model.encode(x.float())
    expected = ORACLE.recon(q.mean.double(), q.variance.double(), x).detach().numpy()
    assert abs((scores["recon"] - expected).mean()) < 0.1
    prior = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
    np.testing.assert_allclose(scores["kl"], kl_divergence(q, prior).detach().numpy(), rtol=1e-4)
    np.testing.assert_allclose(scores["elbo"], scores["recon"] + scores["kl"], rtol=1e-5)


def test_the_bound_is_nearer_to_the_evidence_than_elbo() -> None:
    x = drawn(ORACLE, 200)
    scores = anomaly_scores(ORACLE.model(widen=1.5, shift=0.5), points(x), ("elbo", "bound"))
    evidence = -ORACLE.log_evidence(x).numpy()
    gaps = {name: (values - evidence).mean() for name, values in scores.items()}
    assert 0 < gaps["bound"] < 0.2 * gaps["elbo"]


@pytest.mark.parametrize(("widen", "shift"), [(1.0, 0.0), (1.5, 0.5), (2.0, 3.0)])
def test_regret_is_the_gap_to_the_best_posterior(widen: float, shift: float) -> None:
    """The best Gaussian is the exact posterior here, so the regret is KL(q || p(z|x))."""
    x = drawn(ORACLE, 200)
    model = ORACLE.model(widen=widen, shift=shift)
    gap = ORACLE.gap(model.encode(x.float()), x).detach()
    before, mode = weights(model), model.training
    state = torch.random.get_rng_state()
    regret = likelihood_regret(model, points(x), seed=3)
    assert (regret >= 0).all()
    # no posterior is better than the exact one, and 50 steps come close to it
    assert (regret <= gap + 1e-3).all()
    assert float(regret.mean()) == pytest.approx(float(gap.mean()), rel=0.02, abs=0.06)
    # the model, its mode and the random stream are as they were
    assert all(map(torch.equal, before, weights(model)))
    assert model.training == mode
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(likelihood_regret(model, points(x), seed=3), regret)


def test_regret_grows_with_the_encoders_error() -> None:
    x = points(drawn(ORACLE, 100))
    means = [float(likelihood_regret(ORACLE.model(shift=shift), x).mean()) for shift in (0.5, 1.0, 2.0)]
    assert means == sorted(means)
    assert means[2] == pytest.approx(3 * 2.0**2 / 2, rel=0.1)


def test_an_example_is_fitted_on_its_own() -> None:
    """Beside other examples the regret differs by the draws of the fit alone."""
    model, x = ORACLE.model(widen=1.5, shift=1.0), drawn(ORACLE, 40)
    whole, single = likelihood_regret(model, points(x)), likelihood_regret(model, points(x[:1]))
    assert float(single[0]) == pytest.approx(float(whole[0]), abs=0.2)


def test_distance_is_that_of_numpy() -> None:
    x = drawn(ORACLE, 500)
    model, split = ORACLE.model(widen=1.3), points(x)
    aggregate = aggregate_posterior(model, split)
    q = model.encode(x.float())
    means, variances = q.mean.detach().double().numpy(), q.variance.detach().double().numpy()
    covariance = np.cov(means, rowvar=False, bias=True) + np.diag(variances.mean(0))
    np.testing.assert_allclose(aggregate.covariance, covariance, rtol=1e-5, atol=1e-7)
    centred = means - means.mean(0)
    expected = np.sqrt(np.einsum("nd,de,ne->n", centred, np.linalg.inv(covariance), centred))
    scores = anomaly_scores(model, split, ("distance",), aggregate=aggregate)
    np.testing.assert_allclose(scores["distance"], expected, rtol=1e-4)
    # of an exact model the aggregate posterior is the prior
    exact = aggregate_posterior(ORACLE.model(), points(drawn(ORACLE, 5000)))
    np.testing.assert_allclose(exact.covariance, np.eye(3), atol=0.1)


def test_moments_far_from_zero_keep_their_variance() -> None:
    """Latents near 10,000 with a variance near 1: squares of such float64 sums would lose a part, of float32 all."""
    x = points(drawn(ORACLE, 500))
    near, far = ORACLE.model(), ORACLE.model()
    with torch.no_grad():
        far.encoder.head.linear.bias[:3] += 1e4
    torch.testing.assert_close(
        aggregate_posterior(far, x).covariance, aggregate_posterior(near, x).covariance, rtol=0.01, atol=0.005
    )
    aggregate = Aggregate(torch.tensor([1000.0], dtype=torch.float64), torch.tensor([[4.0]], dtype=torch.float64), 1)
    assert aggregate.distance(torch.tensor([[1006.0], [998.0]])).tolist() == [3.0, 1.0]


def test_examples_are_thinned_evenly() -> None:
    data = toy_data()
    part = thinned(data.train, 30)
    assert len(part) == 30
    rows = data.train.rows.tolist()
    places = [rows.index(row) for row in part.rows.tolist()]
    assert {b - a for a, b in pairwise(places)} == {8}
    assert torch.equal(part.batch(slice(3, 4)).x, data.train.batch(slice(24, 25)).x)
    assert part.labels[3] == data.train.labels[24]
    assert thinned(data.train, 1000) is data.train


def test_streamed_examples_are_thinned_and_scored_alike(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (90, 1, 8, 8), dtype=np.uint8))
    held, streamed = (load(tmp_path / "x.npy", storage=storage) for storage in ("memory", "stream"))
    model, _ = build(vae(latent_dim=2, hidden_dims=(8,)), held.info)
    parts = [thinned(data.train, 20) for data in (held, streamed)]
    assert [len(part) for part in parts] == [20, 20]
    assert parts[0].rows.tolist() == parts[1].rows.tolist()
    means = [aggregate_posterior(model, data.train, most=20).mean for data in (held, streamed)]
    torch.testing.assert_close(*means)
    first, second = (anomaly_scores(model, part, ("elbo", "regret")) for part in parts)
    assert all((first[name] == second[name]).all() for name in first)


def test_scores_are_the_same_with_the_same_seed_and_agree_with_an_evaluation() -> None:
    data = toy_data()
    model, _ = build(vae(latent_dim=2, hidden_dims=(16,)), data.info)
    names, aggregate = tuple(SCORES), aggregate_posterior(model, data.train)
    told: dict[str, int] = {}
    anomaly_scores(model, data.test, names, aggregate=aggregate, progress=told.__setitem__)
    assert told == {"elbo": 100, "bound": 100, "regret": 100}
    first, second, third = (anomaly_scores(model, data.test, names, aggregate=aggregate, seed=s) for s in (0, 0, 1))
    assert list(first) == list(SCORES)
    assert all((first[name] == second[name]).all() for name in names)
    assert (first["elbo"] != third["elbo"]).any()
    means = evaluate(model, data.test).metrics()
    assert -first["elbo"].mean() == pytest.approx(means["elbo"], abs=4 * means["elbo_se"])
    assert first["kl"].mean() == pytest.approx(means["kl"], rel=1e-4)
    assert -first["bound"].mean() >= -first["elbo"].mean() - 0.05


def test_codes_have_no_distance_and_no_regret() -> None:
    data = toy_data(side=8)
    model, _ = build(vq_vae(), data.info)
    assert {*unavailable(model, data.test)} == {"bound", "distance", "regret"}
    scores = anomaly_scores(model, data.test, ("elbo", "recon", "kl"))
    # the KL of deterministic codes under a uniform prior is a constant
    assert np.ptp(scores["kl"]) < 1e-3
    assert np.ptp(scores["elbo"] - scores["recon"]) < 1e-3
    with pytest.raises(UsageError, match="Gaussian posteriors"):
        likelihood_regret(model, data.test)


def test_a_posterior_with_full_covariance_has_no_regret() -> None:
    laplace = Laplace(torch.zeros(2, 3), torch.ones(3))
    assert is_gaussian(Independent(Normal(torch.zeros(2, 3), torch.ones(3)), 1))
    assert not is_gaussian(Independent(laplace, 1))
    assert not is_gaussian(laplace)
    oracle = LinearGaussian.random(6, 2, 0.5)
    assert {*unavailable(oracle.full_model(), points(drawn(oracle)))} == {"regret"}


def test_what_cannot_be_scored() -> None:
    model, split = ORACLE.model(), points(drawn(ORACLE, 5))
    with pytest.raises(UsageError, match="unknown score 'likelihood'"):
        anomaly_scores(model, split, ("likelihood",))
    with pytest.raises(UsageError, match="distance needs"):
        anomaly_scores(model, split, ("distance",))
    for work in (lambda s: anomaly_scores(model, s, ("elbo",)), lambda s: likelihood_regret(model, s)):
        with pytest.raises(DataError, match="no examples"):
            work(split.first(0))
    with pytest.raises(DataError, match="no training examples"):
        aggregate_posterior(model, split.first(0))


def test_numbers_beyond_all_others_count_as_most_unusual() -> None:
    """A value that overflows in fp32 makes the bound infinite or nan, never a low score."""
    x = drawn(ORACLE, 3).float()
    x[1] = 1e30
    split = Split(x, torch.zeros(3, dtype=torch.int64), torch.arange(3))
    scores = anomaly_scores(ORACLE.model(), split, ("elbo", "recon", "regret"))
    for values in scores.values():
        assert not np.isnan(values).any()
        assert values[1] == np.inf
        assert np.isfinite(values[[0, 2]]).all()


# --- calibration ------------------------------------------------------------------------------------------------------


def test_p_values_by_counting() -> None:
    random = np.random.default_rng(0)
    calibration, scores = random.integers(0, 20, 50).astype(float), random.integers(-2, 24, 40).astype(float)
    expected = [(1 + sum(c >= s for c in calibration)) / 51 for s in scores]
    assert p_values(scores, calibration).tolist() == expected
    assert p_values(np.array([np.inf]), calibration)[0] == 1 / 51
    assert p_values(np.array([-np.inf]), calibration)[0] == 1


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_the_false_positive_rate_is_the_one_asked_for(rate: float) -> None:
    """Exactly so in the mean over calibration sets of exchangeable examples; here over 400 sets of 199 each.

    The rate within a set varies as Beta(k, 200 - k) with k = 200 rate, so the mean of 400 has a standard error of
    sqrt(rate (1 - rate) / 201 / 400); the tolerance is four of them and the sampling of 500 new examples each.
    """
    random = np.random.default_rng(1)
    rates = [
        (p_values(random.standard_exponential(500), random.standard_exponential(199)) <= rate + 1e-12).mean()
        for _ in range(400)
    ]
    tolerance = 4 * math.sqrt(rate * (1 - rate) * (1 / 201 + 1 / 500) / 400)
    assert np.mean(rates) == pytest.approx(rate, abs=tolerance)


def test_how_many_rows_a_rate_takes() -> None:
    assert [least_rows(rate) for rate in (0.01, 0.05, 0.1, 0.5, 0.3)] == [99, 19, 9, 1, 3]
    for rate in (0.01, 0.05, 0.1, 0.03, 0.007):
        rows = least_rows(rate)
        assert 1 / (rows + 1) <= rate * (1 + 1e-9)
        assert rows == 1 or 1 / rows > rate
        check_rows(rate, rows, "here")
        with pytest.raises(DataError, match=f"at least {rows} calibration examples; here has {rows - 1}"):
            check_rows(rate, rows - 1, "here")


# --- with labels ------------------------------------------------------------------------------------------------------


def test_detection_of_scores_that_are_known() -> None:
    scores, anomalous = np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, True, True])
    assert detection(scores, anomalous).auroc == (1, 1, 1)
    assert detection(-scores, anomalous).auroc == (0, 0, 0)
    assert detection(np.zeros(4), anomalous).auroc == (0.5, 0.5, 0.5)
    assert detection(np.zeros(4), anomalous).average_precision.value == 0.5
    assert detection(np.array([0.0, 5.0, np.inf, 2.0]), anomalous).auroc.value == 0.75
    with pytest.raises(DataError, match="both"):
        detection(scores, np.zeros(4, bool))


def test_resampled_areas_are_those_of_scikit_learn() -> None:
    """The vectorised areas of the resamples, of scores with ties, against one call for each resample."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    random = np.random.default_rng(2)
    anomalous = random.random(60) < 0.3
    scores = (random.standard_normal(60) + anomalous).round(1)
    ours = detection(scores, anomalous, resamples=300)
    draws = np.random.default_rng(0)
    chosen = [
        np.flatnonzero(group)[draws.integers(group.sum(), size=(300, group.sum()))] for group in (anomalous, ~anomalous)
    ]
    order = [np.concatenate(pair) for pair in zip(*chosen, strict=True)]
    # members are taken in the order of their scores there, so quantiles agree as those of other resamples do
    for interval, measure in ((ours.auroc, roc_auc_score), (ours.average_precision, average_precision_score)):
        assert interval.value == pytest.approx(measure(anomalous, scores))
        low, high = np.quantile([measure(anomalous[rows], scores[rows]) for rows in order], (0.025, 0.975))
        assert (interval.low, interval.high) == (pytest.approx(low, abs=0.03), pytest.approx(high, abs=0.03))
        assert interval.low < interval.value < interval.high


def test_intervals_cover_what_they_should() -> None:
    """Anomalies one standard deviation above: AUROC is Phi(1 / sqrt 2); about 95 of 100 intervals hold it."""
    truth, held = 0.5 * (1 + math.erf(0.5)), 0
    anomalous = np.repeat([True, False], [60, 140])
    for seed in range(100):
        scores = np.random.default_rng(seed).standard_normal(200) + anomalous
        outcome = detection(scores, anomalous, resamples=400).auroc
        held += outcome.low <= truth <= outcome.high
    assert 88 <= held <= 100


def names(*labels: object) -> np.ndarray:
    return np.array([str(label) for label in labels])


def test_which_labels_are_anomalies() -> None:
    def told(
        labels: np.ndarray,
        words: list[str] | None = None,
        trained: set[str] | None = None,
        classes: tuple[str, ...] = (),
    ) -> object:
        truth = truth_of(labels, words, trained, classes)
        return truth.anomalous.tolist() if isinstance(truth, Truth) else truth

    assert told(names(0, 1, 0)) == [False, True, False]
    assert told(names(0, 1, 0), trained={"0"}) == [False, True, False]
    # 1 is a class of digits like the others
    assert "every class" in str(told(names(0, 1, 0), trained={"0", "1", "2"}))
    assert told(names("cat", "dog", "cat"), trained={"cat"}) == [False, True, False]
    assert told(names(3, 4, 3, 5), trained={"3"}) == [False, True, False, True]
    assert told(names(3, 4, 3, 5), ["5"], trained={"3"}) == [False, False, False, True]
    assert told(names("cat", "dog"), ["1"], classes=("cat", "dog")) == [False, True]
    assert told(names("scratch", "Good", "dent")) == [True, False, True]
    assert "unknown" in str(told(names(3, 4)))
    assert "no labels" in str(told(names(-1, -1)))
    assert "not trained on" in str(told(names("dog"), trained={"cat"}))
    partly = truth_of(names("cat", "", "dog"), None, {"cat"})
    assert isinstance(partly, Truth)
    assert partly.labelled.tolist() == [True, False, True]
    assert partly.anomalies == ("dog",)
    with pytest.raises(UsageError, match="--anomaly dgo: no example") as error:
        truth_of(names("cat", "dog"), ["dgo"], None)
    assert "did you mean 'dog'" in str(error.value.hint)
    with pytest.raises(UsageError, match="these have none"):
        truth_of(names(-1), ["1"], None)


# --- maps -------------------------------------------------------------------------------------------------------------


def test_a_map_adds_up_to_the_reconstruction_term() -> None:
    data = toy_data()
    for likelihood in ("bernoulli", "gaussian", "discretized-logistic", "categorical"):
        model, _ = build(vae(latent_dim=2, hidden_dims=(16,), likelihood=likelihood), data.info)
        batch = data.test.batch(slice(0, 20))
        part = surprise(model, batch)
        assert part.nats.shape == part.mean.shape == batch.x.shape
        expected = -model.eval().reconstruct(batch).log_prob(batch.x)
        torch.testing.assert_close(part.nats.flatten(1).sum(1), expected.detach(), rtol=1e-4, atol=1e-3)


def test_a_map_of_scaled_data_is_on_the_scale_of_the_model() -> None:
    """A column in small units is not less unexpected for it; the sum lacks the constant of the change of variables."""
    units = Units("standard", (5.0, 0.0, -3.0), (100.0, 1.0, 0.01))
    info = DataInfo("t", (1, 1, 3), "real", "", {"train": 9, "validation": 0, "test": 0}, "", units=units)
    model, _ = build(vae(latent_dim=2, hidden_dims=(8,), likelihood="gaussian"), info)
    y = torch.randn(20, 1, 1, 3, generator=torch.Generator().manual_seed(0))
    x = Batch(torch.tensor(units.loc) + y * torch.tensor(units.scale))
    part, px = surprise(model, x), model.eval().reconstruct(x)
    torch.testing.assert_close(part.mean, px.mean)
    constant = sum(map(math.log, units.scale))
    torch.testing.assert_close(part.nats.sum((1, 2, 3)) + constant, -px.log_prob(x.x).detach(), rtol=1e-3, atol=1e-3)
    hidden = Batch(x.x, observed=torch.tensor([True, False, True]).expand(x.x.shape))
    assert (surprise(model, hidden).nats[..., 1] == 0).all()


def test_a_pasted_patch_is_the_most_unexpected_part() -> None:
    from sklearn.metrics import roc_auc_score

    from vaectl.training.trainer import fit

    data = toy_data(train=600, side=8)
    spec = vae(latent_dim=2, hidden_dims=(32,), epochs=10, batch_size=32)
    torch.manual_seed(0)
    model, objective = build(spec, data.info)
    for _ in fit(model, objective, data, spec.training):
        pass
    x = data.test.batch(slice(0, 50)).x.clone()
    dark = data.test.labels[:50] == 0
    truth = torch.zeros_like(x, dtype=torch.bool)
    truth[dark, :, 5:8, 5:8] = True  # the corner that is dark in this class
    x[truth] = 1.0
    nats = surprise(model, Batch(x)).nats
    assert roc_auc_score(truth[dark].flatten(), nats[dark].flatten()) > 0.9


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_has_scores_and_maps(recipe: str) -> None:
    """Finite ones, for all scores that it is said to have."""
    data = toy_data(train=60, test=20, side=8)
    model, _ = build(RECIPES[recipe](), data.info)
    names = [name for name in SCORES if name not in unavailable(model, data.test)]
    assert {"elbo", "recon", "kl"} <= {*names}
    aggregate = aggregate_posterior(model, data.train) if "distance" in names else None
    scores = anomaly_scores(model, data.test, names, aggregate=aggregate)
    assert list(scores) == names
    assert all(np.isfinite(values).all() and values.shape == (20,) for values in scores.values())
    assert surprise(model, data.test.batch(slice(None))).nats.isfinite().all()
