"""Tables of Arrow's formats and annotated matrices: columns of lists, pieces, and files that lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from pyarrow import feather, parquet

from tests.support.tables import everything, load, write
from vaectl.data.own.tables.arrow_file import claims
from vaectl.errors import DataError, SettingError

ROWS = 40
PIXELS = np.random.RandomState(1).randint(0, 256, (ROWS, 64)).astype(np.uint8)
VECTORS = np.random.RandomState(2).normal(size=(ROWS, 6))


def save(path: Path, table: pa.Table, **options: Any) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    elif path.suffix == ".feather":
        feather.write_feather(table, path, **options)
    else:
        make = pa.ipc.new_stream if path.stem == "stream" else pa.ipc.new_file
        with pa.OSFile(str(path), "wb") as file, make(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    return path


FILES = ["x.parquet", "x.feather", "x.arrow", "stream.arrow"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["fixed", "lists", "nested", "tensors"])
def test_lists_of_pixels_are_images(tmp_path: Path, name: str, kind: str) -> None:
    flat = pa.array(PIXELS.ravel())
    columns = {
        "fixed": lambda: pa.FixedSizeListArray.from_arrays(flat, 64),
        "lists": lambda: pa.array([row.tolist() for row in PIXELS], pa.list_(pa.uint8())),
        "nested": lambda: pa.array([row.reshape(8, 8).tolist() for row in PIXELS]),
        "tensors": lambda: pa.FixedShapeTensorArray.from_numpy_ndarray(PIXELS.reshape(ROWS, 8, 8)),
    }
    table = pa.table({"image": columns[kind](), "label": [f"c{i % 3}" for i in range(ROWS)], "id": list(range(ROWS))})
    notes: list[str] = []
    data = load(save(tmp_path / name, table), notes)
    assert (data.info.shape, data.info.support, data.info.classes) == ((1, 8, 8), "bytes", ("c0", "c1", "c2"))
    assert torch.allclose(everything(data).reshape(ROWS, 64), torch.from_numpy(PIXELS) / 255)
    assert any("column 'image' holds lists of" in note and "left out: id" in note for note in notes)
    assert (data.train.labels == data.train.rows % 3).all()


@pytest.mark.parametrize("name", FILES)
def test_lists_of_numbers_are_vectors_and_named_if_there_are_several(tmp_path: Path, name: str) -> None:
    table = pa.table({"v": VECTORS.tolist(), "w": (VECTORS[:, :2] * 2).tolist(), "y": np.arange(ROWS) % 4})
    path = save(tmp_path / name, table)
    with pytest.raises(DataError, match="several columns of lists: v, w") as caught:
        load(path)
    assert "--images-key v" in (caught.value.hint or "")
    data = load(path, images_key="w")
    assert data.info.shape == (1, 1, 2)
    assert np.allclose(everything(data)[:, 0, 0], VECTORS[:, :2] * 2)
    with pytest.raises(SettingError, match=r"data\.images_key names no column of lists"):
        load(path, images_key="y")
    assert load(path, images_key="v", shape=(2, 3)).info.shape == (1, 2, 3)


def test_lists_of_another_length_are_bad_rows(tmp_path: Path) -> None:
    rows = VECTORS.tolist()
    rows[0], rows[5], rows[7] = rows[0][:3], None, [*rows[7][:5], None]
    path = save(tmp_path / "x.parquet", pa.table({"v": rows, "n": [[[1.0, 2.0]] * 3] * ROWS}))
    with pytest.raises(DataError, match=r"3 of 40 rows .*: row 1: column 'v' holds a list of 3 numbers, not 6; row 6: "
                       r"column 'v' is empty; row 8: column 'v' holds a number that is missing"):  # fmt: skip
        load(path, images_key="v")
    data = load(path, images_key="v", skip_bad=True)
    assert np.allclose(everything(data)[:, 0, 0], np.delete(VECTORS, [0, 5, 7], 0))
    nested: list[Any] = [[[1.0, 2.0]] * 3] * ROWS
    nested[3] = [[1.0, 2.0], [1.0], [2.0, 3.0]]
    path = save(tmp_path / "y.parquet", pa.table({"n": nested}))
    with pytest.raises(DataError, match="row 4: column 'n' holds a list of 1 numbers, not 2"):
        load(path)


@pytest.mark.parametrize("name", FILES)
def test_every_format_of_one_table_is_one_data_set(tmp_path: Path, name: str) -> None:
    columns = {
        "a": VECTORS[:, 0],
        "b": np.arange(ROWS) ** 2,
        "species": pa.array(list("xyzw") * 10).dictionary_encode(),
    }
    data = load(save(tmp_path / name, pa.table(columns)), label_column="species")
    rows = [
        [*row, "xyzw"[i % 4]] for i, row in enumerate(zip(columns["a"].tolist(), columns["b"].tolist(), strict=True))
    ]
    assert (
        data.info.fingerprint
        == load(write(tmp_path / "x.csv", [*columns], rows), label_column="species").info.fingerprint
    )
    assert [column.kind for column in data.info.columns] == ["real", "whole"]


@pytest.mark.parametrize("packing", ["lz4", "zstd", "uncompressed"])
def test_a_piece_says_what_it_becomes(tmp_path: Path, packing: str) -> None:
    table = pa.table(
        {"a": np.zeros(5000), "b": pa.array(["x", "y"] * 2500).dictionary_encode(), "c": [None, 1.5] * 2500}
    )
    feather.write_feather(table, tmp_path / "x.feather", compression=packing)
    with (tmp_path / "x.feather").open("rb") as file:
        file.seek(8)
        sizes = [
            claims(m.metadata.to_pybytes(), m.body)
            for m in pa.ipc.MessageReader.open_stream(file)
            if m.type != "schema"
        ]
    assert [rows for rows, _ in sizes] == [2, 5000]
    assert sizes[1][1] == pytest.approx(table.nbytes, rel=0.01)


@pytest.mark.parametrize("name", ["x.feather", "stream.arrow"])
def test_a_packed_piece_larger_than_the_limit_is_not_unpacked(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"a": np.zeros(1 << 21), "b": np.zeros(1 << 21)})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    make = pa.ipc.new_stream if name == "stream.arrow" else pa.ipc.new_file
    with pa.OSFile(str(tmp_path / name), "wb") as file, make(file, table.schema, options=options) as writer:
        writer.write_table(table)
    assert (tmp_path / name).stat().st_size < 1 << 16
    monkeypatch.setenv("VAECTL_MAX_BYTES", "16MiB")
    before = pa.total_allocated_bytes()
    with pytest.raises(DataError, match=r"a piece of .* would take 32 MiB of memory"):
        load(tmp_path / name)
    assert pa.total_allocated_bytes() - before < 1 << 20


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["empty", "cut", "other", "flipped"])
def test_damaged_files_are_named(tmp_path: Path, name: str, damage: str) -> None:
    content = save(tmp_path / name, pa.table({"a": VECTORS[:, 0], "b": VECTORS[:, 1]})).read_bytes()
    middle = len(content) // 2
    flipped = content[:40] + bytes(byte ^ 255 for byte in content[40:middle]) + content[middle:]
    broken = {"empty": b"", "cut": content[:middle], "other": b"no such file" * 30, "flipped": flipped}
    (tmp_path / name).write_bytes(broken[damage])
    with pytest.raises(DataError, match=name):
        load(tmp_path / name)


def annotated(path: Path, form: str = "dense") -> tuple[Path, np.ndarray]:
    counts = np.random.RandomState(0).poisson(0.5, (ROWS, 12)).astype(np.float32)
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical([f"t{i % 3}" for i in range(ROWS)]), "donor": [f"d{i // 10}" for i in range(ROWS)],
         "age": np.arange(ROWS) / 7},
        index=[f"cell{i}" for i in range(ROWS)],
    )  # fmt: skip
    var = pd.DataFrame(index=[f"gene{i}" for i in range(12)])
    matrix = {"dense": counts, "csr": scipy.sparse.csr_matrix(counts), "csc": scipy.sparse.csc_matrix(counts)}[form]
    anndata.AnnData(matrix, obs=obs, var=var).write_h5ad(path)
    return path, counts


@pytest.mark.parametrize("form", ["dense", "csr", "csc"])
def test_an_annotated_matrix_is_a_table_of_its_variables(tmp_path: Path, form: str) -> None:
    path, counts = annotated(tmp_path / "x.h5ad", form)
    notes: list[str] = []
    data = load(path, notes)
    assert np.array_equal(everything(data)[:, 0, 0], counts)
    assert [column.name for column in data.info.columns] == [f"gene{i}" for i in range(12)]
    assert {column.kind for column in data.info.columns} == {"whole"}
    assert any("40 observations of 12 variables" in n and "left out: cell_type, donor, age" in n for n in notes)
    data = load(path, label_column="cell_type", group_column="donor", drop_column=("gene3",))
    assert data.info.classes == ("t0", "t1", "t2")
    assert data.info.shape == (1, 1, 11)
    assert (data.train.labels == data.train.rows % 3).all()
    assert np.array_equal(everything(data)[:, 0, 0], np.delete(counts, 3, 1))
    with pytest.raises(SettingError, match=r"label_column names no column of x.h5ad: 'cell'"):
        load(path, label_column="cell")
    with pytest.raises(SettingError, match=r"label_column must name a column of classes"):
        load(path, label_column="age")


def test_what_an_annotated_matrix_may_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = annotated(tmp_path / "x.h5ad")
    with h5py.File(tmp_path / "other.h5ad", "w") as file:
        file["images"] = np.zeros((3, 4))
    with pytest.raises(DataError, match="needs X, obs and var"):
        load(tmp_path / "other.h5ad")
    (tmp_path / "torn.h5ad").write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"torn.h5ad"):
        load(tmp_path / "torn.h5ad")
    with h5py.File(path, "r+") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink("secret.h5", "/X")
    with pytest.raises(DataError, match=r"x.h5ad"):
        load(path)
    with h5py.File(path, "r+") as file:
        del file["X"]
        file.create_dataset("X", (ROWS, 1 << 40), "f4", chunks=(1, 1024), compression="gzip")
    with pytest.raises(DataError, match=r"would take .* of memory"):
        load(path)
    dense, _ = annotated(tmp_path / "y.h5ad")
    with h5py.File(dense, "r+") as file:
        file["X"][3, 2] = np.nan
    with pytest.raises(DataError, match="row 4: column 'gene2' is empty or not finite"):
        load(dense)
