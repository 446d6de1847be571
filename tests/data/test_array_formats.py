"""Arrays of every format: the same numbers from each, streamed or not, by the names and the axes that people use."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest
import scipy.io
import torch
import zarr
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from vaectl.config.recipes import vae
from vaectl.config.spec import Part
from vaectl.data import loading
from vaectl.data.base import Data, Loading
from vaectl.data.own.arrays import known
from vaectl.data.own.arrays.stored import Sliced, taken
from vaectl.data.own.streamed import StreamedSplit
from vaectl.data.units import Column
from vaectl.errors import DataError, SettingError, VaectlError
from vaectl.evaluation.disentanglement import disentanglement
from vaectl.model.builder import build

N = 40
KINDS = np.arange(N) % 4


def pictures(n: int = N, channels: int = 3, seed: int = 0) -> np.ndarray:
    """uint8 (n, 9, 6, channels), or (n, 9, 6) for one channel."""
    images = np.random.default_rng(seed).integers(0, 256, (n, 9, 6, channels), dtype=np.uint8)
    return images if channels > 1 else images[..., 0]


def load(path: Path, notes: list[str] | None = None, *, lenient: bool = False, **options: Any) -> Data:
    note = (notes if notes is not None else []).append
    return loading.load(str(path), Loading(Path("nowhere"), note=note, lenient=lenient), **options)


def everything(data: Data) -> np.ndarray:
    """All examples as stored, in the order of the file."""
    parts = [(split.rows, torch.from_numpy(np.concatenate([*split.stored(7)])))
             for split in map(data.split, ("train", "validation", "test"))]  # fmt: skip
    order = torch.cat([rows for rows, _ in parts]).argsort()
    return torch.cat([stored for _, stored in parts])[order].numpy()


def idx(path: Path, array: np.ndarray) -> Path:
    codes = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
    head = bytes([0, 0, codes[array.dtype.str[1:]], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = head + array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def hdf5(path: Path, **options: Any) -> Path:
    with h5py.File(path, "w", userblock_size=options.pop("userblock_size", 0)) as file:
        file.create_dataset("images", data=pictures(), **options)
        file["labels"] = KINDS
    return path


def matlab_7_3(path: Path, **options: Any) -> Path:
    """As MATLAB saves X (9, 6, 3, N) and y (N, 1): with the axes in reverse, after a header of 512 bytes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("X", data=pictures().transpose(0, 3, 2, 1), **options)
        file["y"] = KINDS[None].astype(float)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    return path


def zarr_group(path: Path, version: Any, **options: Any) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=version)
    for key, array in (("images", pictures()), ("labels", KINDS)):
        chunks = (7, *array.shape[1:])
        group.create_array(key, shape=array.shape, chunks=chunks, dtype=array.dtype, **options)[:] = array
    return path


def zarr_zip(path: Path) -> Path:
    folder = zarr_group(path.with_suffix(""), 3)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


def files(root: Path, **arrays: np.ndarray) -> Path:
    root.mkdir()
    for name, array in arrays.items():
        np.save(root / f"{name}.npy", array)
    return root


def saved(save: Callable[..., Any], path: Path, /, *arguments: Any, **options: Any) -> Path:
    save(path, *arguments, **options)
    return path


@pytest.mark.parametrize("codec", ["blosc", "lz4", "zstd", "gzip", "zlib", "bz2", "lzma"])
def test_every_codec_of_zarr_is_read(tmp_path: Path, codec: str) -> None:
    compressor = numcodecs.get_codec({"id": codec})
    path = zarr_group(tmp_path / "x.zarr", 2, compressors=compressor)
    assert np.array_equal(everything(load(path)), pictures().transpose(0, 3, 1, 2))


@pytest.mark.parametrize("codec", [zarr.codecs.ZstdCodec(), zarr.codecs.GzipCodec(), zarr.codecs.BloscCodec()])
def test_every_codec_of_zarr_3_is_read(tmp_path: Path, codec: Any) -> None:
    path = zarr_group(tmp_path / "x.zarr", 3, compressors=codec)
    assert np.array_equal(everything(load(path)), pictures().transpose(0, 3, 1, 2))


