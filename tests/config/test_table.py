"""The table of settings: it agrees with the registries, and all that reads it gives and takes the same."""

from __future__ import annotations

import dataclasses
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer

import vaectl
from tests.conftest import Cli
from vaectl.commands.shared.deferred import function_of
from vaectl.config.datasets import DataOptions
from vaectl.config.recipes import RECIPES, vae, vq_vae
from vaectl.config.settings import Layer, resolve
from vaectl.config.spec import Part, Spec, Training
from vaectl.config.table import BY_PATH, PARTS, SETTINGS, Setting
from vaectl.errors import SettingError, UsageError
from vaectl.model.builder import complete, members_of


def named(*settings: Setting) -> list[Any]:
    return [pytest.param(setting, id=setting.name) for setting in settings]


def hints_of(constructor: Callable[..., Any]) -> dict[str, Any]:
    """The types of a constructor's options."""
    function = constructor.__init__ if inspect.isclass(constructor) else constructor
    options = {
        name for name, given in inspect.signature(constructor).parameters.items() if given.kind is given.KEYWORD_ONLY
    }
    return {name: hint for name, hint in get_type_hints(function, include_extras=True).items() if name in options}


def layer(source: str, **values: object) -> Layer:
    return Layer(source, values, lambda name: f"--{name}")


# --- the table and the registries ------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", named(*(s for s in SETTINGS if s.paths[0].endswith(".name"))))
def test_names_of_parts_are_those_of_their_registries(setting: Setting) -> None:
    """``just docs`` writes them."""
    for path in setting.paths:
        assert setting.choices == tuple(members_of(path.partition(".")[0]))


def test_names_of_recipes_are_those_of_their_functions() -> None:
    assert BY_PATH["model"].choices == tuple(RECIPES)
    assert all(getattr(vaectl, name.replace("-", "_")) is recipe for name, recipe in RECIPES.items())
    assert all(recipe().model == name for name, recipe in RECIPES.items())


@pytest.mark.parametrize("setting", named(*(s for s in SETTINGS if s.paths[0].count(".") and s.name != "network")))
def test_types_are_those_of_the_constructors(setting: Setting) -> None:
    """Every member of a family that has an option of the name takes what the table says."""
    for path in setting.paths:
        part, _, option = path.partition(".")
        if option == "name":
            continue
        constructors = [Training] if part == "training" else members_of(part).values()
        hints = [get_type_hints(c, include_extras=True) if c is Training else hints_of(c) for c in constructors]
        types = [members[option] for members in hints if option in members]
        assert types
        assert all(kind == setting.kind for kind in types)


def test_the_latent_dimension_has_the_type_of_the_spec() -> None:
    assert BY_PATH["latent_dim"].kind == get_type_hints(Spec, include_extras=True)["latent_dim"]


@pytest.mark.parametrize("setting", named(*SETTINGS))
def test_paths_are_in_the_recipe_whose_default_is_shown(setting: Setting) -> None:
    flat = RECIPES[setting.recipe]().flat()
    assert all(path in flat for path in setting.paths)


def test_defaults_of_the_plain_recipe_are_those_of_the_constructors() -> None:
    """Whether a spec leaves an option out or the recipe gives it, the model is the same."""
    spec = vae()
    bare = dataclasses.replace(spec, **{part: Part(getattr(spec, part).name) for part in PARTS})
    mirrored = complete(bare.changed(encoder__hidden_dims=spec.encoder.options["hidden_dims"]))
    assert mirrored == complete(spec)
    assert spec.data.options == dataclasses.asdict(DataOptions())
    assert spec.training == Training()


# --- what reads it ----------------------------------------------------------------------------------------------------


def options_of_train() -> dict[str, Any]:
    app = typer.Typer(add_completion=False)
    app.command()(function_of("train"))
    return {option.name: option for option in typer.main.get_command(app).params}


def test_every_setting_is_a_flag_with_its_help_and_panel() -> None:
    options = options_of_train()
    for setting in SETTINGS:
        option = options[setting.name]
        assert option.opts == [setting.flag]
        assert option.help == setting.help
        assert option.rich_help_panel == setting.panel


def test_flags_stand_in_the_order_of_the_table() -> None:
    """The data directory follows the data set, and the seed the device."""
    names = list(options_of_train())
    assert [name for name in names if name in {setting.name for setting in SETTINGS}] == [s.name for s in SETTINGS]
    assert names[:2] == ["dataset", "data_dir"]
    assert names[names.index("device") + 1] == "seed"


