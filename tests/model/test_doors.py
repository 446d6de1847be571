"""The doors between the parts: models that need labels, masks, several levels or an adversary go through all of them.

Their parts are in ``tests.support.parts``; nothing in the package knows them.
"""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import vaectl
from tests.support.parts import MODELS, Critic, data_for, spec_for
from tests.support.runs import begin, figures, moved, run_on, same_weights, tensors_and_figures
from tests.support.specs import spec_of
from tests.support.toys import toy_data
from vaectl.config.spec import Part
from vaectl.data.batch import Batch
from vaectl.data.examples import given_for
from vaectl.data.own.rows import ArrayRows
from vaectl.data.own.streamed import StreamedSplit
from vaectl.errors import UsageError
from vaectl.evaluation import latents
from vaectl.evaluation.disentanglement import disentanglement
from vaectl.evaluation.importance import importance_bound
from vaectl.evaluation.information import information
from vaectl.evaluation.metrics import evaluate
from vaectl.model.builder import build
from vaectl.model.distributions.levels import Levels
from vaectl.model.distributions.pixels import base_of
from vaectl.model.objectives import ELBO
from vaectl.model.vae import VAE
from vaectl.runs import checkpoints
from vaectl.runs.evaluating import evaluate_run
from vaectl.runs.resuming import resume_run
from vaectl.runs.run import Run
from vaectl.runs.training import train_run
from vaectl.training.replay import Tape
from vaectl.training.step import TrainStep
from vaectl.training.trainer import Epoch, RolledBack, Stopped, fit

pytestmark = pytest.mark.usefixtures("registered")

every_model = pytest.mark.parametrize("name", MODELS)


# --- training ---------------------------------------------------------------------------------------------------------


@every_model
def test_it_trains_recorded_as_it_does_plainly(name: str) -> None:
    """To the bit, with a short last batch; the bound rises."""
    spec, data = spec_for(name, epochs=3, batch_size=100, lr=1e-2), data_for(name)
    (plain, epochs), (fast, recorded) = (tensors_and_figures(spec, data, fast=choice) for choice in (False, True))
    assert plain.keys() == fast.keys()
    assert all(torch.equal(plain[key], fast[key]) for key in plain)
    assert epochs == recorded
    assert epochs[-1]["validation"]["elbo"] > epochs[0]["validation"]["elbo"]
    step = TrainStep(begin(spec, data), data.train)
    step((torch.arange(100),))
    assert isinstance(step._full_batch, Tape)
    assert step._full_batch.repeats


@every_model
@pytest.mark.parametrize("steps", [2, 3, 5])
def test_it_resumes_to_the_bit(name: str, steps: int) -> None:
    """From within an epoch and from the end of one, through plain numbers and copied tensors."""
    spec, data = spec_for(name), data_for(name)
    whole, first = begin(spec, data), begin(spec, data)
    expected = figures(run_on(whole, data, spec.training))
    seen = figures(run_on(first, data, spec.training, steps))
    second = moved(first, spec, data)
    assert [*seen, *figures(run_on(second, data, spec.training))][-1] == expected[-1]
    assert same_weights(second, whole)
    ours, theirs = second.tensors(), whole.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", ["conditional", "masked", "masked, optimal scale"])
def test_streamed_data_bring_the_same(name: str) -> None:
    """What is given and what was observed come with the examples, whether they are in memory or read."""
    spec, data = spec_for(name), data_for(name)

    def streamed(split: Any) -> StreamedSplit:
        rows = ArrayRows(split.images.numpy(), "channels first", "bytes")
        return StreamedSplit(rows, np.arange(len(split)), split.labels, given=split.given, observed=split.observed)

    read = dataclasses.replace(data, **{key: streamed(data.split(key)) for key in ("train", "validation", "test")})
    (weights, epochs), (others, same) = (tensors_and_figures(spec, each, fast=True) for each in (data, read))
    assert all(torch.equal(weights[key], others[key]) for key in weights)
    assert epochs == same
    for split, other in ((data.test, read.test), (data.test.first(7), read.test.first(7))):
        for ours, theirs in zip(split.batches(30), other.batches(30), strict=True):
            for field in ("x", "given", "observed"):
                one, two = getattr(ours, field), getattr(theirs, field)
                assert (one is None and two is None) or torch.equal(one, two)


