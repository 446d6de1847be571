"""Arrays of examples as files: ``.npy`` and ``.npz``, or tables as ``.csv`` and ``.parquet``, written part by part.

Shapes: ``N`` examples, ``n`` of them in a part, ``S`` the shape of one; a table has
one column for each number of ``S``.
"""

from __future__ import annotations

import csv
import math
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Self

import numpy as np

from vaectl.system.extras import require
from vaectl.system.files import replacing
from vaectl.system.text import as_cell

FORMATS = (".npz", ".csv", ".parquet")
# parts of a table per row group of .parquet: many small groups would make a larger file that is slower to read
PARTS_AT_ONCE = 20
# bytes of a spool that are kept in memory
SPOOLED = 1 << 26


@dataclass(frozen=True)
class Stream:
    """An array that is computed part by part while it is written.

    Attributes:
        shape: (N, *S).
        dtype: Type of every part.
        parts: Arrays (n, *S), N examples in total; can be iterated once.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    parts: Iterable[np.ndarray]

    def __len__(self) -> int:
        return self.shape[0]

    def whole(self) -> np.ndarray:
        """The complete array (N, *S)."""
        return np.concatenate(list(self.parts))


class Spool:
    """Parts of an array that are kept until they are written, because an ``.npz`` file holds one array after another.

    Many parts are kept in a temporary file, not in memory, which the end of a ``with`` block removes.

    Args:
        shape: (N, *S).
        dtype: Type of every part.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._shape, self._dtype = shape, dtype
        self._file = tempfile.SpooledTemporaryFile(SPOOLED)  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, part: np.ndarray) -> None:
        """Keep the next part (n, *S)."""
        self._file.write(np.ascontiguousarray(part, self._dtype).data)

    def stream(self) -> Stream:
        """The array, which is read once all N rows were added."""
        return Stream(self._shape, self._dtype, self._parts())

    def _parts(self) -> Iterator[np.ndarray]:
        each = self._dtype.itemsize * math.prod(self._shape[1:])
        at_once = max(1, SPOOLED // 8 // each)
        self._file.seek(0)
        for start in range(0, self._shape[0], at_once):
            count = min(at_once, self._shape[0] - start)
            yield np.frombuffer(self._file.read(count * each), self._dtype).reshape(count, *self._shape[1:])


def require_format(suffix: str) -> None:
    """Raise a VaectlError if a format needs a package that cannot be imported."""
    if suffix == ".parquet":
        require("pyarrow", "a .parquet file")


def save_npy(stream: Stream, path: Path) -> None:
    """Write an array part by part.

    Raises:
        OutputError: The file cannot be written.
    """
    # opened here, because numpy may add a suffix to a file name
    with replacing(path) as temporary, temporary.open("wb") as file:
        _write(stream, file)


def save_npz(streams: Mapping[str, Stream], path: Path) -> None:
    """Write arrays part by part, one array after the other.

    Raises:
        OutputError: The file cannot be written.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, stream in streams.items():
            # zipfile does not know the size of a member before it is written
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                _write(stream, member)


def _write(stream: Stream, file: IO[bytes]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(stream.dtype), "fortran_order": False, "shape": stream.shape}
    np.lib.format.write_array_header_1_0(file, header)
    for part in stream.parts:
        file.write(np.ascontiguousarray(part).data)


def save(rows: Iterable[Mapping[str, np.ndarray]], count: int, path: Path) -> None:
    """Write arrays of N rows that come in parts.

    In a ``.csv`` file ``as_cell`` puts an apostrophe before texts that a spreadsheet would take for formulas.

    In a table the columns of an array ``z`` (N, D) are z0, z1, ... ; an array with more dimensions is flattened. Tables
    are written part by part. An ``.npz`` file holds one array after the other, so its arrays are collected in memory
    first; use ``save_npz`` for images.

    Args:
        rows: Name -> numbers (n, *S), or strings or bools (n,), each of one type, with the same names in every part.
        count: N, at least 1.
        path: The file; its suffix is one of ``FORMATS``.

    Raises:
        OutputError: The file cannot be written.
    """
    suffix, parts = path.suffix.lower(), iter(rows)
    with replacing(path) as temporary:
        if suffix == ".npz":
            _save_npz(parts, count, temporary)
        else:
            {".csv": _save_csv, ".parquet": _save_parquet}[suffix](parts, temporary)


def _save_npz(rows: Iterator[Mapping[str, np.ndarray]], count: int, path: Path) -> None:
    first = next(rows)
    # allocated at once: small arrays that stay between large temporary ones would keep the heap from shrinking
    arrays = {name: np.empty((count, *values.shape[1:]), values.dtype) for name, values in first.items()}
    start = 0
    for part in chain([first], rows):
        for name, values in part.items():
            arrays[name][start : start + len(values)] = values
        start += len(values)
    # like np.savez, which does not accept an array called "file"
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _save_csv(rows: Iterator[Mapping[str, np.ndarray]], path: Path) -> None:
    tables = map(_columns, rows)
    first = next(tables)
    # nine significant digits reproduce a float32 exactly, seventeen a float64
    digits = {"i": "%d", "f": "%.9g", "U": "%s", "b": "%s"}
    form = ["%.17g" if column.dtype == np.float64 else digits[column.dtype.kind] for column in first.values()]
    texts = any(column.dtype.kind in "Ub" for column in first.values())
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(as_cell, first))
        for table in chain([first], tables):
            if texts:
                cells = [
                    map(as_cell, map(str, column.tolist()))
                    if spec == "%s"
                    else [spec % cell for cell in column.tolist()]
                    for spec, column in zip(form, table.values(), strict=True)
                ]
                writer.writerows(zip(*cells, strict=True))
            else:
                np.savetxt(file, np.column_stack(list(table.values())), form, ",")


def _save_parquet(rows: Iterator[Mapping[str, np.ndarray]], path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    groups = iter(lambda: list(islice(rows, PARTS_AT_ONCE)), [])
    tables = (pa.concat_tables([pa.table(_columns(part)) for part in group]) for group in groups)
    first = next(tables)
    with parquet.ParquetWriter(path, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table)


def _columns(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    for name, values in arrays.items():
        flat = values.reshape(len(values), -1)
        columns |= {name: values} if values.ndim == 1 else {f"{name}{i}": flat[:, i] for i in range(flat.shape[1])}
    return columns
