"""Schedules and objectives: formulas by hand, gradients against their definitions, and refusals of contradictions."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from tests.support.toys import FullPosterior, toy_data
from vaectl.config.recipes import RECIPES, vae
from vaectl.config.spec import Part, Spec, Training
from vaectl.data.batch import Batch
from vaectl.errors import SettingError, UsageError
from vaectl.model.builder import build
from vaectl.model.distributions.codes import LatentSpace
from vaectl.model.objectives import ELBO, IWAE, Capacity, KLTarget, Objective, TrainingSet
from vaectl.model.objectives.schedules import Schedule, constant, cosine_warmup, cyclical, linear_warmup, sigmoid_warmup
from vaectl.model.posteriors import POSTERIORS
from vaectl.model.vae import VAE, Draw
from vaectl.training.trainer import Epoch, fit

SPACE = LatentSpace((2,))
TEN_STEPS = TrainingSet(examples=95, batch_size=10)

WARMUPS: dict[str, Callable[[float, int], Schedule]] = {
    "linear": linear_warmup,
    "cosine": cosine_warmup,
    "sigmoid": sigmoid_warmup,
}


@pytest.mark.parametrize("name", WARMUPS)
def test_a_warmup_rises_from_zero_to_its_value_and_stays(name: str) -> None:
    """0 at step 0, half in the middle, the value at the end and after; it never falls; 0 steps are no warm-up."""
    ramp = WARMUPS[name](4.0, 100)
    values = [ramp(step) for step in range(120)]
    assert values[0] == pytest.approx(0, abs=1e-12)
    assert values[50] == pytest.approx(2.0)
    assert values[100:] == [4.0] * 20
    assert all(a <= b for a, b in itertools.pairwise(values))
    assert WARMUPS[name](4.0, 0)(0) == 4.0


def test_the_warmups_differ_where_they_should() -> None:
    """After a quarter: linear 1/4, cosine (1 - cos(pi/4)) / 2, sigmoid near logistic(-3)."""
    assert linear_warmup(1.0, 8)(2) == 0.25
    assert cosine_warmup(1.0, 8)(2) == pytest.approx((1 - math.cos(math.pi / 4)) / 2)
    assert sigmoid_warmup(1.0, 8)(2) == pytest.approx(1 / (1 + math.exp(3)), abs=0.003)
    assert constant(3.0)(0) == constant(3.0)(10**9) == 3.0


def test_the_cyclical_schedule_rises_holds_and_begins_again() -> None:
    beta = cyclical(2.0, 4, 2)
    cycle = [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0]
    assert [beta(step) for step in range(20)] == [*cycle, *cycle, *[2.0] * 4]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"schedule": "cosine"}, "--warmup-epochs"),
        ({"schedule": "sigmoid"}, "--warmup-epochs"),
        ({"schedule": "cyclical"}, "--warmup-epochs"),
        ({"schedule": "constant", "warmup_epochs": 3}, "--warmup-epochs"),
        ({"cycles": 7, "warmup_epochs": 3}, "cyclical"),
    ],
)
def test_a_schedule_that_contradicts_its_warmup_is_refused(options: dict[str, object], names: str) -> None:
    """What would be ignored is an error."""
    with pytest.raises(SettingError, match=names):
        ELBO(TEN_STEPS, SPACE, **options)  # type: ignore[arg-type]


@pytest.fixture
def model() -> VAE:
    spec = dataclasses.replace(vae(), latent_dim=3)
    return build(spec, toy_data().info)[0]


@pytest.fixture
def x() -> Tensor:
    return toy_data().train.batch(slice(0, 20)).x


def drawn(model: VAE, x: Tensor, k: int = 1, seed: int = 0) -> Draw:
    torch.manual_seed(seed)
    return model.draw(x, k)


def gradient(objective: Objective, model: VAE, x: Tensor, step: int = 0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Gradient of the loss for the encoder and for the decoder, each as one vector."""
    model.zero_grad()
    objective(drawn(model, x, objective.draws, seed), objective.scheduled(step)).total.backward()  # type: ignore[no-untyped-call]
    encoder, decoder = (
        torch.cat([parameter.grad.flatten() for parameter in part.parameters() if parameter.grad is not None])
        for part in (model.encoder, model.decoder)
    )
    return encoder, decoder