def test_dynamic_binarisation_keeps_what_is_given_beside_its_draws() -> None:
    data = data_for("conditional")
    train = dataclasses.replace(data.train, grey=data.train.images)
    batch = train.training_batch((torch.tensor([3, 1, 2]),), slice(1, 3))
    assert batch.given is not None
    assert torch.equal(batch.given, data.train.given[[1, 2]])  # type: ignore[index]
    assert {*batch.x.unique().tolist()} <= {0.0, 1.0}


@every_model
def test_it_is_a_run_like_any_other(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, resumed and evaluated in a run folder, also with an adversary that is larger than the model."""
    monkeypatch.setattr(checkpoints, "SERIES_BYTES", 2**12)
    spec, data = spec_for(name, epochs=1), data_for(name)
    if name == "adversary":
        options = {**spec.objective.options, "units": 4000}
        spec = dataclasses.replace(spec, objective=dataclasses.replace(spec.objective, options=options))
    run = train_run(spec, data, tmp_path / "runs")
    resumed = resume_run(run, data, epochs=3)
    whole = train_run(spec.changed(epochs=3), data, tmp_path / "runs")
    ours, theirs = ((each.path / "last.safetensors").read_bytes() for each in (resumed, whole))
    assert ours == theirs
    opened = Run.open(run.path)
    assert opened.status == "completed"
    assert evaluate_run(opened, data)["metrics"] == opened.record["metrics"]
    model = opened.load_model()
    with torch.no_grad():
        assert model.sample(3, given=given_for(data.test, 3)).mean.shape == (3, *data.info.shape)


# --- what they come to ------------------------------------------------------------------------------------------------


def trained(name: str) -> tuple[VAE, Any]:
    spec, data = spec_for(name, epochs=4, lr=1e-2), data_for(name)
    state = begin(spec, data)
    run_on(state, data, spec.training)
    return state.model.eval(), data


@every_model
def test_it_is_evaluated_by_every_estimator(name: str) -> None:
    """elbo = -(recon + kl); K = 1 importance-weighted is the ELBO up to its errors, and more samples only raise it."""
    model, data = trained(name)
    result = evaluate(model, data.test, seed=1)
    metrics = result.metrics()
    assert metrics["elbo"] == pytest.approx(-(metrics["recon"] + metrics["kl"]), rel=1e-6)
    assert 0 <= metrics["active_units"] <= model.space.shape[0]
    assert len(result.kl_per_dim) == len(result.mean_variance) == len(result.prior_variance) == model.space.shape[0]
    assert float(result.kl_per_dim.sum()) == pytest.approx(metrics["kl"], rel=1e-5)
    one, many = (importance_bound(model, data.test, k, seed=2).to_json() for k in (1, 50))
    assert abs(one["bound"] - metrics["elbo"]) < 5 * (one["bound_se"] + metrics["elbo_se"])
    assert many["bound"] > one["bound"] - 3 * one["bound_se"]
    # per draw they add up to log q(z|x) - log p(z)
    known = information(model, data.test, draws=1000, seed=3)
    difference = known.mutual_information.mean + known.aggregate_kl.mean
    assert abs(difference - metrics["kl"]) < 5 * (known.mutual_information.se + known.aggregate_kl.se)
    split = dataclasses.replace(data.test, factors={"kind": data.test.labels.numpy()})
    gap = disentanglement(model, split)
    assert gap is not None
    assert 0 <= gap.mean <= 1


@every_model
def test_it_samples_encodes_and_decodes(name: str) -> None:
    model, data = trained(name)
    given = given_for(data.test, 5)
    assert (given is None) == (name != "conditional")
    with torch.no_grad():
        px = model.sample(5, given=given)
        cold = model.sample(5, 0.0, given)
        batch = data.test.batch(slice(0, 3))
        again = model.decode(model.encode(batch).mean, batch.given).mean
        walk = latents.interpolate(model, data.test.batch(slice(0, 2)), data.test.batch(slice(2, 4)), steps=4)
    assert px.mean.shape == cold.mean.shape == (5, *data.info.shape)
    assert again.shape == (3, *data.info.shape)
    assert walk.mean.shape == (8, *data.info.shape)
    codes = latents.encode(model, data.test)
    assert codes.mean.shape == codes.scale.shape == codes.draw.shape == (len(data.test), model.space.shape[0])
    assert (codes.scale > 0).all()


def test_a_conditional_model_is_conditioned() -> None:
    """Samples, likelihoods and bounds are those of the label, and a prior's mean moves with it."""
    model, data = trained("conditional")
    batch = data.test.batch(slice(None))
    swapped = Batch(batch.x, batch.given.flip(1))
    with torch.no_grad():
        right, wrong = (torch.cat([model.draw(b).elbo for _ in range(5)]).mean() for b in (batch, swapped))
        assert right > wrong
        ends = [model.sample(200, given=torch.eye(2)[[label] * 200]).mean.mean(0) for label in (0, 1)]
        means = [batch.x[data.test.labels == label].mean(0) for label in (0, 1)]
    for label in (0, 1):
        near, far = ((ends[label] - mean).square().mean() for mean in (means[label], means[1 - label]))
        assert near < far
    walk, _ = latents.traversal(
        VAE(model.encoder, FixedPrior(), model.decoder), torch.zeros(2), [0], 3, torch.eye(2)[:1]
    )
    assert walk.shape == (3, *data.info.shape)


class FixedPrior(torch.nn.Module):
    """A prior with quantiles that is conditioned on what is given, and does not depend on it."""

    def forward(self, encoder: object, given: Tensor | None = None) -> Any:
        return torch.distributions.Independent(torch.distributions.Normal(torch.zeros(1, 2), torch.ones(1, 2)), 1)


# --- missing values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["masked", "masked, optimal scale"])
def test_a_bound_counts_observed_values_only(name: str) -> None:
    """By hand over the pixels; what stands where a value is missing makes no difference to any number."""
    model, data = trained(name)
    batch = data.test.batch(slice(0, 9))
    garbage = dataclasses.replace(batch, x=torch.where(batch.observed, batch.x, 0.8))
    for training in (False, True):
        model.train(training)
        torch.manual_seed(0)
        draw = model.draw(batch, 2)
        each = base_of(draw.px)
        log_p = (
            each.log_prob_where(batch.x, batch.observed) if training and "optimal" in name else each.log_prob(batch.x)
        )
        assert torch.allclose(draw.log_px, (log_p * batch.observed).flatten(2).sum(2), rtol=1e-5)
        other = dataclasses.replace(draw, batch=garbage)
        assert torch.allclose(other.log_px, draw.log_px, rtol=1e-5)
    whole = Batch(batch.x, observed=torch.ones_like(batch.observed))
    torch.manual_seed(0)
    masked = model.eval().draw(whole)
    assert torch.allclose(masked.log_px, dataclasses.replace(masked, batch=Batch(batch.x)).log_px, rtol=1e-5)
    result = evaluate(model, data.test)
    squares = (model.decode(model.encode(batch).mean).mean - batch.x).square() * batch.observed
    by_hand = squares.flatten(1).sum(1) / batch.observed.flatten(1).sum(1)
    assert torch.allclose(result.per_example["mse"][:9].float(), by_hand, rtol=1e-4)


def test_a_distribution_of_whole_examples_cannot_leave_values_out() -> None:
    model, data = trained("masked")
    draw = model.draw(data.test.batch(slice(0, 2)))
    joint = torch.distributions.MultivariateNormal(torch.zeros(36), torch.eye(36))
    with pytest.raises(UsageError, match=r"MultivariateNormal.*part of an example"):
        _ = dataclasses.replace(draw, px=joint).log_px


# --- levels -----------------------------------------------------------------------------------------------------------


def test_levels_add_up() -> None:
    """Sums over levels are the joint densities; the KL by level is a mean over the draws of the level above."""
    model, data = trained("two levels")
    draw = model.draw(data.test.batch(slice(0, 9)), k=2000)
    assert len(draw.levels) == 2
    assert torch.allclose(draw.log_q, draw.q.log_prob(draw.z), rtol=1e-5)
    assert torch.allclose(draw.log_p, draw.p.log_prob(draw.z), rtol=1e-5)
    sampled = draw.log_q - draw.log_p
    errors = sampled.std(0) / 2000**0.5
    assert ((draw.kl - sampled.mean(0)).abs() < 5 * errors).all()
    assert draw.kl_per_dim.shape == (9, 4)
    assert torch.allclose(draw.kl_per_dim.sum(1), draw.kl, rtol=1e-4)
    joint = dataclasses.replace(
        draw, p=torch.distributions.Independent(torch.distributions.Normal(torch.zeros(4), 1.0), 1)
    )
    assert len(joint.levels) == 1
    assert torch.equal(joint.kl, (draw.q.log_prob(draw.z) - joint.log_p).mean(0))


def test_a_level_is_drawn_given_those_above_it() -> None:
    """z_2 = 3 z_1 + noise: its draws follow it, densities are those of the product, and means go down the levels."""

    def at(level: int, above: Tensor) -> Any:
        mean = 3 * above if level else torch.full((2, 1), 5.0)
        return torch.distributions.Independent(torch.distributions.Normal(mean, 0.1), 1)

    p = Levels((1, 1), at, (2,), torch.zeros(()))
    torch.manual_seed(0)
    z = p.sample((4000,))
    assert z.shape == (4000, 2, 2)
    residual = z[..., 1] - 3 * z[..., 0]
    assert abs(float(residual.mean())) < 5 * 0.1 / 8000**0.5
    assert float(residual.std()) == pytest.approx(0.1, rel=0.05)
    assert torch.equal(p.mean, torch.tensor([[5.0, 15.0]] * 2))
    normal = torch.distributions.Normal
    by_hand = normal(5.0, 0.1).log_prob(z[..., 0]) + normal(3 * z[..., 0], 0.1).log_prob(z[..., 1])
    assert torch.allclose(p.log_prob(z), by_hand)
    assert p.log_prob(z[:7, None]).shape == (7, 2, 2)[:2] or p.log_prob(z[:7, :1]).shape == (7, 2)


@pytest.mark.parametrize("objective", [Part("tc"), Part("iwae", {"gradient": "doubly-reparameterized"})])
def test_an_objective_of_one_level_refuses_two(objective: Part) -> None:
    spec = dataclasses.replace(spec_for("two levels"), objective=objective)
    with pytest.raises(UsageError, match=r"one level.*two-levels.*2"):
        build(spec, toy_data().info)


# --- objectives -------------------------------------------------------------------------------------------------------


def test_an_objective_is_made_of_the_seed_after_the_model() -> None:
    """Its parameters are the seed's, the model's weights are those without it, and torch's own stream is untouched."""
    spec, info = spec_for("adversary"), toy_data().info
    torch.manual_seed(1)
    model, objective = build(spec, info)
    after = torch.rand(1)
    torch.manual_seed(2)
    other, again = build(spec, info)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    assert isinstance(objective, Critic)
    assert objective.critic[0].in_features == 4, "it knows the latent space"
    assert all(torch.equal(a, b) for a, b in zip(objective.parameters(), again.parameters(), strict=True))
    plain, _ = build(dataclasses.replace(spec, objective=Part("elbo")), info)
    for one in (model, other):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), plain.parameters(), strict=True))


