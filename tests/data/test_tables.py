"""Columns of tables: numbers as they are, pixels, labels, groups, row numbers, true and false; rows that are images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.tables import everything, load, write
from vaectl.config.datasets import DataOptions
from vaectl.config.values import coerce
from vaectl.data.own.shapes import image_axes, pixel_axes
from vaectl.data.own.source import Reading
from vaectl.data.own.tables.opening import open_table
from vaectl.data.units import Column
from vaectl.errors import DataError, SettingError

ROWS = 40
PIXELS = np.random.RandomState(1).randint(0, 256, (ROWS, 784))
LABELS = np.arange(ROWS) % 10


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".feather", ".arrow"])
@pytest.mark.parametrize("tallest", [194, 255, 256])
def test_whole_numbers_are_what_they_are(tmp_path: Path, suffix: str, tallest: int) -> None:
    """Ages and heights are no grey levels, whatever their range; the columns keep their names and kinds."""
    random = np.random.RandomState(0)
    rows = np.stack([random.randint(20, 70, ROWS), random.randint(50, 90, ROWS), random.randint(150, 190, ROWS)], 1)
    rows[7, 2] = tallest
    numbers = [[*row, row[0] / 7] for row in rows.tolist()]
    data = load(write(tmp_path / f"x{suffix}", ["age", "weight", "height", "rate"], numbers))
    assert data.info.support == "real"
    assert data.info.shape == (1, 1, 4)
    kinds = ["whole", "whole", "whole", "real"]
    assert data.info.columns == tuple(map(Column, ["age", "weight", "height", "rate"], kinds))
    assert torch.equal(everything(data)[:, 0, 0], torch.tensor(numbers, dtype=torch.float32))


def test_whole_is_decided_before_numbers_are_rounded(tmp_path: Path) -> None:
    rows = [[16777216 + i, 16777216.5 + i] for i in range(ROWS)]
    assert [c.kind for c in load(write(tmp_path / "x.csv", ["a", "b"], rows)).info.columns] == ["whole", "real"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".feather"])
def test_true_and_false_are_one_and_zero(tmp_path: Path, suffix: str) -> None:
    """In every format by the same rule, beside other numbers or alone."""
    flags = [bool(i % 3) for i in range(ROWS)]
    data = load(write(tmp_path / f"x{suffix}", ["a", "b"], [[i / 7, flag] for i, flag in enumerate(flags)]))
    assert data.info.columns == (Column("a", "real"), Column("b", "bool"))
    assert everything(data)[:, 0, 0, 1].tolist() == flags
    alone = load(write(tmp_path / f"y{suffix}", ["a", "b"], [[flag, not flag] for flag in flags]))
    assert alone.info.support == "binary"
    assert [column.kind for column in alone.info.columns] == ["bool", "bool"]


@pytest.mark.parametrize("spelling", [("true", "false"), ("TRUE", "FALSE"), ("True", "False")])
def test_true_and_false_in_any_case(tmp_path: Path, spelling: tuple[str, str]) -> None:
    rows = [[spelling[i % 2], i * 0.5] for i in range(ROWS)]
    data = load(write(tmp_path / "x.csv", ["a", "b"], rows))
    assert everything(data)[:, 0, 0, 0].tolist() == [1 - i % 2 for i in range(ROWS)]


def test_a_number_among_true_and_false_is_bad_and_true_among_numbers(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["true", i * 0.5] for i in range(ROWS)]
    rows[5][1] = "true"
    with pytest.raises(DataError, match="row 7: column 'b' holds 'true'"):
        load(write(tmp_path / "x.csv", ["a", "b"], rows))


@pytest.mark.parametrize(
    "names",
    [
        [f"pixel{i}" for i in range(784)],
        [f"pixel_{i:04}" for i in range(1, 785)],
        [f"px{i}" for i in range(784)],
        [f"p{i}" for i in range(1, 785)],
        [f"{i}x{j}" for i in range(1, 29) for j in range(1, 29)],
    ],
    ids=["pixel0", "pixel_0001", "px0", "p1", "1x1"],
)
def test_columns_called_pixels_are_images(tmp_path: Path, names: list[str]) -> None:
    notes: list[str] = []
    path = write(tmp_path / "x.csv", ["label", *names], [[y, *x] for x, y in zip(PIXELS, LABELS, strict=True)])
    data = load(path, notes)
    assert data.info.shape == (1, 28, 28)
    assert data.info.support == "bytes"
    assert data.info.columns == ()
    assert torch.allclose(everything(data).reshape(ROWS, 784), torch.from_numpy(PIXELS).float() / 255, atol=1e-7)
    assert any(f"columns {names[0]} to {names[-1]} are pixels, read as images of 28 x 28 pixels" in n for n in notes)
    assert load(path, image_size=(14,)).info.shape == (1, 14, 14)
    assert load(path, binarize="static").info.support == "binary"


def test_names_of_pixels_tell_height_and_width() -> None:
    assert pixel_axes([f"{i}x{j}" for i in range(3) for j in range(5)]) == (3, 5)
    assert pixel_axes([f"pixel{i}" for i in range(9)]) == (3, 3)
    assert pixel_axes([f"pixel{i}" for i in range(10)]) is None
    assert pixel_axes([f"p{i}" for i in range(1, 10)]) is None  # nine points of a questionnaire
    assert pixel_axes([f"pixel{i}" for i in (0, 2, 1, 3)]) is None
    assert pixel_axes(["99999x99999", "1x1", "1x2", "2x1"]) is None


def test_a_questionnaire_is_no_picture(tmp_path: Path) -> None:
    data = load(write(tmp_path / "x.csv", [f"p{i}" for i in range(1, 10)], PIXELS[:, :9] % 5))
    assert (data.info.shape, data.info.support) == ((1, 1, 9), "real")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("shape", [(8, 4, 3), (3, 8, 4), (8, 12), (96, 1)])
def test_rows_become_images_on_request(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    """The colours of a pixel together, or one colour after another, as CIFAR's files have them."""
    rows, names = PIXELS[:, :96], [f"c{i}" for i in range(96)]
    path = write(tmp_path / f"x{suffix}", [*names, "label"], [[*x, y] for x, y in zip(rows, LABELS, strict=True)])
    data = load(path, shape=shape)
    images = rows.reshape(ROWS, *shape)
    images = images[:, None] if len(shape) == 2 else images.transpose(0, 3, 1, 2) if shape[2] == 3 else images
    assert data.info.support == "bytes"
    assert torch.allclose(everything(data), torch.from_numpy(images.copy()).float() / 255, atol=1e-7)


