"""Images in parquet as Hugging Face writes them, and in tar archives as WebDataset does."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from tests.support.image_files import everything, labels, load, pictures
from vaectl.data.own.pictures import parquet as image_tables
from vaectl.errors import DataError, SettingError


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


def table(images: Sequence[np.ndarray], names: Sequence[str] = (), **columns: Sequence[Any]) -> pa.Table:
    """A table of images with labels 0, 1, 2, 0, ... as ``datasets`` makes it."""
    rows = [{"bytes": png(image), "path": f"{number}.png"} for number, image in enumerate(images)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    made = pa.table({"image": pa.array(rows, kind), "label": pa.array(np.arange(len(images)) % 3), **columns})
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if names:
        features["label"] = {"names": list(names), "_type": "ClassLabel"}
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


@pytest.mark.parametrize("storage", ["resident", "stream"])
@pytest.mark.parametrize("group", [1, 5, 100])
def test_images_of_a_table(tmp_path: Path, storage: str, group: int) -> None:
    """To the bit, whatever the groups of rows are, with the classes of the schema."""
    images = pictures(20)
    parquet.write_table(table(images, ("cat", "dog", "eel")), tmp_path / "x.parquet", row_group_size=group)
    loaded = load(tmp_path / "x.parquet", storage=storage)
    assert torch.allclose(everything(loaded), torch.from_numpy(images.transpose(0, 3, 1, 2).copy()) / 255)
    assert loaded.info.classes == ("cat", "dog", "eel")
    assert loaded.test.labels.tolist() == [int(row) % 3 for row in loaded.test.rows]
    assert loaded.files["train"][7] == "x.parquet row 8"


def test_groups_are_read_again_when_they_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(30)
    parquet.write_table(table(images), tmp_path / "x.parquet", row_group_size=3)
    monkeypatch.setattr(image_tables, "KEPT_PART", 1 << 60)
    notes: list[str] = []
    loaded = load(tmp_path / "x.parquet", notes, storage="stream")
    assert any("do not stay in memory" in note for note in notes)
    expected = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()) / 255
    for _ in range(2):
        assert torch.allclose(everything(loaded), expected)


@pytest.mark.parametrize("below", ["", "data", "default"])
def test_shards_of_splits(tmp_path: Path, below: str) -> None:
    root, images = tmp_path / "set" / below, pictures(30)
    root.mkdir(parents=True)
    shards = {"train-00000-of-00002": images[:10], "train-00001-of-00002": images[10:20],
              "validation-00000-of-00001": images[20:24], "test-00000-of-00001": images[24:]}  # fmt: skip
    for name, part in shards.items():
        parquet.write_table(table(part, ("cat", "dog", "eel")), root / f"{name}.parquet")
    (tmp_path / "set" / "README.md").write_text("---")
    loaded = load(tmp_path / "set")
    assert dict(loaded.info.sizes) == {"train": 20, "validation": 4, "test": 6}
    for split, part in (("train", images[:20]), ("test", images[24:])):
        x = loaded.split(split).batch(slice(None)).x
        assert torch.allclose(x, torch.from_numpy(part.transpose(0, 3, 1, 2).copy()) / 255)
    assert loaded.test.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_several_sets_in_a_folder_are_not_mixed(tmp_path: Path) -> None:
    for name in ("cropped", "full"):
        (tmp_path / name).mkdir()
        parquet.write_table(table(pictures(9)), tmp_path / name / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match="holds several data sets, in the folders cropped, full"):
        load(tmp_path)


def test_other_columns_are_attributes_or_said(tmp_path: Path) -> None:
    notes: list[str] = []
    columns = {"age": np.arange(12), "text": [f"a caption {n}" for n in range(12)], "size": np.arange(12) / 2,
               "gap": [None, *range(11)], "list": [[1, 2]] * 12}  # fmt: skip
    parquet.write_table(table(pictures(12), **columns), tmp_path / "x.parquet")
    loaded = load(tmp_path / "x.parquet", notes)
    assert labels(loaded) == sorted(n % 3 for n in range(12))
    assert any("attributes kept: age, size" in note for note in notes)
    assert any("columns of text or with gaps ignored: text, gap" in note for note in notes)
    assert any("columns ignored: list" in note for note in notes)
    assert set(labels(load(tmp_path / "x.parquet", label_column="age"))) == set(range(12))
    with pytest.raises(SettingError, match=r"label_column names no column of x\.parquet: 'ages'"):
        load(tmp_path / "x.parquet", label_column="ages")
    with pytest.raises(SettingError, match="'size', which holds real numbers"):
        load(tmp_path / "x.parquet", label_column="size")


def test_rows_without_an_image_are_named(tmp_path: Path) -> None:
    rows = [{"bytes": png(image), "path": None} for image in pictures(10)]
    rows[3], rows[5] = {"bytes": b"no image", "path": None}, {"bytes": None, "path": "there.png"}
    parquet.write_table(pa.table({"image": rows}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"2 of 10 .*x\.parquet row 4: is not a .*x\.parquet row 6: holds no image"):
        load(tmp_path / "x.parquet")


def test_a_column_of_bytes_and_a_second_one_of_images(tmp_path: Path) -> None:
    images, notes = pictures(12), list[str]()
    columns = {"image": [png(image) for image in images], "jpg": [png(255 - image) for image in images]}
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    plain = everything(load(tmp_path / "x.parquet", notes))
    assert any("column 'image' is read; --images-key names another one: jpg" in note for note in notes)
    assert torch.allclose(everything(load(tmp_path / "x.parquet", images_key="jpg")), 1 - plain, atol=1e-6)
    with pytest.raises(SettingError, match="images_key names no column of images: 'png'"):
        load(tmp_path / "x.parquet", images_key="png")


def test_a_dictionary_is_not_unfolded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte that stands in three thousand rows takes a megabyte of the file."""
    noise = np.random.default_rng(0).integers(0, 256, 1 << 20, dtype=np.uint8).tobytes()
    rows = pa.array([{"bytes": noise}], pa.struct([("bytes", pa.binary())]))
    many = pa.table({"image": pa.chunked_array([rows] * 3000)})
    parquet.write_table(many, tmp_path / "x.parquet", dictionary_pagesize_limit=1 << 22)
    assert (tmp_path / "x.parquet").stat().st_size < 4 << 20
    monkeypatch.setenv("VAECTL_MAX_BYTES", "64M")
    monkeypatch.setattr(image_tables, "FILE_BYTES", 1 << 24)
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(DataError, match=r"row 1: is in a group of rows that would take"):
        load(tmp_path / "x.parquet")
    assert pa.default_memory_pool().max_memory() - before < 512 << 20


