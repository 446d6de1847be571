"""Data in several files: --test, a folder of files for the splits, and pieces of one split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import Cli
from tests.support.tables import everything, load, write
from vaectl.data.base import Data
from vaectl.data.own.joining import ChainedRows
from vaectl.data.own.rows import ArrayRows, BadExampleError
from vaectl.data.units import Column
from vaectl.errors import DataError, SettingError

TRAIN = [[i / 7, -i / 3, "xyz"[i % 3]] for i in range(40)]
TEST = [[100 + i, i / 9, "zw"[i % 2]] for i in range(10)]
NAMES = ["a", "b", "label"]


def rows_of_test(data: Data) -> list[list[float]]:
    return data.test.batch(slice(None)).x[:, 0, 0].tolist()


def rounded(rows: list[list[Any]]) -> Any:
    return pytest.approx(np.array([row[:2] for row in rows], np.float32))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_test_examples_come_from_a_file_of_their_own(tmp_path: Path, suffix: str) -> None:
    """By the names of the columns, in any order; classes are those of both."""
    train = write(tmp_path / "a.csv", NAMES, TRAIN)
    test = write(tmp_path / f"b{suffix}", NAMES[::-1], [row[::-1] for row in TEST])
    data = load(train, test=str(test))
    assert data.info.sizes["test"] == 10
    assert np.array(rows_of_test(data)) == rounded(TEST)
    assert data.info.classes == ("x", "y", "z", "w")
    assert data.test.labels.tolist() == [2, 3] * 5
    assert data.info.columns == (Column("a", "real"), Column("b", "real"))


@pytest.mark.parametrize("without", ["train", "test", "both"])
def test_names_of_columns_may_be_missing(tmp_path: Path, without: str) -> None:
    train = write(tmp_path / "a.csv", NAMES if without == "test" else [], TRAIN)
    test = write(tmp_path / "b.csv", NAMES if without == "train" else [], TEST)
    data = load(train, test=str(test), label_column="label" if without == "test" else "3")
    assert np.array(rows_of_test(data)) == rounded(TEST)
    assert data.test.labels.tolist() == [2, 3] * 5


def test_test_examples_need_no_label(tmp_path: Path) -> None:
    notes: list[str] = []
    train, test = write(tmp_path / "a.csv", NAMES, TRAIN), write(tmp_path / "b.csv", ["b", "a"], [[1.5, 2], [3, 4]])
    data = load(train, notes, test=str(test), label_column="label")
    assert rows_of_test(data) == [[2, 1.5], [4, 3]]
    assert data.test.labels.tolist() == [-1, -1]
    assert "b.csv has no labels" in notes


@pytest.mark.parametrize(
    ("names", "text"),
    [(["a", "c", "label"], "lacks 1 column 'b'; it has besides 1 column 'c'"), (["a", "label"], "lacks 1 column 'b'"),
     (["a", "b", "c", "label"], "it has besides 1 column 'c'")],
)  # fmt: skip
def test_other_columns_are_named(tmp_path: Path, names: list[str], text: str) -> None:
    train = write(tmp_path / "a.csv", NAMES, TRAIN)
    test = write(tmp_path / "b.csv", names, [[*range(len(names) - 1), "x"]] * 5)
    with pytest.raises(DataError, match=rf"b.csv does not have the columns of a.csv: .*{text}"):
        load(train, test=str(test))


def test_numbers_of_both_files_have_one_meaning(tmp_path: Path) -> None:
    """Zeros and ones in one file, and others in the other one, are numbers; whole in both is whole."""
    ones, more = [[i % 2, i % 3 == 0] for i in range(40)], [[i, i / 7] for i in range(9)]
    train, test = (
        write(tmp_path / "a.csv", ["a", "b"], np.array(ones, int)),
        write(tmp_path / "b.csv", ["a", "b"], more),
    )
    for first, second in ((train, test), (test, train)):
        data = load(first, test=str(second))
        assert data.info.support == "real"
        assert data.info.columns == (Column("a", "whole"), Column("b", "real"))
    assert load(train, test=str(train)).info.support == "binary"


def test_images_of_a_table_and_of_its_test_file(tmp_path: Path) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (40, 16))
    train = write(tmp_path / "a.csv", [f"pixel{i}" for i in range(16)], pixels)
    test = write(tmp_path / "b.csv", [], pixels[:7])
    data = load(train, test=str(test))
    assert data.info.shape == (1, 4, 4)
    assert data.test.batch(slice(None)).x.reshape(7, 16).numpy() == pytest.approx(pixels[:7] / 255)


def test_arrays_and_folders_take_test_examples_too(tmp_path: Path) -> None:
    images = np.random.RandomState(0).randint(0, 256, (30, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "a.npy", images)
    np.save(tmp_path / "b.npy", images[:4])
    np.save(tmp_path / "c.npy", images[:4, :5])
    data = load(tmp_path / "a.npy", test=str(tmp_path / "b.npy"))
    assert data.info.sizes["test"] == 4
    with pytest.raises(DataError, match=r"c.npy has examples of shape \(1, 5, 8\), and a.npy of shape \(1, 8, 8\)"):
        load(tmp_path / "a.npy", test=str(tmp_path / "c.npy"))
    for folder in ("cat", "dog"):
        (tmp_path / "pets" / folder).mkdir(parents=True)
        (tmp_path / "more" / folder).mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "pets" / ("cat", "dog")[number % 2] / f"{number}.png")
    Image.fromarray(images[0]).save(tmp_path / "more" / "dog" / "1.png")
    pets = load(tmp_path / "pets", test=str(tmp_path / "more"), storage="stream")
    assert pets.test.labels.tolist() == [1]
    assert torch.allclose(pets.test.batch(slice(None)).x[0, 0], torch.from_numpy(images[0]) / 255)


def test_a_second_test_split_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", NAMES, TRAIN)
    write(tmp_path / "test.csv", NAMES, TEST)
    with pytest.raises(SettingError, match=r"data\.test is for data without a test split"):
        load(tmp_path, test=str(tmp_path / "test.csv"))
    with pytest.raises(SettingError, match=r"data\.test_fraction"):
        load(tmp_path / "train.csv", test=str(tmp_path / "test.csv"), test_fraction=0.5)
    with pytest.raises(DataError, match=r"nowhere.csv does not exist"):
        load(tmp_path / "train.csv", test=str(tmp_path / "nowhere.csv"))


def test_bad_rows_are_named_with_their_file(tmp_path: Path) -> None:
    train = write(tmp_path / "a.csv", NAMES, TRAIN)
    test = write(tmp_path / "b.csv", NAMES, [*TEST, ["", 1, "x"], [1, "inf", "x"]])
    with pytest.raises(DataError, match=r"2 of 52 .*: b.csv, row 12: column 'a' is empty; b.csv, row 13: column 'b'"):
        load(train, test=str(test))
    assert load(train, test=str(test), skip_bad=True).info.sizes["test"] == 10


def test_a_folder_of_tables_has_their_splits(tmp_path: Path) -> None:
    """As Kaggle packs them: the file of answers is left out, and said."""
    folder = tmp_path / "kaggle"
    folder.mkdir()
    write(folder / "train.csv", NAMES, TRAIN)
    write(folder / "test.csv", NAMES[:2], [row[:2] for row in TEST])
    write(folder / "sample_submission.csv", ["label"], [["x"]] * 10)
    notes: list[str] = []
    data = load(folder, notes)
    assert data.info.sizes["test"] == 10
    assert sum(data.info.sizes.values()) == 50
    assert "kaggle: train: train.csv; test: test.csv; ignored: sample_submission.csv" in notes
    write(folder / "valid.csv", NAMES, TEST[:5])
    assert load(folder).info.sizes == {"train": 40, "validation": 5, "test": 10}


def test_pieces_are_one_after_another(tmp_path: Path) -> None:
    """In a sub-folder, as data sets are published; their rows, labels and bad rows are those of one file."""
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    for piece in range(3):
        write(folder / f"train-0000{piece}-of-00003.parquet", NAMES, TRAIN[piece * 13 : piece * 13 + 13])
    one = load(write(tmp_path / "x.parquet", NAMES, TRAIN[:39]))
    data = load(tmp_path / "set")
    assert data.info.fingerprint == one.info.fingerprint
    assert torch.equal(everything(data), everything(one))
    write(folder / "test-00000-of-00001.parquet", NAMES, TEST)
    assert load(tmp_path / "set").info.sizes["test"] == 10


def test_pieces_with_other_classes_and_bad_rows(tmp_path: Path) -> None:
    write(tmp_path / "part-000.csv", NAMES, TRAIN)
    write(tmp_path / "part-001.csv", NAMES, [*TEST, ["", 1, "x"]])
    with pytest.raises(DataError, match=r"1 of 51 rows cannot be used: part-001.csv, row 12: column 'a' is empty"):
        load(tmp_path)
    data = load(tmp_path, skip_bad=True)
    assert data.info.classes == ("x", "y", "z", "w")
    assert np.array(everything(data)[:, 0, 0].tolist()) == rounded([*TRAIN, *TEST])


def test_rows_of_pieces_are_read_in_any_order() -> None:
    """A batch may take rows of several pieces, and a bad one is named by its place among all."""
    numbers = np.arange(40, dtype=np.float32).reshape(20, 2)
    numbers[13, 1] = np.nan
    rows = ChainedRows(tuple(ArrayRows(piece, "table", "numbers") for piece in np.split(numbers, [7, 7, 12])))
    index = np.array([19, 0, 6, 7, 12, 0])
    assert len(rows) == 20
    assert np.array_equal(rows.read(index)[:, 0, 0], numbers[index])
    with pytest.raises(BadExampleError, match="example 13"):
        rows.read(np.array([1, 13]))
    assert rows.name(13) == "row 1"


def test_one_split_in_two_formats_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", NAMES, TRAIN)
    write(tmp_path / "train.parquet", NAMES, TRAIN)
    with pytest.raises(DataError, match=r"its train split in several formats: train.csv, train.parquet"):
        load(tmp_path)


def test_a_folder_of_images_with_a_table_beside_them_is_one_of_images(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for number in range(12):
        Image.fromarray(np.full((8, 8), number * 20, np.uint8)).save(tmp_path / "cat" / f"{number}.png")
    write(tmp_path / "labels.csv", NAMES, TRAIN)
    assert load(tmp_path).info.shape == (1, 8, 8)


def test_a_run_with_test_examples_is_evaluated_and_moved(cli: Cli, tmp_path: Path) -> None:
    """Its record has the full path of both files, which are found again when they are moved together."""
    home, there = tmp_path / "here", tmp_path / "there"
    home.mkdir()
    write(home / "a.csv", NAMES, TRAIN)
    write(home / "b.csv", NAMES, TEST)
    trained = cli(
        "train", "--dataset", "here/a.csv", "--test", "here/b.csv", "--likelihood", "gaussian", "--epochs", 1,
        "--hidden-dims", 8, "--latent-dim", 2, "--json",
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    assert json.loads(cli("eval", "run1", "--json").stdout)["n"] == 10
    home.rename(there)
    assert json.loads(cli("eval", "run1", "--data-dir", there, "--json").stdout)["n"] == 10
