"""Learned priors: their densities by hand and by quadrature, draws from them and not from N(0, I), and what they gain.

Shapes: ``C`` components, ``D`` latent, ``N`` draws.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

from tests.conftest import Cli
from tests.support.toys import points, toy_data
from vaectl.config.recipes import vae
from vaectl.config.spec import Part
from vaectl.data.base import Split
from vaectl.data.batch import Batch
from vaectl.errors import UsageError
from vaectl.evaluation.latents import manifold, traversal
from vaectl.evaluation.metrics import evaluate
from vaectl.evaluation.oracles import Affine, NormalPixels
from vaectl.model.builder import build
from vaectl.model.distributions.codes import LatentSpace
from vaectl.model.networks import MLP
from vaectl.model.objectives import ELBO, IWAE, TrainingSet
from vaectl.model.parts import Decoder, Encoder, Sizes
from vaectl.model.posteriors import GaussianPosterior
from vaectl.model.priors import vectors as priors
from vaectl.model.priors.vectors import SCALE_FLOOR, MixturePrior, StandardNormal, VampPrior
from vaectl.model.vae import VAE
from vaectl.stats import paired_difference

SPACE = LatentSpace((2,))

SHAPE = (1, 3, 3)
EPSILON = 1e-5
LINE = torch.tensor([1.0, -1.0, 0.5, 0.0])
LEARNED = ("mixture", "vamp", "vamp-learned")


def encoder_of(latent_dim: int, shift: float = 0.0) -> Encoder:
    """An encoder of 9 pixels whose posteriors lie around ``shift`` and differ widely."""
    encoder = Encoder(MLP(Sizes(SHAPE), hidden_dims=(16,)), GaussianPosterior((16,), latent_dim))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(3)
        linear: Any = encoder.head.linear
        linear.bias[:latent_dim] += shift
    return encoder


def prior_of(name: str, latent_dim: int, components: int = 6) -> nn.Module:
    """A prior whose every parameter is away from where it starts."""
    prior: nn.Module
    if name == "mixture":
        prior = MixturePrior(LatentSpace((latent_dim,)), SHAPE, "bytes", components=components)
    else:
        weights: Any = "learned" if name == "vamp-learned" else "uniform"
        prior = VampPrior(LatentSpace((latent_dim,)), SHAPE, "bytes", components=components, weights=weights)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(torch.randn_like(parameter))
    return prior


def by_hand(prior: nn.Module, encoder: Encoder, z: Tensor) -> Tensor:
    """log sum_c pi_c prod_d N(z_d; mu_cd, sigma_cd^2), component by component in float64 (N,)."""
    if isinstance(prior, MixturePrior):
        mean, sigma = prior.mean, torch.log1p(prior.scale.double().exp()) + SCALE_FLOOR
    else:
        assert isinstance(prior, VampPrior)
        q: Any = encoder(Batch(torch.sigmoid(prior.inputs)))
        mean, sigma = q.base_dist.loc, q.base_dist.scale
    weights = [math.exp(logit) for logit in prior.logits.tolist()]
    total = torch.zeros(len(z), dtype=torch.float64)
    for weight, m, s in zip(weights, mean.double(), sigma.double(), strict=True):
        density = (-0.5 * ((z.double() - m) / s) ** 2).exp() / (s * math.sqrt(2 * math.pi))  # (N, D)
        total += weight / sum(weights) * density.prod(-1)
    return total.log()


@pytest.mark.parametrize("name", LEARNED)
def test_the_density_is_the_mixture_by_hand(name: str) -> None:
    """log p(z) = log sum_c pi_c q(z|u_c), pi_c = 1/C if not learned; a misplaced parenthesis changes it."""
    torch.manual_seed(0)
    encoder, prior = encoder_of(3), prior_of(name, 3)
    z = 2 * torch.randn(50, 3)
    found = prior(encoder).log_prob(z)
    assert torch.allclose(found.double(), by_hand(prior, encoder, z), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", LEARNED)
def test_the_density_integrates_to_one(name: str) -> None:
    """Over one latent dimension, by the trapezoidal rule."""
    torch.manual_seed(1)
    p = prior_of(name, 1)(encoder_of(1))
    z = torch.linspace(-60, 60, 400_001, dtype=torch.float64)
    assert torch.trapezoid(p.log_prob(z[:, None]).exp(), z).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", LEARNED)
def test_the_density_is_the_same_however_many_draws_are_computed_at_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks of one draw as all together, and for leading dimensions (K, B) as for none."""
    torch.manual_seed(0)
    p, z = prior_of(name, 3)(encoder_of(3)), torch.randn(4, 5, 3)
    together = p.log_prob(z)
    monkeypatch.setattr(priors, "NUMBERS_AT_ONCE", 1)
    assert torch.allclose(p.log_prob(z), together, atol=EPSILON)
    assert together.shape == (4, 5)
    assert torch.allclose(p.log_prob(z[0, 0]), together[0, 0], atol=EPSILON)


