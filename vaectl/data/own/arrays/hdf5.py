"""HDF5 files, as h5py, MATLAB 7.3 and many others write them, read a few rows at a time.

Shapes: ``N`` examples.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vaectl.data.own.arrays import npy
from vaectl.data.own.arrays.assembly import keyed
from vaectl.data.own.arrays.members import NUMBERS, Member, damaged, unusable
from vaectl.data.own.arrays.problems import MARKS, PROBLEMS, data_errors, first_line
from vaectl.data.own.arrays.stored import Sliced, Stored
from vaectl.data.own.source import Reading, Source
from vaectl.errors import DataError
from vaectl.system.extras import require
from vaectl.system.reading import DEFLATE_RATIO, check_packed, data_limit, open_regular, size_text

# limits for a walk through a file
DEEPEST, MOST_OBJECTS = 32, 10_000
# filters that HDF5 itself and h5py have: deflate, shuffle, fletcher32, szip, nbit, scaleoffset and lzf
FILTERS, DEFLATE = (1, 2, 3, 4, 5, 6, 32000), 1
# bytes of unpacked chunks that are kept, and places for them
CACHE_BYTES, CACHE_PLACES = 1 << 24, 10_007
# bytes of a packed chunk beyond its numbers; bytes that are unpacked at once to check it
EXTRA_BYTES, PART_BYTES = 1 << 16, 1 << 20
TEXTS_AT_ONCE, LONGEST_TEXT = 1024, 255


def open_hdf5(path: Path, reading: Reading) -> Source:
    """Open the arrays of an HDF5 file by their names, with those of their groups before them.

    Raises:
        DataError: The file is damaged, its keys are unknown, or its arrays do not match.
    """
    with data_errors(path):
        return keyed(path, hdf5_members(path), reading)


def hdf5_members(path: Path) -> dict[str, Member]:
    """The arrays of an HDF5 file; errors as ``hdf5_items``."""
    items = hdf5_items(path)
    return {key: item if isinstance(item, Member) else hdf5_member(path, key, item) for key, item in items.items()}


def hdf5_items(path: Path) -> dict[str, Any]:
    """The arrays of an HDF5 file as h5py has them, and links, which cannot be used.

    Raises:
        DataError: It is none, or holds too many objects.
    """
    require("h5py", f"{path.name}, an HDF5 file,")
    import h5py

    with open_regular(path) as stored:
        if not stored.read(1):
            raise DataError(f"{path} is empty")
    if not h5py.is_hdf5(path):
        hint = "rename it accordingly" if _other_mark(path) else "h5py and MATLAB 7.3 write such files"
        raise DataError(f"{path} is not an HDF5 file{_other_mark(path)}", hint=hint)
    # stays open, because arrays are read when they are needed; locks fail on some file systems
    file = h5py.File(path, "r", rdcc_nbytes=CACHE_BYTES, rdcc_nslots=CACHE_PLACES, locking=False)
    return dict(_walk(path, file))


def _other_mark(path: Path) -> str:
    with open_regular(path) as stored:
        first = stored.read(8)
    other = next((suffix for suffix, mark in MARKS.items() if first.startswith(mark)), None)
    return "" if other is None else f"; it is an {other} file"


def _walk(path: Path, file: Any) -> Iterator[tuple[str, Any]]:
    """The arrays below a file's root, each once; links that lead elsewhere are not followed."""
    import h5py

    groups, visited, count = [("", file, 0)], set[int](), 0
    while groups:
        prefix, group, depth = groups.pop(0)
        if depth > DEEPEST:
            raise DataError(f"{path}: groups are nested more than {DEEPEST} levels deep")
        for name in group:
            key, link = prefix + name, group.get(name, getlink=True)
            count += 1
            if count > MOST_OBJECTS:
                raise DataError(f"{path} holds more than {MOST_OBJECTS:,} objects")
            if not isinstance(link, h5py.HardLink):
                where = f" to {link.filename}" if isinstance(link, h5py.ExternalLink) else ""
                yield key, unusable(f"is a link{where}, which is not followed")
                continue
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in visited or name.startswith("#"):  # MATLAB keeps the contents of cells there
                continue
            visited.add(address)
            if isinstance(item, h5py.Group):
                groups.append((f"{key}/", item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                yield key, item


def hdf5_member(path: Path, key: str, dataset: Any, order: tuple[int, ...] | None = None) -> Member:
    """An array of an HDF5 file.

    Args:
        path: The file.
        key: The array's name.
        dataset: The array, as h5py has it.
        order: The axes of the array as they are to be read, examples first; None if that is their order.
    """
    try:
        return _member(path, key, dataset, order)
    except PROBLEMS as error:
        return damaged(f"array '{key:.100}': {first_line(error)}")


def _member(path: Path, key: str, dataset: Any, order: tuple[int, ...] | None) -> Member:
    if dataset.shape is None:
        return unusable("is empty")
    shape, axes = tuple(dataset.shape), tuple(range(len(dataset.shape)))
    if dataset.is_virtual or dataset.external:
        return unusable("lies in other files, which are not read", shape)
    kind = dataset.attrs.get("MATLAB_class", b"")
    if kind in (b"char", b"cell", b"struct", b"function_handle"):
        return unusable(f"is a MATLAB {kind.decode()}, not an array of numbers", shape)
    if dataset.dtype.kind == "O":
        return _texts_member(path, dataset, shape)
    plan = dataset.id.get_create_plist()
    filters = {plan.get_filter(number)[0]: plan.get_filter(number)[3] for number in range(plan.get_nfilters())}
    if wrong := {code: name for code, name in filters.items() if code not in FILTERS}:
        [code, name] = next(iter(wrong.items()))
        return unusable(
            f"is packed by the filter {name.decode(errors='replace') or 'without a name'} ({code}), which HDF5 itself "
            f"does not have; unpack it: h5repack -f NONE {path.name} plain{path.suffix}",
            shape,
        )
    dtype = np.dtype(bool) if kind == b"logical" else dataset.dtype
    order = order or axes
    shape = tuple(shape[axis] for axis in order)
    offset = dataset.id.get_offset()
    if offset is not None and dataset.chunks is None and dtype.kind in NUMBERS:
        header = npy.Header(tuple(dataset.shape), False, dtype, offset)
        return Member(shape, dtype, lambda: npy.mapped_at(path, header).transpose(order), streams=True)
    chunk = math.prod(dataset.chunks or (0,)) * dtype.itemsize
    return Member(shape, dtype, _opener(path, key, dataset, dtype, order, filters), streams=True, unpacked=chunk)


def _opener(
    path: Path, key: str, dataset: Any, dtype: np.dtype, order: tuple[int, ...], filters: dict[int, bytes]
) -> Callable[[], Stored]:
    first = order[0] if order else 0
    shape = tuple(dataset.shape[axis] for axis in order)
    before = (slice(None),) * first

    def rows(start: int, stop: int) -> np.ndarray:
        part: np.ndarray = dataset[(*before, slice(start, stop))].transpose(order)
        return part.astype(dtype, copy=False)

    def load() -> Stored:
        _check_chunks(dataset, filters)
        if not shape:
            return np.asarray(dataset[()])
        chunk = dataset.chunks[first] if dataset.chunks else 1
        return Sliced(shape, dtype, rows, f"{path}: array '{key:.100}'", chunk)

    return load


def _check_chunks(dataset: Any, filters: dict[int, bytes]) -> None:
    """Raise a ValueError if an array claims to be more than the file holds for it, or a chunk unpacks to more."""
    claimed, stored = math.prod(dataset.shape) * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if not stored and claimed:
        raise ValueError(f"it claims {size_text(claimed)}, and no number of it was ever written")
    check_packed(claimed, stored)
    if dataset.chunks is None:
        return
    room = math.prod(dataset.chunks) * dataset.dtype.itemsize + EXTRA_BYTES
    chunks: list[Any] = []
    dataset.id.chunk_iter(chunks.append)
    for chunk in chunks:
        if chunk.size > room + room // 8:
            raise ValueError(f"a chunk takes {size_text(chunk.size)}, more than its numbers")
        if [*filters][-1:] == [DEFLATE] and chunk.size * DEFLATE_RATIO > data_limit():
            _check_deflated(dataset.id.read_direct_chunk(chunk.chunk_offset)[1], room)


def _check_deflated(content: bytes, room: int) -> None:
    """Raise a ValueError if a chunk unpacks to more than there is room for."""
    unpacking, size = zlib.decompressobj(), 0
    while content and size <= room:
        size += len(unpacking.decompress(content, PART_BYTES))
        content = unpacking.unconsumed_tail
    if size > room:
        raise ValueError(f"a chunk unpacks to more than the {size_text(room)} of its numbers")


def _texts_member(path: Path, dataset: Any, shape: tuple[int, ...]) -> Member:
    """Texts of any length, which may be labels; references and lists are not read."""
    import h5py

    if h5py.check_string_dtype(dataset.dtype) is None or len(shape) != 1:
        return unusable("holds references or lists of different lengths", shape)

    def load() -> np.ndarray:
        _check_chunks(dataset, {})
        # each text may be as long as the file
        at_once = max(1, min(TEXTS_AT_ONCE, data_limit() // path.stat().st_size))
        texts = dataset.asstr(errors="replace")
        parts = [
            np.array([text[:LONGEST_TEXT] for text in texts[start : start + at_once]])
            for start in range(0, shape[0], at_once)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, "U1")

    return Member(shape, np.dtype(f"U{LONGEST_TEXT}"), load)
