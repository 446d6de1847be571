"""Parts of a person's own: from files, the environment and packages, in every command; and runs opened without them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vaectl
from tests.conftest import REPOSITORY, Cli
from tests.support.pages import Reader
from tests.support.refusals import alter, put, refuse
from vaectl import plugins
from vaectl.config.recipes import RECIPES
from vaectl.errors import RunError, UsageError
from vaectl.model.builder import FAMILIES
from vaectl.runs.run import Run

NETWORK = """
from tests.support.parts import Informed
from vaectl.model.networks import DECODERS, ENCODERS

ENCODERS["mine"] = DECODERS["mine"] = Informed
"""
# one member of each family; beside them an objective with an adversary, which takes one level of latents
EVERYTHING = f"""{NETWORK}
import dataclasses
from typing import Any, ClassVar

import numpy as np
from torch import nn

from tests.support.parts import Critic, TwoLevelPrior, TwoLevels
from vaectl.config.recipes import RECIPES, vae
from vaectl.config.spec import Part, Spec
from vaectl.config.values import NonNegative
from vaectl.data.base import Loading, Raw
from vaectl.data.loading import SOURCES
from vaectl.model.likelihoods import LIKELIHOODS, BernoulliLikelihood
from vaectl.model.objectives import OBJECTIVES
from vaectl.model.posteriors import POSTERIORS
from vaectl.model.priors import PRIORS


class Bright(BernoulliLikelihood):
    \"\"\"Bernoulli pixels.\"\"\"


def stripes(loading: Loading) -> Raw:
    images = np.zeros((60, 1, 8, 8), np.uint8)
    images[::2, :, ::2] = 255
    images[1::2, :, :, ::2] = 255
    labels = np.arange(60) % 2
    return Raw(images[:40], labels[:40], images[40:], labels[40:])


def recipe(**settings: Any) -> Spec:
    parts = {{name: Part(member) for name, member in [
        ("encoder", "mine"), ("decoder", "mine"), ("posterior", "mine"), ("prior", "mine"), ("likelihood", "mine")]}}
    return dataclasses.replace(vae(), model="mine", latent_dim=4, **parts).changed(**settings)


