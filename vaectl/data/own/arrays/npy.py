"""Arrays in numpy's ``.npy`` format: the only reader of headers, for files and members of archives."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from vaectl.system.reading import open_regular, size_text

MARK = b"\x93NUMPY"
# version -> bytes that state the header's length, and its encoding
VERSIONS = {(1, 0): (2, "latin-1"), (2, 0): (4, "latin-1"), (3, 0): (4, "utf-8")}
# numpy itself reads no longer header of a file that it does not trust
MOST_CHARACTERS, MOST_AXES, LARGEST = 10_000, 32, 2**62
PART_BYTES = 1 << 20


class ObjectsError(ValueError):
    """An array holds Python objects, which only unpickling could read."""


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int = ..., /) -> bytes:
        """At most ``size`` bytes; none at the end."""


@dataclass(frozen=True)
class Header:
    """The header of an array.

    Attributes:
        shape: Length of each axis.
        fortran: Whether the first axis varies fastest.
        dtype: Type of its numbers.
        start: Bytes before the first number.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    start: int

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: Readable) -> Header:
    """Read the header of an array and check every field; nothing else is read.

    Raises:
        ValueError: It is not a plain and valid header, or the array holds Python objects.

    References:
        The .npy format, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    first = _exactly(stream, len(MARK) + 2)
    if not first.startswith(MARK):
        raise ValueError("it does not begin as an array does")
    if (version := (first[-2], first[-1])) not in VERSIONS:
        raise ValueError(f"its header has version {version[0]}.{version[1]}; known are 1.0, 2.0 and 3.0")
    width, encoding = VERSIONS[version]
    length = int.from_bytes(_exactly(stream, width), "little")
    if length > MOST_CHARACTERS:
        raise ValueError(f"its header claims {length:,} characters; at most {MOST_CHARACTERS:,}")
    shape, fortran, dtype = _fields(_exactly(stream, length).decode(encoding))
    header = Header(shape, fortran, dtype, len(first) + width + length)
    if header.size > LARGEST:
        raise ValueError(f"its shape {shape} is impossible")
    return header


def mapped(path: Path) -> np.ndarray:
    """The array of an ``.npy`` file as a read-only memory map.

    Raises:
        ValueError: The header is not valid, or states more than the file holds.
        OSError: The file cannot be read.
    """
    with open_regular(path) as file:
        header = read_header(file)
    return mapped_at(path, header)


def mapped_at(path: Path, header: Header) -> np.ndarray:
    """The array that a file holds from ``header.start`` on, as a read-only memory map.

    Raises:
        ValueError: The file holds less.
        OSError: The file cannot be read.
    """
    with open_regular(path) as file:
        room = path.stat().st_size - header.start
        if header.size > room:
            raise ValueError(
                f"{header.dtype} {header.shape} takes {size_text(header.size)}, and the file holds {size_text(room)}"
            )
        if header.size == 0:
            return np.empty(header.shape, header.dtype)
        order: Literal["C", "F"] = "F" if header.fortran else "C"
        array: np.ndarray = np.memmap(file, header.dtype, "r", header.start, header.shape, order)
        return array


def read_array(stream: Readable, claimed: int) -> np.ndarray:
    """Read an array into memory, a part at a time.

    Args:
        stream: The bytes of an ``.npy`` file.
        claimed: How many bytes the stream claims to hold, which the header must confirm.

    Raises:
        ValueError: The header is not valid, or the array has another size than claimed.
    """
    header = read_header(stream)
    check_claim(header, claimed)
    content, done = np.empty(header.size, np.uint8), 0
    while done < header.size:
        part = stream.read(min(PART_BYTES, header.size - done))
        if not part:
            raise ValueError("its data end early")
        content[done : done + len(part)] = np.frombuffer(part, np.uint8)
        done += len(part)
    if stream.read(1):  # at the end an archive compares the checksum
        raise ValueError("its data go on after the array")
    if header.size == 0:
        return np.empty(header.shape, header.dtype)
    return content.view(header.dtype).reshape(header.shape, order="F" if header.fortran else "C")


def check_claim(header: Header, claimed: int) -> None:
    """Raise a ValueError unless an array has the size in bytes that a stream claims to hold, header and all."""
    if header.start + header.size != claimed:
        raise ValueError(
            f"{header.dtype} {header.shape} takes {size_text(header.size)}, and there are "
            f"{size_text(claimed - header.start)}"
        )


def _exactly(stream: Readable, count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise ValueError("its header is incomplete")
    return content


def _fields(text: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """The shape, the order and the type that a header states."""
    try:
        # Python 2 wrote 28L on some systems
        fields = ast.literal_eval(re.sub(r"(?<=\d)L(?=[,)])", "", text).strip())
        if not isinstance(fields, dict) or fields.keys() != {"descr", "fortran_order", "shape"}:
            raise ValueError("fields")
        shape, fortran = fields["shape"], fields["fortran_order"]
        dtype = np.lib.format.descr_to_dtype(fields["descr"])
    except Exception:  # a parser may raise anything for a text that is not a literal
        raise ValueError(f"its header is not one of an array: {text.strip():.100}") from None
    if not isinstance(fortran, bool) or not isinstance(shape, tuple) or len(shape) > MOST_AXES:
        raise ValueError(f"its header is not one of an array: {text.strip():.100}")
    if not all(_is_length(length) for length in shape):
        raise ValueError(f"its shape {shape!s:.100} is impossible")
    if dtype.subdtype is not None:
        raise ValueError(f"its type {dtype} has axes of its own")
    if dtype.hasobject:
        raise ObjectsError("it holds Python objects")
    return shape, fortran, dtype


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST
