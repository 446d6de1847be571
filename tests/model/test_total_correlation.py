"""The total correlation's weights, where they count, and its value on aggregates for which it is known.

Shapes: ``B`` batch, ``D`` latent, ``K`` draws.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from tests.support.toys import FullPosterior, toy_data
from vaectl.config.recipes import RECIPES, vae
from vaectl.config.spec import Part
from vaectl.data.batch import Batch
from vaectl.errors import SettingError, UsageError
from vaectl.model import objectives
from vaectl.model.builder import build
from vaectl.model.distributions.codes import LatentSpace
from vaectl.model.objectives import TotalCorrelation, TrainingSet
from vaectl.model.objectives.tc import Weights, aggregate, log_weights
from vaectl.model.posteriors import POSTERIORS
from vaectl.model.vae import Draw

SPACE = LatentSpace((2,))

WEIGHTS: tuple[Weights, ...] = ("minibatch-weighted", "stratified")


def draw_of(mean: Tensor, sigma: Tensor, k: int = 1, seed: int = 0) -> Draw:
    """Draws of N(mean, sigma^2), (B, D) each, with a standard normal prior and pixels that say nothing of z."""
    torch.manual_seed(seed)
    q = Independent(Normal(mean, sigma), 1)
    z = q.rsample((k,))
    p = Independent(Normal(torch.zeros_like(mean[0]), torch.ones_like(mean[0])), 1)
    px = Independent(Normal(torch.zeros(k, len(mean), 1).to(mean), 1.0), 1)
    return Draw(Batch(torch.ones(len(mean), 1).to(mean)), q=q, z=z, p=p, px=px)


def some_draw(batch: int = 5, latent: int = 3, k: int = 1) -> Draw:
    torch.manual_seed(1)
    mean, sigma = torch.randn(batch, latent).double(), torch.rand(batch, latent).double() + 0.2
    return draw_of(mean, sigma, k)


def gaussian_draw(covariance: Tensor, batch: int, noise: float, seed: int = 0) -> Draw:
    """Posteriors of variance ``noise`` whose aggregate over the population is N(0, covariance)."""
    generator = torch.Generator().manual_seed(seed)
    latent = len(covariance)
    factor = torch.linalg.cholesky(covariance - noise * torch.eye(latent).double())
    mean = torch.randn(batch, latent, generator=generator, dtype=torch.float64) @ factor.T
    return draw_of(mean, torch.full_like(mean, math.sqrt(noise)), seed=1000 + seed)


def correlations(draw: Draw, examples: int) -> Tensor:
    """The estimated total correlation of each draw (B,)."""
    objective = TotalCorrelation(TrainingSet(examples, len(draw.x)), SPACE)
    return objective(draw, objective.scheduled(0)).terms["total_correlation"]


def test_stratified_weights_by_hand() -> None:
    """B = 4 of N = 10: 1/10 on the diagonal, and the other nine tenths shared by the other three. Rows add up to 1."""
    a, b = 1 / 10, 3 / 10
    by_hand = [[a, b, b, b], [b, a, b, b], [b, b, a, b], [b, b, b, a]]
    found = log_weights(4, 10, "stratified").exp()
    assert torch.allclose(found, torch.tensor(by_hand, dtype=torch.float64))
    assert torch.allclose(found.sum(1), torch.ones(4, dtype=torch.float64))


def test_stratified_weights_are_the_papers_averaged_over_the_order_of_the_batch() -> None:
    """Appendix C.2 for z_0 of B = 4: 1/N, 1/M, 1/M, (N - M)/(N M) with M = 3; the mean over orders of the others."""
    n, m = 10, 3
    paper = [1 / n, 1 / m, 1 / m, (n - m) / (n * m)]
    orders = list(itertools.permutations(paper[1:]))
    averaged = [paper[0], *(sum(order[j] for order in orders) / len(orders) for j in range(m))]
    assert log_weights(4, n, "stratified")[0].exp().tolist() == pytest.approx(averaged)


def test_the_stratified_estimate_of_q_is_unbiased() -> None:
    """Over all batches of 3 of N = 6 that hold x_0, its mean is q(z) = 1/N sum_n q(z|x_n), exactly."""
    mean = torch.randn(6, 1, generator=torch.Generator().manual_seed(0)).double()
    q, z = Normal(mean, 0.5), mean[0] + 0.3
    w = log_weights(3, 6, "stratified")[0].exp()
    batches = [torch.tensor([0, *others]) for others in itertools.permutations(range(1, 6), 2)]
    found = torch.stack([w @ q.log_prob(z).exp()[batch] for batch in batches]).mean()
    assert found.item() == pytest.approx(q.log_prob(z).exp().mean().item(), rel=1e-12)


def test_all_examples_as_the_batch_are_the_aggregate_itself() -> None:
    assert torch.allclose(log_weights(7, 7, "stratified").exp(), torch.full((7, 7), 1 / 7, dtype=torch.float64))


def test_minibatch_weights_by_hand() -> None:
    assert torch.allclose(
        log_weights(4, 10, "minibatch-weighted").exp(), torch.full((4, 4), 1 / 40, dtype=torch.float64)
    )


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_weight_counts_once_in_the_joint_and_once_in_each_marginal(weights: Weights) -> None:
    """log sum_j w_ij prod_d q(z_id|x_j) and sum_d log sum_j w_ij q(z_id|x_j), in loops over plain densities.

    A weight added to every dimension before their sum, or left out of a marginal, would move these by log w each.
    """
    draw = some_draw(batch=5, latent=3, k=2)
    w = log_weights(5, 40, weights).exp()
    joint, marginals = aggregate(draw, log_weights(5, 40, weights))
    base = draw.q.base_dist  # type: ignore[attr-defined]
    for k, i in itertools.product(range(2), range(5)):
        density = Normal(base.loc, base.scale).log_prob(draw.z[k, i]).exp()  # (B, D): of z_i under each posterior
        assert joint[k, i].item() == pytest.approx((w[i] @ density.prod(1)).log().item(), rel=1e-9)
        by_hand = sum((w[i] @ density[:, d]).log().item() for d in range(3))
        assert marginals[k, i].item() == pytest.approx(by_hand, rel=1e-9)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("examples", [5, 60_000])
def test_the_three_terms_are_the_kl_of_the_draws(weights: Weights, examples: int) -> None:
    """MI + TC + KL by dimension = log q(z|x) - log p(z), example by example, whatever the weights say."""
    draw = some_draw(k=2)
    terms = TotalCorrelation(TrainingSet(examples, 5), SPACE, weights=weights)(draw, 6.0).terms
    three = terms["mutual_information"] + terms["total_correlation"] + terms["kl_by_dimension"]
    assert torch.allclose(three, (draw.log_q - draw.log_p).mean(0), rtol=1e-12)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_with_all_weights_one_it_is_the_sampled_elbo(weights: Weights) -> None:
    """On a model in fp32, value and gradient are those of -(log p(x|z) + log p(z) - log q(z|x)), to rounding."""
    data = toy_data()
    options = {"alpha": 1.0, "beta": 1.0, "gamma": 1.0, "weights": weights}
    model, objective = build(dataclasses.replace(vae(), latent_dim=3, objective=Part("tc", options)), data.info)
    draw = model.draw(data.train.batch(slice(0, 50)).x)
    plain = -(draw.log_px + draw.log_p - draw.log_q).mean()
    loss = objective(draw, objective.scheduled(0)).total
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    parameters = list(model.parameters())
    for a, b in zip(*(torch.autograd.grad(v, parameters, retain_graph=True) for v in (loss, plain)), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)


def test_the_loss_is_its_terms_under_their_weights() -> None:
    """mean recon + alpha MI + beta(step) TC + gamma KL by dimension; only beta is warmed up."""
    objective = TotalCorrelation(TrainingSet(100, 10), SPACE, alpha=0.5, beta=8.0, gamma=3.0, warmup_epochs=2)
    draw = some_draw()
    for step, beta in ((0, 0.0), (10, 4.0), (20, 8.0)):
        loss = objective(draw, objective.scheduled(step))
        t = {name: values.mean().item() for name, values in loss.terms.items()}
        by_hand = (
            t["recon"] + 0.5 * t["mutual_information"] + beta * t["total_correlation"] + 3.0 * t["kl_by_dimension"]
        )
        assert loss.total.item() == pytest.approx(by_hand)
        assert objective.beta(step) == beta


def chi_square(variance: Tensor, noise: float) -> float:
    """chi^2 of one posterior against the aggregate on average, ``exp(2 I) - 1`` with I of Gaussians, see ``bias``."""
    return float(torch.linalg.det(variance) / noise ** len(variance)) - 1


def bias(covariance: Tensor, noise: float, batch: int) -> float:
    """How far a batch's q(z), less its marginals, may be off: each log mixture is by chi^2 / 2B to first order."""
    marginal = sum(chi_square(covariance[d : d + 1, d : d + 1], noise) for d in range(len(covariance)))
    return (chi_square(covariance, noise) + marginal) / (2 * batch)