BOTH = {"images": pictures(), "labels": KINDS}
STREAMABLE: dict[str, Callable[[Path], Path]] = {
    "npy folder": lambda root: files(root / "set", **BOTH),
    "npz": lambda root: saved(np.savez, root / "x.npz", **BOTH),
    "safetensors": lambda root: saved(lambda path: save_file(BOTH, path), root / "x.safetensors"),
    "hdf5": lambda root: hdf5(root / "x.h5"),
    "hdf5 userblock": lambda root: hdf5(root / "x.hdf5", userblock_size=1024),
    "hdf5 chunks": lambda root: hdf5(root / "x.h5", chunks=(7, 9, 6, 3)),
    "hdf5 gzip": lambda root: hdf5(root / "x.h5", chunks=(16, 9, 3, 3), compression="gzip", shuffle=True),
    "hdf5 lzf": lambda root: hdf5(root / "x.h5", chunks=(7, 9, 6, 3), compression="lzf", fletcher32=True),
    "mat 7.3": lambda root: matlab_7_3(root / "x.mat"),
    "mat 7.3 gzip": lambda root: matlab_7_3(root / "x.mat", chunks=(7, 3, 6, 9), compression="gzip"),
    "zarr 2": lambda root: zarr_group(root / "x.zarr", 2),
    "zarr 3": lambda root: zarr_group(root / "x.zarr", 3),
    "zarr by its content": lambda root: zarr_group(root / "set", 3),
    "zarr zip": lambda root: zarr_zip(root / "x.zarr.zip"),
}
READ_WHOLE: dict[str, Callable[[Path], Path]] = {
    "packed npz": lambda root: saved(np.savez_compressed, root / "x.npz", **BOTH),
    "mat": lambda root: saved(
        scipy.io.savemat, root / "x.mat", {"X": pictures().transpose(1, 2, 3, 0), "y": KINDS[None]}
    ),
    "packed mat": lambda root: saved(
        scipy.io.savemat, root / "x.mat", {"images": pictures(), "labels": KINDS[:, None]}, do_compression=True
    ),
}


@pytest.mark.parametrize("kind", [*STREAMABLE, *READ_WHOLE])
def test_every_format_holds_the_same_images_and_labels(tmp_path: Path, kind: str) -> None:
    """To the bit, with the fingerprint of the same array in an .npz, and streamed as in memory."""
    path = (STREAMABLE | READ_WHOLE)[kind](tmp_path)
    data = load(path)
    expected = pictures().transpose(0, 3, 1, 2)
    assert data.info.shape == (3, 9, 6)
    assert data.info.support == "bytes"
    assert np.array_equal(everything(data), expected)
    np.savez(tmp_path / "plain.npz", **BOTH)  # type: ignore[arg-type]
    assert data.info.fingerprint == load(tmp_path / "plain.npz").info.fingerprint
    assert data.train.labels.tolist() == KINDS[data.train.rows.numpy()].tolist()
    if kind in READ_WHOLE:
        with pytest.raises(SettingError, match=r"data\.storage cannot be 'stream'"):
            load(path, storage="stream")
        return
    stream = load(path, storage="stream")
    assert isinstance(stream.train, StreamedSplit)
    assert stream.info == data.info
    assert np.array_equal(everything(stream), expected)
    index = torch.tensor([11, 3, 3, 29, 0])
    assert torch.equal(stream.train.batch(index).x, data.train.batch(index).x)


