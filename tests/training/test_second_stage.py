"""The second stage of a training: the prior alone, from the best weights, resumed and repeated as the first one is."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.runs import begin, figures, moved, run_on, same_weights, tensors_and_figures
from tests.support.specs import spec_of
from tests.support.toys import toy_data
from vaectl.config.spec import Part, Spec
from vaectl.data.base import Data
from vaectl.errors import SettingError
from vaectl.evaluation.metrics import evaluate
from vaectl.model.builder import build
from vaectl.training.state import TrainState
from vaectl.training.trainer import Epoch, Logged, PriorBegan, Step, Stopped, fit

KINDS: dict[str, dict[str, Any]] = {
    "moving averages": {"posterior": Part("quantized", {"codes": 8})},
    "codebook by its loss": {"posterior": Part("quantized", {"codes": 8, "codebook": "loss"})},
    "finite scalars": {"posterior": Part("fsq", {"levels": [3]}), "objective": Part("elbo")},
    "a mixture of Gaussians": {
        "posterior": Part("gaussian"), "objective": Part("elbo"), "prior": Part("mixture", {"components": 5})
    },
}  # fmt: skip


def two_stages(kind: str, **training: Any) -> Spec:
    """A spec of three epochs, and of three more for the prior alone."""
    small = Part("conv", {"width": 4, "depth": 2})
    parts = {"prior": Part("transformer", {"width": 8, "depth": 1, "heads": 2}), **KINDS[kind]}
    settings = {"prior_epochs": 3, **training}
    return spec_of(settings, recipe="vq-vae", latent_dim=3, encoder=small, decoder=small, **parts)


def copy_of(state: TrainState) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.model.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_stage_moves_the_prior_alone(kind: str) -> None:
    """Encoder, decoder and codebook stay as the first stage left them; the KL falls, the reconstruction stays."""
    data = toy_data()
    spec = two_stages(kind, prior_epochs=8, lr=1e-2)
    state = begin(spec, data)
    events = fit(state.model, state.objective, data, spec.training, state)
    seen: list[Any] = []
    before: dict[str, Tensor] = {}
    for event in events:
        seen.append(event)
        if isinstance(event, PriorBegan):
            before = copy_of(state)
    kinds = [type(event) for event in seen if not isinstance(event, Step | Logged)]
    assert kinds == [*[Epoch] * 3, PriorBegan, *[Epoch] * 8, Stopped]
    after = state.model.state_dict()
    moved_names = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert moved_names
    assert all(name.startswith("prior.") for name in moved_names)
    epochs = [event for event in seen if isinstance(event, Epoch)]
    first, last = epochs[3].validation, epochs[-1].validation
    assert last["recon"] == pytest.approx(epochs[2].validation["recon"], rel=1e-5) or kind == "a mixture of Gaussians"
    assert last["kl"] < first["kl"]
    assert [epoch.loss for epoch in epochs[3:]] == [pytest.approx(epoch.kl) for epoch in epochs[3:]]


def test_running_statistics_of_the_decoder_stay() -> None:
    """The scale of a likelihood that follows its training batches does not move either, and so the reconstruction."""
    data = toy_data()
    spec = dataclasses.replace(two_stages("moving averages"), likelihood=Part("gaussian", {"scale": "optimal"}))
    state = begin(spec, data)
    epochs = [event for event in run_on(state, data, spec.training) if isinstance(event, Epoch)]
    recon = [epoch.validation["recon"] for epoch in epochs]
    assert recon[3:] == [pytest.approx(recon[2])] * 3


def test_a_state_of_another_stage_is_no_state() -> None:
    """Values that say the second stage began, with weights of the first, or the other way round, are refused."""
    data, spec = toy_data(), two_stages("moving averages")
    for steps in (9, 10):  # the last of the first stage, and the first of the second
        state = begin(spec, data)
        run_on(state, data, spec.training, steps)
        if steps == 9:
            state.end_epoch(True, -1.0)
        values = state.values() | {"prior_began": None if state.prior_began else 1}
        with pytest.raises(ValueError, match="another stage"):
            state.restore(state.tensors(), values)
    uniform = dataclasses.replace(
        spec, prior=Part("uniform"), training=dataclasses.replace(spec.training, prior_epochs=0)
    )
    state = begin(uniform, data)
    run_on(state, data, uniform.training, 5)
    with pytest.raises(ValueError, match="another stage"):
        state.restore(state.tensors(), state.values() | {"prior_began": 1})


def test_the_bound_improves_by_the_bits_of_the_prior() -> None:
    """``h w log K`` without the second stage; with it exactly as much less as the ELBO is more."""
    data = toy_data()
    spec = two_stages("moving averages", epochs=5)
    found = {}
    for epochs in (0, 20):
        chosen = dataclasses.replace(spec, training=dataclasses.replace(spec.training, prior_epochs=epochs, lr=1e-2))
        state = begin(chosen, data)
        run_on(state, data, chosen.training)
        found[epochs] = evaluate(state.model, data.test).metrics()
    assert found[0]["kl"] == pytest.approx(4 * math.log(8))
    assert found[20]["kl"] < 0.8 * found[0]["kl"]
    assert found[20]["recon"] == pytest.approx(found[0]["recon"])
    assert found[20]["elbo"] - found[0]["elbo"] == pytest.approx(found[0]["kl"] - found[20]["kl"], rel=1e-4)
    assert found[0]["rate_bits"] == pytest.approx(12)


def test_it_begins_from_the_best_weights() -> None:
    """Where the last epoch of the first stage is not its best, the codes are those of the best."""
    data = toy_data(train=40, test=40)
    spec = two_stages("moving averages", epochs=40, batch_size=10, lr=3e-2)
    state = begin(spec, data)
    kept: dict[int, dict[str, Tensor]] = {}
    for event in fit(state.model, state.objective, data, spec.training, state):
        if isinstance(event, Epoch):
            kept[event.epoch] = copy_of(state)
        if isinstance(event, PriorBegan):
            assert event.best_epoch is not None
            assert event.best_epoch < event.epoch, "the test needs a last epoch that is not the best"
            best = {name: tensor for name, tensor in kept[event.best_epoch].items() if name != "prior.fitted"}
            now = state.model.state_dict()
            assert all(torch.equal(now[name], tensor) for name, tensor in best.items())
            return
    pytest.fail("there was no second stage")


def test_patience_ends_each_stage() -> None:
    """The first stage stops early and the second begins; its own patience counts from there."""
    data = toy_data(train=40, test=40)
    spec = two_stages("moving averages", epochs=300, prior_epochs=300, batch_size=10, lr=1e-2, patience=3)
    state = begin(spec, data)
    events = [e for e in run_on(state, data, spec.training) if not isinstance(e, Step)]
    (at,) = [place for place, event in enumerate(events) if isinstance(event, PriorBegan)]
    began = events[at]
    assert isinstance(began, PriorBegan)
    assert began.epoch < 300
    assert began.epoch - (began.best_epoch or 0) == 3
    assert began.last_epoch == began.epoch + 300
    end = events[-1]
    assert isinstance(end, Stopped)
    assert end.reason == "patience"
    assert began.epoch + 3 <= end.epoch < began.last_epoch


@pytest.mark.parametrize("steps", [1, 8, 9, 10, 11, 13, 17])
@pytest.mark.parametrize("kind", KINDS)
def test_both_stages_go_on_bit_for_bit_from_any_step(kind: str, steps: int) -> None:
    """Stopped before, at and after the border of the stages, a training ends in the bits of one that was not."""
    data = toy_data(train=350)  # 280 in batches of 100: three steps an epoch, nine a stage
    spec = two_stages(kind)
    whole = begin(spec, data)
    expected = run_on(whole, data, spec.training)
    first = begin(spec, data)
    before = run_on(first, data, spec.training, steps)
    second = moved(first, spec, data)
    second.best_weights = first.best_weights  # which a run has in a file of its own
    after = run_on(second, data, spec.training)
    assert figures(before) + figures(after) == figures(expected)
    assert same_weights(second, whole)
    assert second.prior_began == whole.prior_began == 3


def test_a_prior_can_be_fitted_later() -> None:
    """Trained without a second stage and gone on with one, the weights are those of a training that had it at once."""
    data = toy_data()
    without, with_prior = two_stages("moving averages", prior_epochs=0), two_stages("moving averages")
    first, whole = begin(without, data), begin(with_prior, data)
    expected = run_on(whole, data, with_prior.training)
    run_on(first, data, without.training)
    second = moved(first, with_prior, data)
    assert figures(run_on(second, data, with_prior.training)) == figures(expected)[3:]
    assert same_weights(second, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_both_stages_are_repeated_from_a_recording(kind: str) -> None:
    """Recorded or not, both stages give the same bits."""
    data, spec = toy_data(90), two_stages(kind, batch_size=30)
    (plain, epochs), (fast, repeated) = (tensors_and_figures(spec, data, fast=choice) for choice in (False, True))
    assert all(torch.equal(plain[name], fast[name]) for name in plain)
    assert repr(epochs) == repr(repeated)


@pytest.mark.parametrize("kind", ["moving averages", "finite scalars"])
def test_both_stages_in_bf16(kind: str) -> None:
    """Networks in bfloat16, codes and log-probabilities in fp32: the bound stays finite and near that of fp32."""
    data: Data = toy_data()
    found = {}
    for precision in ("fp32", "bf16"):
        spec = two_stages(kind, precision=precision, epochs=5, prior_epochs=5, lr=3e-3)
        state = begin(spec, data)
        run_on(state, data, spec.training)
        assert all(tensor.dtype != torch.bfloat16 for tensor in state.model.state_dict().values())
        found[precision] = evaluate(state.model, data.test).metrics()["elbo"]
    assert math.isfinite(found["bf16"])
    assert found["bf16"] == pytest.approx(found["fp32"], abs=4)


def test_a_prior_without_weights_cannot_be_fitted() -> None:
    spec = dataclasses.replace(two_stages("moving averages"), prior=Part("uniform"))
    with pytest.raises(SettingError, match=r"training\.prior_epochs.*'uniform' has nothing to fit"):
        build(spec, toy_data().info)
    gaussian = dataclasses.replace(two_stages("a mixture of Gaussians"), prior=Part("standard"))
    with pytest.raises(SettingError, match=r"training\.prior_epochs.*'standard' has nothing to fit"):
        build(gaussian, toy_data().info)
