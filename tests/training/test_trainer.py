"""Training and evaluation: the traps that peers fell into, each with a test that fails on the mistake."""

from __future__ import annotations

import dataclasses
import math
import time

import pytest
import torch

from tests.support.specs import spec_of
from tests.support.toys import normal_kl, toy_data
from vaectl.config.spec import Part, Spec
from vaectl.data.base import Data
from vaectl.evaluation import metrics
from vaectl.evaluation.metrics import bits_per_dim, evaluate
from vaectl.model.builder import build
from vaectl.model.distributions.codes import LatentSpace
from vaectl.model.objectives import ELBO, TrainingSet
from vaectl.model.posteriors import GaussianPosterior
from vaectl.model.vae import VAE
from vaectl.training import trainer
from vaectl.training.figures import Figures
from vaectl.training.trainer import Epoch, Event, Step, Stopped, fit

SPACE = LatentSpace((2,))


def small_spec(**training: float) -> Spec:
    return spec_of({"batch_size": 32, **training})


def train(spec: Spec, data: Data) -> tuple[VAE, list[Event]]:
    model, objective = build(spec, data.info)
    return model, list(fit(model, objective, data, spec.training))


def epochs_of(events: list[Event]) -> list[Epoch]:
    return [event for event in events if isinstance(event, Epoch)]


def test_the_loss_sums_over_pixels_and_dimensions_and_averages_over_examples() -> None:
    """Recon is a sum over pixels, KL a sum over dimensions, both a mean over examples, in nats."""
    data = toy_data()
    model, objective = build(small_spec(), data.info)
    x = data.train.batch(slice(0, 20)).x
    draw = model.draw(x)
    logits = draw.px.base_dist.logits[0]  # type: ignore[attr-defined]
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
    by_hand = (bce + normal_kl(draw.q.mean, draw.q.stddev)).mean()
    assert torch.allclose(objective(draw, objective.scheduled(10**6)).total, by_hand, rtol=1e-5)


def test_the_loss_does_not_depend_on_how_the_set_is_split_into_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means are over examples, so a short last batch counts by its examples."""
    data = toy_data(test=103)
    model, objective = build(small_spec(), data.info)
    results = {}
    for size in (103, 50, 102):
        monkeypatch.setattr(metrics, "EVALUATION_BATCH", size)
        results[size] = evaluate(model, data.test, loss=lambda draw: objective(draw, objective.scheduled(0)))
    for size in (50, 102):
        recon, kl = (results[size].per_example[name].mean().item() for name in ("recon", "kl"))
        assert results[size].loss == pytest.approx(recon + kl, rel=1e-6), "the loss weighs batches by their examples"
        assert torch.allclose(results[size].per_example["kl"], results[103].per_example["kl"], atol=1e-5)
        at_mean = "recon_at_mean"
        assert torch.allclose(results[size].per_example[at_mean], results[103].per_example[at_mean], atol=1e-4)
        assert results[size].active_units == results[103].active_units
        assert torch.allclose(results[size].kl_per_dim, results[103].kl_per_dim, atol=1e-6)
        assert results[size].metrics()["kl"] == pytest.approx(results[103].per_example["kl"].mean().item(), abs=1e-5)


def test_a_last_batch_of_one_and_a_batch_larger_than_the_set_train() -> None:
    """33 examples in batches of 32 leave one; 33 in a batch of 1000 fit at once."""
    data = toy_data(train=33, test=5, validation_fraction=0.0)
    for size in (32, 1000):
        _, events = train(small_spec(batch_size=size), data)
        assert isinstance(events[-1], Stopped)
        assert events[-1].reason == "completed"
        assert sum(isinstance(event, Step) for event in events) == 3 * math.ceil(33 / size)


def test_the_epoch_means_weigh_batches_by_their_examples() -> None:
    """With a learning rate that moves nothing the epoch's recon is the mean over all examples, short batch and all."""
    data = toy_data(train=40, test=5, validation_fraction=0.0)
    spec = small_spec(batch_size=39, lr=1e-12, epochs=1)
    model, objective = build(spec, data.info)
    (epoch,) = epochs_of(list(fit(model, objective, data, spec.training)))
    kl = evaluate(model, data.train).per_example["kl"].mean().item()
    assert epoch.kl == pytest.approx(kl, rel=1e-5)
    assert epoch.elbo == pytest.approx(-(epoch.recon + epoch.kl), abs=1e-9)


