"""A step repeated from its recording is the step as it is written, bit for bit, for every part there is."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support import contracts
from tests.support.combinations import COMBINATIONS, Parts, combined
from tests.support.marks import some
from tests.support.runs import tensors_and_figures
from tests.support.toys import toy_data
from vaectl.config.spec import Training
from vaectl.model.builder import build
from vaectl.model.distributions.pixels import base_of
from vaectl.training.replay import Tape, _Recorder, repeated
from vaectl.training.state import TrainState
from vaectl.training.step import TrainStep
from vaectl.training.trainer import Step, fit

CPU = torch.device("cpu")


@pytest.mark.parametrize("parts", some(COMBINATIONS, 4), ids="-".join)
@pytest.mark.parametrize("contract", contracts.OF_TRAININGS, ids=lambda contract: contract.__name__)
def test_every_part_is_repeated(contract: Callable[[Parts], None], parts: Parts) -> None:
    contract(parts)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_precisions_are_repeated(precision: str) -> None:
    data = toy_data(90)
    spec = dataclasses.replace(
        combined("mlp", "gaussian", "standard", "bernoulli", "elbo"),
        training=dataclasses.replace(Training(epochs=2, batch_size=30), precision=precision),
    )
    (plain, _), (fast, _) = (tensors_and_figures(spec, data, fast=choice) for choice in (False, True))
    assert all(torch.equal(plain[name], fast[name]) for name in plain)


def test_half_precision_is_of_the_products_alone() -> None:
    """With --precision bf16 weights, moments, distributions, terms and the loss are fp32."""
    data = toy_data(90)
    training = Training(batch_size=30, precision="bf16")
    spec = dataclasses.replace(combined("mlp", "gaussian", "standard", "bernoulli", "elbo"), training=training)
    model, objective = build(spec, data.info)
    state = TrainState(model, objective, training, len(data.train))
    seen: set[torch.dtype] = set()
    forward = objective.forward

    def look(draw, scheduled):  # type: ignore[no-untyped-def]
        loss = forward(draw, scheduled)
        parameters = (base_of(draw.q).loc, base_of(draw.q).scale, draw.z, base_of(draw.px).logits)
        seen.update(t.dtype for t in (*parameters, draw.log_px, draw.kl, loss.total))
        return loss

    objective.forward = look  # type: ignore[method-assign]
    layers: set[torch.dtype] = set()
    model.encoder.network.register_forward_hook(lambda module, args, out: layers.add(out.dtype))
    TrainStep(state, data.train, fast=False)((torch.arange(30),))
    assert seen == {torch.float32}
    assert layers == {torch.bfloat16}
    assert {t.dtype for t in (*model.state_dict().values(), *state.optimizer.tensors().values())} == {torch.float32}


@pytest.mark.parametrize("fast", [False, True])
def test_frozen_parameters_stay_and_the_others_train(fast: bool) -> None:
    data = toy_data(90)
    spec = dataclasses.replace(
        combined("mlp", "gaussian", "standard", "bernoulli", "elbo"), training=Training(epochs=1, batch_size=30)
    )
    model, objective = build(spec, data.info)
    model.encoder.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    list(fit(model, objective, data, spec.training, fast=fast))
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if name.startswith("decoder.")}


@pytest.mark.parametrize("fast", [False, True])
def test_a_learning_rate_set_between_steps_counts(fast: bool) -> None:
    data = toy_data(90)
    spec = dataclasses.replace(
        combined("mlp", "gaussian", "standard", "bernoulli", "elbo"), training=Training(epochs=1, batch_size=24)
    )
    model, objective = build(spec, data.info)
    state = TrainState(model, objective, spec.training, len(data.train))
    weights: list[Tensor] = []
    for event in fit(model, objective, data, spec.training, state, fast=fast):
        if isinstance(event, Step):
            weights.append(next(model.parameters()).detach().clone())
            state.optimizer.lr = 0.0
    assert len(weights) == 3
    assert torch.equal(weights[0], weights[2])


def test_a_recording_keeps_nothing_alive() -> None:
    data = toy_data(90)
    spec = dataclasses.replace(
        combined("mlp", "gaussian", "standard", "bernoulli", "elbo"), training=Training(batch_size=30)
    )
    model, objective = build(spec, data.info)
    state = TrainState(model, objective, spec.training, len(data.train))
    step = TrainStep(state, data.train)
    step((torch.arange(30),))
    gone = weakref.ref(state)
    gc.disable()
    try:
        del step, state
        assert gone() is None
    finally:
        gc.enable()


# --- computations of other kinds --------------------------------------------------------------------------------------


def test_tensors_from_outside_count_as_they_are_at_the_time() -> None:
    """Also through their views, and where they change in place within the computation."""
    weight, x, total = torch.arange(6.0).view(2, 3), torch.ones(3), torch.zeros(2)

    def compute() -> Tensor:
        y = weight.t().t() @ x
        total.add_(y)
        return y * 2 + total

    tape = repeated(compute, CPU)
    results = []
    for factor in (1, 2, 3):
        x.fill_(factor)
        weight.add_(1)
        results.append(tape().clone())
    weight, x, total = torch.arange(6.0).view(2, 3), torch.ones(3), torch.zeros(2)
    for factor, result in zip((1, 2, 3), results, strict=True):
        x.fill_(factor)
        weight.add_(1)
        assert torch.equal(compute(), result)


def test_random_numbers_are_drawn_anew_from_the_same_stream() -> None:
    def compute() -> Tensor:
        return torch.randn(3) + torch.rand(3).bernoulli()

    torch.manual_seed(0)
    expected = [compute() for _ in range(4)]
    torch.manual_seed(0)
    tape = repeated(compute, CPU)
    assert all(torch.equal(tape(), value) for value in expected)


def test_operators_of_several_results_are_repeated() -> None:
    x = torch.randn(8, 3)

    def compute() -> Tensor:
        a, b = x.chunk(2)
        values, _ = (a * b).sort(0)
        return values

    tape = repeated(compute, CPU)
    for _ in range(3):
        x.normal_()
        assert torch.equal(tape(), compute())


def test_results_that_are_none_are_left_out() -> None:
    """A convolution of data gives its weights a gradient, and the data none."""
    x, weight = torch.randn(2, 1, 6, 6), torch.randn(3, 1, 3, 3, requires_grad=True)
    bias = torch.zeros(3, requires_grad=True)

    def compute() -> Tensor:
        y = torch.nn.functional.conv2d(x, weight, bias).square().sum()
        return torch.cat([g.flatten() for g in torch.autograd.grad(y, (weight, bias))])

    tape = repeated(compute, CPU)
    for _ in range(3):
        x.normal_()
        assert torch.equal(tape(), compute())


def test_a_copy_between_devices_is_not_repeated() -> None:
    """Nor captured: on CUDA the host's numbers would be those of the first time."""
    tape = repeated(lambda: torch.ones(3).to("meta"), CPU)
    assert isinstance(tape, Tape)
    tape()
    assert not tape.repeats


