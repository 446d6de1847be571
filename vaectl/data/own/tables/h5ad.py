"""Annotated matrices, ``.h5ad``: observations are rows, variables columns; ``obs`` has the labels.

anndata reads the elements; nothing else of the file is opened.

Shapes: ``N`` observations, ``W`` variables, ``B`` observations read at once.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from vaectl.data.info import ACCOUNT_BYTES
from vaectl.data.own.source import Reading
from vaectl.data.own.tables.columns import STREAM_INSTEAD, Labels, LineNumbers, Numbers, Table
from vaectl.data.own.tables.roles import plain_numbers, roles_of
from vaectl.errors import DataError
from vaectl.system.extras import require
from vaectl.system.reading import check_size, open_regular

# numbers that are read at once
CELLS = 1 << 20
# bytes that an entry of a column of obs takes, and a name, by a generous estimate
ENTRY_BYTES = 128


def read_h5ad(path: Path, reading: Reading) -> Table:
    """Read the matrix ``X`` of an ``.h5ad`` file, dense or sparse, as numbers.

    Raises:
        DataError: The file is damaged, has no matrix, or would take too much memory.
        SettingError: A column of ``obs`` that an option names does not exist, or does not hold classes.
        VaectlError: anndata is not installed.
    """
    require("anndata", "an .h5ad file")
    import h5py

    try:
        with open_regular(path) as stream, h5py.File(stream, "r") as file:
            return _read(path, file, reading)
    except OSError as error:
        raise DataError(f"cannot read {path}: {str(error).splitlines()[0]:.200}") from None
    except (KeyError, ValueError, TypeError, RuntimeError, MemoryError, OverflowError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is damaged, or no .h5ad file: {text:.200}") from None


def _read(path: Path, file: Any, reading: Reading) -> Table:
    import h5py

    if not all(isinstance(file.get(name), h5py.Group | h5py.Dataset) for name in ("X", "obs", "var")):
        raise DataError(f"{path} is no .h5ad file: it needs X, obs and var", hint="other HDF5 files end in .h5")
    matrix = _matrix(file["X"])
    count, width = (int(size) for size in matrix.shape)
    check_size(f"the matrix of {path}", count * (4 * width + ACCOUNT_BYTES), STREAM_INSTEAD)
    names = [str(name) for name in _element(file["var"], str(file["var"].attrs["_index"]), width)]
    obs, kinds = file["obs"], [str(name) for name in file["obs"].attrs.get("column-order", [])]
    # the options for columns of numbers are for those of X; obs holds labels and groups
    beside = dataclasses.replace(reading, options=dataclasses.replace(reading.options, drop_column=None))
    roles = roles_of(
        path, kinds, beside, lambda index: _is_real(obs, kinds[index], count), lambda _: False, beside=True
    )
    unused = [name for index, name in enumerate(kinds) if index not in roles.texts]
    reading.note(
        f"{path.name}: X, {count:,} observations of {width:,} variables, is read"
        + (f"; columns of obs left out: {', '.join(unused[:20])}" if unused else "")
    )
    order = plain_numbers(path, names, reading)
    columns = {index: _texts(obs, kinds[index], count) for index in roles.texts}
    numbers, labels = Numbers(count, len(order)), {index: Labels() for index in columns}
    line_numbers, bad, at_once = LineNumbers(), list[tuple[str, str]](), max(1, CELLS // max(1, width))
    for start in range(0, count, at_once):
        block = _dense(matrix[start : min(count, start + at_once)])[:, order]
        usable = np.isfinite(block).all(1)
        for row in np.flatnonzero(~usable).tolist():
            column = names[order[int(np.flatnonzero(~np.isfinite(block[row]))[0])]]
            bad.append((f"row {start + row + 1}", f"column '{column}' is empty or not finite"))
        for index, entries in columns.items():
            missing = [row for row in range(len(block)) if entries[start + row] is None and usable[row]]
            bad += [(f"row {start + row + 1}", f"column '{kinds[index]}' is empty") for row in missing]
            usable[missing] = False
        good = np.flatnonzero(usable)
        numbers.add(block[good])
        line_numbers.add(good + start + 1)
        for index, entries in columns.items():
            labels[index].add(str(entries[start + row]) for row in good.tolist())
    return Table(
        names,
        [names[index] for index in order],
        numbers,
        line_numbers,
        None if roles.label is None else labels[roles.label].kinds(path, kinds[roles.label]),
        np.zeros(0, np.int32) if roles.label is None else labels[roles.label].codes(),
        None if roles.group is None else labels[roles.group].hashes(),
        bad,
    )


def _matrix(element: Any) -> Any:
    """The matrix X, dense or sparse, of which rows can be read.

    Raises:
        ValueError: It has not two axes, or its parts do not lie in the file.
    """
    from anndata.io import sparse_dataset

    _check_inside(element)
    matrix = element if hasattr(element, "dtype") else sparse_dataset(element)
    if len(matrix.shape) != 2:
        raise ValueError(f"X has {len(matrix.shape)} axes, not 2")
    return matrix


def _dense(rows: Any) -> np.ndarray:
    """Some rows of the matrix, float64 (B, W)."""
    return np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows, np.float64)


def _element(group: Any, name: str, count: int) -> Any:
    """A column of ``obs`` or ``var``; a ValueError if it has not ``count`` entries."""
    from anndata.io import read_elem

    _check_inside(group[name])
    values = read_elem(group[name])
    if len(values) != count:
        raise ValueError(f"column '{name:.40}' has {len(values):,} entries, not {count:,}")
    return values


def _texts(obs: Any, name: str, count: int) -> list[str | None]:
    """The entries of a column of ``obs`` as text; None for those that are missing."""
    values = _element(obs, name, count)
    return [None if value is None or value != value else str(value) for value in values]


def _is_real(obs: Any, name: str, count: int) -> bool:
    """Whether a column of ``obs`` holds real numbers of which some are not whole."""
    values = np.asarray(_element(obs, name, count))
    return values.dtype.kind == "f" and bool(
        (values[np.isfinite(values)] != np.rint(values[np.isfinite(values)])).any()
    )


def _check_inside(element: Any) -> None:
    """Check that an element lies in its own file, and is not too large.

    Raises:
        ValueError: A part of it lies in another file.
        DataError: It would take too much memory.
    """
    import h5py

    parts = [element] if isinstance(element, h5py.Dataset) else []
    if isinstance(element, h5py.Group):
        for name in element:
            if not isinstance(element.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"'{name:.40}' is a link")
            parts += [element[name]] if isinstance(element[name], h5py.Dataset) else []
    for part in parts:
        if part.is_virtual or part.external:
            raise ValueError(f"'{part.name:.40}' lies in another file")
        each = part.dtype.itemsize if part.dtype.kind in "buif" else ENTRY_BYTES
        check_size(f"'{part.name:.40}' of {element.file.filename}", part.size * each)