def test_the_validation_elbo_is_at_beta_one_whatever_beta() -> None:
    data = toy_data()
    spec = dataclasses.replace(small_spec(epochs=1), objective=Part("elbo", {"beta": 7.0, "warmup_epochs": 0}))
    _, events = train(spec, data)
    (epoch,) = epochs_of(events)
    v = epoch.validation
    assert v["elbo"] == pytest.approx(-(v["recon"] + v["kl"]), abs=1e-4)
    assert v["loss"] == pytest.approx(v["recon"] + 7 * v["kl"], rel=1e-5)
    assert epoch.loss == pytest.approx(epoch.recon + 7 * epoch.kl, rel=1e-5)


def test_evaluation_samples_and_is_not_at_the_mean() -> None:
    """The ELBO needs a draw; the reconstruction at the posterior mean has a name of its own."""
    data = toy_data()
    model, _ = train(small_spec(epochs=8), data)
    result = evaluate(model, data.test, seed=0)
    other = evaluate(model, data.test, seed=1)
    assert not torch.equal(result.per_example["recon"], other.per_example["recon"])
    assert torch.equal(result.per_example["recon_at_mean"], other.per_example["recon_at_mean"])
    assert result.per_example["recon"].mean() > result.per_example["recon_at_mean"].mean()
    assert torch.equal(evaluate(model, data.test, seed=0).per_example["elbo"], result.per_example["elbo"])


def test_evaluation_leaves_the_training_stream_and_mode_alone() -> None:
    data = toy_data()
    model, _ = build(small_spec(), data.info)
    model.train()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    evaluate(model, data.test)
    assert torch.equal(torch.rand(3), expected)
    assert model.training


def test_standard_errors_are_over_examples() -> None:
    data = toy_data()
    model, _ = build(small_spec(), data.info)
    result = evaluate(model, data.test)
    values = result.per_example["elbo"]
    assert result.metrics()["elbo_se"] == pytest.approx(values.std().item() / len(values) ** 0.5, rel=1e-9)


def test_bits_per_dimension_are_over_channels_too() -> None:
    """12 ln 2 and 24 ln 2 nats for 3 x 2 x 2 numbers are 1 and 2 bits for each."""
    bits = bits_per_dim(-12 * math.log(2) * torch.tensor([1.0, 2.0], dtype=torch.float64), (3, 2, 2))
    assert bits == pytest.approx((1.5, 0.5))


def test_active_units_on_useless_and_perfect_codes() -> None:
    """A dimension whose mean never moves is inactive; one that carries the data is active."""
    data = toy_data()
    model, _ = build(small_spec(), data.info)
    head: GaussianPosterior = model.encoder.head  # type: ignore[assignment]
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.weight[1].fill_(5.0)  # the mean of z1
    result = evaluate(model, data.test)
    assert result.mean_variance[0] == 0
    assert result.active_units == 1


@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
def test_warmup_rises_linearly_from_zero_to_beta(beta: float) -> None:
    objective = ELBO(TrainingSet(100, 10), SPACE, beta=beta, warmup_epochs=2)
    assert objective.beta(0) == 0
    assert objective.beta(10) == pytest.approx(beta / 2)
    assert objective.beta(20) == objective.beta(10**9) == beta
    assert ELBO(TrainingSet(100, 10), SPACE, beta=beta, warmup_epochs=0).beta(0) == beta


def test_equal_seeds_give_equal_bits_and_other_seeds_other_ones() -> None:
    data = toy_data()
    runs = [train(small_spec(seed=seed), data) for seed in (0, 0, 1)]
    states = [model.state_dict() for model, _ in runs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])
    first, second = ([e.validation for e in epochs_of(events)] for _, events in runs[:2])
    assert first == second


def test_validation_does_not_change_training() -> None:
    """The weights after one epoch are the same whether or not validation draws samples in between."""
    data = toy_data(validation_fraction=0.2)
    without = dataclasses.replace(data, validation=data.validation.first(0))
    one, _ = train(small_spec(), data)
    two, _ = train(small_spec(), without)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def scripted(monkeypatch: pytest.MonkeyPatch, elbos: list[float], losses: list[float] | None = None) -> None:
    """Let validation find these bounds, and losses, epoch after epoch."""
    course = iter(zip(elbos, losses or elbos, strict=True))

    def validate(*_: object) -> dict[str, float]:
        elbo, loss = next(course)
        return {"elbo": elbo, "recon": 1.0, "kl": 1.0, "loss": loss, "active_units": 1}

    monkeypatch.setattr(trainer, "_validate", validate)


