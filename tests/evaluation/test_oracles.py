"""Models whose evidence is known: what the bound must equal, and how far it may stay below."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import Distribution, MultivariateNormal

from tests.support.toys import drawn, normal_kl, points
from vaectl.evaluation.metrics import evaluate
from vaectl.evaluation.oracles import LinearGaussian, importance_gap, weight_moment
from vaectl.model.distributions.codes import LatentSpace
from vaectl.model.posteriors import GaussianPosterior
from vaectl.model.priors import StandardNormal
from vaectl.model.vae import VAE, kl

ORACLE = LinearGaussian.random(12, 3, 0.7)
NORMS, SCALE = (1.5, 0.75, 0.0), 0.5
ORTHOGONAL = LinearGaussian.orthogonal(NORMS, 6, SCALE)


class FullPrior(nn.Module):
    """The standard normal as a Gaussian of full covariance, whose KL from another one has a closed form."""

    def forward(self, encoder: nn.Module, given: None = None) -> Distribution:
        return MultivariateNormal(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))


def closed_model() -> VAE:
    model = ORACLE.full_model(dtype=torch.float64)
    return VAE(model.encoder, FullPrior(), model.decoder)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("oracle", [ORACLE, ORTHOGONAL], ids=["full", "orthogonal"])
def test_the_bound_with_the_exact_posterior_is_the_evidence(
    dtype: torch.dtype, tolerance: float, oracle: LinearGaussian
) -> None:
    """With q = p(z|x) every single draw gives log p(x): log p(x|z) + log p(z) - log q(z|x) has no variance."""
    torch.manual_seed(0)
    x = drawn(oracle)
    draw = oracle.full_model(dtype=dtype).draw(x.to(dtype), k=1)
    expected = oracle.log_evidence(x)
    assert torch.allclose(draw.elbo.double(), expected, rtol=0, atol=tolerance)
    weights = (draw.log_px + draw.log_p - draw.log_q).double()
    assert torch.allclose(weights, expected.expand(1, -1), rtol=0, atol=tolerance)


def test_a_gaussian_encoder_is_exact_where_the_loadings_are_orthogonal() -> None:
    """The package's own head, prior and a linear decoder give weights of no variance, in fp32 to 1e-5 nats."""
    x = drawn(ORTHOGONAL, 1000)
    torch.manual_seed(0)
    draw = ORTHOGONAL.model().draw(x.float(), k=3)
    weights = (draw.log_px + draw.log_p - draw.log_q).double()
    assert torch.allclose(weights, ORTHOGONAL.log_evidence(x).expand(3, -1), rtol=0, atol=1e-5)
    assert ORTHOGONAL.gap(draw.q, x).abs().max() < 1e-5


def test_the_bound_of_a_whole_evaluation_is_the_evidence() -> None:
    """``evaluate`` in fp32 gives log p(x) of every one of 5,000 examples to 1e-5 nats."""
    x = drawn(ORTHOGONAL, 5000)
    found = evaluate(ORTHOGONAL.full_model(), points(x)).per_example["elbo"]
    assert torch.allclose(found, ORTHOGONAL.log_evidence(x), rtol=0, atol=1e-5)


def test_the_closed_form_kl_gives_the_evidence_too() -> None:
    """With the closed form KL only the reconstruction is random: the mean over draws is log p(x) within 4 SE."""
    torch.manual_seed(0)
    x = drawn(ORACLE)
    draw = closed_model().draw(x, k=4000)
    per_draw = draw.log_px - draw.kl  # (K, B)
    error = per_draw.mean(0) - ORACLE.log_evidence(x)
    assert (error.abs() < 4.5 * per_draw.std(0) / 4000**0.5).all()


@pytest.mark.parametrize("oracle", [ORACLE, ORTHOGONAL], ids=["full", "orthogonal"])
@pytest.mark.parametrize(("widen", "shift"), [(1.3, 0.0), (1.0, 0.4), (0.8, 0.2)])
def test_a_loose_posterior_stays_below_the_evidence_by_its_kl(
    oracle: LinearGaussian, widen: float, shift: float
) -> None:
    """log p(x) - ELBO = KL(q || p(z|x)), and -E log p(x|z) is its own closed form, for every example."""
    torch.manual_seed(0)
    x = drawn(oracle)
    draw = oracle.model(widen=widen, shift=shift, dtype=torch.float64).draw(x, k=4000)
    per_draw = draw.log_px - draw.kl
    gap = oracle.gap(draw.q, x)
    error = per_draw.mean(0) - (oracle.log_evidence(x) - gap)
    spread = per_draw.std(0) / 4000**0.5
    assert (gap > 0.01).all()
    assert (error.abs() < 4.5 * spread).all()
    assert ((draw.recon - oracle.recon(draw.q.mean, draw.q.variance, x)).abs() < 4.5 * spread).all()