@pytest.mark.parametrize(
    ("shape", "text"),
    [((28, 27), "a row of x.csv, 784; 28,27 has 756"), ((784,), "H,W or H,W,C or C,H,W; got 784"),
     ((7, 16, 7), "at most 4 channels, first or last; got 7,16,7"), ((2, 2, 2, 98), "H,W or H,W,C")],
)  # fmt: skip
def test_a_shape_that_does_not_fit_is_refused(tmp_path: Path, shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(SettingError, match=rf"data\.shape .*{text}"):
        load(write(tmp_path / "x.csv", [f"c{i}" for i in range(784)], PIXELS), shape=shape)
    assert image_axes((28, 28), 784, "x") == ((28, 28), "grey")


def test_mnist_without_header_is_hinted_at(tmp_path: Path) -> None:
    """The label is a feature until the flag is given, which a note names, as it does the shape."""
    path = write(tmp_path / "x.csv", [], [[y, *x] for x, y in zip(PIXELS, LABELS, strict=True)])
    notes: list[str] = []
    assert load(path, notes).info.shape == (1, 1, 785)
    assert any("in column 1 are classes, not numbers: --label-column 1" in note for note in notes)
    assert any("if rows are images of 28 x 28 pixels: --label-column 1 --shape 28,28" in note for note in notes)
    with pytest.raises(SettingError, match="785") as caught:
        load(path, shape=(28, 28))
    assert "--label-column" in (caught.value.hint or "")
    data = load(path, label_column="1", shape=coerce("data.shape", "28,28", tuple[int, ...]))
    assert data.info.shape == (1, 28, 28)
    assert (data.train.labels == torch.from_numpy(LABELS)[data.train.rows]).all()


def test_a_last_column_of_classes_is_hinted_at_only_without_header(tmp_path: Path) -> None:
    rows = [[i / 7, -i / 3, i % 3] for i in range(ROWS)]
    for names, count in (([], 1), (["a", "b", "c"], 0)):
        notes: list[str] = []
        load(write(tmp_path / "x.csv", names, rows), notes)
        assert sum("--label-column 3" in note for note in notes) == count
    notes = []
    load(write(tmp_path / "x.csv", [], [[i / 7, -i / 3] for i in range(ROWS)]), notes)
    assert not any("--label-column" in note for note in notes)


@pytest.mark.parametrize("header", ["", "Unnamed: 0", '""'])
def test_row_numbers_without_a_name_are_left_out(tmp_path: Path, header: str) -> None:
    notes: list[str] = []
    data = load(write(tmp_path / "x.csv", [header, "a", "b"], [[i + 5, i / 7, -i / 3] for i in range(ROWS)]), notes)
    assert [column.name for column in data.info.columns] == ["a", "b"]
    assert any("column 'Unnamed: 0' only counts the rows and is left out" in note for note in notes)
    odd = load(write(tmp_path / "x.csv", [header, "a", "b"], [[i * i, i / 7, -i / 3] for i in range(ROWS)]))
    assert odd.info.shape == (1, 1, 3)


def test_the_index_of_pandas_in_parquet_is_left_out(tmp_path: Path) -> None:
    data = load(write(tmp_path / "x.parquet", ["a", "__index_level_0__"], [[i / 7, i] for i in range(ROWS)]))
    assert [column.name for column in data.info.columns] == ["a"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_named_column_that_counts_is_remarked_on_and_can_be_dropped(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"x{suffix}", ["id", "a", "text"], [[i, i / 7, f"no {i}"] for i in range(ROWS)])
    with pytest.raises(DataError, match="column 'text'") as refused:
        load(path)
    assert "--drop-column text" in (refused.value.hint or "")
    notes: list[str] = []
    assert load(path, notes, drop_column=("text",)).info.shape == (1, 1, 2)
    assert any("column 'id' counts the rows; to leave it out: --drop-column id" in note for note in notes)
    assert load(path, drop_column=("text", "id")).info.columns == (Column("a", "real"),)
    with pytest.raises(SettingError, match=r"drop_column names no column of .*'txt'") as caught:
        load(path, drop_column=("txt",))
    assert caught.value.hint == "did you mean 'text'?"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_group_is_no_feature(tmp_path: Path, suffix: str) -> None:
    rows = [[f"patient {i // 4}", i / 7, -i / 3] for i in range(ROWS)]
    data = load(write(tmp_path / f"x{suffix}", ["patient", "a", "b"], rows), group_column="patient")
    assert [column.name for column in data.info.columns] == ["a", "b"]
    source = open_table(tmp_path / f"x{suffix}", Reading(DataOptions(group_column="patient")))
    assert source.groups is not None
    groups = source.groups["train"]
    assert (groups.dtype, len(set(groups.tolist()))) == (np.int64, ROWS // 4)
    assert (groups.reshape(-1, 4) == groups[::4, None]).all()
    # the number of a group is the same in another file, as in pieces of one table
    write(tmp_path / f"y{suffix}", ["a", "patient", "b"], [[1.5, f"patient {i % 2}", i] for i in range(ROWS)])
    other = open_table(tmp_path / f"y{suffix}", Reading(DataOptions(group_column="patient"))).groups
    assert other is not None
    assert set(other["train"].tolist()) == {groups[0], groups[4]}
    with pytest.raises(SettingError, match="'patient', which --drop-column leaves out"):
        load(tmp_path / f"x{suffix}", group_column="patient", drop_column=("patient",))


@pytest.mark.parametrize(
    "options",
    [{"image_size": (8,)}, {"grayscale": True}, {"crop": "center:8"}, {"channels": 1}, {"invert": True},
     {"labels_key": "y"}],
)  # fmt: skip
def test_what_rows_of_numbers_would_ignore_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=rf"data\.{next(iter(options))}"):
        load(write(tmp_path / "x.csv", ["a", "b"], PIXELS[:, :2]), **options)


@pytest.mark.parametrize("option", ["drop_column", "group_column"])
def test_what_an_array_would_ignore_is_refused(tmp_path: Path, option: str) -> None:
    np.save(tmp_path / "x.npy", PIXELS[:, :2])
    with pytest.raises(SettingError, match=rf"data\.{option} is for tables"):
        load(tmp_path / "x.npy", **{option: ("a",) if option == "drop_column" else "a"})


@pytest.mark.parametrize(
    ("names", "fingerprint"),
    [
        (["age", "weight", "height"], "9d6112b45eeb215ff67ef98dc8fd259d47f2db5aea5e5ddf2a2a2cc21903962e"),
        ([f"pixel{i}" for i in range(16)], "fb7fea8cb2463df23fe4e99f914f65f88585d3567a695048d1a8e7219952bd63"),
    ],
)
def test_tables_of_runs_of_before_are_read_as_they_were(tmp_path: Path, names: list[str], fingerprint: str) -> None:
    """A run that was trained on bytes of a table finds the same bytes, in one row; the fingerprints are of then."""
    numbers = np.random.RandomState(0).randint(0, 256, (ROWS, len(names))).tolist()
    path = write(tmp_path / "t.csv", [*names, "label"], [[*row, "ab"[i % 2]] for i, row in enumerate(numbers)])
    data = load(path, demands={"support": "bytes", "shape": (1, 1, len(names))})
    assert (data.info.support, data.info.shape) == ("bytes", (1, 1, len(names)))
    assert data.info.fingerprint == fingerprint
    assert load(path).info.fingerprint != fingerprint


def test_a_model_s_columns_are_found_by_name(tmp_path: Path) -> None:
    """Another table may have them in another order, and more; if one is missing, it is named."""
    path = write(tmp_path / "x.csv", ["c", "b", "a"], [[i, i / 7, -i / 3] for i in range(ROWS)])
    notes: list[str] = []
    data = load(path, notes, demands={"columns": ("a", "b"), "support": "real", "lenient": True})
    assert torch.allclose(everything(data)[:, 0, 0], torch.tensor([[-i / 3, i / 7] for i in range(ROWS)]))
    assert any("1 column left out, which were not trained on: c" in note for note in notes)
    with pytest.raises(DataError, match="lacks 1 column 'd'"):
        load(path, demands={"columns": ("a", "d"), "lenient": True})
    plain = write(tmp_path / "y.csv", [], [[-i / 3, i / 7] for i in range(ROWS)])
    by_order = load(plain, demands={"columns": ("a", "b"), "support": "real", "lenient": True})
    assert torch.equal(everything(by_order), everything(data))