def test_the_best_epoch_follows_the_bound_and_not_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is lowest in epoch 1, early in a warm-up, and in epoch 4; the ELBO after warm-up in epoch 3."""
    scripted(monkeypatch, [-2.0, -9.0, -3.0, -5.0], [1.0, 9.0, 8.0, 2.0])
    spec = dataclasses.replace(small_spec(epochs=4), objective=Part("elbo", {"beta": 1.0, "warmup_epochs": 2}))
    _, events = train(spec, toy_data())
    assert [epoch.epoch for epoch in epochs_of(events) if epoch.improved] == [1, 2, 3]
    assert epochs_of(events)[-1].best_epoch == 3


def test_patience_counts_only_after_warmup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four bad epochs within a warm-up of five stop nothing; two after it do, and the best is a warm one."""
    scripted(monkeypatch, [-1.0, -9.0, -9.0, -9.0, -8.0, -7.0, -7.5, -7.2, -1.0])
    objective = Part("elbo", {"beta": 1.0, "warmup_epochs": 5})
    spec = dataclasses.replace(small_spec(epochs=9, patience=2), objective=objective)
    _, events = train(spec, toy_data())
    assert events[-1] == Stopped("patience", 8, events[-1].step, 6)
    assert [epoch.epoch for epoch in epochs_of(events) if epoch.improved] == [1, 5, 6]


def test_without_patience_all_epochs_run(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [-1.0, -2.0, -3.0, -4.0])
    _, events = train(small_spec(epochs=4), toy_data())
    end = events[-1]
    assert isinstance(end, Stopped)
    assert (end.reason, end.epoch, end.best_epoch) == ("completed", 4, 1)


def test_a_loss_that_is_not_finite_stops_before_the_step() -> None:
    """The term and the step are named, and the weights are those before the step."""
    data = toy_data()
    spec = small_spec()
    model, objective = build(spec, data.info)
    with torch.no_grad():
        model.decoder.head.linear.bias.fill_(float("inf"))  # type: ignore[union-attr]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    (end,) = fit(model, objective, data, spec.training)
    assert isinstance(end, Stopped)
    assert end.reason == "diverged"
    assert end.problem == "recon is not finite at step 0"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_images_per_second_count_the_work_that_an_accelerator_has_yet_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU runs behind Python, which waits for it when it first reads the figures."""
    wait = 0.1

    def finite(self: Figures) -> bool:
        time.sleep(wait)
        return bool(self.values.isfinite().all())

    monkeypatch.setattr(Figures, "finite", property(finite))
    data = toy_data()
    (epoch,) = epochs_of(train(small_spec(epochs=1), data)[1])
    assert epoch.images_per_second <= len(data.train) / wait


def test_training_learns_the_two_classes() -> None:
    """On two kinds of images a latent dimension becomes active and the bound rises well above the untrained one."""
    data = toy_data()
    model, _ = build(small_spec(), data.info)
    before = evaluate(model, data.test).metrics()["elbo"]
    model, _ = train(small_spec(epochs=40, lr=3e-3), data)
    result = evaluate(model, data.test)
    assert result.metrics()["elbo"] > before + 3
    assert result.active_units >= 1


def test_with_a_target_for_the_kl_the_best_epoch_is_one_that_is_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ELBO is highest in epoch 1, where the controller has not yet brought the KL down to 5 nats."""
    course = iter([(-1.0, 9.0), (-4.0, 5.2), (-3.0, 4.9), (-2.0, 6.0)])

    def validate(*_: object) -> dict[str, float]:
        elbo, kl = next(course)
        return {"elbo": elbo, "recon": 1.0, "kl": kl, "loss": 1.0, "active_units": 1}

    monkeypatch.setattr(trainer, "_validate", validate)
    spec = dataclasses.replace(small_spec(epochs=4), objective=Part("kl-target", {"target": 5.0}))
    _, events = train(spec, toy_data())
    assert [epoch.epoch for epoch in epochs_of(events) if epoch.improved] == [1, 2, 3]
    assert epochs_of(events)[-1].best_epoch == 3