@pytest.mark.parametrize(("widen", "shift"), [(1.0, 0.0), (1.3, 0.0), (2.0, 0.7)])
def test_the_gap_of_a_loose_posterior_is_the_same_for_every_example(widen: float, shift: float) -> None:
    """The KL from q to the exact posterior is D (a^2 + c^2 - 1 - log a^2) / 2, whatever x."""
    x = drawn(ORTHOGONAL)
    q = ORTHOGONAL.model(widen=widen, shift=shift, dtype=torch.float64).encode(x)
    expected = 1.5 * (widen**2 + shift**2 - 1 - 2 * math.log(widen))
    assert importance_gap(1, 3, widen=widen, shift=shift) == pytest.approx(expected)
    assert torch.allclose(ORTHOGONAL.gap(q, x), torch.full((64,), expected, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_moments_of_the_weights(power: int) -> None:
    """The closed form of E_q (w / p(x))^n is the mean over a million draws, within 4 standard errors."""
    torch.manual_seed(0)
    z = 0.3 + 1.4 * torch.randn(1_000_000, 2, dtype=torch.float64)
    log_w = (-0.5 * z**2 + 0.5 * ((z - 0.3) / 1.4) ** 2 + math.log(1.4)).sum(1)
    found = (power * log_w).exp()
    assert (found.mean() - weight_moment(power, 2, 1.4, 0.3)).abs() < 4 * found.std() / 1000
    assert weight_moment(1, 2, 1.4, 0.3) == 1


def test_a_narrow_posterior_has_weights_of_infinite_variance() -> None:
    with pytest.raises(ValueError, match="no moment of order 2"):
        weight_moment(2, 3, 0.7, 0.0)
    with pytest.raises(ValueError, match="no moment"):
        importance_gap(100, 3, widen=0.5)


def test_what_is_known_of_the_model() -> None:
    """I(x; z) is the mean KL of the exact posterior, 1 - S_dd the variance of its means: over 20,000 examples, 4 SE."""
    x = drawn(ORTHOGONAL, 20_000)
    q = ORTHOGONAL.posterior(x)
    term = normal_kl(q.mean, ORTHOGONAL.covariance.diagonal().sqrt())
    assert (term.mean() - ORTHOGONAL.mutual_information).abs() < 4 * term.std() / 20_000**0.5
    expected = 0.5 * sum(math.log1p((norm / SCALE) ** 2) for norm in NORMS)
    assert ORTHOGONAL.mutual_information == pytest.approx(expected, abs=1e-6)
    assert torch.allclose(q.mean.var(0), ORTHOGONAL.mean_variance, rtol=4 * (2 / 20_000) ** 0.5, atol=1e-9)


def test_the_evidence_of_a_full_covariance() -> None:
    """E log p(x) = -P/2 log(2 pi e) - 1/2 log det(W W^T + s^2 I), over 20,000 examples within 4 standard errors."""
    found = ORACLE.log_evidence(drawn(ORACLE, 20_000))
    covariance = ORACLE.w @ ORACLE.w.T + 0.49 * torch.eye(12, dtype=torch.float64)
    expected = -6 * math.log(2 * math.pi * math.e) - 0.5 * torch.logdet(covariance)
    assert (found.mean() - expected).abs() < 4 * found.std() / 20_000**0.5


@pytest.mark.parametrize("scale", ["softplus", "log-variance"])
def test_the_closed_form_kl_is_the_textbook_formula(scale: str) -> None:
    """The registered KL equals 0.5 sum(mu^2 + sigma^2 - 1 - log sigma^2), summed over dimensions, not averaged."""
    torch.manual_seed(0)
    head = GaussianPosterior((5,), 7, scale=scale)  # type: ignore[arg-type]
    q = head(torch.randn(11, 5))
    p = StandardNormal(LatentSpace((7,)), (1,), "real")(head)
    assert torch.allclose(kl(q, p, q.rsample((1,))), normal_kl(q.mean, q.stddev), atol=1e-5)


def test_the_monte_carlo_kl_agrees_with_the_closed_form() -> None:
    """Where no closed form is registered the same draws estimate it: unbiased, within 4 standard errors."""
    torch.manual_seed(0)
    x = drawn(ORACLE)
    # a full-covariance q against a factorised p has no registered KL
    sampled = ORACLE.full_model(dtype=torch.float64).draw(x, k=4000)
    closed = closed_model().draw(x, k=1).kl
    spread = (sampled.log_q - sampled.log_p).std(0) / 4000**0.5
    assert ((sampled.kl - closed).abs() < 4.5 * spread).all()