@pytest.mark.parametrize("kind", STREAMABLE)
def test_what_is_streamed_may_be_larger_than_the_limit(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = STREAMABLE[kind](tmp_path)
    monkeypatch.setenv("VAECTL_MAX_BYTES", "5K")
    assert len(everything(load(path, storage="stream"))) == N


@pytest.mark.parametrize("kind", READ_WHOLE)
def test_what_is_read_whole_may_not(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = READ_WHOLE[kind](tmp_path)
    monkeypatch.setenv("VAECTL_MAX_BYTES", "5K")
    with pytest.raises(DataError, match=r"the arrays of .* would take"):
        load(path)


def test_tensors_that_numpy_lacks_become_float32(tmp_path: Path) -> None:
    tensor = torch.randn(N, 4, 5).to(torch.bfloat16)
    save_tensors({"images": tensor}, tmp_path / "x.safetensors")
    data = load(tmp_path / "x.safetensors", storage="stream")
    assert np.array_equal(everything(data)[:, 0], tensor.float().numpy())


def test_rows_are_read_in_any_order_and_only_where_they_are() -> None:
    """A library that reads ranges is asked for runs of rows, or for the span within a chunk, and never for all."""
    array, asked = np.arange(200).reshape(50, 4), list[tuple[int, int]]()

    def rows(start: int, stop: int) -> np.ndarray:
        asked.append((start, stop))
        return array[start:stop]

    index = np.array([40, 3, 4, 5, 3, 17, 12])
    single, chunked = (Sliced(array.shape, array.dtype, rows, "x", chunk) for chunk in (1, 10))
    assert np.array_equal(taken(single, index), array[index])
    assert asked == [(3, 6), (12, 13), (17, 18), (40, 41)]
    asked.clear()
    assert np.array_equal(taken(chunked, index), array[index])
    assert asked == [(3, 6), (12, 18), (40, 41)]
    assert np.array_equal(single[5:9], array[5:9])
    assert single[7:7].shape == (0, 4)


def test_groups_of_hdf5_are_parts_and_texts_are_classes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for part, count in (("train", N), ("test", 9)):
            group = file.create_group(part)
            group["images"] = pictures(count)
            names = np.array(["dog", "cat"], dtype=object)[KINDS[:count] % 2]
            group["labels"] = names if part == "train" else names.astype("S")
        file["more"] = h5py.SoftLink("/train/images")
    notes: list[str] = []
    data = load(tmp_path / "x.h5", notes)
    assert data.info.classes == ("cat", "dog")
    assert data.info.sizes["test"] == 9
    assert data.test.labels.tolist() == (1 - KINDS[:9] % 2).tolist()
    assert any("more (is a link, which is not followed) ignored" in note for note in notes)


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("form", ["{}-idx{}-ubyte", "{}.idx{}-ubyte", "{}.idx"])
def test_folders_of_idx_files_are_parts(tmp_path: Path, form: str, gz: str) -> None:
    root = tmp_path / "mnist"
    root.mkdir()
    for part, count in (("train", N), ("t10k", 9)):
        idx(root / (form.format(f"{part}-images", 3) + gz), pictures(count, 1))
        idx(root / (form.format(f"{part}-labels", 1) + gz), KINDS[:count].astype(np.uint8))
    data = load(root)
    assert data.info.sizes["test"] == 9
    assert data.test.labels.tolist() == KINDS[:9].tolist()
    assert np.array_equal(np.concatenate([*data.test.stored(4)])[:, 0], pictures(9, 1))
    notes: list[str] = []
    alone = load(root / (form.format("train-images", 3) + gz), notes)
    assert sum(alone.info.sizes.values()) == N
    assert any("train-labels" in note and "not read" in note for note in notes)
    with pytest.raises(DataError, match="one number per example, as labels do"):
        load(root / (form.format("train-labels", 1) + gz))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "f4", "f8"])
def test_idx_files_of_other_types_and_names(tmp_path: Path, dtype: str) -> None:
    numbers = np.random.default_rng(0).normal(0, 20, (30, 4, 5)).astype(dtype)
    data = load(idx(tmp_path / "scans", numbers), storage="stream")
    assert data.info.support == "real"
    assert np.array_equal(everything(data)[:, 0], numbers.astype(np.float32))


PARTS: dict[str, dict[str, np.ndarray]] = {
    "X_train": {"X_train": pictures(), "y_train": KINDS, "X_test": pictures(9), "y_test": KINDS[:9]},
    "train": {"train": pictures(), "test": pictures(9)},
    "trX": {"trX": pictures(), "trY": KINDS, "teX": pictures(9), "teY": KINDS[:9]},
    "features": {"features_train": pictures(), "features_test": pictures(9), "y_train": KINDS, "y_test": KINDS[:9]},
}


@pytest.mark.parametrize("store", ["folder", "npz"])
@pytest.mark.parametrize("kind", PARTS)
def test_parts_by_their_names(tmp_path: Path, kind: str, store: str) -> None:
    arrays, path = PARTS[kind], tmp_path / "x.npz"
    if store == "folder":
        path = files(tmp_path / "set", **arrays)
    else:
        np.savez(path, **arrays)  # type: ignore[arg-type]
    data = load(path)
    assert data.info.sizes["test"] == 9
    assert sum(data.info.sizes.values()) == N + 9
    labels = KINDS[:9].tolist() if len(arrays) > 2 else [-1] * 9
    assert data.test.labels.tolist() == labels


@pytest.mark.parametrize("suffix", [".mat", ".npz", ".h5"])
def test_a_folder_of_a_file_for_each_part(tmp_path: Path, suffix: str) -> None:
    """As SVHN is published, with a third file that is named as ignored."""
    root, notes = tmp_path / "svhn", list[str]()
    root.mkdir()
    for part, count in (("train", N), ("test", 9), ("extra", 3)):
        path, arrays = root / f"{part}_32x32{suffix}", {"X": pictures(count), "y": KINDS[:count]}
        if suffix == ".mat":
            scipy.io.savemat(path, {"X": arrays["X"].transpose(1, 2, 3, 0), "y": arrays["y"][:, None]})
        elif suffix == ".npz":
            np.savez(path, **arrays)  # type: ignore[arg-type]
        else:
            with h5py.File(path, "w") as file:
                file.update(arrays)
    data = load(root, notes)
    assert data.info.sizes["test"] == 9
    assert data.test.labels.tolist() == KINDS[:9].tolist()
    assert np.array_equal(np.concatenate([*data.test.stored(4)]), pictures(9).transpose(0, 3, 1, 2))
    assert any("ignored: extra_32x32" in note for note in notes)


