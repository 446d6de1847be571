"""The mutual information gap on representations that are perfect, duplicated, useless and mixed.

Shapes: ``N`` examples, ``D`` latent, ``F`` factors.
"""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch

from tests.conftest import Cli
from tests.support.toys import toy_data
from vaectl.config.recipes import vae
from vaectl.data import loading
from vaectl.data.base import Loading, Raw, split_data
from vaectl.data.builtin import glyphs
from vaectl.errors import DataError
from vaectl.evaluation.disentanglement import (
    CODE_BINS,
    InformationGap,
    disentanglement,
    equal_frequency_bins,
    mutual_information_gap,
)
from vaectl.model.builder import build


def grid(*sizes: int, times: int = 1) -> np.ndarray:
    """Every combination of factors with so many values each, (N, F)."""
    return np.array([*itertools.product(*map(range, sizes))] * times)


def noise(n: int, latent: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, latent))


def test_a_perfect_axis_aligned_representation_has_a_gap_of_one() -> None:
    """Each factor in a dimension of its own, whatever that one's scale, sign and order: 1, to rounding."""
    factors = grid(4, 5, 10)
    codes = np.stack([1e-3 * factors[:, 2], -7.0 * factors[:, 0], np.exp(factors[:, 1])], axis=1)
    found = mutual_information_gap(codes, factors)
    assert found.gaps == pytest.approx(np.ones(3))
    assert found.mean == pytest.approx(1)
    assert found.mutual_information.argmax(0).tolist() == [1, 2, 0]
    assert found.entropy == pytest.approx(np.log([4, 5, 10]))


def test_a_continuous_code_of_continuous_factors_has_a_gap_of_one_to_binning() -> None:
    """Codes that are monotone in factors of 10 bins: bins of 20 lie within them, so nothing is lost."""
    values = np.random.default_rng(0).normal(size=(10_000, 2))
    factors = np.stack([equal_frequency_bins(column, 10) for column in values.T], axis=1)
    assert mutual_information_gap(values**3, factors).mean == pytest.approx(1, abs=0.02)


def test_a_duplicated_dimension_leaves_no_gap() -> None:
    factors = grid(4, 5)
    codes = np.concatenate((factors, factors), axis=1)
    assert mutual_information_gap(codes, factors).gaps == pytest.approx(np.zeros(2), abs=1e-12)


def test_useless_codes_say_next_to_nothing() -> None:
    """Noise: information of (bins - 1)(values - 1) / 2N in every entry to within a tenth of it, and no gap."""
    factors = grid(5, 8, times=500)  # 20,000 examples
    found = mutual_information_gap(noise(len(factors), 40), factors)
    assert found.mutual_information.mean(0) == pytest.approx(
        (CODE_BINS - 1) * np.array([4, 7]) / (2 * len(factors)), rel=0.1
    )
    assert found.mean < 0.002


@pytest.mark.parametrize(("degrees", "low", "high"), [(10, 0.2, 0.8), (30, 0.02, 0.3), (45, 0.0, 0.02)])
def test_rotated_codes_have_a_smaller_gap(degrees: float, low: float, high: float) -> None:
    """Two continuous factors mixed by a rotation: the more, the less; at 45 degrees nothing is left."""
    values = np.random.default_rng(0).uniform(-1, 1, size=(20_000, 2))
    factors = np.stack([equal_frequency_bins(column, 10) for column in values.T], axis=1)
    angle = math.radians(degrees)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    assert low <= mutual_information_gap(values @ rotation, factors).mean < high


def test_the_matrix_is_latent_by_factor_and_the_gap_is_over_latent_dimensions() -> None:
    """D = 3, F = 2, by hand. Read as (F, D) and reshaped, or with the gap over factors, the answer differs."""
    matrix = np.array([[0.6, 0.1], [0.2, 0.3], [0.0, 0.9]])
    found = InformationGap(("a", "b"), matrix, np.array([1.0, 2.0]))
    assert found.gaps.tolist() == pytest.approx([(0.6 - 0.2) / 1, (0.9 - 0.3) / 2])
    assert found.mean == pytest.approx(0.35)
    reshaped = InformationGap(("a", "b"), matrix.T.reshape(3, 2), found.entropy)
    assert reshaped.mean != pytest.approx(found.mean)


