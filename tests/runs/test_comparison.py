"""Comparisons: paired differences, verdicts from stated thresholds, and when they are withheld."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli
from vaectl.config.recipes import DATA_OPTIONS
from vaectl.runs.comparison import METRICS, Metric, compare
from vaectl.runs.comparison import _verdict as verdict
from vaectl.runs.run import Run

HIGHER, LOWER, NEITHER = (Metric("m", "nats", direction) for direction in (1, -1, 0))
COUNT = Metric("m", "count", 1)


@pytest.mark.parametrize(
    ("metric", "delta", "se", "expected"),
    [
        (HIGHER, 2.1, 1.0, "better"),
        (HIGHER, -2.1, 1.0, "worse"),
        (HIGHER, 1.9, 1.0, "≈"),
        (HIGHER, -1.9, 1.0, "≈"),
        (LOWER, 2.1, 1.0, "worse"),
        (LOWER, -2.1, 1.0, "better"),
        (LOWER, -1.9, 1.0, "≈"),
        (NEITHER, 9.0, 1.0, None),
        (HIGHER, 9.0, None, None),
        (HIGHER, 9.0, float("nan"), None),
        (HIGHER, None, 1.0, None),
        (COUNT, 1, None, "better"),
        (COUNT, -1, None, "worse"),
        (COUNT, 0, None, "≈"),
    ],
)
def test_verdicts(metric: Metric, delta: float | None, se: float | None, expected: str | None) -> None:
    """Better or worse beyond two standard errors in the metric's own direction; a count by its sign."""
    assert verdict(metric, delta, se) == expected


def test_directions_are_those_of_the_field() -> None:
    assert {metric.name: metric.direction for metric in METRICS} == {
        "elbo": 1, "recon": -1, "kl": 0, "active_units": 1,
    }  # fmt: skip


def shift(folder: Path, name: str, by: float) -> Run:
    """A copy of run1 whose every test example is better by ``by`` nats, in recon alone."""
    path = Path(shutil.copytree(folder / "run1", folder / name))
    file = path / "evaluations" / "test-best.json"
    values = json.loads(file.read_text())
    values["elbo"] = [value + by for value in values["elbo"]]
    values["recon"] = [value - by for value in values["recon"]]
    file.write_text(json.dumps(values))
    record = json.loads((path / "run.json").read_text())
    metrics = record["evaluations"][0]["metrics"]
    metrics["elbo"], metrics["recon"] = metrics["elbo"] + by, metrics["recon"] - by
    (path / "run.json").write_text(json.dumps(record))
    return Run.open(name, folder)


def test_a_difference_in_every_example_is_found_however_small(runs: Path) -> None:
    """Half a nat is far below the spread over images; paired, it has no error at all."""
    base, better = Run.open("run1", runs), shift(runs, "better", 0.5)
    rows = {row.metric.name: row for row in compare([base, better]).rows}
    assert rows["elbo"].cells[1].delta == pytest.approx(0.5)
    assert rows["elbo"].cells[1].delta_se == pytest.approx(0.0, abs=1e-6)
    assert [cell.verdict for cell in rows["elbo"].cells] == [None, "better"]
    assert [cell.verdict for cell in rows["recon"].cells] == [None, "better"]
    assert [cell.verdict for cell in rows["kl"].cells] == [None, None]
    assert {row.metric.name: row.cells[1].verdict for row in compare([better, base]).rows}["elbo"] == "worse"


@pytest.mark.parametrize(
    ("field", "value"), [("fingerprint", "other"), ("preprocessing", "otherwise"), ("support", "real")]
)
def test_unlike_data_are_not_ranked(runs: Path, field: str, value: str) -> None:
    base, other = Run.open("run1", runs), Run.open("run2", runs)
    other.record["dataset"][field] = value
    found = compare([base, other])
    assert len(found.reasons) == 1
    assert all(cell.verdict is None and cell.delta_se is None for row in found.rows for cell in row.cells)
    assert found.rows[0].values == [run.evaluation("test", "best")["metrics"]["elbo"] for run in (base, other)]  # type: ignore[index]


def test_runs_of_unlike_counts_of_examples_are_not_ranked(runs: Path) -> None:
    """Means over 300 and over 299 test images are not paired, and a difference between them has no verdict."""
    base, other = Run.open("run1", runs), Run.open("run2", runs)
    for item in other.record["evaluations"]:
        item["n"] = 299
    found = compare([base, other])
    assert found.reasons == ["run1 was evaluated on 300 test examples and run2 on 299"]
    assert not found.comparable
    cells = [row.cells[1] for row in found.rows]
    assert all((cell.delta, cell.delta_se, cell.verdict) == (None, None, None) for cell in cells)


