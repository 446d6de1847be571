"""Files of arrays that numpy and safetensors write: ``.npy``, ``.npz`` and ``.safetensors``. Nothing is unpickled."""

from __future__ import annotations

import dataclasses
import os
import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vaectl.data.own.arrays import npy
from vaectl.data.own.arrays.assembly import assembled, keyed
from vaectl.data.own.arrays.keys import refuse_keys
from vaectl.data.own.arrays.members import Member, damaged, unusable
from vaectl.data.own.arrays.problems import OBJECTS, PROBLEMS, check_mark, data_errors, first_line
from vaectl.data.own.arrays.stored import Sliced
from vaectl.data.own.bounded import Bounded
from vaectl.data.own.source import Reading, Source
from vaectl.errors import DataError
from vaectl.system.reading import HEADER_BYTES, check_packed, open_regular, size_text

# bytes of an archive that are read at once to compare a checksum
PART_BYTES = 1 << 20
# safetensors' names of types
TENSORS = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "u2", "I16": "i2", "F16": "f2", "U32": "u4", "I32": "i4", "F32": "f4",
    "BF16": "f4", "U64": "u8", "I64": "i8", "F64": "f8",
}  # fmt: skip


def open_npy(path: Path, reading: Reading) -> Source:
    """Open an ``.npy`` file as a memory map.

    Raises:
        DataError: The file is damaged, empty, or does not hold numbers.
    """
    refuse_keys(path, reading)
    with data_errors(path):
        check_mark(path, ".npy")
        try:
            array = npy.mapped(path)
        except npy.ObjectsError:
            raise DataError(f"{path} {OBJECTS}", hint="save it as an array of numbers") from None
    _note_labels_beside(path, reading)
    return assembled(path, {"train": array}, {}, reading, why_resident=None)


def _note_labels_beside(path: Path, reading: Reading) -> None:
    """Say that a file beside that may hold the labels is not read."""
    stem = path.stem
    named = (re.sub("(?i)image(?=s?$)", "label", stem), re.sub("^[xX](?=$|_)", "y", stem))
    beside = (path.with_name(f"{name}.npy") for name in (*named, "labels", "y", "targets") if name != stem)
    if (labels := next(filter(os.path.isfile, beside), None)) is not None:
        reading.note(f"{path.name}: {labels.name} beside it is not read; name their folder to use both")


def open_npz(path: Path, reading: Reading) -> Source:
    """Open the arrays of an ``.npz`` file by the names of their keys.

    Raises:
        DataError: The file is damaged, its keys are unknown, its arrays do not match, or are too large.
    """
    with data_errors(path):
        check_mark(path, ".npz")
        with npz_members(path) as members:
            return keyed(path, members, reading)


@contextmanager
def npz_members(path: Path) -> Iterator[dict[str, Member]]:
    """The arrays of an ``.npz`` file by their keys, which can be loaded within the block; errors as ``PROBLEMS``."""
    with open_regular(path) as file, zipfile.ZipFile(Bounded(file)) as archive:
        room = path.stat().st_size
        yield {
            name.removesuffix(".npy"): _npz_member(path, archive, archive.getinfo(name), room)
            for name in archive.namelist()
            if name.endswith(".npy")
        }


def _npz_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, room: int) -> Member:
    """An array of an archive; one that is stored without packing is mapped."""
    try:
        _check_member(info, room)
        with archive.open(info) as stream:
            header = npy.read_header(stream)
        npy.check_claim(header, info.file_size)
    except npy.ObjectsError:
        return unusable(OBJECTS)
    except PROBLEMS as error:
        return damaged(first_line(error))

    def read() -> np.ndarray:
        with archive.open(info) as stream:
            return npy.read_array(stream, info.file_size)

    def mapped() -> np.ndarray:
        with archive.open(info) as stream:
            while stream.read(PART_BYTES):  # at the end the checksum is compared
                pass
        with open_regular(path) as file:
            file.seek(info.header_offset)
            # the lengths of the name and of what follows it may differ from those in the list of members
            name, extra = struct.unpack("<26x2H", file.read(30))
        start = info.header_offset + 30 + name + extra + header.start
        return npy.mapped_at(path, dataclasses.replace(header, start=start))

    stored = info.compress_type == zipfile.ZIP_STORED
    return Member(header.shape, header.dtype, mapped if stored else read, streams=stored)


def open_safetensors(path: Path, reading: Reading) -> Source:
    """Open the tensors of a ``.safetensors`` file by the names of their keys.

    Raises:
        DataError: As ``open_npz``.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with data_errors(path):
            with open_regular(path) as stored:
                claimed = int.from_bytes(stored.read(8), "little")
                if claimed > min(HEADER_BYTES, path.stat().st_size):
                    raise DataError(
                        f"{path} is damaged: its header claims {size_text(claimed)}; at most {size_text(HEADER_BYTES)}"
                    )
            file: Any = safe_open(path, "np")  # stays open, because tensors are read when they are needed
            return keyed(path, {key: _tensor(path, file, key) for key in file.keys()}, reading)  # noqa: SIM118
    except SafetensorError as error:
        raise DataError(f"cannot read {path}: {error}") from None


def _tensor(path: Path, file: Any, key: str) -> Member:
    from safetensors import safe_open

    stored = file.get_slice(key)
    shape, kind = tuple(stored.get_shape()), stored.get_dtype()
    if kind not in TENSORS:
        return unusable(f"holds numbers of type {kind}, which arrays do not have", shape)
    dtype = np.dtype(TENSORS[kind])
    if not shape:
        return Member(shape, dtype, lambda: np.asarray(file.get_tensor(key)))
    if kind == "BF16":  # which numpy lacks
        tensors: Any = safe_open(path, "pt")
        stored = tensors.get_slice(key)

    def rows(start: int, stop: int) -> np.ndarray:
        part = stored[start:stop]
        return part.float().numpy() if kind == "BF16" else np.asarray(part)

    return Member(shape, dtype, lambda: Sliced(shape, dtype, rows, f"{path}: tensor '{key:.100}'"), streams=True)


def _check_member(member: zipfile.ZipInfo, room: int) -> None:
    """Raise a ValueError unless what a member of an archive claims of itself is possible.

    Args:
        member: The member.
        room: Bytes of the archive.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"it is packed by method {member.compress_type}; numpy stores arrays or deflates them")
    if member.compress_size > room:
        raise ValueError(f"it claims {size_text(member.compress_size)} of a file of {size_text(room)}")
    check_packed(member.file_size, member.compress_size)
