"""The scale of real numbers: fitted to training rows, chosen by ``--normalize``, undone in all that is written."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Cli
from tests.support.own import load
from vaectl.data import scale
from vaectl.data.base import Data
from vaectl.data.own import loading as own_loading
from vaectl.data.units import Column, Units
from vaectl.errors import SettingError


def table(path: Path, n: int = 400, seed: int = 0) -> np.ndarray:
    """A table of columns of unlike scale that follow two factors: age (whole), income, rate and a huge one."""
    random = np.random.RandomState(seed)
    factors = random.randn(n, 2)
    age = np.clip(45 + 12 * factors[:, 0] + 2 * random.randn(n), 18, 90).round()
    income = 3e4 + 2e4 * factors[:, 1] + 2e3 * random.randn(n)
    rate = 0.05 + 0.01 * factors[:, 0] + 0.001 * random.randn(n)
    huge = 1e12 + 1e11 * factors[:, 1] + 1e10 * random.randn(n)
    values = np.stack([age, income, rate, huge], 1)
    with path.open("w") as file:
        file.write("age,income,rate,huge\n")
        file.writelines(f"{a:.0f},{b:.3f},{c:.6f},{d:.1f}\n" for a, b, c, d in values)
    return values


def training_rows(data: Data) -> np.ndarray:
    return data.train.batch(slice(None)).x.numpy().reshape(len(data.train), -1).astype(np.float64)


def test_a_real_table_is_standardised_by_its_training_rows(isolated: Path) -> None:
    table(isolated / "t.csv")
    data = load(isolated / "t.csv")
    rows, units = training_rows(data), data.info.units
    assert units is not None
    assert units.method == "standard"
    assert np.allclose(units.loc, rows.mean(0), rtol=1e-6)
    assert np.allclose(units.scale, rows.std(0), rtol=1e-6)
    assert "each column is standardised" in dict(data.report.rows())["scale"]


@pytest.mark.parametrize(
    ("method", "loc", "spread"),
    [
        ("minmax", lambda x: x.min(0), lambda x: np.ptp(x, 0)),
        ("robust", lambda x: np.median(x, 0), lambda x: np.subtract(*np.quantile(x, (0.75, 0.25), axis=0))),
    ],
)
def test_other_methods(isolated: Path, method: str, loc, spread) -> None:
    table(isolated / "t.csv")
    data = load(isolated / "t.csv", normalize=method)
    rows, units = training_rows(data), data.info.units
    assert units.method == method
    assert np.allclose(units.loc, loc(rows))
    assert np.allclose(units.scale, spread(rows))


def test_without_scaling_the_columns_are_remarked_on(isolated: Path) -> None:
    table(isolated / "t.csv")
    data = load(isolated / "t.csv", normalize="none")
    assert not data.info.units.are_applied
    remark = dict(data.report.rows())["scale"]
    assert " has mean 9.9" in remark or " has mean 1." in remark
    assert "--normalize standard" in remark


@pytest.mark.parametrize(
    ("numbers", "method"),
    [
        (lambda r: r.rand(40, 6, 6) * 2 - 1, "none"),  # images from -1 to 1 stay as they are
        (lambda r: r.rand(40, 6, 6) * 255, "standard"),
        (lambda r: r.randint(-1000, 3000, (40, 6, 6)).astype(np.int16), "standard"),
        (lambda r: r.rand(40, 6, 6) * 1e-3 - 5e-4, "standard"),
        (lambda r: 1e12 + 1e10 * r.randn(40, 6, 6), "standard"),
    ],
)
def test_images_get_one_scale_if_theirs_is_unlike(isolated: Path, numbers, method: str) -> None:
    np.save(isolated / "x.npy", numbers(np.random.RandomState(0)))
    units = load(isolated / "x.npy").info.units
    assert units.method == method
    assert len(units.loc) == len(units.scale) == 1


def test_a_streamed_scale_is_the_resident_one(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "AT_ONCE", 7)
    np.save(isolated / "x.npy", (np.random.RandomState(0).randn(100, 6, 6) * 40 + 100))
    for method in ("standard", "minmax", "robust"):
        one, other = (load(isolated / "x.npy", storage=s, normalize=method).info.units for s in ("resident", "stream"))
        assert one == other


def test_constant_columns_keep_their_units(isolated: Path) -> None:
    np.save(isolated / "x.npy", np.stack([np.full(50, 1234.5), np.random.RandomState(0).randn(50)], 1))
    for method in ("standard", "minmax", "robust"):
        units = load(isolated / "x.npy", normalize=method).info.units
        assert units.scale[0] == 1.0
        assert units.loc[0] == pytest.approx(1234.5)


def test_a_column_that_is_mostly_one_value_has_a_robust_scale(isolated: Path) -> None:
    values = np.zeros((100, 2))
    values[:30, 0], values[:, 1] = 500.0, np.random.RandomState(0).randn(100)
    np.save(isolated / "x.npy", values)
    assert load(isolated / "x.npy", normalize="robust").info.units.scale[0] > 100


def test_the_test_rows_do_not_move_the_scale(isolated: Path) -> None:
    table(isolated / "t.csv")
    before = load(isolated / "t.csv")
    lines = (isolated / "t.csv").read_text().splitlines()
    for row in before.test.rows.tolist():
        lines[row + 1] = "99,900000.0,0.9,9e12"
    (isolated / "u.csv").write_text("\n".join(lines) + "\n")
    assert load(isolated / "u.csv").info.units == before.info.units


def test_bytes_have_a_scale_of_their_own(isolated: Path) -> None:
    np.save(isolated / "x.npy", np.random.RandomState(0).randint(0, 256, (40, 6, 6), np.uint8))
    assert load(isolated / "x.npy").info.units is None
    with pytest.raises(SettingError, match=r"normalize.*is for real numbers; x\.npy is bytes"):
        load(isolated / "x.npy", normalize="standard")


def test_results_are_in_the_files_units_and_good_in_every_column(cli: Cli, isolated: Path) -> None:
    """R2 of each column above .9, whole numbers whole, and a bound that a plain training cannot reach."""
    values = table(isolated / "t.csv", 1500)
    common = ["--dataset", "t.csv", "--likelihood", "gaussian", "--latent-dim", 2, "--hidden-dims", "64,32"]
    options = ["--batch-size", 32, "--lr", 3e-3, "-q"]
    assert cli("train", *common, *options, "--epochs", 40, "--name", "scaled").exit_code == 0
    result = cli("sample", "scaled", "--reconstruct", "-n", 150, "-o", "r.csv")
    assert result.exit_code == 0, result.output
    with (isolated / "r.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:5] == ["age", "income", "rate", "huge", "original_age"]
    for name, column in zip(("age", "income", "rate", "huge"), values.T, strict=True):
        ours = np.array([float(row[name]) for row in rows])
        true = np.array([float(row[f"original_{name}"]) for row in rows])
        assert (np.abs(true[:, None] - column).min(1) <= 1e-4 * column.std()).all(), name
        assert 1 - np.square(ours - true).sum() / np.square(true - true.mean()).sum() > 0.9, name
    assert np.isclose(np.mean([float(row["age"]) for row in rows]), values[:, 0].mean(), atol=3)
    # the closed form: a Gaussian of these columns has this expected log density, and no model of them a higher one
    elbo = json.loads((isolated / "runs/scaled/run.json").read_text())["metrics"]["elbo"]
    covariance = np.cov(values.T / values.std(0)[:, None])
    best = -0.5 * (np.linalg.slogdet(2 * math.pi * math.e * covariance)[1]) - np.log(values.std(0)).sum()
    assert best - 1.0 < elbo < best + 0.3


def test_normalised_and_plain_runs_have_comparable_nats(cli: Cli, isolated: Path) -> None:
    """Independent Gaussians: both reach the closed form ``-sum log(sigma sqrt(2 pi e))`` in the data's units."""
    sigma = np.array([0.5, 1.0, 2.0])
    np.save(isolated / "x.npy", sigma * np.random.RandomState(1).randn(3000, 3))
    common = ["--dataset", "x.npy", "--likelihood", "gaussian", "--latent-dim", 1, "--hidden-dims", "16", "-q"]
    options = ["--set", "likelihood.scale=per-pixel", "--lr", 0.01, "--epochs", 6]
    elbos = {}
    for method in ("standard", "robust", "none"):
        assert cli("train", *common, *options, "--normalize", method, "--name", method).exit_code == 0
        record = json.loads((isolated / "runs" / method / "run.json").read_text())
        assert record["dataset"]["units"]["method"] == method
        elbos[method] = record["metrics"]["elbo"]
    closed = -np.log(sigma * math.sqrt(2 * math.pi * math.e)).sum()
    assert np.allclose(list(elbos.values()), closed, atol=0.15), (elbos, closed)
    comparison = json.loads(cli("compare", "none", "standard", "--json").stdout)
    assert comparison["comparable"], comparison["reasons"]


