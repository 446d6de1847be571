"""Tables beside image files: labels, attributes and splits by file name."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.support.image_files import labels, load, pictures, save, zipped
from vaectl.data.own.opening import open_directory
from vaectl.data.own.source import Reading, Source
from vaectl.errors import DataError, SettingError


def write(path: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    """A table as csv, jsonl or parquet."""
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(pa.table(dict(columns)), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(columns))
            writer.writeheader()
            writer.writerows(rows)
    return path


def source(path: Path) -> Source:
    return open_directory(path, Reading())


NAMES = [f"{number:03}.png" for number in range(12)]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("packed", [False, True])
def test_metadata_of_an_image_folder(tmp_path: Path, suffix: str, packed: bool) -> None:
    """A label, attributes that are kept, and text that is not."""
    root = save(tmp_path / "faces", pictures(12))
    order = np.random.default_rng(0).permutation(12)
    write(root / f"metadata.{suffix}", {
        "file_name": [NAMES[row] for row in order], "label": ["ab"[row % 2] for row in order],
        "age": [int(row) + 20 for row in order], "size": [row / 4 for row in order],
        "text": [f"caption {row}" if row else "" for row in order],
    })  # fmt: skip
    notes: list[str] = []
    path = zipped(root, tmp_path / "faces.zip") if packed else root
    loaded = load(path, notes)
    assert loaded.info.classes == ("a", "b")
    assert loaded.test.labels.tolist() == [int(row) % 2 for row in loaded.test.rows]
    assert any(f"metadata.{suffix} has attributes by file name" in note for note in notes)
    assert any("attributes kept: age, size" in note for note in notes)
    assert any("text" in note and "ignored" in note for note in notes)
    assert not any("without an image suffix" in note for note in notes)
    if not packed:
        factors = source(root).factors["train"]
        assert factors["age"].tolist() == list(range(20, 32))
        assert factors["size"].tolist() == [row / 4 for row in range(12)]
    assert load(path, label_column="age").report is not None


def test_each_split_has_its_own(tmp_path: Path) -> None:
    for part, count in {"train": 10, "test": 4}.items():
        save(tmp_path / "set" / part, pictures(count, seed=count))
        write(
            tmp_path / "set" / part / "metadata.csv",
            {"file_name": NAMES[:count], "label": [n % 3 for n in range(count)]},
        )
    loaded = load(tmp_path / "set")
    assert loaded.test.labels.tolist() == [0, 1, 2, 0]
    assert loaded.info.classes == ()


@pytest.mark.parametrize("form", ["name", "stem", "path"])
def test_a_table_above_calls_files_in_several_ways(tmp_path: Path, form: str) -> None:
    """As Kaggle's: ``labels.csv`` with ``id`` and one more column, beside a folder."""
    save(tmp_path / "dogs" / "train", pictures(12))
    calls = {"name": NAMES, "stem": [name[:-4] for name in NAMES], "path": [f"train/{name}" for name in NAMES]}
    write(tmp_path / "dogs" / "labels.csv", {"id": calls[form], "breed": ["xyz"[n % 3] for n in range(12)]})
    notes: list[str] = []
    loaded = load(tmp_path / "dogs", notes)
    assert loaded.info.classes == ("x", "y", "z")
    assert labels(loaded) == sorted(n % 3 for n in range(12))
    assert any("column 'breed' is the label" in note for note in notes)


def test_what_is_missing_is_counted(tmp_path: Path) -> None:
    root, notes = save(tmp_path / "faces", pictures(12)), list[str]()
    write(root / "metadata.csv", {"file_name": [*NAMES[:10], "gone.png", "../faces/011.png", "/etc/passwd"],
                                  "label": range(13), "age": range(13)})  # fmt: skip
    loaded = load(root, notes)
    assert labels(loaded) == [-1, -1, *range(10)]
    assert any("2 images without a row, 3 rows without an image" in note for note in notes)
    assert any("with gaps ignored: age" in note for note in notes)


