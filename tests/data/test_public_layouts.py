"""Layouts in which published data sets are distributed, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
import scipy.io
import tifffile
import torch
from pyarrow import feather

from tests.support.idx import idx_file
from tests.support.image_files import everything, labels, load, pictures, save, tarred
from tests.support.tables import write
from vaectl.data.base import Data, Loading
from vaectl.data.loading import load as load_data
from vaectl.errors import DataError, SettingError


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


def test_what_macos_leaves_is_no_class(tmp_path: Path) -> None:
    for folder in ("pets/cat", "pets/dog", "__MACOSX/pets/cat"):
        save(tmp_path / "z" / folder, pictures(6))
    loaded = load(tmp_path / "z")
    assert (loaded.info.classes, len(labels(loaded))) == (("cat", "dog"), 12)


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


# --- arrays and tables ------------------------------------------------------------------------------------------------


def idx(path: Path, array: np.ndarray) -> None:
    path.write_bytes(idx_file(array.shape, body=array.tobytes()))


def numbers(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 6, 5), dtype=np.uint8)


def pixels(images: torch.Tensor) -> np.ndarray:
    grey: np.ndarray = (images[..., 0, :, :] * 255).round().to(torch.uint8).numpy()
    return grey


def is_like(loaded: Data, train: np.ndarray, test: np.ndarray) -> None:
    """The test part is as written, with labels that count from 0 to 2, and no training example is lost."""
    assert (pixels(loaded.test.batch(slice(None)).x) == test).all()
    assert loaded.test.labels.tolist() == (np.arange(len(test)) % 3).tolist()
    assert loaded.info.sizes["train"] + loaded.info.sizes["validation"] == len(train)
    pairs = [(split.batch(slice(None)).x, split.labels) for split in (loaded.train, loaded.validation)]
    images, kinds = (torch.cat(both) for both in zip(*pairs, strict=True))
    for image, kind in zip(images, kinds.tolist(), strict=True):
        [row] = np.flatnonzero((train == pixels(image)).all((1, 2)))
        assert kind == row % 3


@pytest.mark.parametrize("storage", ["resident", "stream"])
@pytest.mark.parametrize("kind", ["npz", "h5", "npy"])
def test_images_and_labels_in_files_of_their_own(tmp_path: Path, kind: str, storage: str) -> None:
    """KMNIST's .npz files, PatchCamelyon's .h5 files with labels of four axes, and pieces in .npy files."""
    root, train, test = tmp_path / "set", numbers(24), numbers(9, 1)
    root.mkdir()
    for part, images in (("train", train), ("test", test)):
        kinds = np.arange(len(images)) % 3
        if kind == "npz":
            np.savez(root / f"kmnist-{part}-imgs.npz", images)
            np.savez(root / f"kmnist-{part}-labels.npz", kinds)
        elif kind == "h5":
            for name, array in (("x", images), ("y", kinds.reshape(-1, 1, 1, 1))):
                with h5py.File(root / f"patches_split_{part}_{name}.h5", "w") as file:
                    file[name] = array
        else:
            for piece, rows in enumerate(np.array_split(np.arange(len(images)), 2 if part == "test" else 11)):
                np.save(root / f"x_{part}_{piece}.npy", images[rows])
                np.save(root / f"y_{part}_{piece}.npy", kinds[rows])
    is_like(load(root, storage=storage), train, test)


def test_arrays_in_folders_of_splits(tmp_path: Path) -> None:
    for part, images in (("train", numbers(24)), ("test", numbers(9, 1))):
        (tmp_path / "set" / part).mkdir(parents=True)
        np.save(tmp_path / "set" / part / "images.npy", images)
        np.save(tmp_path / "set" / part / "labels.npy", np.arange(len(images)) % 3)
    is_like(load(tmp_path / "set"), numbers(24), numbers(9, 1))


def test_arrays_of_one_image_each_are_not_joined_as_rows(tmp_path: Path) -> None:
    for number in range(12):
        np.save(tmp_path / f"slice_{number}.npy", numbers(1)[0])
    with pytest.raises(DataError, match=r"12 arrays slice_0, slice_1, ... of shape \(6, 5\)") as caught:
        load(tmp_path)
    assert "np.stack" in str(caught.value.hint)


def test_labels_are_told_by_the_rest_of_their_names(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "cats.h5", "w") as file:
        file["train_set_x"], file["train_set_y"], file["list_classes"] = numbers(20), np.arange(20) % 3, [b"a", b"b"]
    assert labels(load(tmp_path / "cats.h5")) == sorted((np.arange(20) % 3).tolist())
    arrays = {}
    for name, kind in (("digits", 0), ("letters", 1)):
        for part in ("train", "test"):
            arrays |= {f"{name}-{part}-images": numbers(20), f"{name}-{part}-labels": np.full(20, kind)}
    np.savez(tmp_path / "both.npz", **arrays)
    assert labels(load(tmp_path / "both.npz", images_key="letters-images")) == [1] * 40


def test_the_only_folder_of_idx_files(tmp_path: Path) -> None:
    """torchvision's MNIST/raw."""
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for part, count in (("train", 24), ("t10k", 9)):
        idx(tmp_path / "MNIST" / "raw" / f"{part}-images-idx3-ubyte", numbers(count, count))
        idx(tmp_path / "MNIST" / "raw" / f"{part}-labels-idx1-ubyte", (np.arange(count) % 3).astype(np.uint8))
    is_like(load(tmp_path / "MNIST"), numbers(24, 24), numbers(9, 9))