def test_an_npy_with_labels_beside_is_remarked_on(tmp_path: Path) -> None:
    root, notes = files(tmp_path / "set", x_train=pictures(), y_train=KINDS), list[str]()
    data = load(root / "x_train.npy", notes)
    assert (data.train.labels == -1).all()
    assert any("y_train.npy beside it is not read" in note for note in notes)


# --- names of keys ----------------------------------------------------------------------------------------------------


def test_the_one_array_that_can_be_images_is_taken_and_said(tmp_path: Path) -> None:
    notes: list[str] = []
    np.savez(tmp_path / "x.npz", scans=pictures(), digit=KINDS, other=np.arange(3))
    data = load(tmp_path / "x.npz", notes)
    assert data.info.shape == (3, 9, 6)
    assert any("'scans' is taken for the images" in note for note in notes)
    assert any("--labels-key digit" in note for note in notes)
    assert any("digit, other ignored" in note for note in notes)
    assert load(tmp_path / "x.npz", labels_key="digit").train.labels.max() == 3
    np.savez(tmp_path / "y.npz", features=np.random.default_rng(0).normal(size=(N, 3)), labels=KINDS)
    table = load(tmp_path / "y.npz")
    assert table.info.shape == (1, 1, 3)
    assert table.train.labels.max() == 3


def test_keys_are_named(tmp_path: Path) -> None:
    """An array as a whole, both parts by what their names share, and an unknown one with what there is."""
    path = tmp_path / "x.npz"
    np.savez(path, x_train=pictures(), y_train=KINDS, x_test=pictures(9), y_test=KINDS[:9], a=pictures(12), b=KINDS)
    whole = load(path, images_key="x_train")
    assert sum(whole.info.sizes.values()) == N
    assert whole.train.labels.max() == 3
    assert load(path, images_key="x").info.sizes["test"] == 9
    assert sum(load(path, images_key="a", labels_key=None).info.sizes.values()) == 12
    both = load(path, images_key="x_test", labels_key="y_test")
    assert sum(both.info.sizes.values()) == 9
    assert load(path, labels_key="y_train").test.labels.tolist() == KINDS[:9].tolist()
    with pytest.raises(SettingError, match=r"names no array of x\.npz: 'c'") as caught:
        load(path, images_key="c")
    assert "a (uint8 (12, 9, 6, 3))" in str(caught.value.hint)
    with pytest.raises(SettingError, match="labels_key names no array"):
        load(path, labels_key="c")
    assert load(path, lenient=True, images_key="c", labels_key="d").info == load(path).info
    np.save(tmp_path / "x.npy", pictures())
    with pytest.raises(SettingError, match="has no keys"):
        load(tmp_path / "x.npy", images_key="a")


