"""The layer through oneDNN is torch's layer, in results and gradients, to rounding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vaectl.model.layers.linear import LEAST_WEIGHTS, Linear, onednn


@pytest.fixture(params=[(1,), (3,), (2, 5), (4, 1, 3)], ids=str)
def pair(request: pytest.FixtureRequest) -> tuple[Linear, torch.Tensor]:
    torch.manual_seed(0)
    return Linear(160, 120), torch.randn(*request.param, 160, requires_grad=True)


def test_results_and_gradients_are_torchs(pair: tuple[Linear, torch.Tensor]) -> None:
    """Within 1e-5 of the exact result, in units of its scale, as torch's own products are."""
    layer, x = pair
    assert layer.weight.numel() >= LEAST_WEIGHTS
    y = layer(x)
    weight = torch.randn_like(y)
    found = torch.autograd.grad((y * weight).sum(), (x, layer.weight, layer.bias))
    exact = [t.detach().double().requires_grad_() for t in (x, layer.weight, layer.bias)]
    y_exact = F.linear(*exact)
    expected = torch.autograd.grad((y_exact * weight.double()).sum(), exact)
    for a, b in zip((y, *found), (y_exact, *expected), strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_data_get_no_gradient_of_their_own(pair: tuple[Linear, torch.Tensor]) -> None:
    layer, x = pair
    layer(x.detach()).sum().backward()
    assert layer.weight.grad is not None
    assert x.grad is None


def test_gradients_can_be_differentiated_again(pair: tuple[Linear, torch.Tensor]) -> None:
    """A gradient penalty reaches the weights as it does through torch's layer."""
    layer, x = pair

    def penalty(y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (g,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), (layer.weight, layer.bias))

    for ours, theirs in zip(penalty(layer(x)), penalty(F.linear(x, layer.weight, layer.bias)), strict=True):
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_no_examples_are_no_error() -> None:
    layer = Linear(160, 120)
    layer(torch.zeros(0, 160)).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.eq(0).all()


def test_parameters_and_initial_weights_are_torchs() -> None:
    torch.manual_seed(3)
    ours = Linear(20, 10)
    torch.manual_seed(3)
    theirs = nn.Linear(20, 10)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_torchs_own(dtype: torch.dtype) -> None:
    layer = Linear(160, 120).to(dtype)
    x = torch.randn(4, 160, dtype=dtype)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


def test_autocast_decides_the_type() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert Linear(160, 120)(torch.randn(4, 160)).dtype == torch.bfloat16


def test_without_onednn_it_is_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where torch no longer has the operator, or it answers something else."""
    x = torch.randn(4, 160)
    layer = Linear(160, 120)
    expected = F.linear(x, layer.weight, layer.bias)
    for operator in (None, lambda x, *others: x @ torch.zeros(3, 2)):
        onednn.cache_clear()
        with monkeypatch.context() as patch:
            if operator is None:
                patch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
            else:
                patch.setattr(torch.ops.mkldnn, "_linear_pointwise", operator)
            assert onednn() is None
            assert torch.equal(layer(x), expected)
    onednn.cache_clear()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_an_exported_graph_has_torchs_operator() -> None:
    """As exporters to ONNX trace it, by either way; they know no product of oneDNN's."""
    torch.manual_seed(0)
    layer, x = Linear(160, 120).eval(), torch.randn(3, 160)
    traced = torch.jit.trace(layer, (x,))
    assert "aten::linear" in str(traced.inlined_graph)
    exported = torch.export.export(layer, (x,), strict=False)
    assert any("aten.linear" in str(node.target) for node in exported.graph.nodes)
    for graph in (traced, exported.module()):
        assert torch.allclose(graph(x), layer(x), atol=1e-5)