def test_one_standard_component_is_the_standard_normal() -> None:
    """C = 1 at N(0, I): the densities agree to 1e-5 nats, 30 standard deviations out too."""
    mixture = MixturePrior(LatentSpace((4,)), SHAPE, "bytes", components=1)
    with torch.no_grad():
        mixture.mean.zero_()
        mixture.scale.fill_(math.log(math.expm1(1 - SCALE_FLOOR)))
    encoder, z = encoder_of(4), torch.randn(100, 4) * torch.tensor([0.1, 1.0, 5.0, 30.0])
    expected = StandardNormal(LatentSpace((4,)), SHAPE, "bytes")(encoder).log_prob(z)
    assert torch.allclose(mixture(encoder).log_prob(z), expected, rtol=EPSILON, atol=EPSILON)


def test_the_mixture_starts_near_the_standard_normal() -> None:
    torch.manual_seed(0)
    p = MixturePrior(LatentSpace((2,)), SHAPE, "bytes", components=2000)(encoder_of(2))
    assert torch.allclose(p.mean, torch.zeros(2), atol=4 * 0.5 / 2000**0.5)
    assert torch.allclose(p.variance, torch.ones(2), atol=4 * 0.25 * (2 / 2000) ** 0.5)


@pytest.mark.parametrize("name", LEARNED)
def test_samples_come_from_the_learned_prior(name: str) -> None:
    """With a prior far from 0 the codes that ``sample`` decodes have its mean and variance, within 4 SE."""
    torch.manual_seed(2)
    encoder, prior, n = encoder_of(2, shift=40.0), prior_of(name, 2), 20_000
    if isinstance(prior, MixturePrior):
        with torch.no_grad():
            prior.mean.add_(40)
    # a decoder that shows the code itself
    model = VAE(encoder, prior, Decoder(Affine(2), NormalPixels(0.1)))
    with torch.no_grad():
        p: Distribution = prior(encoder)
        z = model.sample(n).mean
        assert (p.mean > 20).all()
        assert ((z.mean(0) - p.mean).abs() < 4 * z.std(0) / n**0.5).all()
        squares = (z - p.mean).square()
        assert ((squares.mean(0) - p.variance).abs() < 4 * squares.std(0) / n**0.5).all()
        torch.manual_seed(3)
        cold = model.sample(n, temperature=0.5).mean
        torch.manual_seed(3)
        assert torch.allclose(cold, p.mean + 0.5 * (model.sample(n).mean - p.mean), atol=1e-4)
        assert torch.allclose(model.sample(2, temperature=0).mean, p.mean.expand(2, -1), atol=1e-4)


@pytest.mark.parametrize("name", LEARNED)
def test_the_kl_is_estimated_from_the_draws(name: str) -> None:
    """Its mean over 20,000 draws is the KL by quadrature within 4 SE, and it is log q - log p of the same draws."""
    torch.manual_seed(4)
    encoder, prior = encoder_of(1), prior_of(name, 1)
    model = VAE(encoder, prior, Decoder(Affine(1), NormalPixels(1.0)))
    with torch.no_grad():
        draw = model.draw(torch.rand(3, *SHAPE), k=20_000)
        ratio = draw.log_q - draw.log_p  # (K, B)
        assert torch.equal(draw.kl, ratio.mean(0))
        assert draw.kl_per_dim.shape == (3, 0)
        z = torch.linspace(-60, 60, 200_001, dtype=torch.float64)[:, None, None]  # (points, 1, D)
        log_q, log_p = draw.q.log_prob(z), draw.p.log_prob(z)
        exact = torch.trapezoid(log_q.exp() * (log_q - log_p), z[:, 0, 0], dim=0)
    assert ((draw.kl - exact).abs() < 4 * ratio.std(0) / 20_000**0.5).all()