@pytest.mark.parametrize("examples", [2000, 60_000])
@pytest.mark.parametrize("rho", [0.8, -0.5, 0.0])
def test_the_total_correlation_of_a_known_aggregate(rho: float, examples: int) -> None:
    """Of N(0, [[1, rho], [rho, 1]]) it is -1/2 log(1 - rho^2), within 4 SE over 2000 draws and the bias of a batch.

    With rho = 0 it is about 0, with the whole data set as the batch (2000) and with a batch of many more.
    """
    covariance = torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64)
    found = correlations(gaussian_draw(covariance, 2000, noise=0.1), examples)
    se = found.std().item() / math.sqrt(len(found))
    assert se < 0.03
    assert bias(covariance, 0.1, 2000) < 0.035
    assert abs(found.mean().item() + 0.5 * math.log(1 - rho**2)) < 4 * se + bias(covariance, 0.1, 2000)


def test_an_independent_aggregate_of_ten_dimensions_is_not_strongly_negative() -> None:
    """With all N = 1000 examples as the batch the total correlation is one of a mixture: not below 0 by 4 SE."""
    found = correlations(gaussian_draw(torch.eye(10).double(), 1000, noise=0.5), 1000)
    assert found.mean().item() > -4 * found.std().item() / math.sqrt(len(found))


