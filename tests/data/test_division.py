"""The division of own data into splits: as ever, by class where chance leaves one out, and whole groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Cli
from vaectl.config.spec import SPLITS
from vaectl.data import loading
from vaectl.data.base import Data, Loading, held_out
from vaectl.data.own import division
from vaectl.data.own.division import divide
from vaectl.data.own.holding import held_out_groups, held_out_with_classes
from vaectl.data.own.rows import ArrayRows
from vaectl.data.own.source import Source
from vaectl.data.survey import Tally, survey


def load(path: Path, notes: list[str] | None = None, **options: Any) -> Data:
    return loading.load(
        str(path), Loading(Path("nowhere"), note=(notes if notes is not None else []).append), **options
    )


def saved(path: Path, labels: np.ndarray, seed: int = 0) -> Path:
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 4, 4), dtype=np.uint8)
    np.savez(path, images=images, labels=labels)
    return path


def rare(count: int) -> np.ndarray:
    """400 labels, of which the first few that the random division does not test are 1."""
    labels = np.zeros(400, np.int64)
    kept, _ = held_out(400, 0.1, 1)
    labels[kept[:count]] = 1
    return labels


@pytest.mark.parametrize("count", [3, 6, 20])
def test_a_rare_class_is_in_every_split(tmp_path: Path, count: int) -> None:
    """F19: the sizes of the splits stay, and the same examples are taken again on the next reading."""
    notes: list[str] = []
    path = saved(tmp_path / "x.npz", rare(count))
    data, again = load(path, notes), load(path)
    assert data.info.sizes == {"train": 330, "validation": 30, "test": 40}
    for name in SPLITS:
        assert 1 in data.split(name).labels.tolist()
        assert data.split(name).rows.tolist() == again.split(name).rows.tolist()
    rows = np.concatenate([data.split(name).rows.numpy() for name in SPLITS])
    assert sorted(rows.tolist()) == list(range(400))
    assert data.info.fingerprint == again.info.fingerprint
    assert any("taken class by class" in note for note in notes)


def test_a_division_that_has_every_class_stays(tmp_path: Path) -> None:
    """To the row what it is without labels, whatever the classes; so runs of before keep their splits."""
    labels, notes = np.arange(400) % 4, list[str]()
    with_labels = load(saved(tmp_path / "x.npz", labels), notes)
    without = load(saved(tmp_path / "y.npz", np.full(400, 0.5)))
    for name in SPLITS:
        assert with_labels.split(name).rows.tolist() == without.split(name).rows.tolist()
    assert not any("class" in note for note in notes)
    order = np.random.RandomState(1).permutation(400)[:40]
    assert sorted(with_labels.test.rows.tolist()) == sorted(order.tolist())


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_of_too_few_examples_is_only_remarked_on(tmp_path: Path, count: int) -> None:
    notes: list[str] = []
    data = load(saved(tmp_path / "x.npz", rare(count)), notes)
    assert sorted(data.test.rows.tolist()) == held_out(400, 0.1, 1)[1].tolist()
    assert any("classes with few examples" in note and "test has no example of 1" in note for note in notes)


def test_more_classes_than_places_are_divided_at_random(tmp_path: Path) -> None:
    notes: list[str] = []
    data = load(saved(tmp_path / "x.npz", np.arange(400) % 80), notes)
    assert sorted(data.test.rows.tolist()) == held_out(400, 0.1, 1)[1].tolist()
    [note] = [note for note in notes if "few examples" in note]
    assert "and 48 more" in note


def test_the_remark_names_classes_and_counts(tmp_path: Path) -> None:
    """A split of its own that lacks a class, by the name of the class."""
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
    names = np.array(["ant", "bee", "cat"])
    np.savez(tmp_path / "x.npz", x_train=images, y_train=names[np.arange(40) % 3], x_test=images[:5],
             y_test=names[[0, 0, 0, 1, 0]])  # fmt: skip
    notes: list[str] = []
    load(tmp_path / "x.npz", notes)
    assert any("test has no example of cat; test has one example of bee" in note for note in notes)


def test_quotas_follow_the_shares_of_the_classes() -> None:
    """Each class has its share of what is held out, at least one, and the unlabelled theirs."""
    labels = np.repeat([-1, 0, 1, 2], [100, 300, 96, 4])
    for stream in range(200):
        kept, held, by_class = held_out_with_classes(labels, 0.1, stream, np.array([0, 1, 2]), reserve=2)
        assert len(held) == 50
        assert sorted([*kept, *held]) == list(range(500))
        counts = np.bincount(labels[held] + 1, minlength=4)
        if by_class:
            assert counts.tolist() == [10, 30, 9, 1]
        else:
            assert held.tolist() == held_out(500, 0.1, stream)[1].tolist()
            assert counts[3] > 0


def test_groups_stay_whole_and_near_the_fraction() -> None:
    random = np.random.default_rng(0)
    for stream in range(20):
        groups = np.repeat(np.arange(60) * 7 - 3, random.integers(1, 12, 60))
        random.shuffle(groups)
        kept, held = held_out_groups(groups, 0.2, stream)
        assert not {*groups[kept].tolist()} & {*groups[held].tolist()}
        assert sorted([*kept, *held]) == list(range(len(groups)))
        assert abs(len(held) - 0.2 * len(groups)) <= 6
        assert held_out_groups(groups, 0.2, stream)[1].tolist() == held.tolist()
    assert len(held_out_groups(np.array([1, 1, 1, 2, 2, 2, 2, 2]), 0.01, 0)[1]) == 3
    assert not len(held_out_groups(np.array([1, 1, 1]), 0.5, 0)[1])
    assert not len(held_out_groups(np.arange(9), 0.0, 0)[1])


def grouped(groups: dict[str, np.ndarray]) -> tuple[Source, dict[str, Any]]:
    parts = {
        part: ArrayRows(np.random.default_rng(0).random((len(its), 3)), "table", "numbers")
        for part, its in groups.items()
    }
    labels = {part: np.full(len(its), -1) for part, its in groups.items()}
    tally = Tally((1, 1, 3))
    surveys = {part: survey(rows, tally, keep=True) for part, rows in parts.items()}
    return Source(parts, labels, "numbers as they are", groups=groups), surveys


def test_a_source_with_groups_is_divided_by_them() -> None:
    groups = np.arange(200) // 5
    divided = divide(Path("x"), *grouped({"train": groups}), 0.1, 0.1)
    sets = [{*groups[divided.rows[split]].tolist()} for split in SPLITS]
    assert not sets[0] & sets[1] | sets[1] & sets[2] | sets[0] & sets[2]
    assert [len(divided.rows[split]) for split in SPLITS] == [160, 20, 20]


def test_a_group_on_both_sides_of_a_given_division_is_remarked_on() -> None:
    notes: list[str] = []
    source, surveys = grouped({"train": np.arange(50) // 5, "test": np.array([9, 9, 10, 11])})
    divide(Path("x"), source, surveys, 0.1, 0.0, note=notes.append)
    assert notes == ["x: 1 group of the test split also in the training split"]


def test_the_fingerprints_of_before_stay(tmp_path: Path) -> None:
    """The digest of images and labels that are all in every split, as it was before classes were looked at."""
    data = load(saved(tmp_path / "x.npz", np.arange(60) % 2))
    assert data.info.fingerprint == "81f2690ec314fc6988e79f4e3f3f18e21f7f3693b27ec579832a5ea52380a005"


def test_a_run_of_before_keeps_its_splits(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained when classes were not looked at: evaluated on the same test set, and found changed when it is."""
    path = saved(tmp_path / "x.npz", rare(6))
    with monkeypatch.context() as patch:
        patch.setattr(division, "common_classes", lambda labels: labels[:0])
        trained = cli("train", "--dataset", path, "--epochs", 1, "--hidden-dims", 8)
    assert trained.exit_code == 0, trained.stderr
    assert cli("eval", "run1").exit_code == 0
    saved(path, rare(6), seed=1)
    refused = cli("eval", "run1")
    assert refused.exit_code == 1
    assert "is not what run1 was trained on" in refused.stderr