def test_the_encoder_learns_through_the_prior() -> None:
    """log p(z) at fixed z has a gradient for every weight of the encoder and for every pseudo-input."""
    torch.manual_seed(0)
    encoder, prior = encoder_of(3), prior_of("vamp", 3)
    prior(encoder).log_prob(torch.randn(200, 3)).sum().backward()
    for name, parameter in [*encoder.named_parameters(), *prior.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    inputs: Any = prior.inputs
    assert (inputs.grad.flatten(1).abs().sum(1) > 0).all(), "each component is learned"


def test_a_prior_owns_its_own_parameters_and_no_others() -> None:
    """The encoder that it looks through is no part of it, and uniform weights are nothing that is learned or saved."""
    states = {name: set(prior_of(name, 3).state_dict()) for name in LEARNED}
    assert states == {
        "mixture": {"mean", "scale", "logits"},
        "vamp": {"inputs"},
        "vamp-learned": {"inputs", "logits"},
    }


@pytest.mark.parametrize(("support", "bounded"), [("binary", True), ("bytes", True), ("unit", True), ("real", False)])
def test_pseudo_inputs_lie_in_the_range_of_the_data(support: str, bounded: bool) -> None:
    """Within [0, 1] however far training goes, but for real data, which may be any number; none alike at the start."""
    info = dataclasses.replace(toy_data().info, support=support)
    spec = dataclasses.replace(
        vae(),
        prior=Part("vamp", {"components": 20}),
        likelihood=Part("gaussian" if support != "binary" else "bernoulli"),
    )
    prior: Any = build(spec, info)[0].prior
    assert prior.pseudo_inputs.shape == (20, *info.shape)
    assert torch.pdist(prior.pseudo_inputs.flatten(1)).min() > 0.5
    with torch.no_grad():
        prior.inputs.mul_(50)
    assert bool(((prior.pseudo_inputs >= 0) & (prior.pseudo_inputs <= 1)).all()) == bounded


@pytest.mark.parametrize("name", LEARNED)
def test_densities_are_in_fp32_from_half_weights_and_under_autocast(name: str) -> None:
    torch.manual_seed(0)
    encoder, prior = encoder_of(3), prior_of(name, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert prior(encoder).log_prob(torch.randn(5, 3)).dtype == torch.float32
    p = prior.bfloat16()(encoder.bfloat16())
    assert p.mean.dtype == p.log_prob(torch.randn(5, 3)).dtype == torch.float32


def test_doubly_reparameterised_gradients_leave_the_prior_its_own() -> None:
    """For the same draws the prior's parameters get the gradient of the plain importance-weighted bound."""
    found = []
    for gradient in ("reparameterized", "doubly-reparameterized"):
        torch.manual_seed(5)
        prior = prior_of("mixture", 2)
        encoder = Encoder(Affine(9), GaussianPosterior((9,), 2))
        model = VAE(encoder, prior, Decoder(Affine(9, nn.Linear(2, 9)), NormalPixels(1.0)))
        objective = IWAE(TrainingSet(10, 1), SPACE, k=4, gradient=gradient)  # type: ignore[arg-type]
        objective(model.draw(torch.rand(8, 9), 4), objective.scheduled(0)).total.backward()  # type: ignore[no-untyped-call]
        found.append([parameter.grad for parameter in prior.parameters()])
    for plain, doubly in zip(*found, strict=True):
        assert torch.allclose(plain, doubly, rtol=1e-4, atol=1e-6)


def clusters(n: int, seed: int) -> Split:
    """``x = w t + 0.3 noise`` in 4 pixels, t from two far clusters of one line, at -3 and 3 and 0.3 wide."""
    generator = torch.Generator().manual_seed(seed)
    t = 6.0 * torch.randint(2, (n, 1), generator=generator) - 3 + 0.3 * torch.randn(n, 1, generator=generator)
    return points(t * LINE + 0.3 * torch.randn(n, 4, generator=generator))


def fitted(prior: nn.Module) -> Tensor:
    """The bounds of 2,000 new points after 600 steps from one start, with linear maps and the true noise."""
    torch.manual_seed(0)
    model = VAE(
        Encoder(Affine(4), GaussianPosterior((4,), 1)), prior, Decoder(Affine(4, nn.Linear(1, 4)), NormalPixels(0.3))
    )
    objective, train = ELBO(TrainingSet(10, 1), SPACE), clusters(2000, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(600):
        loss = objective(model.draw(train.images[torch.randint(2000, (200,))]), objective.scheduled(step)).total
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return evaluate(model, clusters(2000, seed=2)).per_example["elbo"]


def test_a_mixture_fits_two_far_clusters_better() -> None:
    """After equal training a mixture is above, and the standard prior below, all that one Gaussian can reach.

    Linear maps of a standard normal make p(x) one Gaussian, and the best has the moments of the data: 1.44 nats below
    the evidence of the two clusters, which no bound is above.
    """
    torch.manual_seed(0)
    mixture = fitted(MixturePrior(LatentSpace((1,)), (4,), "real", components=5))
    standard = fitted(StandardNormal(LatentSpace((1,)), (4,), "real"))
    x, w = clusters(2000, seed=2).images.double(), LINE.double()
    within = 0.09 * (torch.outer(w, w) + torch.eye(4))
    halves = [MultivariateNormal(side * w, within).log_prob(x) for side in (-3.0, 3.0)]
    evidence = torch.logaddexp(*halves) - math.log(2)
    gaussian = MultivariateNormal(torch.zeros(4).double(), within + 9 * torch.outer(w, w)).log_prob(x)
    for better, worse, nats in ((mixture, gaussian, 1.0), (gaussian, standard, 0.0), (evidence, mixture, 0.0)):
        gap = paired_difference(better.tolist(), worse.tolist())
        assert gap.mean > nats + 4 * gap.se


def test_walks_along_quantiles_are_refused() -> None:
    spec = dataclasses.replace(vae(), latent_dim=2, prior=Part("vamp", {"components": 3}))
    model, _ = build(spec, toy_data().info)
    with pytest.raises(UsageError, match="no quantiles by dimension"):
        manifold(model, [0, 1])
    with pytest.raises(UsageError, match="no quantiles by dimension"):
        traversal(model, torch.zeros(2), [0])


def test_every_command_takes_a_run_with_a_learned_prior(cli: Cli, isolated: Path) -> None:
    """train, eval, sample, embed, plot-latent and compare; pictures along quantiles are an error that says why."""
    small = ["--dataset", "digits", "--hidden-dims", 16, "--latent-dim", 2, "--epochs", 1]
    for name, more in (("vamp", ["--prior", "vamp", "--set", "prior.components=10"]), ("plain", [])):
        assert cli("train", *small, *more, "--name", name, "-q").exit_code == 0
    result = cli("eval", "vamp", "--importance-samples", 5, "--json")
    document = json.loads(result.stdout)
    assert document["kl_per_dim"] == []
    assert all(isinstance(document["metrics"][name], float) for name in ("elbo", "kl", "mutual_information"))
    assert "it does not factorise" in cli("eval", "vamp", "-v").stderr
    for arguments in (
        ["sample", "vamp", "-n", 4, "--temperature", 0.5],
        ["sample", "vamp", "-n", 4, "--interpolate"],
        ["embed", "vamp"],
        ["plot-latent", "vamp"],
    ):
        assert cli(*arguments, "-q").exit_code == 0, arguments
    for kind, dims in itertools.product(("manifold", "traversal"), ([], ["--dims", 0])):
        refused = cli("plot-latent", "vamp", "--kind", kind, *dims)
        assert refused.exit_code == 2
        assert "--kind scatter" in refused.stderr
    assert "vamp" in cli("compare", "vamp", "plain").stdout


def test_active_units_are_counted_on_the_scale_of_the_prior() -> None:
    """Codes and prior ten times as wide, with a dimension that hardly moves: still one of two active."""
    data = toy_data()
    for scale in (1.0, 10.0):
        spec = dataclasses.replace(vae(), latent_dim=2, prior=Part("mixture", {"components": 1}))
        model, _ = build(spec, data.info)
        head, prior = model.encoder.head, model.prior
        with torch.no_grad():
            head.linear.weight.zero_()  # type: ignore[union-attr, operator]
            head.linear.weight[0] = 5.0 * scale  # type: ignore[union-attr, operator]
            head.linear.weight[1] = 0.02 * scale  # type: ignore[union-attr, operator]
            prior.mean.zero_()  # type: ignore[union-attr, operator]
            prior.scale.fill_(math.log(math.expm1(scale - SCALE_FLOOR)))  # type: ignore[union-attr, operator]
        result = evaluate(model, data.test)
        assert result.prior_variance.tolist() == pytest.approx([scale**2] * 2, rel=1e-5)
        assert result.active_units == 1
    # a hundredth of each prior's variance decides: 1, 0.01 and 1
    wide = dataclasses.replace(
        result, mean_variance=torch.tensor([0.5, 0.02, 2.0]), prior_variance=torch.tensor([100.0, 1.0, 100.0])
    )
    assert wide.active_units == 2
