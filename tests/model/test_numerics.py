"""The two parameterisations of sigma at their edges: what docs/numerics.md says, held against the parts."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

from tests.conftest import Cli
from vaectl.model.distributions.codes import LatentSpace
from vaectl.model.posteriors import GaussianPosterior
from vaectl.model.priors import StandardNormal
from vaectl.model.vae import kl
from vaectl.system.runtime import resolve_device

INF, NAN = math.inf, math.nan


def of(scale: str, s: float) -> tuple[float, float, float]:
    """Sigma, KL against N(0, 1) and the KL's gradient for s, of one dimension with mean 0, in fp32."""
    head = GaussianPosterior((1,), 1, scale=scale)  # type: ignore[arg-type]
    with torch.no_grad():
        head.linear.weight.copy_(torch.tensor([[0.0], [1.0]]))
        head.linear.bias.zero_()
    x = torch.tensor([[s]], requires_grad=True)
    q = head(x)
    found = kl(q, StandardNormal(LatentSpace((1,)), (1,), "real")(head), q.rsample((1,)))
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return q.base_dist.scale.item(), found.item(), x.grad.item()


@pytest.mark.parametrize(
    ("scale", "s", "sigma", "expected"),
    [
        ("log-variance", -1000.0, 0.0, INF),
        ("log-variance", -105.0, 1.6e-23, INF),
        ("log-variance", -20.0, 4.54e-5, 9.5),
        ("log-variance", 0.0, 1.0, 0.0),
        ("log-variance", 20.0, 2.2e4, 2.43e8),
        ("log-variance", 88.0, 1.29e19, 8.26e37),
        ("log-variance", 89.0, 2.12e19, NAN),
        ("log-variance", 1000.0, INF, NAN),
        ("softplus", -1000.0, 1e-6, 13.3),
        ("softplus", -105.0, 1e-6, 13.3),
        ("softplus", -20.0, 1.002e-6, 13.3),
        ("softplus", 0.0, 0.693, 0.107),
        ("softplus", 20.0, 20.0, 196.5),
        ("softplus", 88.0, 88.0, 3867.0),
        ("softplus", 89.0, 89.0, 3956.0),
        ("softplus", 1000.0, 1000.0, 5e5),
    ],
)
def test_the_table_of_the_docs(scale: str, s: float, sigma: float, expected: float) -> None:
    """The log-variance's KL is lost outside -103 to 88.7; softplus with its floor has one everywhere here."""
    found_sigma, found, gradient = of(scale, s)
    assert found_sigma == pytest.approx(sigma, rel=0.02)
    assert found == pytest.approx(expected, rel=0.01, nan_ok=True)
    assert math.isfinite(gradient) or not math.isfinite(expected)


def test_softplus_alone_underflows_where_its_floor_saves_it() -> None:
    """softplus(-104.5) is 0 in fp32, and so its logarithm is -inf; with 1e-6 it is finite; exp overflows by 88.8."""
    bare: Tensor = torch.nn.functional.softplus(torch.tensor(-104.5))
    assert bare.item() == 0
    assert bare.log().item() == -INF
    assert math.isfinite(of("softplus", -104.5)[1])
    assert torch.tensor(88.8).exp().item() == INF


@pytest.mark.parametrize(("scale", "code"), [("log-variance", 3), ("softplus", 0)])
def test_one_large_step_ends_the_one_training_and_not_the_other(cli: Cli, scale: str, code: int) -> None:
    """At a learning rate of 1 without clipping Method 1 diverges at step 1, by its KL, and Method 2 trains on."""
    training = ["train", "--dataset", "digits", "--hidden-dims", 16, "--latent-dim", 2, "--epochs", 5]
    result = cli(*training, "--lr", 1, "--grad-clip", 0, "--posterior-scale", scale, "--json")
    assert result.exit_code == code, result.output
    document = json.loads(result.stdout)
    if code:
        assert "kl is not finite at step 1" in document["error"]["message"]
    else:
        assert math.isfinite(document["metrics"]["elbo"])


@pytest.mark.parametrize("scale", ["softplus", "log-variance"])
def test_scale_and_kl_are_in_fp32_under_autocast(scale: str) -> None:
    """The networks may compute in bf16; sigma and the KL do not, and are off by the features' rounding alone."""
    torch.manual_seed(0)
    head = GaussianPosterior((8,), 3, scale=scale)  # type: ignore[arg-type]
    features = torch.randn(5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        q = head(features)
        found = kl(q, StandardNormal(LatentSpace((3,)), (1,), "real")(head), q.rsample((1,)))
    assert q.base_dist.scale.dtype == q.base_dist.loc.dtype == found.dtype == torch.float32
    q = head(features)
    assert torch.allclose(
        found, kl(q, StandardNormal(LatentSpace((3,)), (1,), "real")(head), q.rsample((1,))), rtol=0.1, atol=0.05
    )


def test_on_cuda_fp32_convolutions_are_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's default rounds what cuDNN convolves to ten bits; a device that is asked for turns that off."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    if not hasattr(torch.backends.cudnn, "conv"):  # before torch 2.9
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
        resolve_device("cuda")
        assert not torch.backends.cudnn.allow_tf32
        return
    convolutions = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "tf32"
    try:
        assert resolve_device("cuda") == torch.device("cuda")
        assert convolutions.fp32_precision == "ieee"
    finally:
        convolutions.fp32_precision = before
