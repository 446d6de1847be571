"""What every member of every family must do; a new part is tested by being registered."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from tests.support import contracts
from tests.support.combinations import (
    AS,
    COMBINATIONS,
    Parts,
    combined,
    examples_for,
    measures_of,
    small,
    suited,
    usual,
)
from tests.support.toys import toy_data
from vaectl.config.recipes import RECIPES
from vaectl.config.spec import Part, Spec
from vaectl.data.base import Data, Split
from vaectl.data.info import DataInfo
from vaectl.errors import SettingError, UsageError
from vaectl.model.builder import FAMILIES, build, complete
from vaectl.model.likelihoods import LIKELIHOODS
from vaectl.model.networks import DECODERS, ENCODERS
from vaectl.model.objectives import OBJECTIVES
from vaectl.model.posteriors import POSTERIORS
from vaectl.model.priors import PRIORS
from vaectl.training.trainer import Epoch, Stopped, fit


@pytest.fixture(scope="module")
def info() -> DataInfo:
    return toy_data().info


@pytest.mark.parametrize("parts", COMBINATIONS, ids="-".join)
@pytest.mark.parametrize("contract", contracts.OF_MODELS, ids=lambda contract: contract.__name__)
def test_every_combination_keeps_the_contracts(contract: Callable[[Parts], None], parts: Parts) -> None:
    contract(parts)


def test_every_part_is_in_a_combination() -> None:
    """A part is tested by being registered, whatever it is."""
    families = ({*ENCODERS, *DECODERS}, POSTERIORS, PRIORS, LIKELIHOODS, OBJECTIVES)
    assert [set(names) for names in zip(*COMBINATIONS, strict=True)] == [set(family) for family in families]


@pytest.mark.parametrize(("likelihood", "support"), list(itertools.product(LIKELIHOODS, AS)))
def test_a_likelihood_takes_the_data_it_says_and_no_other(likelihood: str, support: str) -> None:
    """Data of a kind that it takes have a finite bound; others are an error that names the likelihoods that do."""
    info, x = examples_for(likelihood, support)
    spec = combined("mlp", "gaussian", "standard", likelihood, "elbo")
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
    _, _, prior, _, objective = usual(posterior)
    spec = combined(network, posterior, prior, likelihood, objective)
    training = dataclasses.replace(spec.training, epochs=1, batch_size=2)
    if network == "mlp":
        spec = dataclasses.replace(
            spec, encoder=Part("mlp", {"hidden_dims": [8]}), decoder=Part("mlp", {"hidden_dims": [8]})
        )
    if likelihood == "categorical":
        spec = dataclasses.replace(spec, likelihood=Part("categorical", {"rank": 2}))
    data = images_of(shape, AS[next(iter(measures_of(likelihood)))], next(iter(measures_of(likelihood))))
    model, objective_module = build(dataclasses.replace(spec, training=training), data.info)
    contracts.spread_codes(model, posterior)
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
    taken = inspect.signature(ENCODERS[network]).parameters
    options = {name: value for name, value in {"depth": depth, "width": 1}.items() if name in taken}
    spec = dataclasses.replace(
        RECIPES["vae"](), latent_dim=2, encoder=Part(network, options), decoder=Part(network, options)
    )
    model, _ = build(spec, dataclasses.replace(toy_data().info, shape=shape))
    for leading in ((), (1,), (2, 3)):
        z = model.encode(torch.rand(*leading, *shape)).mean
        assert z.shape == (*leading, 2)
        assert model.decode(z).mean.shape == (*leading, *shape)


@pytest.mark.parametrize("network", ENCODERS)
def test_an_example_is_computed_the_same_in_any_company(network: str) -> None:
    """Nothing is normalised over a batch: training or not, an example's posterior is its own."""
    data = toy_data()
    spec = dataclasses.replace(RECIPES["vae"](), latent_dim=3, encoder=Part(network), decoder=Part(network))
    model, _ = build(spec, data.info)
    x = data.train.batch(slice(0, 5)).x
    with torch.no_grad():
        together = model.train().encode(x).mean
        alone = torch.cat([model.eval().encode(x[i : i + 1]).mean for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("family", ["prior", "objective"])
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_parts_that_do_not_go_together_are_refused_with_the_flag(posterior: str, family: str) -> None:
    """A prior or an objective that does not take a posterior's latents is an error that names those that do."""
    members: Mapping[str, Any] = {"prior": PRIORS, "objective": OBJECTIVES}[family]
    info = dataclasses.replace(toy_data().info, shape=(1, 8, 8))
    takers = suited(members, posterior)
    for name in members:
        spec = dataclasses.replace(combined(*usual(posterior)), **{family: small(name)})
        if name in takers:
            build(spec, info)
            continue
        with pytest.raises(UsageError, match=rf"{family} '{name}'.*{posterior}") as caught:
            build(spec, info)
        assert f"--{family} {' or '.join(takers)}" in (caught.value.hint or "")


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