def test_structs_of_matlab(tmp_path: Path) -> None:
    """EMNIST's: dataset.train.images, ..."""
    parts = {part: {"images": numbers(count, count).reshape(count, 30), "labels": (np.arange(count) % 3)[:, None],
                    "writers": np.ones((count, 1))} for part, count in (("train", 24), ("test", 9))}  # fmt: skip
    scipy.io.savemat(tmp_path / "emnist.mat", {"dataset": {**parts, "mapping": np.eye(3)}}, do_compression=True)
    is_like(load(tmp_path / "emnist.mat", shape=(6, 5)), numbers(24, 24), numbers(9, 9))


def test_rows_or_columns_of_matlab(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"ff": numbers(70).reshape(70, 30).repeat(3, 1)})
    notes: list[str] = []
    load(tmp_path / "x.mat", notes)
    assert said(notes, "'ff' (70, 90) is read by rows; if its columns are images: --shape")


def test_a_struct_of_matlab_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"s": {"images": np.zeros((500, 500))}}, do_compression=True)
    monkeypatch.setenv("VAECTL_MAX_BYTES", "1000000")
    with pytest.raises(DataError, match="the limit is"):
        load(tmp_path / "x.mat")


def test_columns_of_matlab_are_images_of_the_shape(tmp_path: Path) -> None:
    """Frey's face: 560 numbers of 1965 images."""
    scipy.io.savemat(tmp_path / "frey.mat", {"ff": numbers(40).reshape(40, 30).T})
    notes: list[str] = []
    loaded = load(tmp_path / "frey.mat", notes, shape=(6, 5))
    assert (pixels(everything(loaded)) == numbers(40)).all()
    assert said(notes, "the last axis of 'ff'")


@pytest.mark.parametrize("suffix", [".csv", ".arrow", ".parquet"])
def test_tables_in_folders_of_splits(tmp_path: Path, suffix: str) -> None:
    for part, count in (("train", 20), ("test", 4)):
        (tmp_path / "set" / part).mkdir(parents=True)
        write(tmp_path / "set" / part / f"data{suffix}", ("a", "b"), [(row + 0.5, -row) for row in range(count)])
        (tmp_path / "set" / part / "state.json").write_text("{}")
    (tmp_path / "set" / "dataset_dict.json").write_text("{}")
    loaded = load(tmp_path / "set")
    assert loaded.test.batch(slice(None)).x.flatten(1).tolist() == [[row + 0.5, -row] for row in range(4)]