def test_arrays_that_cannot_be_told_apart_are_listed_with_their_shapes(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", left=pictures(), right=pictures(9))
    with pytest.raises(DataError, match=r"left \(uint8 \(40, 9, 6, 3\)\), right \(uint8 \(9, 9, 6, 3\)\)") as caught:
        load(tmp_path / "x.npz")
    assert "--images-key" in str(caught.value.hint)


def test_python_objects_are_named_and_cost_only_the_labels(tmp_path: Path) -> None:
    notes: list[str] = []
    np.savez(tmp_path / "x.npz", images=pictures(), labels=np.array(list("abcd"), dtype=object)[KINDS])
    data = load(tmp_path / "x.npz", notes)
    assert np.array_equal(everything(data), pictures().transpose(0, 3, 1, 2))
    assert (data.train.labels == -1).all()
    assert any("'labels' holds Python objects" in note and "labels.astype(str)" in note for note in notes)
    np.savez(tmp_path / "x.npz", images=np.array([{}, 1], dtype=object), labels=KINDS)
    with pytest.raises(DataError, match="array 'images' holds Python objects, which are never loaded"):
        load(tmp_path / "x.npz")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_records_are_tables_with_the_names_of_their_fields(tmp_path: Path, suffix: str) -> None:
    records = np.zeros(N, dtype=[("age", "i4"), ("height", "f4"), ("smoker", "?"), ("label", "U3")])
    records["age"], records["height"] = np.arange(N) + 20, np.linspace(1.5, 2, N)
    records["smoker"], records["label"] = KINDS > 1, np.array(["dog", "cat"])[KINDS % 2]
    path = tmp_path / f"x{suffix}"
    (np.save if suffix == ".npy" else np.savez)(path, records)
    for storage in ("auto", "stream"):
        data = load(path, storage=storage)
        assert data.info.columns == (Column("age", "whole"), Column("height"), Column("smoker", "bool"))
        assert data.info.classes == ("cat", "dog")
        assert np.allclose(everything(data)[:, 0, 0, 0], records["age"])
        assert np.allclose(everything(data)[:, 0, 0, 1], records["height"])
    with pytest.raises(DataError, match="the field 'label' holds <U3, not one number per record") as caught:
        load(path, label_column="age")
    assert "--drop-column label" in str(caught.value.hint)
    dropped = load(path, label_column="age", drop_column=("label", "smoker"))
    assert [column.name for column in dropped.info.columns] == ["height"]
    grouped = load(path, group_column="smoker")
    assert len(np.unique(KINDS[grouped.test.rows.numpy()] > 1)) == 1


# --- known factors ----------------------------------------------------------------------------------------------------


def dsprites(root: Path, store: str) -> tuple[Path, np.ndarray]:
    """The layout of dSprites with few images."""
    random = np.random.default_rng(0)
    kinds = np.stack([np.zeros(N), *(random.integers(0, size, N) for size in (3, 6, 40, 32, 32))], 1).astype(np.int64)
    images = random.integers(0, 2, (N, 8, 8), dtype=np.uint8)
    if store == "hdf5":
        with h5py.File(root / "dsprites.hdf5", "w") as file:
            file["imgs"], file["latents/classes"], file["latents/values"] = images, kinds, kinds / 3
        return root / "dsprites.hdf5", kinds
    save = np.savez_compressed if store == "packed" else np.savez
    metadata = np.array({"title": "dSprites"}, dtype=object)
    path = root / "dsprites.npz"
    save(path, imgs=images, latents_classes=kinds, latents_values=kinds / 3, metadata=metadata)
    return path, kinds


@pytest.mark.parametrize("store", ["npz", "packed", "hdf5"])
def test_the_factors_of_dsprites_are_kept_and_its_pickle_is_not_read(tmp_path: Path, store: str) -> None:
    path, kinds = dsprites(tmp_path, store)
    notes: list[str] = []
    data = load(path, notes)
    assert data.info.support == "binary"
    for number, name in enumerate(("color", "shape", "scale", "orientation", "posX", "posY")):
        numbers = np.unique(kinds[:, number], return_inverse=True)[1]
        for split in (data.train, data.validation, data.test):
            assert split.factors[name].tolist() == numbers[split.rows.numpy()].tolist()
    assert data.train.labels.tolist() == kinds[data.train.rows.numpy(), 1].tolist()
    assert any("metadata (holds Python objects, which are never loaded) ignored" in note for note in notes) == (
        store != "hdf5"
    )
    if store != "packed":
        stream = load(path, storage="stream")
        assert stream.test.first(3).factors["posX"].tolist() == data.test.factors["posX"][:3].tolist()


@pytest.mark.parametrize("storage", ["resident", "stream"])
def test_known_factors_are_measured_against_latents(tmp_path: Path, storage: str) -> None:
    """As for the built-in glyphs, in memory and streamed alike; a factor of one value is left out."""
    path, _ = dsprites(tmp_path, "hdf5")
    data = load(path, storage=storage, test_fraction=0.5)
    spec = dataclasses.replace(vae(), latent_dim=3, likelihood=Part("bernoulli"))
    model, _ = build(spec, data.info)
    gap = disentanglement(model, data.test)
    assert gap is not None
    assert gap.names == ("shape", "scale", "orientation", "posX", "posY")


def test_the_factors_of_shapes3d_follow_from_its_labels(tmp_path: Path) -> None:
    sizes = (10, 10, 10, 8, 4, 15)
    labels = np.stack([np.arange(N) % size / size for size in sizes], 1)
    with h5py.File(tmp_path / "3dshapes.h5", "w") as file:
        file["images"], file["labels"] = np.random.default_rng(0).integers(0, 256, (N, 64, 64, 3), np.uint8), labels
    data = load(tmp_path / "3dshapes.h5")
    assert tuple(data.train.factors) == ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
    rows = data.test.rows.numpy()
    assert data.test.factors["orientation"].tolist() == (rows % 15).tolist()
    assert data.test.labels.tolist() == (rows % 4).tolist()


def test_the_factors_of_mpi3d_follow_from_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MPI3D", {"object_color": 2, "object_shape": 3, "vertical_axis": 5})
    np.savez(tmp_path / "mpi3d.npz", images=np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), np.uint8))
    data = load(tmp_path / "mpi3d.npz")
    rows = data.train.rows.numpy()
    assert data.train.factors["object_color"].tolist() == (rows // 15).tolist()
    assert data.train.factors["object_shape"].tolist() == (rows // 5 % 3).tolist()
    assert data.train.factors["vertical_axis"].tolist() == (rows % 5).tolist()
    assert (data.train.labels == -1).all()


# --- axes and kinds of numbers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [((9, 6, 3, N), (3, 0, 1, 2), (3, 9, 6)), ((N, 9, 6, 3), (0, 1, 2, 3), (3, 9, 6)),
     ((N, 3, 9, 6), (0, 1, 2, 3), (3, 9, 6)), ((9, 6, N), (2, 0, 1), (1, 9, 6)), ((N, 9, 6), (0, 1, 2), (1, 9, 6)),
     ((7, N), (1, 0), (1, 1, 7)), ((N, 7), (0, 1), (1, 1, 7))],
)  # fmt: skip
@pytest.mark.parametrize("version", ["5", "7.3"])
def test_the_labels_tell_which_axis_of_matlab_is_the_examples(
    tmp_path: Path, shape: tuple[int, ...], axes: tuple[int, ...], expected: tuple[int, ...], version: str
) -> None:
    numbers, path = np.random.default_rng(0).integers(0, 256, shape, np.uint8), tmp_path / "x.mat"
    if version == "5":
        scipy.io.savemat(path, {"X": numbers, "y": KINDS})
    else:
        with h5py.File(path, "w") as file:
            file["X"], file["y"] = numbers.transpose(), KINDS[:, None]
    data = load(path)
    assert data.info.shape == expected
    arranged = numbers.transpose(axes)
    if len(shape) == 4 and arranged.shape[-1] == 3:
        arranged = arranged.transpose(0, 3, 1, 2)
    assert np.array_equal(everything(data).reshape(arranged.shape), arranged)
    assert data.train.labels.tolist() == KINDS[data.train.rows.numpy()].tolist()


