"""Layouts in which published data sets are distributed, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.support.image_files import labels, load, pictures, save, tarred
from vaectl.data.base import Loading
from vaectl.data.loading import load as load_data
from vaectl.errors import DataError


def said(notes: list[str], *words: str) -> bool:
    return any(all(word in note for word in words) for note in notes)


# --- image files ------------------------------------------------------------------------------------------------------


def test_classes_below_a_folder_of_the_name_of_the_split(tmp_path: Path) -> None:
    """Intel's scenes: seg_train/seg_train/sea, ..."""
    for number, part in enumerate(("seg_train", "seg_test")):
        for kind in ("sea", "wood"):
            save(tmp_path / "scenes" / part / part / kind, pictures(6, seed=number))
    notes: list[str] = []
    loaded = load(tmp_path / "scenes", notes)
    assert loaded.info.classes == ("sea", "wood")
    assert labels(loaded) == [0] * 12 + [1] * 12
    assert said(notes, "seg_train/seg_train is read")


def test_a_test_folder_of_one_class_keeps_it(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        save(tmp_path / "d" / "train" / kind / "more", pictures(6))
    save(tmp_path / "d" / "test" / "cat" / "more", pictures(3, seed=1))
    loaded = load(tmp_path / "d")
    assert loaded.test.labels.tolist() == [0, 0, 0]


def test_folders_without_images_are_no_classes(tmp_path: Path) -> None:
    """CUB's birds: images/001.Black, ... beside a folder of lists."""
    for kind in ("001.Black", "002.Laysan"):
        save(tmp_path / "birds" / "images" / kind, pictures(6))
    (tmp_path / "birds" / "attributes").mkdir()
    (tmp_path / "birds" / "attributes" / "attributes.txt").write_text("1 2\n")
    notes: list[str] = []
    loaded = load(tmp_path / "birds", notes)
    assert loaded.info.classes == ("001.Black", "002.Laysan")
    assert said(notes, "images in it is read")
    archive = load(tarred(tmp_path / "birds", tmp_path / "birds.tar"))
    assert archive.info.fingerprint == loaded.info.fingerprint


@pytest.mark.parametrize("folders", [("images", "masks"), ("set_part_1", "set_part_2")])
def test_folders_that_hardly_are_classes_are_remarked_on(tmp_path: Path, folders: tuple[str, str]) -> None:
    for folder in folders:
        save(tmp_path / "p" / folder, pictures(6))
    notes: list[str] = []
    load(tmp_path / "p", notes)
    assert said(notes, f"{folders[0]}, {folders[1]} are read as classes", "--classes")


def test_metadata_of_any_name(tmp_path: Path) -> None:
    """HAM10000's table beside two folders of its images."""
    for number in (1, 2):
        save(tmp_path / "ham" / f"HAM10000_images_part_{number}", pictures(6, seed=number), first=6 * number)
    rows = [f"L{row},{row:03},{('mel', 'nv')[row % 2]},{row}" for row in range(6, 18)]
    (tmp_path / "ham" / "HAM10000_metadata.csv").write_text("\n".join(["lesion,image_id,dx,age", *rows]))
    loaded = load(tmp_path / "ham", label_column="dx")
    assert loaded.info.classes == ("mel", "nv")
    assert sorted(np.concatenate([loaded.split(split).factors["age"] for split in ("train", "validation", "test")])
                  .tolist()) == list(range(6, 18))  # fmt: skip


def test_tables_outside_of_splits_are_not_called_ignored_if_they_are_read(tmp_path: Path) -> None:
    save(tmp_path / "dogs" / "train", pictures(8))
    save(tmp_path / "dogs" / "test", pictures(3, seed=1), first=8)
    (tmp_path / "dogs" / "labels.csv").write_text("id,breed\n" + "".join(f"{n:03},{'ab'[n % 2]}\n" for n in range(8)))
    (tmp_path / "dogs" / "submission.csv").write_text("id,breed\n008,a\n")
    notes: list[str] = []
    loaded = load(tmp_path / "dogs", notes)
    assert loaded.info.classes == ("a", "b")
    assert said(notes, "dogs: submission.csv ignored")
    assert not said(notes, "classes with few examples", "test has no example")  # it has no labels at all


def test_the_lists_above_a_folder_are_not_counted_as_its_files(tmp_path: Path) -> None:
    save(tmp_path / "img_align_celeba", pictures(8), ".jpg")
    lines = ["8", "Smiling Male", *(f"{n:03}.jpg {1 - 2 * (n % 2):2} -1" for n in range(8))]
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    notes: list[str] = []
    loaded = load(tmp_path / "img_align_celeba", notes)
    assert not said(notes, "without an image suffix")
    assert set(loaded.train.factors) == {"Smiling", "Male"}


def test_colours_of_16_bits_are_said_to_lose_8(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for number, image in enumerate(np.random.default_rng(0).integers(0, 65536, (8, 6, 5, 3)).astype(np.uint16)):
        tifffile.imwrite(tmp_path / "p" / f"{number}.tif", image, photometric="rgb")
    notes: list[str] = []
    load(tmp_path / "p", notes)
    assert said(notes, "8 images with colours of 16 bits")


def test_a_tar_archive_without_the_mark_of_its_end_is_cut_off(tmp_path: Path) -> None:
    save(tmp_path / "p", pictures(12))
    path = tarred(tmp_path / "p", tmp_path / "p.tar")
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content + bytes(-len(content) % 512))
    with pytest.raises(DataError, match="cut off after 12 files"):
        load(path)


# --- scales of parts --------------------------------------------------------------------------------------------------


def test_a_test_part_of_a_few_examples_gives_a_remark(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    faint = 0.5 + random.random((2, 6, 5)) * 0.01
    np.savez(tmp_path / "x.npz", x_train=random.random((40, 6, 5)), x_test=faint)
    notes: list[str] = []
    load(tmp_path / "x.npz", notes)
    assert said(notes, "are its parts on the same scale?")


def test_data_that_a_model_was_trained_on_are_loaded_with_a_remark(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x_train=random.random((40, 6, 5)), x_test=255 * random.random((20, 6, 5)))
    with pytest.raises(DataError, match="different scales"):
        load(tmp_path / "x.npz")
    for demands in ({"support": "real"}, {"shape": (1, 6, 5)}, {"lenient": True}):
        notes: list[str] = []
        load_data(str(tmp_path / "x.npz"), Loading(Path("nowhere"), note=notes.append, **demands))
        assert said(notes, "are its parts on the same scale?")


def test_a_part_is_not_compared_with_itself(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((20, 6, 5)))
    notes: list[str] = []
    load(tmp_path / "x.npy", notes)
    assert not said(notes, "same scale")
