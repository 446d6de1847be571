"""``eval --dataset``: a run judged on other data than its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Cli
from tests.support.refusals import refuse, snapshot


def halves(isolated: Path) -> tuple[np.ndarray, np.ndarray]:
    """The digits in two files, of which the second has labels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16 * 255).astype(np.uint8)
    np.save(isolated / "new.npy", images[:300])
    np.savez(isolated / "split.npz", x_train=images[:200], x_test=images[200:260], y_train=digits.target[:200],
             y_test=digits.target[200:260])  # fmt: skip
    return images, digits.target


def test_all_examples_of_another_file_count(cli: Cli, runs: Path, isolated: Path) -> None:
    halves(isolated)
    before = snapshot(runs)
    document = json.loads(cli("eval", "run1", "--dataset", "new.npy", "--per-example", "v.csv", "--json").stdout)
    assert (document["dataset"], document["split"], document["n"]) == ("new.npy", "all", 300)
    assert snapshot(runs) == before  # it says nothing about the run's own test set
    rows = (isolated / "v.csv").read_text().splitlines()
    assert len(rows) == 301
    elbos = [float(row.split(",")[rows[0].split(",").index("elbo")]) for row in rows[1:]]
    assert np.mean(elbos) == pytest.approx(document["metrics"]["elbo"], abs=1e-3)
    assert document["metrics"]["elbo_se"] == pytest.approx(np.std(elbos, ddof=1) / np.sqrt(300), rel=1e-3)


def test_splits_of_another_file(cli: Cli, runs: Path, isolated: Path) -> None:
    halves(isolated)
    whole = json.loads(cli("eval", "run1", "--dataset", "split.npz", "--json").stdout)
    parts = [
        json.loads(cli("eval", "run1", "--dataset", "split.npz", "--split", name, "--json").stdout)
        for name in ("train", "validation", "test")
    ]
    assert whole["n"] == 260
    assert parts[2]["n"] == 60
    assert "split.npz, all, 260 examples" in cli("eval", "run1", "--dataset", "split.npz").stdout
    cli("eval", "run1", "--dataset", "split.npz", "--per-example", "v.npz")
    with np.load(isolated / "v.npz") as values:
        assert set(values["split"]) == {"train", "test"}
        assert values["recon_at_mean"].mean() == pytest.approx(whole["metrics"]["recon_at_mean"], rel=1e-4)


def test_the_runs_own_data_by_name_are_its_own(cli: Cli, runs: Path) -> None:
    own, named = (json.loads(cli("eval", "run1", *more, "--json").stdout) for more in ([], ["--dataset", "digits"]))
    assert own["metrics"] == named["metrics"]
    assert "dataset" not in named


def test_what_cannot_be_evaluated(cli: Cli, runs: Path, isolated: Path) -> None:
    np.save(isolated / "deep.npy", np.zeros((9, 8, 9, 7), np.uint8))
    refuse(cli, ["eval", "run1", "--split", "all"], 2, ["--split all"])
    refuse(cli, ["eval", "run1", "--dataset", "deep.npy"], 1, ["deep.npy", "(7, 8, 8)", "(1, 8, 8)"])
    refuse(cli, ["eval", "run1", "--dataset", "gone.npy"], 1, ["gone.npy does not exist"])
    refuse(cli, ["eval", "run1", "--dataset", "mnits"], 2, ["mnits"], "mnist")