WRONG = {
    "--dataset minst": "--dataset must be one of auto, mnist, fashion-mnist, kmnist, digits, glyphs, cifar10, svhn, or "
    "a path; got 'minst'",
    "--model vea": "--model must be one of vae, beta-vae, beta-tcvae, capacity-vae, control-vae, iwae, sigma-vae, "
    "vamp-vae, vq-vae, fsq-vae; got 'vea'",
    "--binarize often": "--binarize must be one of none, static, dynamic; got 'often'",
    "--beta -1": "--beta must be a number from 0 to 1,000,000; got '-1'",
    "--latent-dim two": "--latent-dim must be a whole number from 1 to 16384; got 'two'",
    "--hidden-dims 8,x": "--hidden-dims must be whole numbers from 1 to 16384 separated by commas, such as 512,256; "
    "got '8,x'",
    "--validation-fraction 1": "--validation-fraction must be a number from 0 to 0.9; got '1'",
    "--set objective.warmup_epochs=few": "--set objective.warmup_epochs must be a whole number from 0 to 1,000,000; "
    "got 'few'",
    "--set betta=1": "--set betta is not a known setting",
}
TRYING = """
import contextlib, io, sys
from vaectl.cli import app
for arguments in sys.argv[1:]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        app(["train", *arguments.split()])
    print(said.getvalue().splitlines()[0])
assert "torch" not in sys.modules
"""


def test_a_wrong_value_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRYING, *WRONG],
        cwd=tmp_path, env={**os.environ, "COLUMNS": "1000"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"error: {message}" for message in WRONG.values()]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--likelihood gausian", "--likelihood must be one of bernoulli, continuous-bernoulli, gaussian, laplace, mse, "
         "categorical, discretized-logistic; got 'gausian'"),
        ("--network unet", "--network must be one of mlp, conv, resnet; got 'unet'"),
    ],
)  # fmt: skip
def test_an_unknown_part_is_refused_by_the_registry(cli: Cli, typed: str, message: str) -> None:
    """The table alone cannot know: a part may have been registered since."""
    result = cli("train", *typed.split())
    assert result.exit_code == 2
    assert f"error: {message}" in result.stderr


@pytest.mark.parametrize(
    ("typed", "path", "stored"),
    [
        ({"dataset": "MNIST"}, "data.name", "mnist"),
        ({"likelihood": "Gaussian"}, "likelihood.name", "gaussian"),
        ({"model": "VQ-VAE"}, "model", "vq-vae"),
        ({"network": "Conv"}, "decoder.name", "conv"),
        ({"objective.name": "IWAE"}, "objective.name", "iwae"),
        ({"binarize": "Static"}, "data.binarize", "static"),
    ],
)
def test_names_are_taken_whatever_their_case(typed: dict[str, str], path: str, stored: str) -> None:
    resolved = resolve([layer("flag", **typed)])
    assert resolved.spec.flat()[path] == stored
    complete(resolved.spec)


def test_a_name_in_another_case_keeps_the_options_of_its_part() -> None:
    assert complete(resolve([layer("flag", network="MLP", prior="Standard")]).spec) == complete(vae())


def test_a_path_that_is_there_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "MNIST").mkdir()
    assert resolve([layer("flag", dataset="MNIST")]).spec.data.name == "MNIST"


# --- an encoder's options, and its decoder's --------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["flag", "config"])
def test_layer_sizes_of_the_encoder_alone_are_mirrored(source: str) -> None:
    resolved = resolve([layer(source, **{"encoder.hidden_dims": [40, 20]})])
    assert resolved.spec.decoder.options["hidden_dims"] == (20, 40)
    assert resolved.sources["decoder.hidden_dims"] == resolved.sources["encoder.hidden_dims"] == source


def test_layer_sizes_of_the_decoder_in_the_same_or_a_stronger_layer_stay() -> None:
    own = {"encoder.hidden_dims": [40, 20], "decoder.hidden_dims": [7]}
    assert resolve([layer("config", **own)]).spec.decoder.options["hidden_dims"] == [7]
    stronger = layer("flag", **{"decoder.hidden_dims": [9]})
    resolved = resolve([stronger, layer("config", **{"encoder.hidden_dims": [40, 20]})])
    assert resolved.spec.decoder.options["hidden_dims"] == [9]
    assert (resolved.sources["encoder.hidden_dims"], resolved.sources["decoder.hidden_dims"]) == ("config", "flag")


