"""The Bernoulli's log-probability is torch's, to rounding, in value and gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vaectl.model.distributions.bernoulli import LogitBernoulli, bernoulli_log_prob

LOGITS = torch.cat((torch.linspace(-120, 120, 4001), torch.linspace(-1, 1, 2001), torch.tensor([0.0, -0.0, 1e-30])))


@pytest.mark.parametrize("value", [0.0, 0.25, 0.5, 1.0])
def test_values_and_gradients_are_exact_to_rounding(value: float) -> None:
    """Against double precision: 2e-7 or one part in 10^6, whichever is more, from a logit of -120 to 120."""
    logits, x = LOGITS.clone().requires_grad_(), torch.full_like(LOGITS, value, requires_grad=True)
    found = bernoulli_log_prob(logits, x)
    gradients = torch.autograd.grad(found.sum(), (logits, x))
    exact = [t.detach().double().requires_grad_() for t in (logits, x)]
    expected = -F.binary_cross_entropy_with_logits(*exact, reduction="none")
    wanted = torch.autograd.grad(expected.sum(), exact)
    for a, b in zip((found, *gradients), (expected, *wanted), strict=True):
        assert ((a - b).abs() <= (2e-7 + 1e-6 * b.abs())).all()


def test_an_infinite_logit_is_not_hidden() -> None:
    for logit in (float("nan"), float("inf"), float("-inf")):
        assert not bernoulli_log_prob(torch.tensor([logit]), torch.tensor([0.5])).isfinite().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_data_are_broadcast_over_draws(dtype: torch.dtype) -> None:
    logits = torch.randn(5, 3, 4, dtype=dtype, requires_grad=True)
    x = torch.rand(3, 4, dtype=dtype, requires_grad=True)
    found = bernoulli_log_prob(logits, x)
    gradients = torch.autograd.grad(found.sum(), (logits, x))
    expected = -F.binary_cross_entropy_with_logits(logits, x.expand(5, 3, 4), reduction="none")
    wanted = torch.autograd.grad(expected.sum(), (logits, x))
    for a, b in zip((found, *gradients), (expected, *wanted), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_logits_are_broadcast_over_data() -> None:
    logits = torch.randn(3, 1, 5, requires_grad=True)
    x = torch.rand(4, 3, 1, 5)
    found = bernoulli_log_prob(logits, x)
    expected = -F.binary_cross_entropy_with_logits(logits.expand(4, 3, 1, 5), x, reduction="none")
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.allclose(*(torch.autograd.grad(v.sum(), logits)[0] for v in (found, expected)), atol=1e-5)


def test_gradients_can_be_differentiated_again() -> None:
    logits, x = torch.randn(7, requires_grad=True), torch.rand(7)
    (g,) = torch.autograd.grad(bernoulli_log_prob(logits, x).sum(), logits, create_graph=True)
    (second,) = torch.autograd.grad(g.sum(), logits)
    s = logits.sigmoid()
    assert torch.allclose(second, -s * (1 - s), atol=1e-6)


def test_half_precision_is_left_to_torch() -> None:
    logits = torch.randn(3, dtype=torch.bfloat16)
    assert bernoulli_log_prob(logits, torch.ones(3, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_the_rest_is_torchs_bernoulli() -> None:
    p = LogitBernoulli(torch.tensor([-2.0, 0.0, 3.0]))
    assert torch.equal(p.mean, torch.sigmoid(p.logits))
    assert set(p.sample((50,)).unique().tolist()) <= {0.0, 1.0}
