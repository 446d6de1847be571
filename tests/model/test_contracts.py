"""What every member of every family must do; a new part is tested by being registered."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.toys import toy_data
from vaectl.config.recipes import RECIPES
from vaectl.config.spec import Part, Spec
from vaectl.data.base import Data, Split
from vaectl.data.info import DataInfo
from vaectl.errors import SettingError, UsageError
from vaectl.model.builder import FAMILIES, build, complete
from vaectl.model.likelihoods import LIKELIHOODS
from vaectl.model.networks import ENCODERS
from vaectl.model.objectives import OBJECTIVES
from vaectl.model.posteriors import POSTERIORS
from vaectl.model.priors import PRIORS
from vaectl.model.vae import VAE
from vaectl.runs import weights
from vaectl.training.trainer import Epoch, Stopped, fit

# posterior -> the usual other parts that go with it
USUAL = {
    "gaussian": ("mlp", "gaussian", "standard", "bernoulli", "elbo"),
    "quantized": ("conv", "quantized", "uniform", "bernoulli", "vq"),
    "fsq": ("conv", "fsq", "uniform", "bernoulli", "elbo"),
}


def fit_each_other(parts: tuple[str, ...]) -> bool:
    """Whether prior and objective take what the posterior gives, as they say themselves."""
    _, posterior, prior, _, objective = parts
    members: tuple[Any, Any, Any] = (POSTERIORS[posterior], PRIORS[prior], OBJECTIVES[objective])
    return all(members[0].gives in member.takes for member in members[1:])


# every two members of two families meet; all at once would be a product that each new part multiplies
COMBINATIONS = [
    parts
    for parts in itertools.product(ENCODERS, POSTERIORS, PRIORS, LIKELIHOODS, OBJECTIVES)
    if fit_each_other(parts)
    and sum(part != usual for part, usual in zip(parts, USUAL[parts[1]], strict=True)) <= 2
    # total correlation needs a prior that factorises
    and (parts[2], parts[4]) not in (("mixture", "tc"), ("vamp", "tc"))
]
# options of members whose default size would make these tests slow
SMALL: dict[str, dict[str, Any]] = {
    "mixture": {"components": 5},
    "vamp": {"components": 5},
    "transformer": {"width": 8, "depth": 1, "heads": 2},
    "quantized": {"codes": 8},
    "fsq": {"levels": [3]},
    "conv": {"width": 4},
    "resnet": {"width": 4, "blocks": 1},
}


def spec_of(network: str, posterior: str, prior: str, likelihood: str, objective: str) -> Spec:
    return dataclasses.replace(
        RECIPES["vae"](),
        latent_dim=3,
        encoder=Part(network, SMALL.get(network, {})),
        decoder=Part(network, SMALL.get(network, {})),
        posterior=Part(posterior, SMALL.get(posterior, {})),
        prior=Part(prior, SMALL.get(prior, {})),
        likelihood=Part(likelihood),
        objective=Part(objective),
    )


# data support -> what examples of bytes become as such data
AS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "binary": torch.round,
    "bytes": lambda x: x,
    "unit": lambda x: 0.001 + 0.9987 * x,
    "real": lambda x: 4 * x - 2,
}


def measures_of(likelihood: str) -> Mapping[str, str]:
    member: Any = LIKELIHOODS[likelihood]
    return member.measures


def given(likelihood: str, support: str | None = None) -> tuple[DataInfo, torch.Tensor]:
    """Toy data (9, 1, 6, 6) of a kind, by default the first that a likelihood takes, and their description."""
    data = toy_data()
    support = support or next(iter(measures_of(likelihood)))
    return dataclasses.replace(data.info, support=support), AS[support](data.train.batch(slice(0, 9)))


@pytest.fixture(scope="module")
def info() -> DataInfo:
    return toy_data().info


@pytest.mark.parametrize("parts", COMBINATIONS, ids="-".join)
def test_shapes_of_a_draw(parts: tuple[str, ...]) -> None:
    """K draws of B examples: log quantities (K, B), kl and bounds (B,), and elbo = -(recon + kl)."""
    info, x = given(parts[3])
    model, objective = build(spec_of(*parts), info)
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


@pytest.mark.parametrize("parts", COMBINATIONS, ids="-".join)
def test_every_parameter_receives_a_gradient(parts: tuple[str, ...]) -> None:
    info, x = given(parts[3])
    torch.manual_seed(0)
    model, objective = build(spec_of(*parts), info)
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


@pytest.mark.parametrize("parts", COMBINATIONS, ids="-".join)
def test_saved_and_loaded_weights_compute_the_same(parts: tuple[str, ...], tmp_path: Path) -> None:
    """A round trip through safetensors into a newly built model gives the same bits."""
    info, x = given(parts[3])
    spec = spec_of(*parts)
    model, _ = build(spec, info)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    weights.save(tmp_path / "model.safetensors", model.state_dict(), spec.to_json())
    again, _ = build(spec, info)
    again.load_state_dict(weights.read(tmp_path / "model.safetensors", spec.to_json(), again.state_dict()))
    torch.manual_seed(3)
    before = model.draw(x).elbo
    torch.manual_seed(3)
    assert torch.equal(again.draw(x).elbo, before)


@pytest.mark.parametrize("parts", COMBINATIONS, ids="-".join)
def test_samples_lie_in_the_support(parts: tuple[str, ...]) -> None:
    """Draws lie in the support; they, means and modes have the data's shape, in [0, 1] unless any number is data."""
    info, _ = given(parts[3])
    model, _ = build(spec_of(*parts), info)
    px = model.sample(5)
    drawn = px.sample()
    assert px.support.check(drawn).all()
    for images in (px.mean, px.mode, drawn):
        assert images.shape == (5, *info.shape)
        assert images.isfinite().all()
        assert "real" in measures_of(parts[3]) or ((images >= 0) & (images <= 1)).all()