def test_free_bits_are_per_dimension_and_over_the_batch(model: VAE, x: Tensor) -> None:
    """recon + beta * sum_d max(lambda, mean_B kl_d), by hand; a dimension below lambda gets no pull from the KL."""
    objective = ELBO(TEN_STEPS, SPACE, beta=2.0, free_bits=0.5)
    with torch.no_grad():
        model.encoder.head.linear.bias[0] = 2.0  # type: ignore[union-attr]
    draw = drawn(model, x)
    each = draw.kl_per_dim.mean(0)
    assert bool((each > 0.5).any()) != bool((each > 0.5).all()), "one dimension above, another below"
    by_hand = draw.recon.mean() + 2.0 * torch.tensor([max(0.5, value) for value in each.tolist()]).sum()
    assert torch.allclose(objective(draw, objective.scheduled(0)).total, by_hand)
    assert torch.equal(
        ELBO(TEN_STEPS, SPACE, beta=2.0, free_bits=0.0)(draw, 2.0).total, (draw.recon + 2.0 * draw.kl).mean()
    )


def draw_of_kl(per_dim: list[list[float]]) -> Draw:
    """A draw whose KL by example and dimension is known: posteriors N(m, 1) and a prior N(0, 1), so m^2 / 2."""
    means = (2 * torch.tensor(per_dim)).sqrt()
    q, p = (Independent(Normal(at, 1.0), 1) for at in (means, torch.zeros(means.shape[1])))
    x = torch.zeros(len(means), 1)
    return Draw(Batch(x), q=q, z=means[None], p=p, px=Independent(Normal(x[None], 1.0), 1))


RECON = 0.5 * math.log(2 * math.pi)  # of a pixel at the mean of a normal density of scale 1


def test_free_bits_are_of_the_mean_over_the_batch_and_not_of_each_example() -> None:
    """Of KLs 0 and 1 the mean, 1/2, is free up to 1/2; clamped one by one they would come to 3/4."""
    draw = draw_of_kl([[0.0, 2.0], [1.0, 0.0]])
    objective = ELBO(TEN_STEPS, SPACE, free_bits=0.5)
    assert objective(draw, 2.0).total.item() == pytest.approx(RECON + 2 * (0.5 + 1.0))
    assert ELBO(TEN_STEPS, SPACE, free_bits=0.8)(draw, 2.0).total.item() == pytest.approx(RECON + 2 * (0.8 + 1.0))


def test_the_capacity_is_of_the_mean_over_the_batch_and_not_of_each_example() -> None:
    """KLs of 2 and 1 are at a capacity of 3/2 together, though neither is."""
    objective = Capacity(TEN_STEPS, SPACE, gamma=3.0)
    draw = draw_of_kl([[0.0, 2.0], [1.0, 0.0]])
    for capacity, distance in ((1.5, 0.0), (1.75, 0.25), (1.0, 0.5)):
        assert objective(draw, capacity).total.item() == pytest.approx(RECON + 3 * distance)


def test_free_bits_need_a_kl_that_factorises(monkeypatch: pytest.MonkeyPatch) -> None:
    """A posterior without a closed form KL against the prior is refused before the first step."""
    monkeypatch.setitem(POSTERIORS, "full", FullPosterior)
    data = toy_data()
    spec = dataclasses.replace(vae(), posterior=Part("full"))
    build(spec, data.info)
    with pytest.raises(UsageError, match=r"objective 'elbo'.*posterior 'full'"):
        build(dataclasses.replace(spec, objective=Part("elbo", {"free_bits": 0.5})), data.info)


def test_the_capacity_rises_and_holds_the_kl_from_both_sides(model: VAE, x: Tensor) -> None:
    """recon + gamma * |KL - C(step)|, with C linear over the warm-up."""
    objective = Capacity(TEN_STEPS, SPACE, capacity=6.0, gamma=3.0, warmup_epochs=2)
    draw = drawn(model, x)
    for step, capacity in ((0, 0.0), (10, 3.0), (20, 6.0), (999, 6.0)):
        by_hand = draw.recon.mean() + 3.0 * abs(draw.kl.mean() - capacity)
        assert torch.allclose(objective(draw, objective.scheduled(step)).total, by_hand)


