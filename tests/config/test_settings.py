"""Settings: layers, sources, types and bounds."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaectl.config.settings import Layer, parse_assignments, read_config, resolve
from vaectl.config.spec import Bounds, Dims, Spec, coerce
from vaectl.config.table import SETTINGS
from vaectl.errors import SettingError, UsageError
from vaectl.model.builder import complete
from vaectl.stats import mean_and_se, paired_difference


def layer(source: str, **values: object) -> Layer:
    return Layer(source, values, lambda name: f"--{name}")


def test_an_earlier_layer_wins_and_each_value_knows_its_source() -> None:
    resolved = resolve([layer("flag", beta=2.0), layer("config", beta=3.0, lr=0.5), layer("from", lr=0.1, epochs=7)])
    assert resolved.spec.objective.options["beta"] == 2.0
    assert (resolved.spec.training.lr, resolved.spec.training.epochs) == (0.5, 7)
    sources = resolved.sources
    assert sources["objective.beta"] == "flag"
    assert sources["training.lr"] == "config"
    assert sources["training.epochs"] == "from"
    assert sources["training.batch_size"] == "default"


def test_the_strongest_model_chooses_the_defaults() -> None:
    assert resolve([layer("flag", model="beta-vae")]).spec.objective.options["beta"] == 4.0
    both = resolve([layer("flag", model="vae"), layer("config", model="beta-vae")])
    assert both.spec.objective.options["beta"] == 1.0


def test_another_model_brings_its_own_defaults_but_keeps_what_was_chosen() -> None:
    """--model beta-vae --from a plain VAE's run takes beta 4; a beta that the run chose stays, as do others."""
    run = resolve([layer("flag", epochs=7)]).spec.flat()
    weaker = Layer("from", run, lambda name: name)
    resolved = resolve([layer("flag", model="beta-vae"), weaker])
    assert resolved.spec.objective.options["beta"] == 4.0
    assert resolved.spec.training.epochs == 7
    chosen = Layer("from", {**run, "objective.beta": 2.0}, lambda name: name)
    assert resolve([layer("flag", model="beta-vae"), chosen]).spec.objective.options["beta"] == 2.0


def test_hidden_dims_are_mirrored_in_the_decoder() -> None:
    spec = resolve([layer("flag", hidden_dims="30,20,10")]).spec
    assert complete(spec).encoder.options["hidden_dims"] == (30, 20, 10)
    assert spec.decoder.options["hidden_dims"] == (10, 20, 30)


def test_another_member_drops_the_options_of_the_old_one() -> None:
    spec = resolve([layer("flag", **{"encoder.name": "other"}), layer("from", **{"encoder.hidden_dims": [3]})]).spec
    assert spec.encoder.options == {}


def test_dashes_and_underscores_are_the_same() -> None:
    assert resolve([layer("config", **{"latent-dim": 5})]).spec.latent_dim == 5


@pytest.mark.parametrize(
    ("name", "hint"), [("bta", "beta"), ("latent_dims", "latent_dim"), ("training.lrr", "training.lr")]
)
def test_an_unknown_name_has_its_nearest(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=name) as caught:
        resolve([layer("config", **{name: 1})])
    assert caught.value.hint == f"did you mean '{hint}'?"


def test_one_setting_given_twice_in_one_layer_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"both set objective\.beta"):
        resolve([layer("flag", beta=1.0, **{"objective.beta": 2})])


def test_every_short_name_reaches_a_path_of_a_recipe() -> None:
    """Of the default one, or where the default has no such option of the VQ-VAE."""
    flat, coded = (resolve([layer("flag", model=model)]).spec.flat() for model in ("vae", "vq-vae"))
    of_codes = [setting for setting in SETTINGS if not all(path in flat for path in setting.paths)]
    assert {setting.name for setting in of_codes} == {"width", "depth", "codes", "commitment"}
    assert all(path in coded for setting in of_codes for path in setting.paths)


def test_the_second_stage_of_a_recipe_is_for_its_own_prior() -> None:
    """Another prior has none unless it is asked for; the recipe's own, and one that was asked for, keep theirs."""
    own, other, asked = (
        resolve([layer("flag", model="vq-vae", **extra)]).spec.training.prior_epochs
        for extra in ({"prior": "transformer"}, {"prior": "uniform"}, {"prior": "uniform", "prior_epochs": 3})
    )
    assert (own, other, asked) == (20, 0, 3)


def test_config_files(tmp_path: Path) -> None:
    """TOML tables name parts, top-level keys may be short names; JSON is what config.json holds."""
    toml = tmp_path / "a.toml"
    toml.write_text("latent-dim = 2\nhidden_dims = [8, 4]\n[objective]\nbeta = 3\n[training]\nlr = 0.5\n")
    resolved = resolve([read_config(toml)])
    assert resolved.spec.latent_dim == 2
    assert resolved.spec.objective.options["beta"] == 3
    assert resolved.labels["training.lr"] == f"training.lr in {toml}"
    for name, content in {"b.toml": "a = ", "c.json": "{", "d.json": "[1]", "e.yaml": "a: 1"}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(UsageError, match=name):
            read_config(tmp_path / name)


def test_assignments_are_json_where_they_parse_as_it() -> None:
    found = parse_assignments(["objective.beta=4", "posterior.scale=log-variance", "encoder.hidden_dims=[3, 2]"])
    assert found == {"objective.beta": 4, "posterior.scale": "log-variance", "encoder.hidden_dims": [3, 2]}
    for bad in (["objective.beta"], ["=3"], ["a.b=1", "a.b=2"]):
        with pytest.raises(UsageError, match="--set"):
            parse_assignments(bad)


@pytest.mark.parametrize("value", [0, -1, 16385, 1.5, math.nan, math.inf, "two", None, True, [], "3,,4", [1, "x"], {}])
def test_what_is_no_list_of_dims(value: object) -> None:
    with pytest.raises(SettingError, match="hidden_dims"):
        coerce("hidden_dims", value, Dims)


@pytest.mark.parametrize(("value", "expected"), [("512,256", (512, 256)), ([8], (8,)), (8, (8,)), ("4, 2", (4, 2))])
def test_what_is_a_list_of_dims(value: object, expected: tuple[int, ...]) -> None:
    assert coerce("hidden_dims", value, Dims) == expected


@given(st.floats(), st.booleans())
def test_bounds_hold_exactly_the_numbers_between(value: float, above: bool) -> None:
    expected = not math.isnan(value) and (0 < value <= 5 or (value == 0 and not above))
    assert (value in Bounds(0, 5, above=above)) is expected


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                    max_leaves=10))  # fmt: skip
def test_any_json_is_a_spec_or_a_setting_error(document: object) -> None:
    """Whatever a config holds, reading it ends in a spec or in an error that names the setting."""
    flat = resolve([]).spec.to_json()
    for key in ("training", "objective", "latent_dim"):
        with contextlib.suppress(SettingError):
            assert isinstance(Spec.from_json({**flat, key: document}), Spec)


def test_statistics() -> None:
    assert mean_and_se([1.0, 2.0, 3.0, 4.0]) == pytest.approx((2.5, (5 / 3 / 4) ** 0.5))
    assert math.isnan(mean_and_se([1.0]).se)
    assert paired_difference([2.0, 4.0, 9.0], [1.0, 3.0, 8.0]) == (1.0, 0.0)
    with pytest.raises(ValueError, match="argument 2"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="no values"):
        mean_and_se([])