def test_a_divergence_and_the_doctor_name_the_scale_first(cli: Cli, isolated: Path) -> None:
    table(isolated / "t.csv")
    common = ["--dataset", "t.csv", "--likelihood", "gaussian", "--latent-dim", 2, "--hidden-dims", "16", "--epochs", 1]
    result = cli("train", *common, "--normalize", "none", "-q")
    assert result.exit_code == 3
    assert "try --normalize standard (column '" in result.stderr.replace("\n", " ")
    np.save(isolated / "x.npy", 300 * np.random.RandomState(0).rand(60, 5, 5) + 40)
    arguments = ["--dataset", "x.npy", *common[2:], "--normalize", "none", "--json"]
    document = json.loads(cli("train", *arguments).stdout)
    assert document["findings"][0]["name"] == "unlike scale"
    assert document["findings"][0]["try"] == "--normalize standard"


def test_a_run_evaluates_resumes_and_samples_with_the_scale_of_its_record(
    cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(isolated / "t.csv")
    common = ["--dataset", "t.csv", "--likelihood", "gaussian", "--latent-dim", 2, "--hidden-dims", "16", "-q"]
    assert cli("train", *common, "--epochs", 2).exit_code == 0
    before = json.loads((isolated / "runs/run1/run.json").read_text())

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a run that exists has its scale")

    monkeypatch.setattr(own_loading, "fitted_units", refuse)
    evaluated = json.loads(cli("eval", "run1", "--json").stdout)
    assert evaluated["metrics"]["elbo"] == before["metrics"]["elbo"]
    assert cli("train", "--resume", "run1", "--epochs", 3, "-q").exit_code == 0
    after = json.loads((isolated / "runs/run1/run.json").read_text())
    assert after["dataset"]["units"] == before["dataset"]["units"]
    assert after["metrics"]["elbo"] > before["metrics"]["elbo"]


def test_a_record_without_a_scale_is_a_run_that_sees_the_numbers_as_they_are(cli: Cli, isolated: Path) -> None:
    """Runs that were made before there was a scale have none, and go on as they began."""
    np.save(isolated / "x.npy", np.random.RandomState(0).randn(60, 5))
    common = ["--dataset", "x.npy", "--likelihood", "gaussian", "--latent-dim", 2, "--hidden-dims", "16", "-q"]
    assert cli("train", *common, "--epochs", 1, "--normalize", "none").exit_code == 0
    path = isolated / "runs/run1/run.json"
    record = json.loads(path.read_text())
    elbo = record["metrics"]["elbo"]
    for key in ("units", "columns"):
        del record["dataset"][key]
    path.write_text(json.dumps(record))
    assert json.loads(cli("eval", "run1", "--json").stdout)["metrics"]["elbo"] == elbo
    assert cli("train", "--resume", "run1", "--epochs", 2, "-q").exit_code == 0


@pytest.mark.parametrize(
    "units",
    [
        {"method": "standard", "loc": [0.0] * 3, "scale": [1.0] * 3},  # there are four columns
        {"method": "standard", "loc": [0.0] * 4, "scale": [0.0] * 4},
        {"method": "standard", "loc": [0.0] * 4, "scale": ["1"] * 4},
        {"method": "other", "loc": [0.0] * 4, "scale": [1.0] * 4},
        {"method": "standard", "loc": 0.0, "scale": [1.0] * 4},
        {"loc": [0.0] * 4, "scale": [1.0] * 4},
        [1, 2],
    ],
)
def test_a_damaged_scale_is_an_error(cli: Cli, isolated: Path, units: object) -> None:
    table(isolated / "t.csv", 60)
    common = ["--dataset", "t.csv", "--likelihood", "gaussian", "--latent-dim", 2, "--hidden-dims", "8", "-q"]
    assert cli("train", *common, "--epochs", 1).exit_code == 0
    path = isolated / "runs/run1/run.json"
    record = json.loads(path.read_text())
    record["dataset"]["units"] = units
    path.write_text(json.dumps(record))
    result = cli("sample", "run1", "-n", 2, "-o", "x.npy")
    assert result.exit_code == 1
    assert "is damaged" in result.stderr


def test_numbers_return_as_the_file_has_them() -> None:
    values = np.array([0.2, 0.5, 1.7, -3.4], np.float32)
    assert Column("a", "whole").restored(values).tolist() == [0, 0, 2, -3]
    assert Column("a", "bool").restored(values).tolist() == [False, True, True, False]
    assert Column("a").restored(values) is values
    huge = np.array([1e30], np.float32)
    assert Column("a", "whole").restored(huge) is huge
    assert Units("standard", (0.0,), (1.0,)).unlike() == ""
