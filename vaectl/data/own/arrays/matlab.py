"""MATLAB's ``.mat`` files: version 5 to 7 through scipy, and 7.3, which is HDF5 with reversed axes.

Shapes: ``N`` examples.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vaectl.data.own.arrays.assembly import keyed
from vaectl.data.own.arrays.hdf5 import hdf5_items, hdf5_member
from vaectl.data.own.arrays.members import NUMBERS, Member, unusable
from vaectl.data.own.arrays.problems import data_errors
from vaectl.data.own.source import Reading, Source
from vaectl.errors import DataError
from vaectl.system.extras import require
from vaectl.system.reading import check_size, open_regular

# class of an array -> type of its numbers
CLASSES = {
    "double": "f8", "single": "f4", "logical": "?", "char": "U1", "int8": "i1", "uint8": "u1", "int16": "i2",
    "uint16": "u2", "int32": "i4", "uint32": "u4", "int64": "i8", "uint64": "u8",
}  # fmt: skip
# bytes of the header of a version 5 file; mark of a packed array; bytes that are unpacked at once
HEADER, PACKED, PART_BYTES = 128, 15, 1 << 20
USUAL_CHANNELS = (1, 3, 4)
# rows and columns of an array of which either may be images
MANY = 64
# levels of structs within structs
DEEPEST = 8


def open_matlab(path: Path, reading: Reading) -> Source:
    """Open the arrays of a ``.mat`` file by their names. The last axis of images is that of the examples in many.

    Raises:
        DataError: The file is damaged, its keys are unknown, or its arrays do not match or are too large.
    """
    require("scipy", f"{path.name}, a MATLAB file,")
    with data_errors(path):
        with open_regular(path) as file:
            first = file.read(HEADER)
        if not first:
            raise DataError(f"{path} is empty")
        newest = first.startswith((b"MATLAB 7.3", b"\x89HDF"))
        return keyed(path, (_members_7_3 if newest else _members)(path, reading), reading)


def _members_7_3(path: Path, reading: Reading) -> dict[str, Member]:
    """The arrays of an HDF5 file, of which MATLAB shows the axes in reverse."""
    items = hdf5_items(path)
    shapes = {key: tuple(reversed(item.shape or ())) for key, item in items.items()}
    orders = _orders(path, shapes, reading)
    return {
        key: item if isinstance(item, Member)
        else hdf5_member(path, key, item, tuple(len(orders[key]) - 1 - axis for axis in orders[key]))
        for key, item in items.items()
    }  # fmt: skip


def _members(path: Path, reading: Reading) -> dict[str, Member]:
    """The arrays of a file of version 4 to 7."""
    from scipy.io import loadmat, whosmat

    with open_regular(path) as file:
        if not _is_matlab(file):
            raise DataError(f"{path} is not a .mat file", hint="MATLAB and scipy.io.savemat write such files")
        unpacked = _unpacked(file)
    listed = {key: (tuple(shape), kind) for key, shape, kind in whosmat(path)}
    structs = [key for key, one in listed.items() if one == ((1, 1), "struct")]
    nested = {key: _fields(path, key, unpacked) for key in structs}
    orders = _orders(path, {key: shape for key, (shape, _) in listed.items()}, reading)

    def member(key: str, shape: tuple[int, ...], kind: str) -> Member:
        if kind not in CLASSES:
            return unusable(f"is a MATLAB {kind}, not an array of numbers", shape)
        shape = tuple(shape[axis] for axis in orders[key])

        def load() -> np.ndarray:
            array: np.ndarray = loadmat(path, variable_names=[key])[key].transpose(orders[key])
            return array.astype(bool) if kind == "logical" else array

        return Member(shape, np.dtype(CLASSES[kind]), load, unpacked=unpacked)

    members = {key: member(key, *listed[key]) for key in listed if not nested.get(key)}
    return members | {field: member for fields in nested.values() for field, member in fields.items()}


def _fields(path: Path, key: str, unpacked: int) -> dict[str, Member]:
    """The arrays in a struct and in those within it, by their names with those of the structs before them."""
    from scipy.io import loadmat

    check_size(f"'{key:.100}' of {path}", max(unpacked, path.stat().st_size))
    structs, members = [(key, loadmat(path, variable_names=[key])[key], 0)], dict[str, Member]()
    while structs:
        prefix, struct_of, depth = structs.pop()
        for name in struct_of.dtype.names or ():
            value = struct_of[0, 0][name]
            if value.dtype.names is not None and value.shape == (1, 1) and depth < DEEPEST:
                structs.append((f"{prefix}/{name}", value, depth + 1))
            elif value.dtype.kind in NUMBERS:
                members[f"{prefix}/{name}"] = Member(value.shape, value.dtype, partial(np.asarray, value))
    return members


def _is_matlab(file: BinaryIO) -> bool:
    """Whether a file begins as version 5 does, or as version 4: with five small numbers and the name of an array."""
    first = file.read(HEADER)
    if first[126:128] in (b"IM", b"MI"):
        return True
    for order in "<>":
        kind, rows, columns, imaginary, length = struct.unpack(f"{order}5i", first[:20].ljust(20, b"\xff"))
        if 0 <= kind < 5000 and rows >= 0 and columns >= 0 and imaginary in (0, 1) and 0 < length < 100:
            return True
    return False


def _unpacked(file: BinaryIO) -> int:
    """How many bytes the largest packed array of a version 5 file unpacks to; it is unpacked to nowhere to count them.

    What an array claims of itself is not to be trusted: scipy reads as much as there is.
    """
    file.seek(HEADER - 2)
    order, most = {b"IM": "<", b"MI": ">"}.get(file.read(2)), 0
    while order is not None and len(tag := file.read(8)) == 8:
        kind, size = struct.unpack(f"{order}2I", tag)
        if kind != PACKED:
            file.seek(size, 1)
            continue
        unpacking, count = zlib.decompressobj(), 0
        while size and (content := file.read(min(size, PART_BYTES))):
            size -= len(content)
            while content:
                count += len(unpacking.decompress(content, PART_BYTES))
                content = unpacking.unconsumed_tail
        most = max(most, count)
    return most


def _orders(path: Path, shapes: Mapping[str, tuple[int, ...]], reading: Reading) -> dict[str, tuple[int, ...]]:
    """The axes of each array in the order that they are read in: examples first; a row of numbers becomes a column."""
    lengths = {max(shape) for shape in shapes.values() if len(shape) == 2 and min(shape) == 1}
    orders = dict[str, tuple[int, ...]]()
    for key, shape in shapes.items():
        axes = tuple(range(len(shape)))
        wanted = reading.options.shape
        columns = wanted is not None and len(shape) == 2 and shape[0] == math.prod(wanted) != shape[1]
        last = len(shape) > 1 and (columns or _are_last(shape, lengths))
        orders[key] = (axes[-1], *axes[:-1]) if last else axes
        if len(shape) == 2 and min(shape) >= MANY and wanted is None and not {*shape} & lengths:
            reading.note(f"{path.name}: '{key}' {shape} is read by rows; if its columns are images: --shape H,W")
        if last and min(shape[0], shape[1]) > 1:
            reading.note(f"{path.name}: the last axis of '{key}' {shape} is that of its examples")
    return orders


def _are_last(shape: tuple[int, ...], lengths: Collection[int]) -> bool:
    """Whether the last axis of an array is that of the examples, as in many files of MATLAB.

    Args:
        shape: The axes as MATLAB shows them.
        lengths: The lengths of the file's vectors, of which one may hold the labels.
    """
    first, last = shape[0], shape[-1]
    if first == 1 and len(shape) == 2:
        return last > 1
    if (first in lengths) != (last in lengths):
        return last in lengths
    if len(shape) == 3:
        return first == shape[1] if (first == shape[1]) != (shape[1] == last) else last >= first
    if len(shape) == 4:
        return shape[2] in USUAL_CHANNELS or not {shape[1], last} & {*USUAL_CHANNELS}
    return False