def test_an_adversary_learns_what_the_model_unlearns() -> None:
    """Each optimizer moves its own parameters by its own loss, at its own rate, and reports it by name."""
    spec, data = spec_for("adversary", epochs=1), data_for("adversary")
    state = begin(spec, data)
    model, objective = state.model, state.objective
    batch = data.train.training_batch((torch.arange(100),))
    torch.manual_seed(5)
    loss = objective(model.draw(batch), 1.0)
    assert loss.adversary is not None
    for_critic = torch.autograd.grad(loss.adversary, list(objective.parameters()), retain_graph=True)
    assert torch.autograd.grad(loss.adversary, list(model.parameters()), retain_graph=True, allow_unused=True) == (
        None,
    ) * len(list(model.parameters()))
    before = [parameter.detach().clone() for parameter in objective.parameters()]
    torch.manual_seed(5)
    step = TrainStep(state, data.train)
    report = step((torch.arange(100),))
    assert step.names == ("loss", "recon", "kl", "grad_norm", "total_correlation", "adversary")
    assert report[0] == pytest.approx(loss.total.item(), rel=1e-5)
    assert report[-1] == pytest.approx(loss.adversary.item(), rel=1e-5)
    for parameter, old, gradient in zip(objective.parameters(), before, for_critic, strict=True):
        moved_by = (parameter - old)[gradient.abs() > 1e-4]
        # Adam's first step has the size of the learning rate and the sign of the gradient
        assert torch.allclose(moved_by, -3e-3 * gradient[gradient.abs() > 1e-4].sign(), rtol=1e-3)