def test_what_a_computation_reads_is_known() -> None:
    """A graph must hold it, however it came there: for instance from a cache that forgets it."""
    weight, x = torch.ones(3), torch.zeros(3)

    def compute() -> Tensor:
        x.add_(1)
        return x[:2] + weight.mul(2)[1:]

    with _Recorder() as recorder:
        compute()
    assert {tensor.data_ptr() for tensor in recorder.outside()} == {weight.data_ptr(), x.data_ptr()}


@pytest.mark.parametrize("ask", [lambda x: x.sum().item() > 0, lambda x: bool((x > 0).all()), lambda x: x.nonzero()])
def test_what_depends_on_values_is_not_repeated(ask) -> None:  # type: ignore[no-untyped-def]
    x = torch.ones(3)

    def compute() -> Tensor:
        answer = ask(x)
        return x * (2 if (len(answer) if isinstance(answer, Tensor) else answer) else 3)

    tape = repeated(compute, CPU)
    for value in (1.0, -1.0, 1.0):
        x.fill_(value)
        assert torch.equal(tape(), compute())


def test_a_computation_that_fails_is_as_it_was() -> None:
    calls: list[int] = []

    def compute() -> Tensor:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("once")
        return torch.ones(1) * 2

    tape = repeated(compute, CPU)
    with pytest.raises(RuntimeError, match="once"):
        tape()
    assert [tape().item() for _ in range(3)] == [2.0] * 3
    assert len(calls) == 2