def test_layer_sizes_of_the_decoder_in_a_weaker_layer_do_not() -> None:
    weaker = layer("from", **{"encoder.hidden_dims": [3], "decoder.hidden_dims": [4]})
    resolved = resolve([layer("flag", **{"encoder.hidden_dims": "40,20"}), weaker])
    assert resolved.spec.decoder.options["hidden_dims"] == (20, 40)
    assert resolved.sources["decoder.hidden_dims"] == "flag"


def test_other_options_of_the_encoder_hold_for_a_decoder_of_the_same_kind() -> None:
    resolved = resolve([layer("flag", **{"network": "conv", "encoder.width": 8, "encoder.activation": "tanh"})])
    assert resolved.spec.decoder == Part("conv", {"width": 8, "activation": "tanh"})


def test_a_decoder_of_another_kind_is_left_alone() -> None:
    """The kind of the encoder's network is not the decoder's: that is how two kinds are asked for."""
    values = {"encoder.name": "conv", "encoder.width": 8, "encoder.activation": "tanh"}
    spec = resolve([layer("flag", **values)]).spec
    assert spec.decoder.name == "mlp"
    assert complete(spec).decoder == complete(vae()).decoder


def test_layer_sizes_that_cannot_be_mirrored_are_named_as_they_were_given() -> None:
    with pytest.raises(SettingError, match=r"^--encoder.hidden_dims must be whole numbers"):
        resolve([layer("flag", **{"encoder.hidden_dims": "wide"})])


# --- from Python ------------------------------------------------------------------------------------------------------


def test_recipes_take_settings_by_the_names_of_their_flags() -> None:
    spec = vae(latent_dim=2, beta=4.0, hidden_dims=(32, 16), epochs=3)
    assert (spec.latent_dim, spec.objective.options["beta"], spec.training.epochs) == (2, 4.0, 3)
    assert spec.encoder.options["hidden_dims"] == (32, 16)
    assert spec.decoder.options["hidden_dims"] == (16, 32)
    flags = {"latent_dim": "2", "beta": "4", "hidden_dims": "32,16", "epochs": "3"}
    assert complete(spec) == complete(resolve([layer("flag", **flags)]).spec)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_with_settings_is_that_of_the_command_line(name: str) -> None:
    settings = {"lr": 0.01, "validation_fraction": 0.2, "prior": "standard"}
    resolved = resolve([layer("flag", model=name, **settings)]).spec
    assert complete(RECIPES[name](**settings)) == complete(resolved)


def test_a_changed_spec_leaves_the_old_one() -> None:
    spec = vae()
    changed = spec.changed(beta=2.0, epochs=3, objective__cycles=2, **{"posterior.scale": "log-variance"})
    assert spec == vae()
    assert (changed.objective.options["beta"], changed.objective.options["cycles"]) == (2.0, 2)
    assert (changed.training.epochs, changed.posterior.options["scale"]) == (3, "log-variance")
    assert changed.changed() == changed
    assert changed.changed(beta=1.0, epochs=30, objective__cycles=4, posterior_scale="softplus") == spec


def test_another_member_comes_without_the_options_of_the_old_one() -> None:
    spec = vae(objective="iwae", beta=2.0)
    assert spec.objective == Part("iwae", {"beta": 2.0})
    assert vq_vae(prior="uniform").training.prior_epochs == 0
    assert vq_vae(prior="uniform", prior_epochs=2).training.prior_epochs == 2
    assert vq_vae(prior="transformer").training.prior_epochs == 20


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"bta": 1.0}, "bta is not a known setting", "did you mean 'beta'?"),
        ({"beta": -1}, "beta must be a number from 0 to 1,000,000; got -1", None),
        ({"hidden_dims": "wide"}, "hidden_dims must be whole numbers", None),
        ({"epochs": 0}, "epochs must be a whole number from 1 to 1,000,000; got 0", None),
        (
            {"binarize": "statik"},
            "binarize must be one of none, static, dynamic; got 'statik'",
            "did you mean 'static'?",
        ),
        ({"model": "vq-vae"}, "model is chosen by its recipe", None),
    ],
)
def test_a_wrong_setting_is_named_as_it_was_given(settings: dict[str, Any], message: str, hint: str | None) -> None:
    for call in (vae, vae().changed):
        with pytest.raises(SettingError) as caught:
            call(**settings)
        assert caught.value.message.startswith(message)
        assert caught.value.hint == hint


def test_one_setting_by_two_names_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"both set objective\.beta"):
        vae(beta=1.0, objective__beta=2.0)