def test_terms_reach_the_epochs_events() -> None:
    """By name, as means over the epoch's examples; the terms of the bound are there already."""
    spec = spec_of({"epochs": 1}, objective=Part("tc"))
    data = toy_data()
    *_, epoch, _ = run_on(begin(spec, data), data, spec.training)
    assert isinstance(epoch, Epoch)
    assert epoch.terms.keys() == {"mutual_information", "total_correlation", "kl_by_dimension"}
    weights = {"mutual_information": 1.0, "total_correlation": 6.0, "kl_by_dimension": 1.0}
    assert epoch.recon + sum(weights[k] * v for k, v in epoch.terms.items()) == pytest.approx(epoch.loss, rel=1e-4)
    plain = spec_of({"epochs": 1})
    *_, epoch, _ = run_on(begin(plain, data), data, plain.training)
    assert isinstance(epoch, Epoch)
    assert epoch.terms == {}


def test_a_checkpoint_of_before_there_were_terms_is_resumed() -> None:
    """Its figures have no names and no columns for terms: the epoch's mean is that of the batches that have them."""
    spec, data = spec_of(objective=Part("tc")), toy_data()
    whole, first = begin(spec, data), begin(spec, data)
    run_on(whole, data, spec.training)
    run_on(first, data, spec.training, 4)
    tensors, values = first.tensors(), first.values()
    tensors["records"] = tensors["records"][:, :4]
    del values["figures"]
    second = begin(spec, data)
    second.model.load_state_dict({name: t.clone() for name, t in first.model.state_dict().items()})
    second.restore(tensors, values)
    epochs = [event for event in run_on(second, data, spec.training) if isinstance(event, Epoch)]
    assert same_weights(second, whole)
    assert all(np.isfinite(list(epoch.terms.values())).all() and epoch.terms for epoch in epochs)