def test_the_controller_follows_its_equations(model: VAE, x: Tensor) -> None:
    """After n steps at a fixed KL the weight is k_p / (1 + exp(e)) - n k_i e, bounded; evaluating moves nothing."""
    objective = KLTarget(TEN_STEPS, SPACE, target=0.0, k_p=0.01, k_i=0.5)
    draw = drawn(model, x)
    e = -draw.kl.mean().item()
    assert e < 0
    assert objective.beta(0) == 0.0
    for n in (1, 2, 3):
        objective.observe(draw)
        assert objective.beta(0) == pytest.approx(0.01 / (1 + math.exp(e)) - n * 0.5 * e, rel=1e-5)
    before = objective.beta(0)
    loss = objective(draw, objective.scheduled(0)).total
    assert torch.allclose(loss, (draw.recon + before * draw.kl).mean())
    assert objective.beta(0) == before
    high = KLTarget(TEN_STEPS, SPACE, target=1e6, max_beta=5.0)
    high.observe(draw)
    assert high.beta(0) == pytest.approx(0, abs=1e-12)
    low = KLTarget(TEN_STEPS, SPACE, target=0.0, k_i=1e9, max_beta=5.0)
    low.observe(draw)
    assert low.beta(0) == 5.0


def test_a_controller_learns_nothing_from_what_is_not_finite(model: VAE, x: Tensor) -> None:
    draw = drawn(model, x)
    objective = KLTarget(TEN_STEPS, SPACE, target=1.0)
    objective.observe(draw)
    before = {name: buffer.clone() for name, buffer in objective.named_buffers()}
    broken = dataclasses.replace(draw)
    broken.__dict__["kl"] = draw.kl * float("nan")
    objective.observe(broken)
    assert all(torch.equal(buffer, before[name]) for name, buffer in objective.named_buffers())


@pytest.mark.parametrize("target", [0.5, 1.0])
def test_the_controller_brings_the_kl_to_its_target(target: float) -> None:
    """On two kinds of images, whose own KL is about 1.7 nats, the last epochs' KL lies within 15 % of the target."""
    options = {"target": target, "k_i": 5e-2}
    data, spec = toy_data(), small(Part("kl-target", options), epochs=120, lr=3e-3)
    model, objective = build(spec, data.info)
    epochs = [event for event in fit(model, objective, data, spec.training) if isinstance(event, Epoch)]
    reached = sum(epoch.kl for epoch in epochs[-10:]) / 10
    assert reached == pytest.approx(target, rel=0.15)
    assert epochs[-1].beta > 0


def small(objective: Part, **training: float) -> Spec:
    mlp = Part("mlp", {"hidden_dims": (16,)})
    settings = Training(**{"epochs": 3, "batch_size": 32, **training})  # type: ignore[arg-type]
    return dataclasses.replace(vae(), latent_dim=2, encoder=mlp, decoder=mlp, objective=objective, training=settings)


def test_iwae_is_the_log_of_the_mean_weight(model: VAE, x: Tensor) -> None:
    """The loss is -mean_B log 1/K sum_k p(x|z) p(z) / q(z|x), with the sampled log q and not a closed-form KL."""
    draw = drawn(model, x, 7)
    weights = (draw.log_px + draw.log_p - draw.log_q).double().exp()
    assert torch.allclose(IWAE(TEN_STEPS, SPACE, k=7)(draw, 1.0).total.double(), -weights.mean(0).log().mean())


def test_iwae_with_one_sample_has_the_sampled_elbo(model: VAE, x: Tensor) -> None:
    draw = drawn(model, x)
    assert torch.allclose(IWAE(TEN_STEPS, SPACE, k=1)(draw, 1.0).total, -(draw.log_px + draw.log_p - draw.log_q).mean())