def test_what_matlab_has_besides_numbers_is_left_out_and_said(tmp_path: Path) -> None:
    notes: list[str] = []
    content = {"X": np.random.default_rng(0).normal(size=(N, 12)), "y": KINDS, "info": {"a": 1},
               "names": np.array(["a", 1], dtype=object)}  # fmt: skip
    scipy.io.savemat(tmp_path / "x.mat", content)
    assert load(tmp_path / "x.mat", notes).info.shape == (1, 1, 12)
    assert any("info/a, names (" in note and "names (is a MATLAB cell" in note for note in notes)


@pytest.mark.parametrize(
    ("array", "support", "note"),
    [
        (np.arange(400).reshape(40, 10) % 256, "real", None),
        (np.arange(400, dtype=np.uint16).reshape(40, 10), "real", None),
        ((np.arange(400) % 256).astype(np.uint8).reshape(40, 10), "bytes", None),
        (np.arange(400).reshape(40, 10) % 2, "binary", None),
        (np.arange(40 * 64).reshape(40, 64) % 256, "bytes", "--shape 8,8"),
        (np.zeros((40, 4, 4)), "unit", None),
        (np.arange(784).reshape(28, 28) / 7, "real", "read as 28 rows of 28 columns; to use it as one image"),
        (np.arange(640, dtype=np.uint16).reshape(40, 4, 4) * 6, "unit", "12 bits, multiply them by 16"),
        (np.arange(640).reshape(40, 4, 4) % 256 * 1.0, "real", "look like bytes stored as floats"),
    ],
)
def test_the_kind_of_numbers_and_what_is_said(
    tmp_path: Path, array: np.ndarray, support: str, note: str | None
) -> None:
    """Whole numbers of a wide type in columns are numbers, not pixels; zeros are not bytes stored as floats."""
    np.save(tmp_path / "x.npy", array)
    notes: list[str] = []
    assert load(tmp_path / "x.npy", notes).info.support == support
    marks = ("--shape", "one image", "bits", "look like bytes")
    said = [text for text in notes if any(mark in text for mark in marks)]
    assert len(said) == (note is not None)
    assert note is None or note in said[0]


@pytest.mark.parametrize("storage", ["resident", "stream"])
def test_rows_become_images_by_their_shape(tmp_path: Path, storage: str) -> None:
    np.save(tmp_path / "x.npy", pictures().reshape(N, -1))
    data = load(tmp_path / "x.npy", shape=(9, 6, 3), storage=storage)
    assert np.array_equal(everything(data), pictures().transpose(0, 3, 1, 2))
    with pytest.raises(SettingError, match=r"must have as many numbers as a row of x\.npy, 162; 9,6 has 54"):
        load(tmp_path / "x.npy", shape=(9, 6))
    np.save(tmp_path / "y.npy", pictures())
    with pytest.raises(SettingError, match="is for rows of numbers"):
        load(tmp_path / "y.npy", shape=(9, 6, 3))
    assert load(tmp_path / "y.npy", lenient=True, shape=(9, 6, 3)).info.shape == (3, 9, 6)


