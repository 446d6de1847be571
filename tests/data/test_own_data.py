"""A person's own data by their path: every format and layout, labels, splits, and what cannot be used, by name."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from safetensors.numpy import save_file

from tests.conftest import Cli
from tests.support.outcomes import ok
from tests.support.own import SIZE, everything, folder, load, pictures
from vaectl.config.values import ImageSize, coerce
from vaectl.data.info import DataInfo
from vaectl.data.own import rows
from vaectl.errors import DataError, SettingError, VaectlError


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".png", {}),
        (".bmp", {}),
        (".ppm", {}),
        (".tiff", {}),
        (".tif", {}),
        (".webp", {"lossless": True}),
        (".PNG", {}),
    ],
)
def test_a_folder_holds_its_images_to_the_bit(tmp_path: Path, suffix: str, options: Mapping[str, Any]) -> None:
    """Formats without loss give the pixels that were saved, in the order of their names."""
    images = pictures()
    loaded = load(folder(tmp_path / "photos", images, suffix, **options))
    assert loaded.info.shape == (3, *SIZE)
    assert loaded.info.name == "photos"
    assert loaded.info.support == "bytes"
    expected = torch.from_numpy(images.transpose(0, 3, 1, 2)).float() / 255
    assert torch.allclose(everything(loaded), expected, atol=1e-7)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".gif", ".webp"])
def test_formats_with_loss_come_close(tmp_path: Path, suffix: str) -> None:
    images = np.full((6, 8, 8), 100, np.uint8)
    images[:, :4] = 200
    loaded = load(folder(tmp_path / "photos", images, suffix))
    assert loaded.info.shape in ((1, 8, 8), (3, 8, 8))
    assert (everything(loaded)[:, 0] - torch.from_numpy(images) / 255).abs().max() < 0.1


def by_mode(mode: str) -> np.ndarray:
    """Three images that a mode of PIL holds, and what they are as numbers (3, C, H, W) in units of the model."""
    random = np.random.default_rng(3)
    return random.integers(0, 256, (3, *SIZE), dtype=np.uint8)


@pytest.mark.parametrize(
    ("mode", "channels", "support"),
    [("1", 1, "binary"), ("L", 1, "bytes"), ("LA", 2, "bytes"), ("RGB", 3, "bytes"), ("RGBA", 4, "bytes"),
     ("P", 3, "bytes"), ("I;16", 1, "unit"), ("F", 1, "unit"), ("CMYK", 3, "bytes")],
)  # fmt: skip
def test_every_mode_of_pil_has_its_channels(tmp_path: Path, mode: str, channels: int, support: str) -> None:
    """Palettes become colours, sixteen bits parts of 65535, one bit 0 and 1; nothing is thrown away unsaid."""
    root = tmp_path / "modes"
    root.mkdir()
    for number, grey in enumerate(by_mode(mode)):
        if mode == "I;16":
            image = Image.fromarray(grey.astype(np.uint16) * 257)
        elif mode == "F":
            image = Image.fromarray(grey.astype(np.float32) / 255)
        else:
            image = Image.fromarray(grey).convert(mode)
        image.save(root / f"{number}.{'tif' if mode in ('F', 'CMYK') else 'png'}")
    loaded = load(root)
    assert loaded.info.shape == (channels, *SIZE)
    assert loaded.info.support == support
    if mode in ("L", "I;16", "F"):
        expected = torch.from_numpy(by_mode(mode)).float() / 255
        assert torch.allclose(everything(loaded)[:, 0], expected, atol=1e-6)


def test_a_transparent_palette_has_four_channels(tmp_path: Path) -> None:
    root = tmp_path / "icons"
    root.mkdir()
    for number, grey in enumerate(by_mode("P")):
        Image.fromarray(grey).convert("P").save(root / f"{number}.png", transparency=0)
    assert load(root).info.shape == (4, *SIZE)


def test_kinds_that_differ_are_read_as_one_that_holds_all(tmp_path: Path) -> None:
    """One image with transparency among grey and colour: all have four channels, and that is said."""
    root = folder(tmp_path / "photos", pictures())
    folder(root / "more", pictures(4))
    Image.fromarray(pictures(1, channels=4)[0]).save(root / "alpha.png")
    Image.fromarray(pictures(1, channels=1)[0]).save(root / "grey.png")
    notes: list[str] = []
    for file in (root / "more").iterdir():
        file.replace(root / f"more-{file.name}")
    (root / "more").rmdir()
    loaded = load(root, notes)
    assert loaded.info.shape == (4, *SIZE)
    assert any("RGBA" in note for note in notes)


def test_a_turned_photo_stands_upright(tmp_path: Path) -> None:
    """A camera's mark of orientation counts, for the size, too."""
    images = pictures()
    root = folder(tmp_path / "photos", images)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    Image.fromarray(np.rot90(images[3]).copy()).save(root / "003.png", exif=exif)
    expected = torch.from_numpy(images.transpose(0, 3, 1, 2)).float() / 255
    assert torch.allclose(everything(load(root)), expected, atol=1e-7)


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    """Nested files belong to the first folder; names are sorted; other files are ignored, and a note says so."""
    root = tmp_path / "pets"
    folder(root / "dog", pictures(4))
    folder(root / "cat" / "small" / "young", pictures(3))
    (root / "dog" / "notes.txt").write_text("good dogs")
    (root / ".hidden.png").write_bytes(b"")
    notes: list[str] = []
    loaded = load(root, notes)
    assert loaded.info.classes == ("cat", "dog")
    labels = torch.cat([split.labels for split in (loaded.train, loaded.validation, loaded.test)])
    assert labels.bincount().tolist() == [3, 4]
    assert any("1 file without an image suffix ignored" in note for note in notes)
    assert DataInfo.from_json(json.loads(json.dumps(loaded.info.to_json()))) == loaded.info


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    loaded = load(folder(tmp_path / "photos", pictures()))
    assert set(loaded.train.labels.tolist()) == {-1}
    assert loaded.info.classes == ()


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_the_folders_of_splits_are_honoured(tmp_path: Path, name: str) -> None:
    root = tmp_path / "photos"
    for part, count in (("train", 8), (name, 3), ("test", 4)):
        folder(root / part / "a", pictures(count))
        folder(root / part / "b", pictures(1))
    loaded = load(root)
    assert loaded.info.sizes == {"train": 9, "validation": 4, "test": 5}
    assert loaded.info.classes == ("a", "b")
    with pytest.raises(SettingError, match="test_fraction"):
        load(root, test_fraction=0.3)
    with pytest.raises(SettingError, match="validation_fraction"):
        load(root, validation_fraction=0.3)