def measured(run: Run, measure: str) -> Run:
    for evaluation in run.record["evaluations"]:
        evaluation["measure"] = measure
    return run


def test_a_run_of_before_an_option_has_its_default(runs: Path) -> None:
    """What data could not be asked for then is no difference now, and such a run is opened and evaluated."""
    file = runs / "run2" / "run.json"
    record = json.loads(file.read_text())
    for name in DATA_OPTIONS.keys() - {"validation_fraction", "binarize", "binarize_seed"}:
        del record["config"]["data"][name]
    for name in ("classes", "range"):
        del record["dataset"][name]
    file.write_text(json.dumps(record))
    found = compare([Run.open(name, runs) for name in ("run1", "run2")])
    assert not [path for path in found.differing if path.startswith("data.")]
    assert Run.open("run2", runs).data_info == Run.open("run1", runs).data_info


def test_unlike_measures_are_not_ranked(runs: Path) -> None:
    """Protocol: a grey-level cross-entropy is never set beside a density or a binarised image's probability."""
    base, other = Run.open("run1", runs), Run.open("run2", runs)
    assert compare([base, other]).comparable
    found = compare([base, measured(other, "density")])
    assert "a grey-level cross-entropy and run2 a density" in found.reasons[0]
    assert all(cell.verdict is None and cell.delta_se is None for row in found.rows for cell in row.cells)


def test_two_likelihoods_of_one_measure_are_ranked(runs: Path) -> None:
    """A Gaussian of fixed and one of learned scale are both densities, and so is a Laplace."""
    base, other = (measured(Run.open(name, runs), "density") for name in ("run1", "run2"))
    other.record["config"]["likelihood"] = {"name": "laplace", "scale": "shared"}
    base.record["config"]["likelihood"] = {"name": "gaussian", "scale": "fixed"}
    found = compare([base, other])
    assert found.comparable
    assert found.rows[0].cells[1].verdict in ("better", "worse", "≈")


def test_seeds_of_one_setting_are_never_called_better_or_worse(runs: Path) -> None:
    """Half a nat between two seeds is shown with its error over images, and not judged; another setting beside is."""
    base, seed, other = Run.open("run1", runs), shift(runs, "seed", 0.5), Run.open("run2", runs)
    seed.record["config"]["training"]["seed"] = 1
    found = compare([base, seed, other])
    assert found.comparable
    assert found.rows[0].cells[1].delta == pytest.approx(0.5)
    assert found.rows[0].cells[1].delta_se is not None
    assert [row.cells[1].verdict for row in found.rows] == [None] * len(found.rows)
    assert found.rows[0].cells[2].verdict in ("better", "worse", "≈")
    assert found.withheld[2] is None
    assert "--group" in (found.withheld[1] or "")
    assert found.to_json()["reasons"] == [found.withheld[1]]


def test_the_importance_bound_is_a_row_where_all_runs_have_it_of_one_k(cli: Cli, runs: Path) -> None:
    for name, samples in (("run1", 7), ("run2", 7)):
        assert cli("eval", name, "--importance-samples", samples).exit_code == 0
    opened = [Run.open(name, runs) for name in ("run1", "run2")]
    (row,) = [row for row in compare(opened).rows if row.metric.name == "importance_bound"]
    assert row.metric.samples == 7
    assert row.values == [run.evaluation("test", "best")["importance"]["bound"] for run in opened]  # type: ignore[index]
    assert row.cells[1].delta_se is not None
    assert row.cells[1].verdict in ("better", "worse", "≈")
    assert "bound K=7" in cli("compare", "run1", "run2").stdout
    assert cli("eval", "run2", "--importance-samples", 3).exit_code == 0
    assert "bound K" not in cli("compare", "run1", "run2").stdout


