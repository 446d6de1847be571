"""Names as values: completion offers them in every command, and they are taken in upper or lower case."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.support.shell import complete
from vaectl.config.spec import SPLITS
from vaectl.config.table import SETTINGS, Setting

NAMED = [pytest.param(setting, id=setting.name) for setting in SETTINGS if setting.choices]


@pytest.mark.parametrize("setting", NAMED)
def test_names_of_a_setting_are_offered(setting: Setting) -> None:
    assert complete(f"vaectl train {setting.flag} ") == list(setting.choices)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("vaectl train --model vq", ["vq-vae"]),
        ("vaectl train --likelihood c", ["continuous-bernoulli", "categorical"]),
        ("vaectl train --dataset ./photos", []),  # which leaves files to the shell
        ("vaectl train --latent-dim ", []),
        ("vaectl train --progress ", ["auto", "bar", "plain", "none"]),
        ("vaectl eval --split ", [*SPLITS]),
        ("vaectl eval --checkpoint ", ["best", "last"]),
        ("vaectl eval --device ", ["auto", "cpu", "cuda", "mps"]),
        ("vaectl sample --mode m", ["mean", "mode"]),
        ("vaectl embed --split ", [*SPLITS, "all"]),
        ("vaectl embed --dataset d", ["digits"]),
        ("vaectl plot-latent --kind ", ["scatter", "manifold", "traversal", "codes"]),
        ("vaectl runs --sort ", ["id", "elbo", "time"]),
        ("vaectl compare --device c", ["cpu", "cuda"]),
        ("vaectl selftest --progress n", ["none"]),
    ],
)
def test_names_that_begin_with_the_word_are_offered(line: str, offered: list[str]) -> None:
    assert complete(line) == offered


def test_data_sets_and_parts_are_named_in_any_case(cli: Cli, runs: Path) -> None:
    assert cli("embed", "run1", "--dataset", "DIGITS", "-q").exit_code == 0
    result = cli("train", "--dataset", "Digits", "--model", "VAE", "--likelihood", "MSE", "--dry-run", "--json")
    config = json.loads(result.stdout)["config"]
    assert (config["data"]["name"], config["model"], config["likelihood"]["name"]) == ("digits", "vae", "mse")