# --- what cannot be read ----------------------------------------------------------------------------------------------


def linked(root: Path) -> Path:
    hdf5(root / "other.h5")
    with h5py.File(root / "x.h5", "w") as file:
        file["images"] = h5py.ExternalLink("other.h5", "images")
    return root / "x.h5"


def virtual(root: Path) -> Path:
    hdf5(root / "other.h5")
    layout = h5py.VirtualLayout((N, 9, 6, 3), "u1")
    layout[:] = h5py.VirtualSource(root / "other.h5", "images", (N, 9, 6, 3))
    with h5py.File(root / "x.h5", "w") as file:
        file.create_virtual_dataset("images", layout)
    return root / "x.h5"


def external(root: Path) -> Path:
    (root / "raw").write_bytes(bytes(N * 54))
    with h5py.File(root / "x.h5", "w") as file:
        file.create_dataset("images", (N, 9, 6), "u1", external=[(str(root / "raw"), 0, N * 54)])
    return root / "x.h5"


def unwritten(root: Path, **options: Any) -> Path:
    with h5py.File(root / "x.h5", "w") as file:
        file.create_dataset("images", (10**6, 1000, 100), "u1", **options)
    return root / "x.h5"


def sparse(root: Path) -> Path:
    path = unwritten(root, chunks=(1, 1000, 100))
    with h5py.File(path, "r+") as file:
        file["images"][5] = 1
    return path


def many_labels(root: Path) -> Path:
    """Labels of eight gigabytes, of which a few kilobytes are there."""
    with h5py.File(root / "x.h5", "w") as file:
        file["images"] = pictures()
        labels = file.create_dataset("labels", (1 << 30,), "i8", chunks=(1 << 20,), compression="gzip")
        labels.id.write_direct_chunk((0,), zlib.compress(bytes(8 << 20)))
    return root / "x.h5"


def bursting(root: Path) -> Path:
    """A chunk that unpacks to a thousand times its size."""
    with h5py.File(root / "x.h5", "w") as file:
        data = file.create_dataset("images", (N, 64, 64), "u1", chunks=(N, 64, 64), compression="gzip")
        data.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(64 << 20)))
    return root / "x.h5"


def claiming_mat(root: Path) -> Path:
    """A small array whose header says 60000 x 60000."""
    scipy.io.savemat(root / "x.mat", {"images": np.zeros((7, 9))})
    content = (root / "x.mat").read_bytes()
    (root / "x.mat").write_bytes(content.replace(struct.pack("<2i", 7, 9), struct.pack("<2i", 60_000, 60_000)))
    return root / "x.mat"


def zarr_claim(root: Path, shape: tuple[int, ...], chunks: tuple[int, ...]) -> Path:
    array = zarr.open_array(root / "x.zarr", mode="w", shape=(4, 5, 5), chunks=(4, 5, 5), dtype="u1", zarr_format=2)
    array[:] = 7
    metadata = root / "x.zarr" / ".zarray"
    text = metadata.read_text()
    metadata.write_text(json.dumps(json.loads(text) | {"shape": shape, "chunks": chunks}))
    return root / "x.zarr"


def bursting_zarr(root: Path, codec: dict[str, Any], content: bytes) -> Path:
    """A chunk that unpacks to far more than its hundred numbers."""
    path = packed_by(root, codec)
    (path / "0.0.0").write_bytes(content)
    return path


def packed_by(root: Path, codec: dict[str, Any]) -> Path:
    path = zarr_claim(root, (4, 5, 5), (4, 5, 5))
    metadata = path / ".zarray"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"compressor": codec}))
    return path


def leading_out(root: Path) -> Path:
    path = zarr_group(root / "x.zarr", 3)
    (root / "outside").write_bytes(b"")
    (path / "more").symlink_to(root / "outside")
    return path


def text(root: Path, name: str, content: bytes = b"no such file\n" * 20) -> Path:
    (root / name).write_bytes(content)
    return root / name


def npz_as_hdf5(root: Path) -> Path:
    np.savez(root / "x.npz", images=pictures())
    return (root / "x.npz").rename(root / "x.h5")


def no_zarr(root: Path) -> Path:
    (root / "x.zarr").mkdir()
    return root / "x.zarr"


def wrong_arrays(root: Path) -> Path:
    text(files(root / "set", left=pictures(), right=KINDS), "left.npy")
    return root / "set"


