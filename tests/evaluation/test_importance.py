"""The importance-weighted bound against an evidence that is known."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import Cli
from tests.support.toys import drawn, toy_data
from vaectl.config.recipes import vae
from vaectl.data.batch import Batch
from vaectl.evaluation import importance
from vaectl.evaluation.importance import ImportanceBound, importance_bound
from vaectl.evaluation.metrics import evaluate
from vaectl.evaluation.oracles import LinearGaussian, importance_gap
from vaectl.model.builder import build
from vaectl.model.vae import VAE


class Points:
    """Real-valued examples where a split is asked for."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.shape = x, tuple(x.shape[1:])

    def __len__(self) -> int:
        return len(self.x)

    def batches(self, size: int) -> Iterator[Batch]:
        yield from map(Batch, torch.split(self.x, size))


ORACLE = LinearGaussian.random(12, 3, 0.7)
ORTHOGONAL = LinearGaussian.orthogonal((1.5, 0.75, 0.3), 6, 0.5)
WIDE = 1.3


def bound_of(model: VAE, x: Tensor, samples: int, *, seed: int = 0) -> ImportanceBound:
    return importance_bound(model, Points(x), samples, seed=seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("samples", [1, 2, 7, 100])
@pytest.mark.parametrize(
    ("full", "dtype", "tolerance"),
    [(True, torch.float64, 1e-9), (True, torch.float32, 1e-5), (False, torch.float32, 1e-5)],
)
def test_with_the_exact_posterior_it_is_the_evidence(
    samples: int, full: bool, dtype: torch.dtype, tolerance: float
) -> None:
    """Every weight is p(x): the bound of each example is log p(x) for any K, and all K samples count."""
    x = drawn(ORTHOGONAL)
    model = ORTHOGONAL.full_model(dtype=dtype) if full else ORTHOGONAL.model(dtype=dtype)
    found = bound_of(model, x.to(dtype), samples)
    assert torch.allclose(found.bound, ORTHOGONAL.log_evidence(x), rtol=0, atol=tolerance)
    assert torch.allclose(found.ess, torch.full_like(found.ess, samples), rtol=1e-5)


def test_with_a_loose_posterior_it_climbs_to_the_evidence() -> None:
    """Paired over examples it rises with K, stays at or below log p(x), and at K = 5000 is there within two SE."""
    x = drawn(ORACLE)
    evidence, model = ORACLE.log_evidence(x), ORACLE.model(widen=WIDE)
    ladder = [bound_of(model, x.float(), samples, seed=samples).bound for samples in (1, 10, 100, 1000, 5000)]
    for lower, higher in itertools.pairwise(ladder):
        step = higher - lower
        assert step.mean() > -2 * step.std() / len(step) ** 0.5
    gap = evidence - ladder[-1]
    assert gap.mean().abs() < 2 * gap.std() / len(gap) ** 0.5
    first = evidence - ladder[0]
    expected = ORACLE.gap(model.encode(x.float()), x)
    assert expected.mean() > 0.1
    assert (first - expected).mean().abs() < 3 * first.std() / len(first) ** 0.5, "below by the KL"


@pytest.mark.parametrize(("widen", "shift"), [(1.3, 0.0), (1.1, 0.5)])
@pytest.mark.parametrize("samples", [1, 30, 300])
def test_it_stays_below_the_evidence_by_what_the_weights_variance_says(
    widen: float, shift: float, samples: int
) -> None:
    """Exactly the KL for K = 1, and m2 / 2K with its next order for more, within 4 standard errors."""
    x = drawn(ORTHOGONAL, 2000)
    found = bound_of(ORTHOGONAL.model(widen=widen, shift=shift), x.float(), samples)
    gap = ORTHOGONAL.log_evidence(x) - found.bound
    expected = importance_gap(samples, 3, widen=widen, shift=shift)
    assert (gap.mean() - expected).abs() < 4 * gap.std() / 2000**0.5


def test_one_sample_is_an_estimate_of_the_elbo() -> None:
    """Averaged over 300 seeds the K = 1 bound is the ELBO with its closed-form KL, within 4 standard errors."""
    x, model = drawn(ORACLE).float(), ORACLE.model(widen=WIDE)
    draws = torch.stack([bound_of(model, x, 1, seed=seed).bound.mean() for seed in range(300)])
    torch.manual_seed(0)
    elbo = model.draw(x, k=3000).elbo.mean()
    assert abs(draws.mean() - elbo) < 4 * draws.std() / 300**0.5


def test_more_samples_are_a_tighter_bound() -> None:
    """Weights that favoured the worst sample would fall below the one-sample bound."""
    data = toy_data()
    model, _ = build(vae(), data.info)
    low = evaluate(model, data.test).metrics()["elbo"]
    found = importance_bound(model, data.test, 50)
    assert found.bound.mean() > low
    assert (found.ess >= 1).all()
    assert (found.ess <= 50).all()


@pytest.mark.parametrize("samples", [1, 3, 10, 25])
def test_k_means_k(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly K draws are decoded for every example, never more at once than the memory allows."""
    monkeypatch.setattr(importance, "DRAWS_AT_ONCE", 10)
    x, model = drawn(ORACLE).float(), ORACLE.model(widen=WIDE)
    sizes: list[int] = []
    forward = model.decoder.forward

    def count(z: Tensor, given: None) -> object:
        sizes.append(z.shape[0] * z.shape[1])
        return forward(z, given)

    monkeypatch.setattr(model.decoder, "forward", count)
    found = bound_of(model, x, samples)
    assert sum(sizes) == samples * len(x)
    assert max(sizes) <= 10
    assert len(found.bound) == len(x)


def test_chunks_of_draws_weigh_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 draws gathered over chunks of 50 find the evidence as 5,000 at once do."""
    monkeypatch.setattr(importance, "DRAWS_AT_ONCE", 50)
    x = drawn(ORACLE)
    gap = ORACLE.log_evidence(x) - bound_of(ORACLE.model(widen=WIDE), x.float(), 5000).bound
    assert gap.abs().max() < 0.1


def test_no_samples_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        bound_of(ORACLE.model(), drawn(ORACLE).float(), 0)


def test_eval_prints_keeps_and_writes_it(cli: Cli, runs: Path, isolated: Path) -> None:
    """In the document, in run.json beside the plain evaluation, and by example in a file."""
    result = cli("eval", "run1", "--importance-samples", 20, "--per-example", "values.npz", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    weighted = document["importance"]
    assert weighted["samples"] == 20
    assert weighted["bound"] >= document["metrics"]["elbo"]
    assert 1 <= weighted["ess"] <= 20
    with (isolated / "values.npz").open("rb") as file:
        values = dict(np.load(file))
    assert set(values) == {"row", "label", "elbo", "recon", "kl", "recon_at_mean", "mse", "importance_bound", "ess"}
    assert values["importance_bound"].mean() == pytest.approx(weighted["bound"])
    assert values["importance_bound"].std(ddof=1) / math.sqrt(300) == pytest.approx(weighted["bound_se"])
    assert values["elbo"].mean() == pytest.approx(document["metrics"]["elbo"])
    assert cli("eval", "run1").exit_code == 0
    kept = json.loads((runs / "run1" / "run.json").read_text())["evaluations"]
    assert [entry["importance"] and entry["importance"]["samples"] for entry in kept] == [None, 20]
    assert "K = 20" in cli("eval", "run1", "--importance-samples", 20).stdout


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_values_of_each_example_as_a_table(cli: Cli, runs: Path, isolated: Path, suffix: str) -> None:
    """A table holds the same numbers as the arrays, to the last digit."""
    for name in ("a.npz", f"a{suffix}"):
        assert cli("eval", "run1", "--per-example", name).exit_code == 0
    with (isolated / "a.npz").open("rb") as file:
        expected = dict(np.load(file))
    if suffix == ".csv":
        table = np.genfromtxt(isolated / "a.csv", delimiter=",", names=True)
        columns = {name: table[name] for name in expected}
    else:
        from pyarrow import parquet

        columns = {name: parquet.read_table(isolated / "a.parquet")[name].to_numpy() for name in expected}
    assert all(np.array_equal(columns[name], values) for name, values in expected.items())


@pytest.mark.parametrize(
    "arguments",
    [
        ("--importance-samples", 0),
        ("--importance-samples", "many"),
        ("--per-example", "a.txt"),
        ("--per-example", "missing/a.csv"),
    ],
)
def test_bad_requests(cli: Cli, runs: Path, arguments: tuple[object, ...]) -> None:
    result = cli("eval", "run1", *arguments)
    assert result.exit_code in (1, 2)
    assert result.stderr.startswith("error: ")
    assert str(arguments[0]) in result.stderr
