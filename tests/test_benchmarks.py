"""The benchmarks run and say what they measured; what they measured is never asserted."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import epoch, goals, tables
from tests.support.toys import toy_data


def test_a_round_of_the_epoch_table_is_kept_with_its_ratios_and_goals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every loop that needs no other library trains an epoch; the result names machine, versions, ratios and goals."""
    monkeypatch.setattr(benchmarks, "load", lambda *_, **__: toy_data(256, 32, side=28, validation_fraction=0.0))
    monkeypatch.setattr(logging, "disable", lambda level: None)
    for peer in ("pythae", "jax scan"):
        monkeypatch.delitem(epoch.LOOPS, peer)
    monkeypatch.setattr(
        sys, "argv", ["benchmarks", *["--only", "epoch", "--rounds", "1", "--images", "200", "-o", "result.json"]]
    )
    benchmarks.main()
    result = json.loads((tmp_path / "result.json").read_text())
    assert {"date", "machine", "versions", "data", "rounds", "epoch", "goals"} == result.keys()
    assert result["data"]["images"] == 200
    for name in ("tutorial", "eager, data resident", "vaectl", "products torch.mm"):
        row = result["epoch"][name]
        assert row["min"] <= row["median"] <= row["max"]
        assert {"x_reference", "x_floor"} < row.keys()
    assert result["epoch"]["tutorial"]["x_reference"] == 1
    # two steps in, both are near 784 ln 2 nats: a mean taken for a sum would be far off
    assert result["epoch"]["vaectl"]["loss"] == pytest.approx(result["epoch"]["tutorial"]["loss"], rel=0.1)
    reached = {goal["goal"]: goal["reached"] for goal in result["goals"]}
    assert reached["epoch: times faster than pythae"] is None
    assert reached["epoch: times faster than the tutorial's loop"] is not None


def test_what_is_absent_says_why_and_does_not_stop_the_rest() -> None:
    def missing(warm_up: bool) -> tables.Work:
        raise tables.AbsentError("it is not installed")

    rows = tables.interleave(2, {"there": lambda warm_up: lambda: {"loss": 1.0}, "missing": missing})
    assert rows["missing"] == {"absent": "it is not installed"}
    assert len(rows["there"]["seconds"]) == 2
    assert rows["there"]["loss"] == 1
    assert tables.ratio(rows, "missing", "there") is None
    assert tables.fastest(rows, rows) == "there"


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that is twice as slow in one round changes no ratio."""
    rows = {"a": {"seconds": [1.0, 2.0, 1.0]}, "b": {"seconds": [2.0, 4.0, 2.0]}}
    assert tables.ratio(rows, "b", "a") == 2


def test_goals_know_what_is_reached() -> None:
    document = {
        "epoch": {"tutorial": {"seconds": [7.0]}, "pythae": {"seconds": [2.0]}, "vaectl": {"seconds": [1.0]}},
        "memory": {"train": {"x_data": 2.5}},
    }
    reached = [goal.reached for goal in goals.goals(document) if goal.measured is not None]
    assert reached == [True, False, False]