# --- WebDataset -------------------------------------------------------------------------------------------------------


def shard(path: Path, images: np.ndarray, first: int = 0, **files: Any) -> Path:
    """A tar archive with the image of each example and other files beside it."""
    with tarfile.open(path, "w") as archive:
        for number, image in enumerate(images, first):
            for kind, content in {"png": png(image), **{kind: make(number) for kind, make in files.items()}}.items():
                info = tarfile.TarInfo(f"{number:06}.{kind}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("storage", ["resident", "stream"])
def test_labels_lie_beside_images(tmp_path: Path, storage: str) -> None:
    images, notes = pictures(20), list[str]()
    shard(tmp_path / "x.tar", images, cls=lambda n: f"{n % 3}\n".encode(), txt=lambda n: b"a caption")
    loaded = load(tmp_path / "x.tar", notes, storage=storage)
    assert torch.allclose(everything(loaded), torch.from_numpy(images.transpose(0, 3, 1, 2).copy()) / 255)
    assert loaded.info.classes == ()
    assert loaded.test.labels.tolist() == [int(row) % 3 for row in loaded.test.rows]
    assert any("labels from .cls files" in note for note in notes)
    assert any("20 .txt files ignored" in note for note in notes)


def test_labels_are_text_or_in_records(tmp_path: Path) -> None:
    shard(tmp_path / "x.tar", pictures(9), cls=lambda n: b"dog" if n % 2 else b"cat")
    assert load(tmp_path / "x.tar").info.classes == ("cat", "dog")
    record = {"json": lambda n: json.dumps({"label": n % 2, "kind": "ab"[n % 2]}).encode()}
    (tmp_path / "set").mkdir()
    shard(tmp_path / "set" / "shard-000000.tar", pictures(5), **record)
    shard(tmp_path / "set" / "shard-000001.tar", pictures(5, seed=1), 5, **record)
    loaded = load(tmp_path / "set")
    assert labels(loaded) == [0] * 5 + [1] * 5
    assert loaded.files["train"][6] == "shard-000001.tar/000006.png"
    assert load(tmp_path / "set", label_column="kind").info.classes == ("a", "b")
    with pytest.raises(SettingError, match="label_column names no field"):
        load(tmp_path / "set", label_column="sort")


def test_shards_have_splits(tmp_path: Path) -> None:
    for name, count in {
        "pets-train-000000": 6,
        "pets-train-000001": 5,
        "pets-val-000000": 3,
        "pets-test-000000": 4,
    }.items():
        shard(tmp_path / f"{name}.tar", pictures(count, seed=count))
    loaded = load(tmp_path)
    assert dict(loaded.info.sizes) == {"train": 11, "validation": 3, "test": 4}