@pytest.mark.parametrize(("likelihood", "support"), list(itertools.product(LIKELIHOODS, AS)))
def test_a_likelihood_takes_the_data_it_says_and_no_other(likelihood: str, support: str) -> None:
    """Data of a kind that it takes have a finite bound; others are an error that names the likelihoods that do."""
    info, x = given(likelihood, support)
    spec = spec_of("mlp", "gaussian", "standard", likelihood, "elbo")
    if support in measures_of(likelihood):
        model, _ = build(spec, info)
        assert model.draw(x).elbo.isfinite().all()
        return
    with pytest.raises(UsageError, match=rf"{likelihood}.*is {support}") as caught:
        build(spec, info)
    named = (caught.value.hint or "").partition(": ")[2].split(", ")
    assert set(named) == {other for other in LIKELIHOODS if support in measures_of(other)}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_complete_and_survives_json(recipe: str) -> None:
    """A recipe names every option, and its JSON form is its constructor."""
    spec = RECIPES[recipe]()
    assert spec.model == recipe
    assert complete(spec) == spec
    assert complete(Spec.from_json(spec.to_json())) == spec


@pytest.mark.parametrize(("family", "member"), [(f, m) for f, members in FAMILIES.items() for m in members])
def test_an_unknown_option_is_an_error_that_names_it(family: str, member: str) -> None:
    spec = dataclasses.replace(RECIPES["vae"](), **{family: Part(member, {"nonsense": 1})})
    with pytest.raises(SettingError, match=rf"{family}\.nonsense"):
        complete(spec)


def test_a_nearly_right_option_is_named() -> None:
    spec = dataclasses.replace(RECIPES["vae"](), objective=Part("elbo", {"betta": 1}))
    with pytest.raises(SettingError) as caught:
        complete(spec)
    assert caught.value.hint == "did you mean 'beta'?"


SHAPES = ((1, 8, 8), (1, 28, 28), (3, 37, 53))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("network", ENCODERS)
def test_two_steps_of_every_network_and_likelihood(
    network: str, likelihood: str, posterior: str, shape: tuple[int, ...]
) -> None:
    """Two optimizer steps change every weight that learns and end with a finite bound, at any size and in colour."""
    _, _, prior, _, objective = USUAL[posterior]
    spec = spec_of(network, posterior, prior, likelihood, objective)
    training = dataclasses.replace(spec.training, epochs=1, batch_size=2)
    if network == "mlp":
        spec = dataclasses.replace(
            spec, encoder=Part("mlp", {"hidden_dims": [8]}), decoder=Part("mlp", {"hidden_dims": [8]})
        )
    if likelihood == "categorical":
        spec = dataclasses.replace(spec, likelihood=Part("categorical", {"rank": 2}))
    data = images_of(shape, AS[next(iter(measures_of(likelihood)))], next(iter(measures_of(likelihood))))
    model, objective_module = build(dataclasses.replace(spec, training=training), data.info)
    spread_codes(model, posterior)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    *_, epoch, stopped = fit(model, objective_module, data, training)
    assert isinstance(epoch, Epoch)
    assert isinstance(stopped, Stopped)
    assert (stopped.reason, stopped.step) == ("completed", 2)
    assert math.isfinite(epoch.elbo)
    assert math.isfinite(epoch.validation["elbo"])
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    assert model.sample(2).mean.shape == (2, *shape)