def test_a_matrix_made_from_codes_has_its_entries_where_they_belong() -> None:
    """Factor 1 is in dimension 2 of 4, factor 0 by half in dimension 0: (4, 2) by hand, D != F, not symmetric."""
    factors = grid(4, 3, times=2)
    codes = np.stack([factors[:, 0] // 2, 0 * factors[:, 0], factors[:, 1], 0 * factors[:, 0]], axis=1)
    found = mutual_information_gap(codes, factors, ("size", "shade"))
    by_hand = [[math.log(2), 0], [0, 0], [0, math.log(3)], [0, 0]]
    assert found.mutual_information == pytest.approx(np.array(by_hand), abs=1e-12)
    assert found.gaps == pytest.approx([0.5, 1.0])
    document = json.loads(json.dumps(found.to_json()))
    assert document["mutual_information_gap"] == pytest.approx(0.75)
    assert document["factors"]["shade"] == {
        "gap": pytest.approx(1), "dimension": 2, "mutual_information": pytest.approx(math.log(3))
    }  # fmt: skip


def test_one_latent_dimension_leads_over_one_that_says_nothing() -> None:
    factors = grid(4, 3)
    alone = mutual_information_gap(factors[:, :1], factors)
    joined = mutual_information_gap(np.stack([factors[:, 0], 0 * factors[:, 0]], axis=1), factors)
    for found in (alone, joined):
        assert found.gaps == pytest.approx([1, 0])


def test_a_constant_factor_is_an_error_that_names_it() -> None:
    factors = grid(3, 1, 2)
    with pytest.raises(DataError, match="'colour' has only one value, 0"):
        mutual_information_gap(factors, factors, ("shape", "colour", "size"))


def test_bad_requests() -> None:
    factors = grid(3, 2)
    for codes, given, names in (
        (factors[:4], factors, None),
        (factors[:, 0], factors, None),
        (factors[:, :0], factors, None),
        (factors, factors + 0.5, None),
        (factors, factors, ("one",)),
    ):
        with pytest.raises(ValueError, match="factors"):
            mutual_information_gap(codes, given, names)
    with pytest.raises(DataError, match="finite"):
        mutual_information_gap(factors * np.nan, factors)


def test_bins_are_equally_full_and_never_part_equal_values() -> None:
    """100 different values: 5 in each of 20. A value that most have shares its bin only with neighbours it must."""
    assert np.bincount(equal_frequency_bins(noise(100, 1)[:, 0], 20)).tolist() == [5] * 20
    for values in ([0] * 98 + [1, 2], [0, 1] + [2] * 98):
        bins = equal_frequency_bins(values, 20)
        assert len(set(bins.tolist())) == 2
        assert (np.diff(bins) >= 0).all()
    assert equal_frequency_bins([3.0, 3.0, 3.0], 20).tolist() == [10, 10, 10]
    assert equal_frequency_bins(range(20), 20).tolist() == [*range(20)]


def few_glyphs(loading: Loading) -> Raw:
    train, test = glyphs.generate(300, 1), glyphs.generate(200, 2)
    factors = [glyphs.known_factors(part) for part in (train, test)]
    return Raw(train.images[:, None], train.labels, test.images[:, None], test.labels, *factors)


def test_factors_stay_with_their_examples() -> None:
    """Through the split of a data set, ``first`` and ``to``: row by row what the source says."""
    raw = few_glyphs(Loading(None))  # type: ignore[arg-type]
    found = split_data("glyphs", raw, 0.25)
    assert [*found.test.factors] == ["digit", *glyphs.FACTORS]
    assert found.test.factors["font"].dtype == np.int64
    for split in (found.train, found.validation):
        for name, values in split.factors.items():
            assert (values == raw.train_factors[name][split.rows.numpy()]).all()
    few = found.train.first(7).to(torch.device("cpu"))
    assert (few.factors["slant"] == raw.train_factors["slant"][few.rows.numpy()]).all()
    assert (few.factors["digit"] == few.labels.numpy()).all()
    assert toy_data().test.factors == {}


def test_the_gap_of_a_model_depends_on_the_seed_alone() -> None:
    found = split_data("glyphs", few_glyphs(Loading(None)), 0.25)  # type: ignore[arg-type]
    model, _ = build(vae(), found.info)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second, other = (disentanglement(model, found.test, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.mutual_information.shape == (32, 10)
    assert (first.mutual_information == second.mutual_information).all()
    assert (first.mutual_information != other.mutual_information).any()
    assert dict(zip(first.names, first.entropy, strict=True))["slant"] == pytest.approx(math.log(10))


def test_without_factors_that_vary_there_is_no_gap() -> None:
    found = split_data("glyphs", few_glyphs(Loading(None)), 0.25)  # type: ignore[arg-type]
    model, _ = build(vae(), found.info)
    assert disentanglement(model, found.test.first(1)) is None
    assert disentanglement(model, toy_data(side=28).test) is None


def test_eval_shows_the_gap_where_factors_are_known(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """On glyphs: a row of the table, a document by factor, and every factor with --verbose; on digits none of it."""
    monkeypatch.setitem(loading.SOURCES, "glyphs", few_glyphs)
    common = ["--hidden-dims", "16", "--latent-dim", "3", "--epochs", "1", "-q"]
    for name in ("glyphs", "digits"):
        assert cli("train", "--dataset", name, "--model", "beta-tcvae", *common).exit_code == 0
    document = json.loads(cli("eval", "run1", "--json").stdout)["disentanglement"]
    gaps = [factor["gap"] for factor in document["factors"].values()]
    assert len(gaps) == 10
    assert document["mutual_information_gap"] == pytest.approx(sum(gaps) / 10)
    shown = cli("eval", "run1", "--verbose")
    assert f"{document['mutual_information_gap']:.3f}" in shown.stdout
    assert "mean of 10 factors" in shown.stdout
    assert "gap of slant" in shown.stderr
    assert json.loads(cli("eval", "run2", "--json").stdout)["disentanglement"] is None
    assert "gap" not in cli("eval", "run2").stdout
