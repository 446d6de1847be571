"""Models whose evidence is known: what the bound must equal, and how far it may stay below."""

from __future__ import annotations

import pytest
import torch

from tests.toys import LinearGaussian, normal_kl
from vaectl.posteriors import GaussianPosterior
from vaectl.priors import StandardNormal
from vaectl.vae import kl


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_the_bound_with_the_exact_posterior_is_the_evidence(dtype: torch.dtype, tolerance: float) -> None:
    """With q = p(z|x) every single draw gives log p(x): log p(x|z) + log p(z) - log q(z|x) has no variance."""
    oracle = LinearGaussian(dtype=dtype)
    torch.manual_seed(0)
    draw = oracle.model().draw(oracle.x, k=1)
    expected = oracle.log_evidence(oracle.x)
    assert torch.allclose(draw.elbo, expected, rtol=0, atol=tolerance)
    assert torch.allclose(draw.log_px + draw.log_p - draw.log_q, expected.expand(1, -1), rtol=0, atol=tolerance)


def test_the_closed_form_kl_gives_the_evidence_too() -> None:
    """With the closed form KL only the reconstruction is random: the mean over draws is log p(x) within 4 SE."""
    oracle = LinearGaussian()
    torch.manual_seed(0)
    draw = oracle.model(full_prior=True).draw(oracle.x, k=4000)
    per_draw = draw.log_px - draw.kl  # (K, B)
    error = per_draw.mean(0) - oracle.log_evidence(oracle.x)
    assert (error.abs() < 4.5 * per_draw.std(0) / 4000**0.5).all()


def test_a_loose_posterior_stays_below_the_evidence_by_its_kl() -> None:
    """log p(x) - ELBO = KL(q || p(z|x)), which for a too wide q is known in closed form."""
    oracle = LinearGaussian()
    torch.manual_seed(0)
    model = oracle.model(loose=True)
    draw = model.draw(oracle.x, k=4000)
    per_draw = draw.log_px - draw.kl
    q = model.encoder(oracle.x)
    wide = torch.distributions.MultivariateNormal(q.mean, torch.diag_embed(q.variance))
    gap = torch.distributions.kl_divergence(wide, oracle.posterior(oracle.x))
    error = per_draw.mean(0) - (oracle.log_evidence(oracle.x) - gap)
    assert (gap > 0.01).all()
    assert (error.abs() < 4.5 * per_draw.std(0) / 4000**0.5).all()


@pytest.mark.parametrize("scale", ["softplus", "log-variance"])
def test_the_closed_form_kl_is_the_textbook_formula(scale: str) -> None:
    """The registered KL equals 0.5 sum(mu^2 + sigma^2 - 1 - log sigma^2), summed over dimensions, not averaged."""
    torch.manual_seed(0)
    head = GaussianPosterior(5, 7, scale=scale)  # type: ignore[arg-type]
    q = head(torch.randn(11, 5))
    p = StandardNormal(7)(head)
    assert torch.allclose(kl(q, p, q.rsample((1,))), normal_kl(q.mean, q.stddev), atol=1e-5)


def test_the_monte_carlo_kl_agrees_with_the_closed_form() -> None:
    """Where no closed form is registered the same draws estimate it: unbiased, within 4 standard errors."""
    oracle = LinearGaussian()
    torch.manual_seed(0)
    sampled = oracle.model().draw(oracle.x, k=4000)  # a full-covariance q against a factorised p has no registered KL
    closed = oracle.model(full_prior=True).draw(oracle.x, k=1).kl
    spread = (sampled.log_q - sampled.log_p).std(0) / 4000**0.5
    assert ((sampled.kl - closed).abs() < 4.5 * spread).all()