def images_of(shape: tuple[int, ...], changed: Callable[[torch.Tensor], torch.Tensor], support: str) -> Data:
    """Four training images and two others of each split, of noise."""
    x = changed(torch.rand(8, *shape, generator=torch.Generator().manual_seed(0)).mul(255).round() / 255)
    zeros, rows = torch.zeros(8, dtype=torch.int64), torch.arange(8)
    parts = {"train": slice(0, 4), "validation": slice(4, 6), "test": slice(6, 8)}
    splits = {name: Split(x[part], zeros[part], rows[part]) for name, part in parts.items()}
    sizes = {name: len(split) for name, split in splits.items()}
    return Data(**splits, info=dataclasses.replace(toy_data().info, shape=shape, support=support, sizes=sizes))


@pytest.mark.parametrize("network", ENCODERS)
@pytest.mark.parametrize("depth", [0, 1, 2, 4, 8])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 9), (3, 5, 4), (1, 17, 33)])
def test_a_network_is_sized_by_the_data(network: str, depth: int, shape: tuple[int, ...]) -> None:
    """Whatever the size, and however often it is halved, the mean image has the data's shape."""
    options = {} if network == "mlp" else {"depth": depth, "width": 1}
    spec = dataclasses.replace(
        RECIPES["vae"](), latent_dim=2, encoder=Part(network, options), decoder=Part(network, options)
    )
    model, _ = build(spec, dataclasses.replace(toy_data().info, shape=shape))
    for leading in ((), (1,), (2, 3)):
        z = model.encoder(torch.rand(*leading, *shape)).mean
        assert z.shape == (*leading, 2)
        assert model.decoder(z).mean.shape == (*leading, *shape)


@pytest.mark.parametrize("network", ENCODERS)
def test_an_example_is_computed_the_same_in_any_company(network: str) -> None:
    """Nothing is normalised over a batch: training or not, an example's posterior is its own."""
    data = toy_data()
    spec = dataclasses.replace(RECIPES["vae"](), latent_dim=3, encoder=Part(network), decoder=Part(network))
    model, _ = build(spec, data.info)
    x = data.train.batch(slice(0, 5))
    with torch.no_grad():
        together = model.train().encoder(x).mean
        alone = torch.cat([model.eval().encoder(x[i : i + 1]).mean for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("family", ["prior", "objective"])
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_parts_that_do_not_go_together_are_refused_with_the_flag(posterior: str, family: str) -> None:
    """A prior or an objective that does not take a posterior's latents is an error that names those that do."""
    members: Mapping[str, Any] = {"prior": PRIORS, "objective": OBJECTIVES}[family]
    posteriors: Mapping[str, Any] = POSTERIORS
    info = dataclasses.replace(toy_data().info, shape=(1, 8, 8))
    usual = spec_of(*USUAL[posterior])
    suited = [name for name, member in members.items() if posteriors[posterior].gives in member.takes]
    for name in members:
        spec = dataclasses.replace(usual, **{family: Part(name, SMALL.get(name, {}))})
        if name in suited:
            build(spec, info)
            continue
        with pytest.raises(UsageError, match=rf"{family} '{name}'.*{posterior}") as caught:
            build(spec, info)
        assert f"--{family} {' or '.join(suited)}" in (caught.value.hint or "")


def test_the_default_net_has_the_parameters_of_the_reference() -> None:
    """784-512-256-2 and its mirror: 1,068,820 parameters."""
    info = dataclasses.replace(toy_data().info, shape=(1, 28, 28))
    model, _ = build(dataclasses.replace(RECIPES["vae"](), latent_dim=2), info)
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_068_820


def test_building_is_a_function_of_the_seed_alone(info: DataInfo) -> None:
    """The same spec gives the same weights whatever torch's global stream, and leaves that stream alone."""
    spec = RECIPES["vae"]()
    torch.manual_seed(1)
    first, _ = build(spec, info)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    second, _ = build(spec, info)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other, _ = build(dataclasses.replace(spec, training=dataclasses.replace(spec.training, seed=1)), info)
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