def test_an_adversary_is_rolled_back_with_the_model() -> None:
    """Both rates fall, both come back to where the epoch began, and a step that is not finite moves neither."""
    spec = spec_for("adversary", on_nonfinite="rollback", epochs=2)
    data = data_for("adversary")
    broken = begin(spec, data)
    run_on(broken, data, spec.training, 3)  # the first epoch
    with torch.no_grad():
        critic: Any = broken.objective
        critic.critic[2].bias.fill_(torch.nan)
    good = [p.detach().clone() for p in broken.model.parameters()]
    TrainStep(broken, data.train)((torch.arange(100),))
    assert all(torch.equal(a, b) for a, b in zip(good, broken.model.parameters(), strict=True))
    state = begin(spec, data)
    lr = {name: optimizer.lr for name, optimizer in state.optimizers.items()}
    events = fit(state.model, state.objective, data, spec.training, state, fast=False)
    back = None
    for event in events:
        if state.step == 4 and back is None:
            state.objective.critic[2].bias.data.fill_(torch.nan)
        if isinstance(event, RolledBack):
            back = event
            assert {name: optimizer.lr for name, optimizer in state.optimizers.items()} == {
                name: rate / 2 for name, rate in lr.items()
            }
    assert back is not None
    assert all(parameter.isfinite().all() for parameter in state.objective.parameters())