@pytest.mark.parametrize("names", [("Train", "Valid", "TEST"), ("Training", "VALIDATION", "testing")])
def test_split_folders_are_recognised_in_any_case(tmp_path: Path, names: tuple[str, str, str]) -> None:
    for place, (name, count) in enumerate(zip(names, (8, 3, 4), strict=True)):
        folder(tmp_path / "faces" / name / "Anna", pictures(count, seed=place))
        folder(tmp_path / "faces" / name / "Bert", pictures(1, seed=place + 9))
    loaded = load(tmp_path / "faces")
    assert dict(loaded.info.sizes) == {"train": 9, "validation": 4, "test": 5}
    assert loaded.info.classes == ("Anna", "Bert")
    folder(tmp_path / "faces" / "TRAIN", pictures(2))
    with pytest.raises(DataError, match="two folders for one split"):
        load(tmp_path / "faces")


@pytest.mark.parametrize("suffix", ["csv", "npz"])
def test_labels_of_minus_one_and_one_are_two_classes(tmp_path: Path, suffix: str) -> None:
    numbers, signs = np.random.default_rng(0).normal(size=(40, 3)), np.array([-1, 1] * 20)
    if suffix == "npz":
        np.savez(tmp_path / "x.npz", images=numbers, labels=signs)
    else:
        lines = [",".join(map(str, [*row, sign])) for row, sign in zip(numbers, signs, strict=True)]
        (tmp_path / "x.csv").write_text("\n".join(["a,b,c,label", *lines]))
    loaded = load(tmp_path / f"x.{suffix}")
    assert loaded.info.classes == ("-1", "1")
    assert loaded.report is not None
    assert dict(loaded.report.classes) == {"-1": 20, "1": 20}
    assert loaded.train.labels.tolist() == (loaded.train.rows % 2).tolist()


def test_a_number_that_is_a_class_is_that_class_in_other_data(cli: Cli, tmp_path: Path) -> None:
    """The run's classes -1, 0 and 1 are numbered 0, 1 and 2; other data that have 1 and 7 alone are read as that."""
    numbers = np.random.default_rng(0).normal(size=(30, 3))
    np.savez(tmp_path / "x.npz", images=numbers, labels=np.array([-1, 0, 1] * 10))
    np.savez(tmp_path / "y.npz", images=numbers[:4], labels=np.array([1, 1, 7, 1]))
    ok(cli, "train", "--dataset", "x.npz", "--likelihood", "gaussian", *SMALL)
    ok(cli, "embed", "run1", "--dataset", "y.npz", "-o", "y-codes.npz")
    assert np.load(tmp_path / "y-codes.npz")["label"].tolist() == [2, 2, -1, 2]


def test_what_is_not_split_is_split_the_same_way_every_time(tmp_path: Path) -> None:
    """A tenth tests and a twelfth of the rest validates: disjoint, whole, and as large as was asked for."""
    root = folder(tmp_path / "photos", pictures(60))
    loaded, again = load(root), load(root)
    assert loaded.info.sizes == {"train": 50, "validation": 4, "test": 6}
    parts = [set(split.rows.tolist()) for split in (loaded.train, loaded.validation, loaded.test)]
    assert set.union(*parts) == set(range(60))
    assert sum(map(len, parts)) == 60
    assert torch.equal(loaded.test.rows, again.test.rows)
    assert load(root, test_fraction=0.5).info.sizes["test"] == 30
    assert load(root, validation_fraction=0.5).info.fingerprint == loaded.info.fingerprint
    assert load(root, test_fraction=0.5).info.fingerprint != loaded.info.fingerprint


LAYOUTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "grey": ((30, 7, 5), (1, 7, 5)),
    "last": ((30, 7, 5, 3), (3, 7, 5)),
    "first": ((30, 3, 7, 5), (3, 7, 5)),
    "alpha-last": ((30, 7, 5, 4), (4, 7, 5)),
    "grey-last": ((30, 7, 5, 1), (1, 7, 5)),
    "many-last": ((30, 17, 15, 13), (13, 17, 15)),
    "many-first": ((30, 13, 17, 15), (13, 17, 15)),
    "narrow-first": ((30, 1, 4, 4), (1, 4, 4)),
    "table": ((30, 6), (1, 1, 6)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_axes_of_an_array_are_told_and_said(tmp_path: Path, layout: str) -> None:
    shape, expected = LAYOUTS[layout]
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "x.npy", array)
    notes: list[str] = []
    loaded = load(tmp_path / "x.npy", notes)
    assert loaded.info.shape == expected
    assert any("read as (N" in note for note in notes)
    as_images = np.ascontiguousarray(rows.arranged(array, rows.layout_of(shape)))
    assert torch.allclose(everything(loaded), torch.from_numpy(as_images).float() / 255, atol=1e-7)


NUMBERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "bool": (lambda x: x > 0.5, "binary"),
    "zeros and ones": (lambda x: (x > 0.5).astype(np.int64), "binary"),
    "floats of zeros and ones": (lambda x: (x > 0.5).astype(np.float64), "binary"),
    "black and white": (lambda x: (x > 0.5).astype(np.uint8) * 255, "binary"),
    "bytes": (lambda x: (x * 255).astype(np.uint8), "bytes"),
    "small whole numbers": (lambda x: (x * 200).astype(np.int32), "bytes"),
    "sixteen bits": (lambda x: (x * 65535).astype(np.uint16), "unit"),
    "half": (lambda x: x.astype(np.float16), "unit"),
    "double": (lambda x: x, "unit"),
    "real": (lambda x: 4 * x - 2, "real"),
    "large whole numbers": (lambda x: (1000 * x).astype(np.int64), "real"),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_what_numbers_are_is_told_by_them(tmp_path: Path, kind: str) -> None:
    """And a batch holds them in units of the model."""
    make, support = NUMBERS[kind]
    x = np.random.default_rng(0).random((40, 4, 6))
    x[0, 0, :2] = 0, 1
    array = make(x)
    np.save(tmp_path / "x.npy", array)
    loaded = load(tmp_path / "x.npy")
    assert loaded.info.support == support
    scale = {"bytes": 255, "sixteen bits": 65535, "small whole numbers": 255, "black and white": 255}.get(kind, 1)
    expected = torch.from_numpy(array.astype(np.float64)[:, None] / scale).float()
    assert torch.allclose(everything(loaded), expected, atol=1e-6)
    low, high = loaded.info.range
    train = loaded.train.batch(slice(None)).x
    assert (low, high) == ((train.min().item(), train.max().item()) if support == "real" else (0.0, 1.0))


def arrays(n: int = 30) -> dict[str, np.ndarray]:
    return {"images": pictures(n), "labels": np.arange(n) % 3}


KEYS: dict[str, tuple[Callable[[], dict[str, np.ndarray]], dict[str, int]]] = {
    "images and labels": (arrays, {"train": 25, "validation": 2, "test": 3}),
    "x and y": (lambda: {"x": pictures(30), "y": np.arange(30) % 3}, {"train": 25, "validation": 2, "test": 3}),
    "one of any name": (lambda: {"faces": pictures(30)}, {"train": 25, "validation": 2, "test": 3}),
    "arr_0": (lambda: {"arr_0": pictures(30)}, {"train": 25, "validation": 2, "test": 3}),
    "keras": (
        lambda: {"x_train": pictures(24), "y_train": np.arange(24), "x_test": pictures(5), "y_test": np.arange(5)},
        {"train": 22, "validation": 2, "test": 5},
    ),
    "medmnist": (
        lambda: {
            f"{part}_{what}": made
            for part, n in (("train", 12), ("val", 4), ("test", 6))
            for what, made in (("images", pictures(n)), ("labels", np.arange(n)[:, None] % 2))
        },
        {"train": 12, "validation": 4, "test": 6},
    ),
}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("keys", KEYS)
def test_the_keys_of_arrays_are_told_and_said(tmp_path: Path, keys: str, suffix: str) -> None:
    make, sizes = KEYS[keys]
    path = tmp_path / f"set{suffix}"
    if suffix == ".npz":
        np.savez_compressed(path, **make())  # type: ignore[arg-type]
    else:
        save_file(make(), path)
    notes: list[str] = []
    loaded = load(path, notes)
    assert loaded.info.sizes == sizes
    assert loaded.info.shape == (3, *SIZE)
    assert any("train images" in note for note in notes)
    assert (loaded.train.labels == -1).all() == (len(make()) == 1)


def test_labels_go_with_their_images(tmp_path: Path) -> None:
    """Whole numbers stay, one of several columns and texts become numbers."""
    images, kinds = pictures(30, channels=1), np.arange(30) % 3
    images[:, 0, 0] = kinds
    for labels, names in ((kinds, ()), (np.eye(3)[kinds], ()), (np.array(["a", "b", "c"])[kinds], ("a", "b", "c")),
                          (kinds.astype(np.float32), ())):  # fmt: skip
        np.savez(tmp_path / "set.npz", images=images, labels=labels)
        loaded = load(tmp_path / "set.npz")
        assert loaded.info.classes == names
        for split in (loaded.train, loaded.validation, loaded.test):
            assert ((split.batch(slice(None)).x[:, 0, 0, 0] * 255).round().long() == split.labels).all()


CSV = "a,b,species\n" + "".join(f"{i / 7},{i * i},{'xyz'[i % 3]}\n" for i in range(30))