def test_a_batch_of_one_has_no_total_correlation() -> None:
    """The last batch of an epoch may be one example: its terms are finite, MI and TC are 0."""
    draw = some_draw(batch=1)
    terms = TotalCorrelation(TrainingSet(129, 128), SPACE)(draw, 6.0).terms
    assert terms["total_correlation"].item() == pytest.approx(0, abs=1e-12)
    assert terms["mutual_information"].item() == pytest.approx(0, abs=1e-12)
    assert torch.allclose(terms["kl_by_dimension"], draw.log_q[0] - draw.log_p[0])


@pytest.mark.parametrize("examples", [1, 3])
def test_a_validation_batch_may_be_larger_than_the_training_set(examples: int) -> None:
    loss = TotalCorrelation(TrainingSet(examples, 1), SPACE)(some_draw(batch=5), 0)
    assert loss.total.isfinite()


def test_blocks_of_rows_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = some_draw(batch=7, k=2)
    whole = aggregate(draw, log_weights(7, 20, "stratified"))
    monkeypatch.setattr(objectives.tc, "NUMBERS_AT_ONCE", 2 * 7 * 3 * 2)
    for a, b in zip(whole, aggregate(draw, log_weights(7, 20, "stratified")), strict=True):
        assert a.shape == (2, 7)
        assert torch.allclose(a, b, rtol=1e-12)


def test_narrow_posteriors_far_apart_stay_finite() -> None:
    """Densities that are 0 in fp32 between every two examples: logarithms and gradients are finite."""
    mean = torch.linspace(-500, 500, 6)[:, None].repeat(1, 4).requires_grad_()
    draw = draw_of(mean, torch.full((6, 4), 1e-6))
    loss = TotalCorrelation(TrainingSet(60, 6), SPACE)(draw, 6.0).total
    assert loss.isfinite()
    (gradient,) = torch.autograd.grad(loss, mean)
    assert gradient.isfinite().all()


def test_a_posterior_that_does_not_factorise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POSTERIORS, "full", FullPosterior)
    spec = dataclasses.replace(RECIPES["beta-tcvae"](), posterior=Part("full"))
    with pytest.raises(UsageError, match=r"objective 'tc'.*posterior 'full'") as caught:
        build(spec, toy_data().info)
    assert "--objective elbo" in (caught.value.hint or "")


def test_options_that_make_no_sense_are_refused() -> None:
    data = toy_data()
    for options in ({"weights": "diagonal"}, {"alpha": -1.0}, {"schedule": "constant", "warmup_epochs": 2}):
        with pytest.raises(SettingError):
            build(dataclasses.replace(vae(), objective=Part("tc", options)), data.info)
