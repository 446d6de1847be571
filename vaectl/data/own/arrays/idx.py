"""IDX files of any name, as MNIST's; unpacked ones are memory maps.

Shapes: ``N`` examples.
"""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import numpy as np

from vaectl.data.idx import is_idx, read_array, read_header
from vaectl.data.own.arrays import npy
from vaectl.data.own.arrays.assembly import assembled
from vaectl.data.own.arrays.keys import refuse_keys
from vaectl.data.own.arrays.members import Member, damaged
from vaectl.data.own.arrays.problems import PROBLEMS, data_errors, first_line
from vaectl.data.own.source import Reading, Source
from vaectl.errors import DataError
from vaectl.system.reading import check_packed, check_size, open_regular, size_text

# train-images-idx3-ubyte, train-images.idx3-ubyte, t10k-images-idx3-ubyte.gz, x.idx
NAME = re.compile(r"(?P<stem>.*?)[.-]idx\d?(?:-[a-z]+\d*)?(?P<gz>\.gz)?", re.IGNORECASE)


def is_idx_name(name: str) -> bool:
    """Whether a file's name is that of an IDX file."""
    return NAME.fullmatch(name) is not None


def is_idx_file(path: Path) -> bool:
    """Whether a regular file of any name begins as an IDX file."""
    if not os.path.isfile(path):
        return False
    with data_errors(path), open_regular(path) as file:
        return is_idx(file.read(4))


def idx_key(name: str) -> str:
    """The role that the name of an IDX file states: ``train-images``; MNIST calls the test set t10k."""
    match = NAME.fullmatch(name)
    return re.sub("^t10k", "test", match["stem"] if match else name)


def open_idx(path: Path, reading: Reading) -> Source:
    """Open an IDX file of images.

    Raises:
        DataError: The file is damaged, holds labels, or is too large to be unpacked.
    """
    refuse_keys(path, reading)
    with data_errors(path):
        member = idx_member(path)
        if len(member.shape) == 1:
            raise DataError(
                f"{path} holds {member.dtype} {member.shape}, one number per example, as labels do",
                hint="name the file of the images, or the folder that holds both",
            )
        check_size(str(path), member.opened, f"unpack it, so that it can be streamed: gunzip {path.name}")
        labels = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
        if labels != path and os.path.isfile(labels) and reading.options.test is None:
            reading.note(f"{path.name}: {labels.name} beside it is not read; name their folder to use both")
        array = member.load()
    why = None if member.streams else "gzip files are read whole; unpack it"
    return assembled(path, {"train": array}, {}, reading, why_resident=why)


def idx_member(path: Path) -> Member:
    """The array of an IDX file."""
    packed = path.suffix.lower() == ".gz"
    try:
        with open_regular(path) as stored, gzip.open(stored) if packed else stored as stream:
            header = read_header(stream)
        if packed:
            check_packed(header.size, path.stat().st_size)
    except PROBLEMS as error:
        return damaged(first_line(error))

    def read() -> np.ndarray:
        with open_regular(path) as stored, gzip.open(stored) as stream:
            stream.read(header.start)
            return read_array(stream, header)

    def mapped() -> np.ndarray:
        if (room := path.stat().st_size - header.start) != header.size:
            raise ValueError(
                f"{header.dtype} {header.shape} takes {size_text(header.size)}, and the file holds {size_text(room)}"
            )
        return npy.mapped_at(path, npy.Header(header.shape, False, header.dtype, header.start))

    return Member(header.shape, header.dtype, read if packed else mapped, streams=not packed)
