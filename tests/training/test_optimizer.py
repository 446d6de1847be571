"""The optimizer is torch's clipping and AdamW, but for what it leaves out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vaectl.training import optimizer as optimizer_module
from vaectl.training.optimizer import AdamW


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 3))


def gradients(model: nn.Module, x: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    loss = model(x).square().sum()
    return torch.autograd.grad(loss, list(model.parameters())), loss.detach()


@pytest.mark.parametrize("clip", [0.0, 1e-3, 1.0, 1e6])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_it_is_torchs_clipping_and_adamw(clip: float, weight_decay: float) -> None:
    """The norm is that before clipping, and what moves the weights is clipped."""
    ours, theirs = net(), net()
    optimizer = AdamW(dict(ours.named_parameters()), lr=0.01, weight_decay=weight_decay, clip=clip)
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=weight_decay)
    for step in range(20):
        x = torch.randn(5, 9, generator=torch.Generator().manual_seed(step))
        norm = optimizer.step(*gradients(ours, x))
        reference.zero_grad()
        theirs(x).square().sum().backward()
        expected = nn.utils.clip_grad_norm_(theirs.parameters(), clip or float("inf"))
        reference.step()
        assert torch.allclose(norm, expected, rtol=1e-4)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("place", ["loss", "gradient"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_left_out(place: str, value: float) -> None:
    """Weights, moments and the number of steps stay, and the next step goes on from them."""
    model, other = net(), net()
    optimizer, reference = (AdamW(dict(m.named_parameters()), 0.01, 0.0, clip=1.0) for m in (model, other))
    x = torch.ones(5, 9)
    for one, m in ((optimizer, model), (reference, other)):
        one.step(*gradients(m, x))
    grads, loss = gradients(model, x)
    if place == "loss":
        loss = torch.tensor(value)
    else:
        grads[1][2] = value
    optimizer.step(grads, loss)
    for one, m in ((optimizer, model), (reference, other)):
        one.step(*gradients(m, x))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, reference.tensors()[name]) for name, a in optimizer.tensors().items())


def test_a_gradient_may_lie_in_memory_as_it_likes() -> None:
    """The kernel goes through memory, so a transposed or a broadcast gradient must be laid out first."""
    model, other = net(), net()
    laid_out = [torch.randn_like(p) for p in model.parameters()]
    laid_out[1] = torch.full_like(laid_out[1], 0.5)
    strange = [g.T.contiguous().T if g.dim() == 2 else g.clone() for g in laid_out]
    strange[1] = torch.tensor(0.5).expand(7)
    for m, grads in ((model, strange), (other, laid_out)):
        AdamW(dict(m.named_parameters()), 0.01, 0.0, clip=1.0).step(grads, torch.zeros(()))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_parameter_may_lie_in_memory_as_it_likes() -> None:
    """A transposed parameter, such as a convolution's in channels-last order, moves as torch moves it."""
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    ours, theirs = (nn.Parameter(start.clone().t()) for _ in range(2))
    assert not ours.is_contiguous()
    gradient = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    AdamW({"w": ours}, 0.1, 0.0, clip=0.0).step([gradient.clone()], torch.zeros(()))
    theirs.grad = gradient.clone()
    torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.0).step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_one_gradient_of_two_parameters_is_clipped_once() -> None:
    """Autograd gives the parameters of a sum the same tensor."""
    a, b = (nn.Parameter(torch.zeros(5)) for _ in range(2))
    optimizer = AdamW({"a": a, "b": b}, 0.1, 0.0, clip=0.01)
    gradients = torch.autograd.grad(((a + b) * torch.arange(5.0)).sum(), [a, b])
    assert gradients[0] is gradients[1]
    optimizer.step(gradients, torch.zeros(()))
    tensors = optimizer.tensors()
    assert torch.equal(tensors["a.exp_avg"], tensors["b.exp_avg"])


def test_double_precision_is_clipped_too() -> None:
    model = net().double()
    x = torch.ones(5, 9, dtype=torch.float64)
    before = [p.detach().clone() for p in model.parameters()]
    AdamW(dict(model.named_parameters()), 0.01, 0.0, clip=1e-3).step(*gradients(model, x))
    assert all(0 < (p - b).abs().max() < 0.011 for p, b in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize(("norm", "clip"), [(3e-6, 1e-6), (5.0, 0.5), (0.25, 0.5)])
@pytest.mark.parametrize("devices", [optimizer_module.SCALING_DEVICES, ()])
def test_the_moments_are_those_of_the_clipped_gradient(
    norm: float, clip: float, devices: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``g min(1, clip / (|g| + 1e-6))``, as torch clips; Adam's step itself hardly shows the scale of a gradient.

    The same on devices whose kernel does not clip.
    """
    monkeypatch.setattr(optimizer_module, "SCALING_DEVICES", devices)
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = AdamW({"p": parameter}, 0.01, 0.0, clip=clip)
    optimizer.step([torch.tensor([0.6 * norm, 0.8 * norm])], torch.zeros(()))
    clipped = torch.tensor([0.6, 0.8]) * norm * min(1.0, clip / (norm + 1e-6))
    tensors = optimizer.tensors()
    assert torch.allclose(tensors["p.exp_avg"], 0.1 * clipped, rtol=1e-4, atol=0)
    assert torch.allclose(tensors["p.exp_avg_sq"], 0.001 * clipped.square(), rtol=1e-3, atol=0)


def test_what_has_no_gradient_stays() -> None:
    model = net()
    before = [p.detach().clone() for p in model.parameters()]
    grads = [None, *(torch.ones_like(p) for p in list(model.parameters())[1:])]
    AdamW(dict(model.named_parameters()), 0.01, 0.1, clip=1.0).step(grads, torch.zeros(()))
    moved = [not torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True)]
    assert moved == [False, True, True, True]


def test_what_is_restored_must_fit() -> None:
    optimizer = AdamW(dict(net().named_parameters()), 0.01, 0.0, clip=1.0)
    tensors = {name: tensor.clone() for name, tensor in optimizer.tensors().items()}
    optimizer.step([torch.ones_like(p) for p in optimizer.parameters.values()], torch.zeros(()))
    optimizer.restore(tensors)
    optimizer.step([torch.ones_like(p) for p in optimizer.parameters.values()], torch.zeros(()))
    optimizer.restore({})  # a state of before the first step
    assert all(tensor.eq(0).all() for tensor in optimizer.tensors().values())
    with pytest.raises(ValueError, match=r"0\.weight\.exp_avg"):
        optimizer.restore({**tensors, "0.weight.exp_avg": torch.zeros(3)})
    del tensors["2.bias.step"]
    with pytest.raises(ValueError, match=r"2\.bias\.step"):
        optimizer.restore(tensors)