POSTERIORS["mine"] = TwoLevels
PRIORS["mine"] = TwoLevelPrior
LIKELIHOODS["mine"] = Bright
OBJECTIVES["mine"] = Critic
SOURCES["mine"] = stripes
RECIPES["mine"] = recipe
"""
TRAIN = ("train", "--dataset", "digits", "--epochs", 1, "--latent-dim", 2)
MINE = ("--plugin", "my.py", "--network", "mine", "--set", "encoder.units=8", "--set", "decoder.units=8")
CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")


def forget() -> None:
    """Forget all plug-ins, as another process would not know them."""
    for family, members in {**FAMILIES, "model": RECIPES}.items():
        for plugin in plugins.LOADED.values():
            for name in [name for of, name in plugin.parts if of == family]:
                members.pop(name, None)
    for name in [name for name in sys.modules if name.startswith("vaectl_plugin_")]:
        del sys.modules[name]
    plugins.LOADED.clear()


@pytest.fixture(autouse=True)
def without_plugins() -> Iterator[None]:
    """Each test begins and ends with the built-in parts alone."""
    registries: dict[str, dict[str, Any]] = {**FAMILIES, "model": RECIPES}
    before = {family: dict(members) for family, members in registries.items()}
    yield
    forget()
    assert {family: dict(members) for family, members in registries.items()} == before


def write(name: str, content: str) -> Path:
    file = Path(name)
    file.parent.mkdir(exist_ok=True)
    file.write_text(content, encoding="utf-8")
    return file


def record(name: str = "run1") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path("runs", name, "run.json").read_text(encoding="utf-8"))
    return document


def digest(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def ok(cli: Cli, *line: object) -> str:
    """What a command printed on stdout and stderr that has to end well, in a process that knows no plug-in yet."""
    forget()
    result = cli(*line)
    assert result.exit_code == 0, result.output
    return result.stdout + result.stderr


def build_lines(run: str = "run1") -> list[tuple[object, ...]]:
    """A line of each command that makes the model of a run."""
    return [
        ("eval", run), ("sample", run, "-o", "a.png"), ("sample", run, "--reconstruct", "-n", 8, "-o", "b.npz"),
        ("embed", run, "-o", "c.npz"), ("plot-latent", run, "-o", "d.png"), ("train", "--resume", run, "--epochs", 2),
        ("train", "--from", run), ("compare", run, "other", "-o", "e.html"),
    ]  # fmt: skip


# --- parts of every family --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("--network", "mine", "--set", "encoder.units=8", "--set", "decoder.units=8", "--dataset", "digits"),
        ("--model", "mine", "--dataset", "mine", "--data-dir", "."),
        ("--objective", "mine", "--latent-dim", 4, "--dataset", "mine", "--data-dir", "."),
    ],
    ids=["network", "recipe of parts", "adversary"],
)
def test_parts_of_every_family_work_in_every_command(cli: Cli, arguments: tuple[object, ...]) -> None:
    write("my.py", EVERYTHING)
    mine = ("--plugin", "my.py")
    ok(cli, "train", "--dataset", "digits", "--epochs", 1, "--hidden-dims", 8, "--name", "other", "-q")
    header = ok(cli, "train", *mine, *arguments, "--epochs", 1, "--progress", "plain")
    assert ("mine 64-8-32" if "digits" in arguments else "64-") in header
    for line in build_lines():
        ok(cli, *line, *mine, *(("--epochs", 1, "-q") if "--from" in line else ()))
    assert "run1" in ok(cli, "runs")
    assert record()["plugins"] == record("run2")["plugins"] == [{"name": "my.py", "sha256": digest("my.py")}]
    assert record()["config"]["training"]["epochs"] == 2
    assert np.load("c.npz")["z"].shape[1] == record()["config"]["latent_dim"]


def test_the_example_in_contributing_is_a_plugin(cli: Cli) -> None:
    (example,) = re.findall(r"```python\n(.+?)```", CONTRIBUTING, re.DOTALL)
    write("example.py", example)
    line = (*TRAIN, "--plugin", "example.py", "--likelihood", "gumbel")
    ok(cli, *line, "--hidden-dims", 8, "--set", "likelihood.sigma=0.1")
    assert record()["config"]["likelihood"] == {"name": "gumbel", "sigma": 0.1}
    forget()
    refuse(cli, (*line, "--set", "likelihood.sigma=0"), 2, ["likelihood.sigma"])


def test_the_page_on_plugins_runs(cli: Cli) -> None:
    Reader(cli).read(REPOSITORY / "docs" / "plugins.md", keep_code="my.py")
    assert (record()["config"]["encoder"]["units"], record("run2")["config"]["likelihood"]["sigma"]) == (16, 0.1)


def test_options_that_a_network_of_ones_own_lacks(cli: Cli) -> None:
    """They are refused by name, and no message advises a flag that does not exist."""
    write("my.py", NETWORK)
    refuse(cli, ("train", *MINE[:4], "--dataset", "digits", "--hidden-dims", 8), 2, ["--hidden-dims"], "units")
    refuse(cli, ("train", *MINE[:4], "--dataset", "digits", "--set", "encoder.units=0"), 2, ["encoder.units"])
    large = ("--set", "encoder.units=1000000", "--set", "decoder.units=1000000", "--latent-dim", 16384)
    refuse(cli, ("train", *MINE[:4], "--dataset", "digits", *large), 1, ["cannot be made"], "lower the networks' size")


def test_an_unknown_name_says_how_to_give_it(cli: Cli) -> None:
    hint = "one of your own comes with --plugin FILE.py"
    for flag in ("--network", "--prior", "--likelihood", "--objective", "--dataset", "--model"):
        refuse(cli, ("train", flag, "mine"), 2, [flag, "mine"], hint)
    refuse(cli, ("train", "--likelihood", "gausian"), 2, ["gaussian"], f"did you mean 'gaussian'? {hint}")


# --- where plug-ins come from ----------------------------------------------------------------------------------------


def test_the_environment_names_plugins(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several, one of which a flag names, too; only the one that a run needs is kept."""
    write("my.py", NETWORK)
    write("b/other.py", f"{LIKELIHOOD}LIKELIHOODS['other'] = B\n")
    monkeypatch.setenv("VAECTL_PLUGINS", os.pathsep.join(["b/other.py", "", str(Path("my.py").absolute())]))
    ok(cli, *TRAIN, *MINE)
    assert [plugin["name"] for plugin in record()["plugins"]] == ["my.py"]
    assert [plugin.name for plugin in plugins.LOADED.values()] == ["my.py", "other.py"]
    said = ok(cli, "eval", "run1", "-v")
    assert "other.py" in said
    assert "encoder 'mine'" in said
    ok(cli, *TRAIN, "--hidden-dims", 8)
    assert "plugins" not in record("run2")