def test_an_adversarys_loss_that_is_not_finite_ends_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the loss of the model is finite: without a word no step would be taken any more."""
    forward = Critic.forward

    def broken(self: Critic, draw: Any, scheduled: Any) -> Any:
        loss = forward(self, draw, scheduled)
        assert loss.adversary is not None
        return dataclasses.replace(loss, adversary=loss.adversary * torch.inf)

    spec, data = spec_for("adversary"), data_for("adversary")
    state = begin(spec, data)
    run_on(state, data, spec.training, 2)
    before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    monkeypatch.setattr(Critic, "forward", broken)
    end = list(fit(state.model, state.objective, data, spec.training, state, fast=False))[-1]
    assert isinstance(end, Stopped)
    assert (end.reason, end.problem) == ("diverged", "the adversary's loss is not finite at step 2")
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.model.state_dict().items())


def test_an_objective_that_needs_pairs_is_refused_in_the_core() -> None:
    """Not by the command alone: a program that shares batches would train on something else."""

    class Several:
        world = 2

    spec, data = spec_of(objective=Part("tc")), toy_data()
    model, objective = build(spec, data.info)
    with pytest.raises(UsageError, match=r"TotalCorrelation compares.*one process; got 2"):
        next(fit(model, objective, data, spec.training, processes=Several()))  # type: ignore[arg-type]


# --- rules ------------------------------------------------------------------------------------------------------------


def test_a_part_that_cannot_be_recorded_is_computed_plainly() -> None:
    spec = spec_of(encoder=Part("counting"), decoder=Part("informed"))
    data = toy_data()
    state = begin(spec, data)
    step = TrainStep(state, data.train)
    assert not step.fast
    run_on(state, data, spec.training)
    assert state.epoch == 3


def test_asking_for_a_log_probability_changes_nothing() -> None:
    """In every likelihood, while training; what learns does so when it is told of a step."""
    for likelihood in ("gaussian", "laplace"):
        spec = spec_of(likelihood=Part(likelihood, {"scale": "optimal"}))
        model, _ = build(spec, toy_data().info)
        batch = toy_data().train.batch(slice(0, 50))
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        draw = model.train().draw(batch)
        _ = draw.log_px, draw.px.log_prob(batch.x)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        model.observe(draw)
        assert any(not torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_means_over_a_batch_are_asked_of_the_draw() -> None:
    model, data = trained("masked")
    draw = model.draw(data.test.batch(slice(0, 8)))
    assert torch.equal(draw.mean(draw.kl), draw.kl.mean())
    assert draw.mean(draw.kl_per_dim).shape == (2,)
    assert isinstance(ELBO, type)


PACKAGE = Path(vaectl.__file__).parent


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_model_is_entered_by_its_own_methods(file: Path) -> None:
    """``encode``, ``decode`` and ``prior_at``: nothing but the model calls its encoder, decoder or prior."""
    if file == PACKAGE / "model" / "vae.py":
        return
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in ("encoder", "decoder", "prior"), f"{file}:{node.lineno}"