def test_iwae_weights_favour_the_best_sample(model: VAE, x: Tensor) -> None:
    """The decoder's gradient is the mean of the draws' gradients under their normalised weights."""
    _, found = gradient(IWAE(TEN_STEPS, SPACE, k=4), model, x[:1])
    draw = drawn(model, x[:1], 4)
    normalised = (draw.log_px + draw.log_p - draw.log_q).detach().softmax(0)
    model.zero_grad()
    (-(normalised * draw.log_px).sum()).backward()  # type: ignore[no-untyped-call]
    grads = [p.grad.flatten() for p in model.decoder.parameters() if p.grad is not None]
    assert torch.allclose(found, torch.cat(grads), atol=1e-6)


def test_the_doubly_reparameterised_gradient_is_unbiased_and_its_value_is_the_same(model: VAE, x: Tensor) -> None:
    """Over 500 draws its mean is the plain gradient's within 4.5 SE, at beta 1 and on the way up, with less noise."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    for warmup, step in ((0, 0), (1, 5)):
        plain, doubly = (
            IWAE(TEN_STEPS, SPACE, k=3, gradient=name, warmup_epochs=warmup)  # type: ignore[arg-type]
            for name in ("reparameterized", "doubly-reparameterized")
        )
        draw = drawn(model, x, 3)
        assert torch.allclose(plain(draw, plain.scheduled(step)).total, doubly(draw, doubly.scheduled(step)).total)
        # projections on a few directions stand for the whole vector
        directions = torch.randn(len(gradient(plain, model, x, step)[0]), 5, generator=torch.Generator().manual_seed(2))
        first, second = (
            torch.stack([gradient(objective, model, x[:4], step, seed)[0] @ directions for seed in range(500)])
            for objective in (plain, doubly)
        )
        paired = first - second
        assert (paired.mean(0).abs() < 4.5 * paired.std(0) / len(paired) ** 0.5).all()
        if warmup == 0:
            assert second.var(0).sum() < 0.9 * first.var(0).sum()


def test_the_doubly_reparameterised_gradient_vanishes_at_the_exact_posterior() -> None:
    """With q = p(z|x) all weights are equal: the encoder's gradient is 0 in every draw, where plain IWAE's is noise."""
    mean, log_sigma = (torch.zeros(1, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    prior = Independent(Normal(torch.zeros(2).double(), torch.ones(2).double()), 1)
    sizes = {}
    for name in ("reparameterized", "doubly-reparameterized"):
        torch.manual_seed(0)
        q = Independent(Normal(mean, log_sigma.exp()), 1)
        z = q.rsample((6,))
        blind = Independent(Normal(torch.zeros(6, 1, 1).double() + 0 * z[..., :1], 1.0), 1)  # says nothing of z
        draw = Draw(Batch(torch.ones(1, 1).double()), q=q, z=z, p=prior, px=blind)
        IWAE(TEN_STEPS, SPACE, k=6, gradient=name)(draw, 1.0).total.backward()  # type: ignore[arg-type, no-untyped-call]
        assert mean.grad is not None
        assert log_sigma.grad is not None
        sizes[name] = (mean.grad.abs() + log_sigma.grad.abs()).sum().item()
        mean.grad = log_sigma.grad = None
    assert sizes["doubly-reparameterized"] < 1e-12
    assert sizes["reparameterized"] > 0.01


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains_and_is_judged_by_the_bound_at_beta_one(recipe: str) -> None:
    """Whatever is minimised, an epoch's elbo is -(recon + kl) and the best epoch follows the validation's."""
    data = toy_data()
    mlp = Part("mlp", {"hidden_dims": (16,)})
    training = Training(epochs=3, batch_size=32)
    usual = RECIPES[recipe]()
    latent_dim = usual.latent_dim if recipe == "fsq-vae" else 2
    spec = dataclasses.replace(usual, latent_dim=latent_dim, encoder=mlp, decoder=mlp, training=training)
    model, objective = build(spec, data.info)
    epochs = [event for event in fit(model, objective, data, spec.training) if isinstance(event, Epoch)]
    assert len(epochs) == 3
    for epoch in epochs:
        assert epoch.elbo == pytest.approx(-(epoch.recon + epoch.kl), rel=1e-5)
        v = epoch.validation
        assert v["elbo"] == pytest.approx(-(v["recon"] + v["kl"]), rel=1e-5)