def test_a_table_has_columns_and_a_label(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(CSV.replace("species", "label"))
    loaded = load(tmp_path / "t.csv")
    assert loaded.info.shape == (1, 1, 2)
    assert loaded.info.support == "real"
    assert loaded.info.classes == ("x", "y", "z")
    numbers = torch.tensor([[i / 7, i * i] for i in range(30)])
    assert torch.allclose(everything(loaded)[:, 0, 0], numbers)
    lines = loaded.train.rows
    assert ((lines % 3) == loaded.train.labels).all()


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_text_column_must_be_the_label(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"t.{form}"
    if form == "csv":
        path.write_text(CSV)
    else:
        import pyarrow as pa
        from pyarrow import parquet

        columns = {"a": [i / 7 for i in range(30)], "b": [i * i for i in range(30)], "species": list("xyz" * 10)}
        parquet.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match="column 'species'") as caught:
        load(path)
    assert "--label-column species" in (caught.value.hint or "")
    loaded = load(path, label_column="species")
    assert loaded.info.classes == ("x", "y", "z")
    assert loaded.info.shape == (1, 1, 2)
    with pytest.raises(SettingError, match=r"label_column.*speces") as named:
        load(path, label_column="speces")
    assert "species" in (named.value.hint or "")


def test_csv_and_parquet_of_one_table_are_one_data_set(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    (tmp_path / "t.csv").write_text(CSV)
    parquet.write_table(csv.read_csv(tmp_path / "t.csv"), tmp_path / "t.parquet")
    assert pa.__version__
    one, other = (load(tmp_path / f"t.{form}", label_column="species") for form in ("csv", "parquet"))
    assert one.info.fingerprint == other.info.fingerprint


@pytest.mark.parametrize(("text", "names"), [
    ("1,2\n3,4\n5,6\n7,8\n9,10\n", "no header"), ("a;b\n1;2\n3;4\n5;6\n7;8\n", "semicolons"),
    ("a\tb\n1\t2\n3\t4\n5\t6\n7\t8\n", "tabs"), ("﻿a,b\r\n1,2\r\n3,4\r\n5,6\r\n7,8\r\n", "a mark and returns"),
    ('a,"b\nc"\n1,2\n3,4\n5,6\n7,8\n', "a name of two lines"),
    ('"a","b"\n"1","2"\n"3","4"\n"5","6"\n"7","8"\n\n', "quotes and an empty line"),
])  # fmt: skip
def test_csv_as_people_write_it(tmp_path: Path, text: str, names: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    loaded = load(tmp_path / "t.csv", test_fraction=0.3, validation_fraction=0.0)
    assert loaded.info.shape == (1, 1, 2), names
    assert everything(loaded).sum() == pytest.approx(sum(range(1, 11 if "no" in names else 9)), rel=1e-5)


def test_bad_rows_of_a_table_are_named_by_their_line(tmp_path: Path) -> None:
    lines = CSV.splitlines()
    lines[3], lines[5], lines[7], lines[9] = "1,,x", "1,nan,x", "1,2", "1,oops,y"
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(
        DataError, match=r"4 of 30 rows.*row 4: column 'b' is empty.*row 6.*row 8: has 2.*row 10.*oops"
    ) as e:
        load(tmp_path / "t.csv", label_column="species")
    assert "--skip-bad" in (e.value.hint or "")
    notes: list[str] = []
    loaded = load(tmp_path / "t.csv", notes, label_column="species", skip_bad=True)
    assert sum(loaded.info.sizes.values()) == 26
    assert any("4 of 30 rows are left out" in note for note in notes)


def spoil(root: Path) -> dict[str, str]:
    """Bad files in a folder: name -> what must be said of it."""
    good = (root / "000.png").read_bytes()
    (root / "broken.png").write_bytes(b"no image at all")
    (root / "empty.jpg").write_bytes(b"")
    (root / "short.png").write_bytes(good[: len(good) // 2])
    os.mkfifo(root / "pipe.png")
    (root / "lost.png").symlink_to(root / "nowhere.png")
    (root.parent / "outside.png").write_bytes(good)
    (root / "out.png").symlink_to(root.parent / "outside.png")
    Image.fromarray(pictures(1, (9, 9))[0]).save(root / "other.png")
    return {"broken.png": "not a readable image", "empty.jpg": "is empty", "short.png": "damaged",
            "pipe.png": "not a regular file", "lost.png": "not a regular file", "out.png": "leads out",
            "other.png": "9 x 9, not 7 x 5"}  # fmt: skip


@pytest.mark.parametrize("storage", ["resident", "stream"])
def test_bad_images_are_all_named_in_one_pass_and_may_be_skipped(tmp_path: Path, storage: str) -> None:
    root = folder(tmp_path / "photos", pictures())
    problems = spoil(root)
    with pytest.raises(DataError, match="7 of 19 images cannot be used") as caught:
        load(root, storage=storage)
    for name, problem in problems.items():
        listed = next(part for part in caught.value.message.split("; ") if name in part)
        assert problem in listed
    assert "--skip-bad" in (caught.value.hint or "")
    assert "--image-size" in (caught.value.hint or "")
    notes: list[str] = []
    loaded = load(root, notes, skip_bad=True, storage=storage)
    assert sum(loaded.info.sizes.values()) == 12
    assert any("7 of 19 images are left out" in note for note in notes)
    assert loaded.report is not None
    assert loaded.report.left_out == 7


def test_an_error_names_ten_and_counts_the_rest(tmp_path: Path) -> None:
    root = folder(tmp_path / "photos", pictures())
    for number in range(25):
        (root / f"bad{number:02}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"25 of 37 images.*bad09\.png.*, and 15 more") as caught:
        load(root)
    assert "bad10" not in caught.value.message


def test_a_decompression_bomb_is_a_bad_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "photos", pictures())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for name, side in (("large.png", 12), ("huge.png", 40)):
        Image.new("RGB", (side, side)).save(root / name)
    with pytest.raises(DataError, match=r"2 of 14.*huge\.png: has more than 100 pixels.*large\.png: has more"):
        load(root)


def test_sizes_that_differ_are_brought_to_one(tmp_path: Path) -> None:
    root = folder(tmp_path / "photos", pictures())
    folder(root, pictures(3, (9, 4)), "-b.png")
    with pytest.raises(DataError, match="3 of 15 images"):
        load(root)
    loaded = load(root, image_size=(8, 6))
    assert loaded.info.shape == (3, 8, 6)
    assert sum(loaded.info.sizes.values()) == 15
    assert "resized to 8 x 6" in loaded.info.preprocessing
    assert load(root, image_size=(8,)).info.shape == (3, 8, 8)


def test_a_resize_is_torchvision_s_and_one_to_the_same_size_is_none(tmp_path: Path) -> None:
    from torchvision.transforms import v2

    images = pictures()
    root = folder(tmp_path / "photos", images)
    stored = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    expected = v2.functional.resize(stored, [10, 4], antialias=True) / 255
    assert torch.allclose(everything(load(root, image_size=(10, 4))), expected, atol=1e-6)
    grey = v2.functional.rgb_to_grayscale(stored) / 255
    loaded = load(root, grayscale=True)
    assert torch.allclose(everything(loaded), grey, atol=1e-6)
    assert "in grey" in loaded.info.preprocessing
    same = load(root, image_size=SIZE)
    assert (same.info.fingerprint, same.info.preprocessing) == (load(root).info.fingerprint, "uint8 / 255")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"grayscale": True}, "grayscale"),
        ({"label_column": "a"}, "label_column"),
        ({"image_size": (1, 2, 3)}, "image_size"),
        ({"skip_bad": True}, "skip_bad"),
        ({"test_fraction": 0.2}, "test_fraction"),
        ({"storage": "stream"}, "storage"),
    ],
)
def test_what_a_built_in_set_would_ignore_is_refused(options: Mapping[str, Any], named: str) -> None:
    with pytest.raises(SettingError, match=rf"data\.{named}"):
        load("digits", **options)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_may_come_to_one_pixel(tmp_path: Path, channels: int) -> None:
    """Which torch itself refuses for colours."""
    folder(tmp_path / "photos", pictures(channels=channels))
    loaded = load(tmp_path / "photos", image_size=(1,))
    assert loaded.info.shape == (channels, 1, 1)
    from torchvision.transforms.v2 import functional

    images = torch.from_numpy(pictures(channels=channels).reshape(12, *SIZE, channels)).permute(0, 3, 1, 2)
    expected = functional.resize(images.float() / 255, [1, 1], antialias=True)
    assert (everything(loaded) - expected).abs().max() < 0.02


def test_a_built_in_set_is_resized_too() -> None:
    loaded, whole = load("digits", image_size=(12, 10)), load("digits")
    assert loaded.info.shape == (1, 12, 10)
    assert loaded.info.preprocessing != whole.info.preprocessing
    assert loaded.info.fingerprint != whole.info.fingerprint


@pytest.mark.parametrize(
    ("options", "named"),
    [({"image_size": (8,)}, "image_size"), ({"grayscale": True}, "grayscale"), ({"binarize": "static"}, "binarize")],
)
def test_what_a_table_would_ignore_is_refused(tmp_path: Path, options: Mapping[str, Any], named: str) -> None:
    (tmp_path / "t.csv").write_text(CSV.replace("species", "label"))
    with pytest.raises(SettingError, match=rf"data\.{named}"):
        load(tmp_path / "t.csv", **options)


def test_own_images_are_binarised_as_built_in_ones_are(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pictures(40, channels=1))
    grey, static = (load(tmp_path / "x.npy", binarize=kind) for kind in ("none", "static"))
    assert set(everything(static).unique().tolist()) == {0.0, 1.0}
    assert (everything(static).mean() - everything(grey).mean()).abs() < 0.05
    assert static.info.fingerprint == grey.info.fingerprint


def hostile() -> dict[str, tuple[Callable[[Path], Path], str]]:
    """Files that must be refused in words: how to make one, and what the error names."""

    def array(make: Callable[[], np.ndarray]) -> Callable[[Path], Path]:
        def save(root: Path) -> Path:
            np.save(root / "x.npy", make(), allow_pickle=True)
            return root / "x.npy"

        return save

    def content(name: str, text: bytes) -> Callable[[Path], Path]:
        def write(root: Path) -> Path:
            (root / name).write_bytes(text)
            return root / name

        return write

    def directory(root: Path) -> Path:
        (root / "photos" / "a").mkdir(parents=True)
        return root / "photos"

    def pipe(root: Path) -> Path:
        os.mkfifo(root / "x.npy")
        return root / "x.npy"

    def cut(root: Path) -> Path:
        np.save(root / "x.npy", pictures())
        (root / "x.npy").write_bytes((root / "x.npy").read_bytes()[:-20])
        return root / "x.npy"

    def two(root: Path) -> Path:
        for name in ("train", "val", "valid"):
            folder(root / "photos" / name, pictures())
        return root / "photos"

    def keys(root: Path) -> Path:
        np.savez(root / "x.npz", left=pictures(), right=pictures())
        return root / "x.npz"

    def bomb(root: Path) -> Path:
        np.savez_compressed(root / "x.npz", images=np.zeros((2000, 100, 100), np.uint8))
        return root / "x.npz"

    def lengths(root: Path) -> Path:
        np.savez(root / "x.npz", images=pictures(), labels=np.arange(3))
        return root / "x.npz"

    return {
        "objects": (array(lambda: np.array([{}, []], dtype=object)), "Python objects"),
        "no examples": (array(lambda: np.zeros((0, 5, 5))), "no examples"),
        "no pixels": (array(lambda: np.zeros((9, 0, 5))), "no examples"),
        "one axis": (array(lambda: np.zeros(9)), "too few axes"),
        "one number": (array(lambda: np.zeros(())), "too few axes"),
        "five axes": (array(lambda: np.zeros((9, 1, 2, 3, 4))), "neither images nor a table"),
        "complex": (array(lambda: np.zeros((9, 2), complex)), "complex128"),
        "dates": (array(lambda: np.zeros((9, 2), "M8[s]")), "datetime64"),
        "one example": (array(lambda: np.ones((1, 2, 2))), "is left to train on"),
        "not finite": (array(lambda: np.where(np.eye(9) > 0, np.nan, 0.5)[:5]), "5 of 5 rows"),
        "overflow": (array(lambda: np.full((9, 2), 1e300)), "9 of 9 rows"),
        "empty npy": (content("x.npy", b""), "x.npy is empty"),
        "empty npz": (content("x.npz", b""), "x.npz is empty"),
        "no npy": (content("x.npy", b"1,2,3\n" * 10), "x.npy is not an .npy file"),
        "other name": (content("x.npz", b"\x93NUMPY" * 10), "x.npz is not an .npz file"),
        "no npz": (content("x.npz", b"PK\3\4" + b"x" * 40), "x.npz"),
        "no safetensors": (content("x.safetensors", b"\xff" * 40), "x.safetensors"),
        "no parquet": (content("x.parquet", b"PAR1" * 10), "x.parquet"),
        "no text": (content("x.csv", b"\xff\xfe\x00a"), "UTF-8"),
        "zero byte": (content("x.csv", b"a,b\n1,\0002\n"), "zero byte"),
        "empty csv": (content("x.csv", b""), "no rows"),
        "only a header": (content("x.csv", b"a,b\n"), "no rows"),
        "only labels": (content("x.csv", b"label\n1\n2\n3\n"), "no column of numbers"),
        "columns of one name": (content("x.csv", b"a,a\n1,2\n3,4\n"), "two columns called 'a'"),
        "format": (content("x.mp4", b""), "unknown format"),
        "missing": (lambda root: root / "none.npy", "does not exist"),
        "empty folder": (directory, "holds no images"),
        "pipe": (pipe, "not a regular file"),
        "cut": (cut, "x.npy"),
        "two validation folders": (two, "two folders for one split"),
        "unknown keys": (keys, "left (uint8 (12, 7, 5, 3)), right"),
        "labels of another length": (lengths, "labels of shape"),
        "bomb": (bomb, "memory"),
    }


@pytest.mark.parametrize("kind", hostile())
def test_hostile_files_are_refused_in_words(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, named = hostile()[kind]
    path = make(tmp_path)
    if kind == "bomb":
        monkeypatch.setenv("VAECTL_MAX_BYTES", "16M")
        assert path.stat().st_size < 1 << 20
    with pytest.raises(VaectlError) as caught:
        load(path)
    assert named in caught.value.message, caught.value.message


def test_links_within_a_folder_are_fine_and_the_folder_may_be_one(tmp_path: Path) -> None:
    root = folder(tmp_path / "real", pictures())
    (root / "again.png").symlink_to(root / "000.png")
    (tmp_path / "link").symlink_to(root)
    loaded = load(tmp_path / "link")
    assert sum(loaded.info.sizes.values()) == 13
    assert loaded.info.name == "link"
    assert loaded.report is not None
    assert loaded.report.duplicates == 1


def test_a_built_in_name_wins_and_a_path_can_be_written_otherwise(tmp_path: Path) -> None:
    folder(tmp_path / "digits", pictures())
    assert load("digits").info.shape == (1, 8, 8)
    assert load("./digits").info.shape == (3, *SIZE)
    assert load(f"{tmp_path}/digits").info.fingerprint == load("./digits").info.fingerprint


def test_settings_come_as_text_too() -> None:
    assert coerce("x", "true", bool) is True
    assert coerce("x", "False", bool) is False
    assert coerce("x", "64,48", ImageSize) == (64, 48)
    assert coerce("x", 64, ImageSize) == (64,)
    assert coerce("x", None, ImageSize) is None
    for wrong in ("yes", "0", 0):
        with pytest.raises(SettingError):
            coerce("x", wrong, bool)
    with pytest.raises(SettingError):
        coerce("x", "0", ImageSize)


def test_descriptions_of_before_are_read_and_damage_is_an_error() -> None:
    info = load("digits").info
    document = info.to_json()
    old = {key: value for key, value in document.items() if key not in ("classes", "range")}
    assert DataInfo.from_json(old) == info
    for change in ({"classes": ["a"] * 1001}, {"classes": [1]}, {"classes": ["a" * 256]}, {"range": [0]},
                   {"range": [1, 0]}, {"range": [0, 1e40]}, {"range": ["0", 1]}, {"classes": 3}):  # fmt: skip
        with pytest.raises(DataError):
            DataInfo.from_json(document | change)


SMALL = ("--epochs", 1, "--hidden-dims", 8, "--latent-dim", 2)


def test_every_command_takes_a_folder_of_colours_at_an_odd_size(cli: Cli, tmp_path: Path) -> None:
    """From the command line alone: train, resume, eval, sample, embed, plot-latent, compare."""
    for name in ("dog", "cat"):
        folder(tmp_path / "pets" / name, pictures(20, (37, 53), seed=len(name) + ord(name[0])))
    dry = ok(cli, "train", "--dataset", "pets", "--dry-run", *SMALL)
    assert dry["report"]["classes"] == {"cat": 20, "dog": 20}
    assert dry["report"]["shape"] == [3, 37, 53]
    assert dry["config"]["data"]["name"] == str(tmp_path / "pets")
    ok(cli, "train", "--dataset", "pets", *SMALL)
    ok(cli, "train", "--resume", "run1", "--epochs", 2)
    ok(cli, "train", "--dataset", "pets", "--image-size", "16,20", "--grayscale", *SMALL)
    ok(cli, "train", "--from", "run1", "--seed", 1, *SMALL)
    record = json.loads((tmp_path / "runs" / "run1" / "run.json").read_text())
    assert record["dataset"]["name"] == "pets"
    assert record["dataset"]["classes"] == ["cat", "dog"]
    ok(cli, "eval", "run1")
    assert ok(cli, "sample", "run1", "-n", 4, "-o", "a.npz")["n"] == 4
    for line in ("sample run1 -n 4", "sample run1 --reconstruct -n 4", "sample run1 --interpolate -n 4",
                 "embed run1", "plot-latent run1", "plot-latent run1 --kind manifold",
                 "plot-latent run1 --kind traversal", "compare run1 run3 -o report.html"):  # fmt: skip
        ok(cli, *line.split())
    folder(tmp_path / "others", pictures(10, (50, 50)))
    assert ok(cli, "embed", "run2", "--dataset", "others", "--split", "train")["n"] == 8
    prepared = cli("embed", "run1", "--dataset", "others")  # a run without --image-size takes them, too
    assert prepared.exit_code == 0
    assert "others: prepared for run1: uint8 / 255, resized to" in prepared.output
    compared = ok(cli, "compare", "run1", "run2")
    assert compared["comparable"] is False


def test_the_data_of_a_run_may_move(cli: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pictures(30, channels=1))
    ok(cli, "train", "--dataset", "x.npy", *SMALL)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "x.npy").rename(tmp_path / "elsewhere" / "x.npy")
    gone = cli("eval", "run1")
    assert gone.exit_code == 1
    assert "--data-dir" in gone.output
    ok(cli, "eval", "run1", "--data-dir", "elsewhere")
    ok(cli, "eval", "run1", "--data-dir", "elsewhere/x.npy")
    ok(cli, "train", "--resume", "run1", "--epochs", 2, "--data-dir", "elsewhere")
    ok(cli, "eval", "run1")
    np.save(tmp_path / "elsewhere" / "x.npy", pictures(30, channels=1, seed=5))
    changed = cli("eval", "run1")
    assert changed.exit_code == 1
    assert "fingerprint" in changed.output
    np.save(tmp_path / "elsewhere" / "x.npy", pictures(31, channels=1))
    assert "number of examples 31, not 30" in " ".join(cli("eval", "run1").output.split())


def test_a_folder_that_moved_may_be_named_itself(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "shapes", pictures(30))
    ok(cli, "train", "--dataset", "shapes", *SMALL)
    (tmp_path / "new").mkdir()
    (tmp_path / "shapes").rename(tmp_path / "new" / "shapes")
    for place in ("new", "new/shapes", "new/shapes/"):
        ok(cli, "eval", "run1", "--data-dir", place)
    refused = cli("eval", "run1", "--data-dir", "new/other")
    assert "--data-dir new/other does not exist" in refused.output
    ok(cli, "train", "--resume", "run1", "--epochs", 2, "--data-dir", "new/shapes")
    record = json.loads((tmp_path / "runs" / "run1" / "run.json").read_text())
    assert record["data_directory"] == str(tmp_path / "new")
    monkeypatch.chdir(tmp_path / "new" / "shapes")
    assert cli("--runs-dir", tmp_path / "runs", "eval", "run1", "--data-dir", ".").exit_code == 0


def test_another_table_is_read_as_the_run_s_own_was(cli: Cli, tmp_path: Path) -> None:
    """Whole numbers of a wide type are real numbers, also to a model of real numbers."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 3)))
    np.save(tmp_path / "y.npy", np.arange(60).reshape(20, 3))
    ok(cli, "train", "--dataset", "x.npy", "--likelihood", "gaussian", *SMALL)
    assert ok(cli, "embed", "run1", "--dataset", "y.npy", "-o", "z.npz")["n"] == 20
    again = load(tmp_path / "y.npy")
    assert again.info.support == "real"
    ok(cli, "sample", "run1", "-n", 3)
    ok(cli, "sample", "run1", "-n", 7, "-o", "new.csv")
    assert load("new.csv", test_fraction=0.2).info.shape == (1, 1, 3)
    pairs = ok(cli, "sample", "run1", "-n", 3, "--reconstruct", "-o", "pairs.csv")
    assert Path(pairs["path"]).read_text().splitlines()[0] == "x0,x1,x2,original0,original1,original2"
    ok(cli, "plot-latent", "run1")


def test_another_path_is_embedded_whole_and_in_order(cli: Cli, tmp_path: Path) -> None:
    """Nothing is trained, so nothing is held out: also of a single image; a division must be asked for."""
    images = pictures(30, channels=1)
    np.save(tmp_path / "x.npy", images)
    np.save(tmp_path / "y.npy", images[::-1])
    ok(cli, "train", "--dataset", "x.npy", *SMALL)
    found = ok(cli, "embed", "run1", "--dataset", "y.npy", "-o", "y.npz")
    assert (found["n"], found["split"]) == (30, "all")
    assert ok(cli, "embed", "run1", "--dataset", "y.npy", "--split", "test")["n"] == 3
    assert ok(cli, "embed", "run1")["n"] == 3
    assert ok(cli, "embed", "run1", "--split", "all", "-o", "x.npz")["n"] == 30
    one, other = (dict(np.load(tmp_path / f"{name}.npz")) for name in "xy")
    assert other["row"].tolist() == list(range(30))
    assert one["split"].tolist() == ["train"] * 25 + ["validation"] * 2 + ["test"] * 3
    assert np.allclose(one["z"][one["row"].argsort()], other["z"][::-1], atol=1e-5)
    folder(tmp_path / "single", images[:1])
    assert ok(cli, "embed", "run1", "--dataset", "single")["n"] == 1
    assert "1 latent of" in cli("embed", "run1", "--dataset", "single").stdout


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_codes_can_be_joined_to_classes_and_files(cli: Cli, tmp_path: Path, suffix: str) -> None:
    """Names that a .csv file must quote too; of other data classes have the numbers of the run's."""
    images = pictures(24, channels=1)
    for number, name in enumerate(("cat", 'a "dog", or\u00e9')):
        folder(tmp_path / "pets" / name, images[12 * number : 12 * number + 12])
    folder(tmp_path / "more" / "cat", images[:3])
    folder(tmp_path / "more" / "bird", images[20:])
    ok(cli, "train", "--dataset", "pets", *SMALL)
    own = texts(tmp_path / ok(cli, "embed", "run1", "--split", "all", "-o", f"own{suffix}")["path"])
    assert len(own["file"]) == len(set(own["file"])) == 24
    assert [file.rpartition("/")[0] for file in own["file"]] == own["class"]
    assert [('a "dog", or\u00e9', "cat")[int(label)] for label in own["label"]] == own["class"]
    order = sorted(range(24), key=lambda place: int(own["row"][place]))
    assert [own["file"][place] for place in order] == sorted(own["file"])
    more = texts(tmp_path / ok(cli, "embed", "run1", "--dataset", "more", "-o", f"more{suffix}")["path"])
    assert more["class"] == ["bird"] * 4 + ["cat"] * 3
    assert [int(label) for label in more["label"]] == [-1] * 4 + [1] * 3
    assert more["file"][-1] == "cat/002.png"


def texts(path: Path) -> dict[str, list[Any]]:
    """Columns of an embed file that are no codes, as whoever reads it gets them."""
    if path.suffix == ".npz":
        with np.load(path) as stored:
            found = {name: stored[name].tolist() for name in stored.files}
    elif path.suffix == ".parquet":
        found = parquet.read_table(path).to_pydict()
    else:
        with path.open(newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
        found = dict(zip(header, map(list, zip(*lines, strict=True)), strict=True))
    return {name: values for name, values in found.items() if name in ("row", "label", "class", "file", "split")}


def test_every_split_has_noise_of_its_own(cli: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pictures(30, channels=1))
    ok(cli, "train", "--dataset", "x.npy", *SMALL)
    for name, flags in (("mean", ()), ("draw", ("--draw",))):
        ok(cli, "embed", "run1", "--split", "all", "-o", f"{name}.npz", *flags)
    mean, draw = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("mean", "draw"))
    noise = (draw["z"] - mean["z"]) / mean["scale"]
    assert not np.allclose(noise[:2], noise[25:27], atol=1e-3)


def test_another_path_is_read_with_the_options_that_go_with_it(cli: Cli, tmp_path: Path) -> None:
    """Grey images for a run of grey levels, a table without the label column, no hint of a flag of train's."""
    folder(tmp_path / "colours", pictures(20))
    ok(cli, "train", "--dataset", "colours", "--grayscale", *SMALL)
    folder(tmp_path / "grey", pictures(20, channels=1))
    ok(cli, "embed", "run1", "--dataset", "grey", "-o", "a.npz")
    (tmp_path / "grey" / "bad.png").write_bytes(b"")
    refused = cli("embed", "run1", "--dataset", "grey", "-o", "b.npz")
    assert refused.exit_code == 1
    assert "bad.png" in refused.output
    assert "--skip-bad" not in refused.output
    assert "repair them, or remove them from the data" in refused.output
    (tmp_path / "colours" / "bad.png").write_bytes(b"")
    for line in ("eval run1", "embed run1", "train --resume run1 --epochs 2"):
        refused = cli(*line.split())
        assert refused.exit_code == 1
        assert "bad.png: is empty" in refused.output
        assert "--skip-bad" not in refused.output
        assert "restore the original files" in refused.output
    (tmp_path / "t.csv").write_text(CSV)
    (tmp_path / "u.csv").write_text("a,b\n" + "".join(f"{i / 3},{i}\n" for i in range(20)))
    ok(cli, "train", "--dataset", "t.csv", "--label-column", "species", "--likelihood", "gaussian", *SMALL)
    for name in ("t.csv", "u.csv"):
        ok(cli, "embed", "run2", "--dataset", name, "-o", f"{name}.npz")
    listed = cli("runs", "--json")
    assert [run["dataset"] for run in json.loads(listed.stdout)] == ["colours", "t.csv"]


def test_a_likelihood_that_does_not_fit_is_refused_with_the_flag(cli: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 3)))
    result = cli("train", "--dataset", "x.npy", *SMALL)
    assert result.exit_code == 2
    assert "--likelihood gaussian" in result.output
    assert not (tmp_path / "runs").exists()


def test_a_data_directory_for_a_path_is_refused(cli: Cli, tmp_path: Path) -> None:
    folder(tmp_path / "pets", pictures())
    (tmp_path / "data").mkdir()
    result = cli("train", "--dataset", "pets", "--data-dir", "data", *SMALL)
    assert result.exit_code == 2
    assert "--data-dir" in result.output
