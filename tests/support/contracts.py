"""Contracts that every combination of registered parts keeps, each a check of one combination."""

from __future__ import annotations

import dataclasses
import inspect
import tempfile
from pathlib import Path

import torch

from tests.support.combinations import Parts, combined, examples_for, gives, measures_of
from tests.support.runs import begin, tensors_and_figures
from tests.support.toys import toy_data
from vaectl.config.spec import Spec, Training
from vaectl.data.base import Data
from vaectl.model.builder import build
from vaectl.model.distributions.codes import CODES
from vaectl.model.layers.linear import onednn
from vaectl.model.objectives import OBJECTIVES
from vaectl.model.vae import VAE
from vaectl.runs import weights
from vaectl.training.replay import Tape
from vaectl.training.step import TrainStep

# --- models -----------------------------------------------------------------------------------------------------------


def a_draw_has_its_shapes(parts: Parts) -> None:
    """K draws of B examples: log quantities (K, B), kl and bounds (B,), and elbo = -(recon + kl)."""
    info, x = examples_for(parts[3])
    model, objective = build(combined(*parts), info)
    draw = model.draw(x, k=4)
    for value in (draw.log_px, draw.log_q, draw.log_p):
        assert value.shape == (4, 9)
    for value in (draw.kl, draw.recon, draw.elbo):
        assert value.shape == (9,)
        assert value.isfinite().all()
    assert torch.equal(draw.elbo, -(draw.recon + draw.kl))
    loss = objective(draw, objective.scheduled(0))
    assert loss.total.shape == ()
    assert all(term.shape == (9,) for term in loss.terms.values())


def spread_codes(model: VAE, posterior: str) -> None:
    """Before it has learned anything all finite scalars are 0, and so is the gradient of a decoder's first layer."""
    if posterior == "fsq":
        torch.nn.init.normal_(model.encoder.head.linear.weight, std=3.0)


def every_parameter_receives_a_gradient(parts: Parts) -> None:
    info, x = examples_for(parts[3])
    torch.manual_seed(0)
    model, objective = build(combined(*parts), info)
    spread_codes(model, parts[1])
    # a controller's weight of the KL is 0 until it has seen a draw
    objective.observe(model.draw(x))
    loss = objective(model.draw(x), objective.scheduled(0)).total
    if parts[2] == "transformer":  # it learns alone, afterwards, and its last layer alone begins at 0
        model.prior.begin_fit()
        torch.nn.init.normal_(model.prior.transformer.logits.weight, std=0.1)
        loss = loss + model.draw(x).kl.mean()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def saved_and_loaded_weights_compute_the_same(parts: Parts) -> None:
    """A round trip through safetensors into a newly built model gives the same bits."""
    info, x = examples_for(parts[3])
    spec = combined(*parts)
    model, _ = build(spec, info)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    again, _ = build(spec, info)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        weights.save(file, model.state_dict(), spec.to_json())
        again.load_state_dict(weights.read(file, spec.to_json(), again.state_dict()))
    torch.manual_seed(3)
    before = model.draw(x).elbo
    torch.manual_seed(3)
    assert torch.equal(again.draw(x).elbo, before)


def samples_lie_in_the_support(parts: Parts) -> None:
    """Draws lie in the support; they, means and modes have the data's shape, in [0, 1] unless any number is data."""
    info, _ = examples_for(parts[3])
    model, _ = build(combined(*parts), info)
    px = model.sample(5)
    drawn = px.sample()
    assert px.support.check(drawn).all()
    for images in (px.mean, px.mode, drawn):
        assert images.shape == (5, *info.shape)
        assert images.isfinite().all()
        assert "real" in measures_of(parts[3]) or ((images >= 0) & (images <= 1)).all()


# --- trainings --------------------------------------------------------------------------------------------------------


def warms_up(parts: Parts) -> bool:
    """Whether the weight of the KL can rise: its objective has a warm-up, and the KL is not the same always."""
    return "warmup_epochs" in inspect.signature(OBJECTIVES[parts[4]]).parameters and gives(parts[1]) != CODES


def a_step_is_repeated_bit_for_bit(parts: Parts) -> None:
    """Two epochs of three batches, the last of them short, while the weight of the KL rises."""
    data = toy_data(90)
    spec = combined(*parts)
    spec = dataclasses.replace(
        spec,
        objective=dataclasses.replace(spec.objective, options={"warmup_epochs": 2} if warms_up(parts) else {}),
        training=Training(epochs=2, batch_size=30, lr=1e-2),
    )
    if "binary" not in data.info.support and parts[3] == "bernoulli":
        data = dataclasses.replace(data, train=dataclasses.replace(data.train, grey=data.train.images))
    (plain, epochs), (fast, repeated) = (tensors_and_figures(spec, data, fast=choice) for choice in (False, True))
    assert plain.keys() == fast.keys()
    assert all(torch.equal(plain[name], fast[name]) for name in plain)
    assert repr(epochs) == repr(repeated)


def recorded(spec: Spec, data: Data) -> Tape:
    """The recording of a training's first step."""
    step = TrainStep(begin(spec, data), data.train)
    step((torch.arange(spec.training.batch_size),))
    assert isinstance(step._full_batch, Tape)
    return step._full_batch


def a_step_can_be_repeated(parts: Parts) -> None:
    """Nothing asks for a tensor's value within a step, which would also make an accelerator wait."""
    onednn.cache_clear()  # nor does the first step of a process
    spec = dataclasses.replace(combined(*parts), training=Training(batch_size=30))
    assert recorded(spec, toy_data(90)).repeats


OF_MODELS = (
    a_draw_has_its_shapes,
    every_parameter_receives_a_gradient,
    saved_and_loaded_weights_compute_the_same,
    samples_lie_in_the_support,
)
OF_TRAININGS = (a_step_is_repeated_bit_for_bit, a_step_can_be_repeated)
