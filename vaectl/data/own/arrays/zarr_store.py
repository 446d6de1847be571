"""Zarr arrays, version 2 and 3, in a folder or a zip file, read a few rows at a time.

Shapes: ``N`` examples.
"""

from __future__ import annotations

import math
import os
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from vaectl.data.own.arrays.assembly import keyed
from vaectl.data.own.arrays.members import Member, damaged, unusable
from vaectl.data.own.arrays.problems import PROBLEMS, data_errors, first_line
from vaectl.data.own.arrays.stored import Sliced, Stored
from vaectl.data.own.source import Reading, Source
from vaectl.data.own.zarr_chunks import check_chunks, packer_of
from vaectl.errors import DataError
from vaectl.system.extras import require
from vaectl.system.reading import HEADER_BYTES, check_packed, check_size, open_regular, size_text

# files of which a folder has at least one
MARKS = ("zarr.json", ".zgroup", ".zarray")
METADATA = (*MARKS, ".zattrs", ".zmetadata")
# codecs of version 2 that only compute, unlike one that unpickles
CODECS = frozenset({
    "blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "lzma", "delta", "shuffle", "packbits", "fixedscaleoffset",
    "quantize", "astype", "bitround", "crc32", "crc32c", "adler32", "fletcher32", "vlen-utf8", "vlen-bytes",
})  # fmt: skip
# limits for a walk: levels and files
DEEPEST, MOST_FILES = 32, 2_000_000
MOST_ARRAYS = 10_000


def is_zarr(folder: Path) -> bool:
    """Whether a folder holds a Zarr array or group."""
    return any(os.path.isfile(folder / mark) for mark in MARKS)


def open_zarr(path: Path, reading: Reading) -> Source:
    """Open the arrays of a Zarr store by their names, with those of their groups before them.

    Raises:
        DataError: The store is damaged, its keys are unknown, or its arrays do not match.
    """
    require("zarr", f"{path.name}, a Zarr store,")
    import zarr

    with data_errors(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files that are no part of the store, and of future versions
        is_zip = not path.is_dir()
        stored = _zip_sizes(path) if is_zip else _folder_sizes(path)
        if not any(name.rsplit("/", 1)[-1] in MARKS for name in stored):
            raise DataError(f"{path} is not a Zarr store: it has none of {', '.join(MARKS)}")
        for name, size in stored.items():
            if name.rsplit("/", 1)[-1] in METADATA and size > HEADER_BYTES:
                raise DataError(f"{path} is damaged: {name} has {size_text(size)}; at most {size_text(HEADER_BYTES)}")
        root = zarr.open(zarr.storage.ZipStore(path, mode="r") if is_zip else path, mode="r")
        arrays = {"": root} if isinstance(root, zarr.Array) else _arrays(root)
        members = {key or "data": _member(path, key, array, stored) for key, array in arrays.items()}
        return keyed(path, members, reading)


def _arrays(group: Any) -> dict[str, Any]:
    import zarr

    arrays = {}
    for key, item in group.members(max_depth=DEEPEST):
        if isinstance(item, zarr.Array):
            arrays[key] = item
        if len(arrays) > MOST_ARRAYS:
            raise ValueError(f"it holds more than {MOST_ARRAYS:,} arrays")
    return arrays


def _member(path: Path, key: str, array: Any, stored: dict[str, int]) -> Member:
    try:
        shape, dtype = tuple(array.shape), np.dtype(array.dtype)
        if dtype.kind not in "buifUS":
            return unusable(f"holds {dtype}, not numbers", shape)
        if wrong := _unsafe(array):
            return unusable(f"is packed by {wrong}, which is not read", shape)
        chunks = array.shards or array.chunks
        unpacked = math.prod(chunks) * dtype.itemsize
    except PROBLEMS as error:
        return damaged(f"array '{key:.100}': {first_line(error)}")

    def load() -> Stored:
        below = f"{key}/" if key else ""
        sizes = {
            name: size
            for name, size in stored.items()
            if name.startswith(below) and name.rsplit("/", 1)[-1] not in METADATA
        }
        claimed = math.prod(shape) * dtype.itemsize
        if not shape or not any(sizes.values()):
            raise ValueError("it holds no numbers")
        check_packed(claimed, sum(sizes.values()))
        check_size(f"a chunk of {path}", max(sizes.values()), "save the images as .npy")
        if (packer := packer_of(_codecs(array))) is not None:
            with _opener(path) as opened:
                check_chunks(sizes.items(), opened, packer, unpacked)
        name = f"{path}: array '{key:.100}'"
        return Sliced(
            shape, dtype, lambda start, stop: array[start:stop], name, chunks[0], lambda rows: array.oindex[rows]
        )

    return Member(shape, dtype, load, streams=True, unpacked=unpacked)


def _unsafe(array: Any) -> str:
    """The name of a codec that may do more than compute; empty if there is none."""
    if array.metadata.zarr_format == 3:
        strange = [codec for codec in array.metadata.codecs if not type(codec).__module__.startswith("zarr.codecs")]
        return type(strange[0]).__name__ if strange else ""
    return next((name for name in _codecs(array) if name not in CODECS), "")


def _codecs(array: Any) -> list[str]:
    """The names of an array's codecs, in lower case."""
    metadata = array.metadata
    if metadata.zarr_format == 3:
        return [type(codec).__name__.lower().removesuffix("codec") for codec in metadata.codecs]
    codecs = [codec for codec in (*(metadata.filters or ()), metadata.compressor) if codec is not None]
    return [str(codec.codec_id) for codec in codecs]


@contextmanager
def _opener(path: Path) -> Iterator[Callable[[str], AbstractContextManager[IO[bytes]]]]:
    """What opens the files of a store by their names."""
    if path.is_dir():
        yield lambda name: open_regular(path / name)
        return
    with zipfile.ZipFile(path) as archive:
        yield archive.open


def _folder_sizes(root: Path) -> dict[str, int]:
    """The size of each file below a folder; pipes, devices and links that lead out of it are refused."""
    sizes, folders = dict[str, int](), [("", 0)]
    home = os.path.realpath(root)
    while folders:
        folder, depth = folders.pop()
        if depth > DEEPEST:
            raise DataError(f"{root}: folders are nested more than {DEEPEST} levels deep")
        with os.scandir(root / folder) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_symlink() and os.path.commonpath([home, os.path.realpath(entry.path)]) != home:
                    raise DataError(f"{root}: {name} is a link that leads out of the folder")
                if entry.is_dir():
                    if entry.is_symlink():
                        raise DataError(f"{root}: {name} is a link to a folder")
                    folders.append((name, depth + 1))
                elif not stat.S_ISREG(entry.stat().st_mode):
                    raise DataError(f"{root}: {name} is not a regular file")
                else:
                    sizes[name] = entry.stat().st_size
                if len(sizes) > MOST_FILES:
                    raise DataError(f"{root} holds more than {MOST_FILES:,} files", hint="use larger chunks or shards")
    return sizes


def _zip_sizes(path: Path) -> dict[str, int]:
    """The size of each member of a zip file, none of which may claim more than it can be unpacked to."""
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    for info in infos:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{info.filename} is packed by method {info.compress_type}")
        check_packed(info.file_size, min(info.compress_size, path.stat().st_size))
    return {info.filename: info.file_size for info in infos}