def celeba(root: Path, suffix: str, folder: str = "img_align_celeba") -> Path:
    """CelebA in small: its images, and its two lists as text or csv."""
    images = [f"{number:03}.jpg" for number in range(1, 21)]
    save(root / folder, pictures(20), ".jpg", first=1)
    attributes = {"Male": [1 if n % 2 else -1 for n in range(20)], "Smiling": [1 if n % 3 else -1 for n in range(20)]}
    splits = [0] * 12 + [1] * 3 + [2] * 5
    if suffix == "csv":
        write(root / "list_attr_celeba.csv", {"image_id": images, **attributes})
        write(root / "list_eval_partition.csv", {"image_id": images, "partition": splits})
    else:
        rows = [
            f"{image} {male:2} {smiling:2}" for image, male, smiling in zip(images, *attributes.values(), strict=True)
        ]
        (root / "list_attr_celeba.txt").write_text("\n".join(["20", "Male Smiling ", *rows, ""]))
        lines = [f"{image} {split}" for image, split in zip(images, splits, strict=True)]
        (root / "list_eval_partition.txt").write_text("\n".join(lines))
    return root


@pytest.mark.parametrize("suffix", ["txt", "csv"])
@pytest.mark.parametrize("below", ["", "img_align_celeba"])
def test_celeba(tmp_path: Path, suffix: str, below: str) -> None:
    """The splits are its own, and its attributes are kept as 0 and 1; one of them may be the label."""
    root = celeba(tmp_path / "celeba", suffix)
    notes: list[str] = []
    loaded = load(root / below, notes)
    assert dict(loaded.info.sizes) == {"train": 12, "validation": 3, "test": 5}
    assert loaded.info.classes == ()
    assert labels(loaded) == [-1] * 20
    assert any("attributes kept: Male, Smiling" in note for note in notes)
    assert any("tells the split" in note for note in notes)
    opened = source(root / below)
    assert opened.factors["train"]["Male"].tolist() == [n % 2 for n in range(12)]
    assert opened.factors["test"]["Smiling"].tolist() == [int(n % 3 > 0) for n in range(15, 20)]
    smiling = load(root / below, label_column="Smiling")
    assert smiling.test.labels.tolist() == [int(n % 3 > 0) for n in range(15, 20)]


def test_kaggle_nests_celeba(tmp_path: Path) -> None:
    root = celeba(tmp_path / "celeba", "csv", "img_align_celeba/img_align_celeba")
    assert dict(load(root).info.sizes) == {"train": 12, "validation": 3, "test": 5}


def test_a_column_called_split_divides(tmp_path: Path) -> None:
    root = save(tmp_path / "faces", pictures(12))
    write(root / "metadata.csv", {"file_name": NAMES, "split": ["train"] * 8 + ["val"] + ["test"] * 3})
    assert dict(load(root).info.sizes) == {"train": 8, "validation": 1, "test": 3}


def test_a_table_of_something_else_is_said(tmp_path: Path) -> None:
    root, notes = save(tmp_path / "faces" / "a", pictures(6)).parent, list[str]()
    save(root / "b", pictures(6))
    write(root / "labels.csv", {"name": ["u", "v"], "label": [1, 2]})
    loaded = load(root, notes)
    assert loaded.info.classes == ("a", "b")
    assert any("labels.csv has no column of the names of these images" in note for note in notes)
    with pytest.raises(SettingError, match="label_column is for a table of the images"):
        load(root, label_column="label")
    (root / "labels.csv").unlink()
    with pytest.raises(SettingError, match="label_column"):
        load(root, label_column="label")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("metadata.csv", b"file_name,label\n000.png\n", "line 2 has 1 fields, not 2"),
        ("metadata.csv", b"file_name,file_name\n", "two of one name"),
        ("metadata.csv", b"\xff\xfe\x00a", "is damaged"),
        ("metadata.jsonl", b"[1]\n", "a line is no object"),
        ("metadata.jsonl", b'{"file_name": \n', "is damaged"),
        ("metadata.parquet", b"PAR1" * 9, "is damaged"),
    ],
)
def test_damaged_tables_are_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    root = save(tmp_path / "faces", pictures(6))
    (root / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as caught:
        load(root)
    assert problem in caught.value.message


def test_a_table_has_a_limit_and_is_no_link_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = save(tmp_path / "faces", pictures(6))
    write(tmp_path / "out.csv", {"file_name": NAMES, "label": range(12)})
    (root / "metadata.csv").symlink_to(tmp_path / "out.csv")
    with pytest.raises(DataError, match=r"metadata\.csv is a link that leads out"):
        load(root)
    (root / "metadata.csv").unlink()
    (root / "metadata.csv").write_bytes(b"file_name,label\n" + b"x,1\n" * 250_000)
    monkeypatch.setenv("VAECTL_MAX_BYTES", "16M")
    with pytest.raises(DataError, match=r"metadata\.csv would take"):
        load(root)
