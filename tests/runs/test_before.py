"""Runs that an earlier version made: they open, evaluate to the figures they recorded, compare, go on and sample.

``of_before`` holds a VAE and a VQ-VAE with a second stage, made by the version before files moved into rooms.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Cli
from tests.support.runs import rows_of

RUNS = ("vae", "vq")
# run -> how it goes on, and the validation ELBO that the version before reached so
GOES_ON = {"vae": (("--epochs", 3), -43.47998), "vq": (("--prior-epochs", 2), -73.52265)}


@pytest.fixture(autouse=True)
def before(isolated: Path) -> Path:
    """A copy of the runs at ./runs."""
    return Path(shutil.copytree(Path(__file__).parent / "of_before", isolated / "runs"))


def document(cli: Cli, *arguments: object) -> Any:
    result = cli(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def recorded(run: Path) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((run / "run.json").read_text())["metrics"]
    return metrics


@pytest.mark.parametrize("name", RUNS)
def test_eval_finds_what_was_recorded(cli: Cli, before: Path, name: str) -> None:
    expected = recorded(before / name)
    metrics = document(cli, "eval", name)["metrics"]
    assert {key: metrics[key] for key in expected} == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_runs_and_compare_show_what_was_recorded(cli: Cli, before: Path) -> None:
    assert {run["id"] for run in document(cli, "runs")} == set(RUNS)
    comparison = document(cli, "compare", *RUNS)
    assert comparison["comparable"]
    values = {metric["name"]: metric["values"] for metric in comparison["metrics"]}
    assert values["elbo"] == [recorded(before / name)["elbo"] for name in RUNS]


@pytest.mark.parametrize("name", RUNS)
def test_a_training_goes_on_as_it_would_have(cli: Cli, before: Path, name: str) -> None:
    rows = rows_of(before / name)
    more, elbo = GOES_ON[name]
    assert document(cli, "train", "--resume", name, *more)["status"] == "completed"
    after = rows_of(before / name)
    assert after[:-1] == rows
    assert after[-1]["validation"]["elbo"] == pytest.approx(elbo, rel=1e-4)


@pytest.mark.parametrize("name", RUNS)
def test_its_weights_draw_and_encode(cli: Cli, before: Path, name: str) -> None:
    document(cli, "sample", name, "-n", 4, "-o", "samples.npz")
    with np.load("samples.npz") as arrays:
        assert all(np.isfinite(arrays[key]).all() for key in arrays.files)
        assert (4, 1, 8, 8) in {arrays[key].shape for key in arrays.files}
    assert document(cli, "embed", name, "-o", "codes.npz")["n"] == 300


def test_a_new_run_begins_from_its_settings(cli: Cli, before: Path) -> None:
    config = document(cli, "train", "--from", "vq", "--epochs", 1, "--prior-epochs", 0, "--name", "new", "--dry-run")
    assert config["config"]["posterior"] == json.loads((before / "vq" / "config.json").read_text())["posterior"]
