"""What every member of every family must do; a new part is tested by being registered."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.toys import toy_data
from vaectl import weights
from vaectl.builder import FAMILIES, build, complete
from vaectl.data import DataInfo
from vaectl.errors import SettingError, UsageError
from vaectl.likelihoods import LIKELIHOODS
from vaectl.networks import NETWORKS
from vaectl.objectives import OBJECTIVES
from vaectl.posteriors import POSTERIORS
from vaectl.priors import PRIORS
from vaectl.recipes import RECIPES
from vaectl.spec import Part, Spec

USUAL = ("mlp", "gaussian", "standard", "bernoulli", "elbo")
# every two members of two families meet; all at once would be a product that each new part multiplies
COMBINATIONS = [
    parts
    for parts in itertools.product(NETWORKS, POSTERIORS, PRIORS, LIKELIHOODS, OBJECTIVES)
    if sum(part != usual for part, usual in zip(parts, USUAL, strict=True)) <= 2
    # total correlation needs a prior that factorises
    and (parts[2], parts[4]) not in (("mixture", "tc"), ("vamp", "tc"))
]
# options of members whose default size would make these tests slow
SMALL: dict[str, dict[str, Any]] = {"mixture": {"components": 5}, "vamp": {"components": 5}}


def spec_of(network: str, posterior: str, prior: str, likelihood: str, objective: str) -> Spec:
    return dataclasses.replace(
        RECIPES["vae"](),
        latent_dim=3,
        encoder=Part(network),
        decoder=Part(network),
        posterior=Part(posterior),
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


@pytest.mark.parametrize("parts", COMBINATIONS, ids="-".join)
def test_every_parameter_receives_a_gradient(parts: tuple[str, ...]) -> None:
    info, x = given(parts[3])
    torch.manual_seed(0)
    model, objective = build(spec_of(*parts), info)
    # a controller's weight of the KL is 0 until it has seen a draw
    objective.observe(model.draw(x))
    objective(model.draw(x), objective.scheduled(0)).total.backward()
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
