"""R2 by column of a table, against its definition."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import Cli
from vaectl.data.batch import Batch
from vaectl.evaluation.columns import Explained


def test_r2_is_its_definition_for_columns_far_from_zero() -> None:
    random = np.random.RandomState(0)
    x = np.array([1e6, 0.0, -3.0]) + np.array([1.0, 1e-3, 50.0]) * random.randn(90, 3)
    mean = x + np.array([0.1, 2e-3, 5.0]) * random.randn(90, 3)
    # models see float32
    x, mean = x.astype(np.float32), mean.astype(np.float32)
    sums = Explained(torch.from_numpy(x[0]).view(1, 1, 3))
    for start in range(0, 90, 40):
        part = slice(start, start + 40)
        sums.add(Batch(torch.from_numpy(x[part]).view(-1, 1, 1, 3)), torch.from_numpy(mean[part]).view(-1, 1, 1, 3))
    x, mean = x.astype(np.float64), mean.astype(np.float64)
    expected = 1 - np.square(mean - x).sum(0) / np.square(x - x.mean(0)).sum(0)
    assert sums.r2() == pytest.approx(expected.tolist(), rel=1e-9)


def test_only_observed_values_count_and_constant_columns_have_none() -> None:
    x = torch.tensor([[1.0, 5.0, 0.0], [2.0, 5.0, 0.0], [0.0, 5.0, 0.0]]).view(3, 1, 1, 3)
    observed = torch.tensor([[True, True, False], [True, True, False], [False, True, False]]).view(3, 1, 1, 3)
    sums = Explained(x[0])
    sums.add(Batch(x, observed=observed), x + 0.5)
    first, second, third = sums.r2()
    assert first == pytest.approx(1 - 0.5 / 0.5)
    assert math.isnan(second)
    assert math.isnan(third)


def test_eval_lists_the_columns_of_a_table(cli: Cli, isolated: Path) -> None:
    values = np.random.RandomState(0).randn(80, 1) * np.array([1.0, 3.0, 0.0]) + np.array([0.5, 0.0, 7.5])
    np.savetxt(isolated / "t.csv", values, delimiter=",", header="a,b,c", comments="")
    common = ["--dataset", "t.csv", "--likelihood", "gaussian", "--latent-dim", 1, "--hidden-dims", 8, "--epochs", 1]
    assert cli("train", *common, "-q").exit_code == 0
    result = cli("eval", "run1")
    assert "R2 of a" in result.stdout
    assert "constant" in result.stdout
    document = json.loads(cli("eval", "run1", "--json").stdout)
    assert [name for name, _ in document["r2"]] == ["a", "b", "c"]
    assert document["r2"][2][1] is None