def test_bits_per_dimension_is_a_row_of_discrete_data(cli: Cli, isolated: Path) -> None:
    """Its paired standard error is the ELBO's over D ln 2, and fewer bits are better where the ELBO is higher."""
    for epochs in (1, 4):
        arguments = ["--dataset", "digits", "--hidden-dims", 16, "--latent-dim", 2, "--binarize", "static", "-q"]
        assert cli("train", *arguments, "--epochs", epochs).exit_code == 0
    found = compare([Run.open(name, isolated / "runs") for name in ("run1", "run2")])
    rows = {row.metric.name: row for row in found.rows}
    bits, elbo = rows["bits_per_dim"], rows["elbo"]
    unit = 64 * math.log(2)
    assert bits.values[0] == pytest.approx(-(elbo.values[0] or 0) / unit)
    assert bits.cells[1].delta == pytest.approx(-(elbo.cells[1].delta or 0) / unit, rel=1e-4)
    assert bits.cells[1].delta_se == pytest.approx((elbo.cells[1].delta_se or 0) / unit, rel=1e-4)
    assert bits.cells[1].verdict == elbo.cells[1].verdict == "better"


def test_active_units_of_different_latent_dimensions_have_no_verdict(runs: Path) -> None:
    """2 of 2 against 3 of 3 is neither better nor worse."""
    rows = compare([Run.open("run1", runs), Run.open("run2", runs)]).rows
    assert {row.metric.name: [cell.verdict for cell in row.cells] for row in rows}["active_units"] == [None, None]


def test_the_final_figures_are_of_the_best_weights(cli: Cli, isolated: Path) -> None:
    """With a last epoch far worse than the best, the test ELBO in run.json is that of the best weights."""
    arguments = ["train", "--dataset", "digits", "--hidden-dims", "8", "--epochs", 6, "--lr", 0.3, "--grad-clip", 0]
    document: dict[str, Any] = json.loads(cli(*arguments, "--json").stdout)
    assert document["best_epoch"] < 6, "this setting is made to get worse"
    best = json.loads(cli("eval", "run1", "--json").stdout)["metrics"]["elbo"]
    last = json.loads(cli("eval", "run1", "--checkpoint", "last", "--json").stdout)["metrics"]["elbo"]
    assert best != last
    assert document["metrics"]["elbo"] == best
    assert Run.open("run1", isolated / "runs").record["metrics"]["elbo"] == best


def test_an_unlike_run_takes_nothing_from_like_ones(runs: Path) -> None:
    """Of three runs two measure the same: those are ranked, and the third says why it is not."""
    base, other = Run.open("run1", runs), Run.open("run2", runs)
    third = measured(Run.open(str(shutil.copytree(runs / "run2", runs / "third")), runs), "density")
    found = compare([base, other, third])
    assert found.rows[0].cells[1].verdict in ("better", "worse", "≈")
    assert (found.rows[0].cells[2].delta, found.rows[0].cells[2].verdict) == (None, None)
    assert found.comparable
    assert found.withheld[:2] == [None, None]
    assert "density" in (found.withheld[2] or "")


def test_what_the_interval_leaves_out_is_said(cli: Cli, runs: Path) -> None:
    """± is over images; other seeds of evaluation and other K are named where they differ."""
    assert "not over training seeds" in cli("compare", "run1", "run2").stderr
    assert cli("eval", "run2", "--seed", 1, "--importance-samples", 3).exit_code == 0
    document = json.loads(cli("compare", "run1", "run2", "--json").stdout)
    assert any("run1 0, run2 1" in note for note in document["notes"])
    assert any("run1 none, run2 K=3" in note for note in document["notes"])


def test_a_plain_evaluation_keeps_the_bound_of_the_one_before(cli: Cli, runs: Path) -> None:
    """A bound of many samples is not lost to a bare eval of the same weights and seed; to others it does not belong."""
    for name in ("run1", "run2"):
        assert cli("eval", name, "--importance-samples", 7).exit_code == 0
    assert cli("eval", "run1").exit_code == 0
    kept = Run.open("run1", runs)
    assert len(kept.per_example("test", "best")["importance_bound"]) == 300
    assert "bound K=7" in cli("compare", "run1", "run2").stdout
    assert cli("eval", "run1", "--seed", 1).exit_code == 0
    assert "importance_bound" not in Run.open("run1", runs).per_example("test", "best")


def test_a_missing_value_gets_no_difference(runs: Path) -> None:
    base, other = Run.open("run1", runs), Run.open("run2", runs)
    for evaluation in other.record["evaluations"]:
        evaluation["metrics"]["elbo"] = None
    elbo = compare([base, other]).rows[0]
    assert (elbo.cells[1].delta, elbo.cells[1].delta_se, elbo.cells[1].verdict) == (None, None, None)