class Point:
    """An entry point of an installed package."""

    def __init__(self, module: str) -> None:
        self.module = self.value = module

    class dist:  # noqa: N801 - as importlib.metadata has it
        name, version = "my-parts", "1.2"

    def load(self) -> object:
        __import__(self.module)
        return sys.modules[self.module]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, isolated: Path) -> Iterator[Path]:
    """A module that an installed package names as a plug-in."""
    file = write("my_parts.py", NETWORK).absolute()
    monkeypatch.syspath_prepend(str(isolated))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    points = importlib.metadata.entry_points

    def named(**wanted: str) -> Any:
        return [Point("my_parts")] if wanted == {"group": "vaectl.plugins"} else points(**wanted)

    monkeypatch.setattr(importlib.metadata, "entry_points", named)
    yield file
    sys.modules.pop("my_parts", None)


def test_installed_packages_have_plugins(cli: Cli, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ok(cli, *TRAIN, *MINE[2:])
    kept = {"name": "my-parts", "sha256": digest("my_parts.py"), "version": "1.2"}
    assert record()["plugins"] == [kept]
    del sys.modules["my_parts"]
    ok(cli, "eval", "run1")
    forget()
    monkeypatch.undo()
    monkeypatch.chdir(package.parent)
    refuse(cli, ("eval", "run1"), 1, ["needs the plug-in 'my-parts'"], "installed package, in version '1.2'")


def test_a_broken_package_is_named(cli: Cli, package: Path) -> None:
    package.write_text("1 / 0\n")
    refuse(cli, ("train", "--dataset", "digits"), 2, ["my-parts 1.2", "my_parts", "ZeroDivisionError"])


def test_from_python(isolated: Path) -> None:
    """Each file once, by whatever path; a changed one asks for a new process."""
    file = write("my.py", NETWORK)
    Path("link.py").symlink_to(file)
    (plugin,) = vaectl.load_plugins("my.py")
    assert vaectl.load_plugins([file.absolute(), "link.py"]) == (plugin,)
    assert (plugin.name, plugin.sha256) == ("my.py", digest("my.py"))
    assert plugin.parts == (("encoder", "mine"), ("decoder", "mine"))
    spec = vaectl.vae(network="mine", encoder__units=8, epochs=1, latent_dim=2)
    run = vaectl.train_run(spec, vaectl.load_data("digits"))
    assert run.record["plugins"] == [plugin.to_json()]
    file.write_text(NETWORK + "\n")
    with pytest.raises(UsageError, match=r"my\.py has changed since it was loaded"):
        vaectl.load_plugins("my.py")
    forget()
    for opened in (lambda: vaectl.evaluate_run(run), lambda: vaectl.resume_run("run1"), Run.open("run1").load_model):
        with pytest.raises(RunError, match=r"run1 needs the plug-in 'my\.py'"):
            opened()


# --- plug-ins that are refused ----------------------------------------------------------------------------------------

LIKELIHOOD = "from vaectl.model.likelihoods import LIKELIHOODS, BernoulliLikelihood as B\n"
REFUSED = {
    "raises": ("x = 1\n1 / 0\n", ["ZeroDivisionError: division by zero (my.py, line 2)"]),
    "exits": ("raise SystemExit(3)\n", ["SystemExit", "(my.py, line 1)"]),
    "imports what is missing": ("\nimport nothing_like_it\n", ["ModuleNotFoundError", "(my.py, line 2)"]),
    "has a syntax error": ("x = (\n", ["SyntaxError", "(my.py, line 1)"]),
    "is no text": ("\0", ["SyntaxError"]),
    "takes a name": (f"{LIKELIHOOD}LIKELIHOODS['gaussian'] = B\n", ["likelihood 'gaussian'", "vaectl"]),
    "takes a part away": (f"{LIKELIHOOD}del LIKELIHOODS['mse']\n", ["likelihood 'mse'"]),
    "has a name that no flag can hold": (f"{LIKELIHOOD}LIKELIHOODS['My part'] = B\n", ["'My part'", "small letters"]),
    "registers an instance": (f"{LIKELIHOOD}LIKELIHOODS['mine'] = 3\n", ["likelihood 'mine'", "parts.Likelihood"]),
    "registers another kind": (
        f"{LIKELIHOOD}from vaectl.model.priors import PRIORS\nPRIORS['mine'] = B\n", ["prior 'mine'", "parts.Prior"]
    ),
    "lacks a method": (
        "from vaectl.model.parts import Network\nfrom vaectl.model.networks import ENCODERS\n"
        "class Mine(Network): pass\nENCODERS['mine'] = Mine\n", ["encoder 'mine'", "describe, forward"]
    ),
    "has an option without a type": (
        f"{LIKELIHOOD}class Mine(B):\n    def __init__(self, features, shape, *, sigma=1): ...\n"
        "LIKELIHOODS['mine'] = Mine\n", ["likelihood 'mine'", "sigma"]
    ),
    "takes auto": ("from vaectl.data.loading import SOURCES\nSOURCES['auto'] = print\n", ["data 'auto'", "meaning"]),
    "registers no function": ("from vaectl.data.loading import SOURCES\nSOURCES['mine'] = 3\n", ["data 'mine'", "Raw"]),
    "makes no spec": (
        "from vaectl.config.recipes import RECIPES\nRECIPES['mine'] = lambda **given: 3\n", ["model 'mine'", "Spec"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_plugin_is_refused_that(cli: Cli, kind: str) -> None:
    """It is named with what is wrong, and leaves the registries as they were."""
    content, names = REFUSED[kind]
    write("my.py", content)
    before = {family: dict(members) for family, members in FAMILIES.items()}
    refuse(cli, ("train", "--plugin", "my.py", "--dataset", "digits"), 2, ["--plugin my.py", *names])
    assert {family: dict(members) for family, members in FAMILIES.items()} == before
    assert not [name for name in sys.modules if name.startswith("vaectl_plugin_")]


def test_two_plugins_of_one_name_are_both_named(cli: Cli) -> None:
    write("my.py", NETWORK)
    yours = "from tests.support.parts import Counting\nfrom vaectl.model.networks import ENCODERS\n"
    write("b/yours.py", f"{yours}ENCODERS['mine'] = Counting\n")
    line = ("train", "--plugin", "my.py", "--plugin", "b/yours.py")
    refuse(cli, line, 2, ["--plugin b/yours.py", "encoder 'mine'", "my.py has one of that name"])


def test_a_file_that_is_none(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    write("my.txt", NETWORK)
    Path("folder.py").mkdir()
    refuse(cli, ("eval", "run1", "--plugin", "nothing.py"), 2, ["--plugin nothing.py", "No such file"])
    refuse(cli, ("eval", "run1", "--plugin", "my.txt"), 2, ["--plugin my.txt", "FILE.py"])
    refuse(cli, ("eval", "run1", "--plugin", "folder.py"), 2, ["folder.py", "not a regular file"])
    monkeypatch.setenv("VAECTL_PLUGINS", "nothing.py")
    refuse(cli, ("sample", "run1"), 2, ["VAECTL_PLUGINS nothing.py"])
    assert cli("train", "--help").exit_code == 0
    assert cli("runs").exit_code == 0


# --- runs and their plug-ins -----------------------------------------------------------------------------------------


@pytest.fixture
def own_run(cli: Cli) -> Path:
    """run1, of a network from my.py, and the run other; nothing is loaded any more."""
    write("my.py", NETWORK)
    ok(cli, *TRAIN, *MINE)
    ok(cli, *TRAIN, "--hidden-dims", 8, "--name", "other")
    forget()
    return Path("runs", "run1")


def test_every_command_says_which_plugin_a_run_needs(cli: Cli, own_run: Path) -> None:
    """Those that make no model go on without it; never is the run said to be damaged."""
    needs = ["run1 needs the plug-in 'my.py'", digest("my.py")[:12]]
    for line in build_lines():
        result = cli(*line)
        assert result.exit_code == 1, result.output
        assert all(name in result.stderr for name in needs), result.stderr
        assert "hint: give it with --plugin FILE.py or VAECTL_PLUGINS" in result.stderr
        assert "damaged" not in result.stderr
    for line in (("runs",), ("runs", "run1"), ("compare", "run1", "other"), ("compare", "run1", "other", "--json")):
        ok(cli, *line)
    alter(own_run / "run.json", put("evaluations", []))
    refuse(cli, ("compare", "run1", "other"), 1, needs, "--plugin FILE.py")
    ok(cli, "compare", "run1", "other", "--plugin", "my.py")


def test_a_plugin_with_another_content(cli: Cli, own_run: Path) -> None:
    """It may be used, with a warning; a training does not go on with it."""
    before = digest("my.py")
    write("my.py", NETWORK + "# changed\n")
    now = digest("my.py")
    differs = f"run1 needs the plug-in 'my.py' with sha256 {before[:12]}; the one that is loaded has {now[:12]}"
    assert f"warning: {differs}" in ok(cli, "eval", "run1", "--plugin", "my.py")
    assert f"warning: {differs}" in ok(cli, "train", "--from", "run1", "--plugin", "my.py", "--dry-run")
    forget()
    refuse(cli, ("train", "--resume", "run1", "--epochs", 2, "--plugin", "my.py"), 1, [differs], "as it was")
    write("renamed.py", NETWORK)
    assert "warning" not in ok(cli, "sample", "run1", "--plugin", "renamed.py")


def test_nothing_that_a_run_names_is_executed(cli: Cli, own_run: Path, isolated: Path) -> None:
    """Not a file in its folder, by whatever name or path."""
    trap = own_run / "my.py"
    trap.write_text(f"{NETWORK}\nopen({str(isolated / 'executed')!r}, 'w')\n")
    for name in ("my.py", str(trap), str(trap.absolute()), "../runs/run1/my.py", "runs.run1.my"):
        alter(own_run / "run.json", put("plugins", [{"name": name, "sha256": digest(str(trap)), "path": str(trap)}]))
        for line in build_lines():
            result = cli(*line)
            assert result.exit_code == 1, line
            assert "needs the plug-in" in result.stderr
        ok(cli, "runs", "run1")
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    "value",
    [{}, "my.py", ["my.py"], [{"name": "my.py"}], [{"name": 1, "sha256": "0" * 64}], [{"name": "a", "sha256": "x"}],
     [{"name": "a", "sha256": "0" * 64, "version": 1}], [{"name": "a" * 5000, "sha256": "0" * 64}],
     [{"name": "a", "sha256": "0" * 64}] * 101, None],
    ids=str,
)  # fmt: skip
def test_a_record_with_other_things_for_plugins_is_damaged(cli: Cli, runs: Path, value: object) -> None:
    change: Callable[[dict[str, Any]], None] = put("plugins", value)
    alter(runs / "run1" / "run.json", change)
    for line in (("eval", "run1"), ("runs", "run1"), ("compare", "run1", "run2")):
        refuse(cli, line, 1, ["run.json is damaged: field 'plugins'"])


def test_a_part_that_a_program_registered_itself(cli: Cli, own_run: Path) -> None:
    """Its run cannot say where the part is from, and the hint says how parts are given."""
    alter(own_run / "run.json", lambda document: document.pop("plugins"))
    refuse(cli, ("eval", "run1"), 1, ["encoder.name must be one of mlp, conv, resnet"], "--plugin FILE.py")