def test_labels_in_a_table_of_their_own_are_named(tmp_path: Path) -> None:
    write(tmp_path / "X_train.csv", ("a", "b"), [(row, 2) for row in range(20)])
    write(tmp_path / "y_train.csv", ("label",), [(row % 2,) for row in range(20)])
    with pytest.raises(DataError, match=r"labels in a table of their own, y_train.csv"):
        load(tmp_path)


def test_images_in_arrow_files_are_refused_with_the_way_to_read_them(tmp_path: Path) -> None:
    images = pa.array([{"bytes": b"png", "path": None}] * 12)
    feather.write_feather(pa.table({"image": images}), tmp_path / "x.arrow")
    with pytest.raises(DataError, match="column 'image' holds images or other bytes") as caught:
        load(tmp_path / "x.arrow")
    assert "to_parquet" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "way"),
    [("x.pkl", "numpy.savez"), ("x.xlsx", ".csv"), ("x.txt", ".csv or .tsv"), ("x.npy.gz", "unpack"),
     ("x.dcm", "numpy.save"), ("x.abc", ".npy, .npz")],
)  # fmt: skip
def test_the_way_to_convert_other_files_is_said(tmp_path: Path, name: str, way: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(DataError, match="unknown format") as caught:
        load(tmp_path / name)
    assert way in str(caught.value.hint)


def test_the_index_of_pandas_is_left_out_in_any_order(tmp_path: Path) -> None:
    """F7: as a shuffled table has it."""
    rows = [((7 * row) % 20, row + 0.5) for row in range(20)]
    write(tmp_path / "x.parquet", ("__index_level_0__", "a"), rows)
    notes: list[str] = []
    assert [column.name for column in load(tmp_path / "x.parquet", notes).info.columns] == ["a"]
    assert said(notes, "is the index of pandas and is left out")
    write(tmp_path / "x.csv", ("", "a"), rows)
    load(tmp_path / "x.csv", notes)
    assert said(notes, "if column 'Unnamed: 0' holds the numbers of rows: --drop-column")
    assert load(tmp_path / "x.csv", drop_column=("Unnamed: 0",)).info.shape == (1, 1, 1)


def test_an_arrow_file_that_ends_between_two_pieces_is_cut_off(tmp_path: Path) -> None:
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("a", "f8")])) as writer:
        for _ in range(2):
            writer.write_batch(pa.record_batch({"a": np.arange(20) / 7}))
            end = sink.tell()
            writer.write_batch(pa.record_batch({"a": np.arange(20) / 7}))
    path = tmp_path / "x.arrow"
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(DataError, match="cut off"):
        load(path)


# --- options without effect -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["shape", "labels_key", "images_key"])
@pytest.mark.parametrize("kind", ["folder", "tar", "pages"])
def test_options_for_other_data_are_refused_for_images(tmp_path: Path, kind: str, option: str) -> None:
    path = save(tmp_path / "p", pictures(12))
    if kind == "tar":
        path = tarred(path, tmp_path / "p.tar")
    elif kind == "pages":
        path = tmp_path / "p.tif"
        tifffile.imwrite(path, numbers(12))
    options = {option: (7, 5) if option == "shape" else "images"}
    with pytest.raises(SettingError, match=option):
        load(path, **options)
    load_data(str(path), Loading(Path("nowhere"), lenient=True), **options)


def test_options_for_other_data_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "p.tif", numbers(12))
    with pytest.raises(SettingError, match=r"label_column is for a table of the images by name; p.tif has none"):
        load(tmp_path / "p.tif", label_column="a")
    write(tmp_path / "x.csv", ("a", "b"), [(row + 0.5, 2) for row in range(20)])
    with pytest.raises(SettingError, match=r"images_key is for arrays; x.csv is a table"):
        load(tmp_path / "x.csv", images_key="a")