BURSTS = "unpacks to more than the 100 bytes of its numbers"
HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no hdf5": (lambda root: text(root, "x.h5"), "x.h5 is not an HDF5 file"),
    "empty hdf5": (lambda root: text(root, "x.h5", b""), "x.h5 is empty"),
    "npz as hdf5": (npz_as_hdf5, "it is an .npz file"),
    "cut hdf5": (lambda root: text(root, "y.h5", hdf5(root / "x.h5").read_bytes()[:-3000]), "y.h5"),
    "a link to another file": (linked, "'images' is a link to other.h5, which is not followed"),
    "a virtual data set": (virtual, "'images' lies in other files, which are not read"),
    "an external file": (external, "'images' lies in other files, which are not read"),
    "hdf5 never written": (unwritten, "'images': it claims 93.1 GiB, and no number of it was ever written"),
    "hdf5 chunks never written": (lambda root: unwritten(root, chunks=(1, 1000, 100)), "it claims 93.1 GiB"),
    "hdf5 of one chunk": (sparse, "97.7 KiB of packed data cannot be the 93.1 GiB"),
    "many labels": (many_labels, "would take 8.0 GiB of memory"),
    "a chunk that bursts": (bursting, "a chunk unpacks to more than"),
    "no mat": (lambda root: text(root, "x.mat"), "x.mat is not a .mat file"),
    "mat that claims": (claiming_mat, "would take"),
    "no zarr": (no_zarr, "is not a Zarr store"),
    "zarr of damaged metadata": (lambda root: text(zarr_group(root / "x.zarr", 3), "zarr.json").parent, "is damaged"),
    "zarr that claims": (lambda root: zarr_claim(root, (10**6, 500, 500), (4, 5, 5)), "of packed data cannot be"),
    "a huge chunk of zarr": (lambda root: zarr_claim(root, (10**6, 500, 500), (10**6, 500, 500)), "would take 233 GiB"),
    "zarr that pickles": (lambda root: packed_by(root, {"id": "pickle", "protocol": 4}), "x.zarr is damaged"),
    "zarr of another codec": (lambda root: packed_by(root, {"id": "base64"}), "is packed by base64, which is not read"),
    "zarr that bursts by zlib": (
        lambda root: bursting_zarr(root, {"id": "zlib"}, zlib.compress(bytes(1 << 24))),
        BURSTS,
    ),
    "zarr that bursts by gzip": (
        lambda root: bursting_zarr(root, {"id": "gzip"}, gzip.compress(bytes(1 << 24))),
        BURSTS,
    ),
    "zarr that bursts by bz2": (lambda root: bursting_zarr(root, {"id": "bz2"}, bz2.compress(bytes(1 << 24))), BURSTS),
    "zarr that bursts by lzma": (
        lambda root: bursting_zarr(root, {"id": "lzma"}, lzma.compress(bytes(1 << 24))),
        BURSTS,
    ),
    "zarr that bursts by zstd": (
        lambda root: bursting_zarr(root, {"id": "zstd"}, numcodecs.Zstd().encode(bytes(1 << 24))),
        BURSTS,
    ),
    "zarr that bursts by lz4": (
        lambda root: bursting_zarr(root, {"id": "lz4"}, numcodecs.LZ4().encode(bytes(1 << 24))),
        BURSTS,
    ),
    "zarr that bursts by blosc": (
        lambda root: bursting_zarr(root, {"id": "blosc"}, numcodecs.Blosc().encode(bytes(1 << 24))),
        BURSTS,
    ),
    "zarr with a link": (leading_out, "more is a link that leads out of the folder"),
    "zarr zip": (lambda root: text(root, "x.zarr.zip"), "x.zarr.zip is damaged"),
    "idx that claims": (lambda root: text(root, "x.idx", bytes([0, 0, 8, 3]) + b"\x7f\xff\xff\xff" * 3), "x.idx"),
    "gzipped idx that claims": (
        lambda root: text(root, "x.idx.gz", gzip.compress(bytes([0, 0, 8, 3]) + b"\x7f\xff\xff\xff" * 3)),
        "of packed data cannot be",
    ),
    "no idx": (lambda root: text(root, "x-idx3-ubyte"), "it is not an IDX file"),
    "a folder of wrong arrays": (wrong_arrays, "no array is called images"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_cannot_be_read_is_one_error_before_memory_is_taken(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, expected = HOSTILE[kind]
    path = make(tmp_path)
    if kind == "a chunk that bursts":
        monkeypatch.setenv("VAECTL_MAX_BYTES", "16M")
    with pytest.raises(VaectlError) as caught:
        load(path)
    assert expected in caught.value.message, caught.value.message
    assert path.name in caught.value.message


def test_damage_that_is_met_while_streaming_is_one_error(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "x.h5", chunks=(5, 9, 6, 3), compression="gzip")
    with h5py.File(path, "r") as file:
        chunk = file["images"].id.get_chunk_info(3)
    with path.open("r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(b"\xff" * 20)
    with pytest.raises(DataError, match=r"x\.h5: array 'images' is damaged"):
        load(path, storage="stream")
