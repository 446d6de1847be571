"""The IDX format of MNIST: a header and an array of numbers, gzipped or not."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Protocol

import numpy as np

# code in the header -> type of the numbers, which are big-endian
TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
MOST_AXES, CHUNK_BYTES = 4, 1 << 20


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int = ..., /) -> bytes:
        """At most ``size`` bytes; none at the end."""


@dataclass(frozen=True)
class IdxHeader:
    """The header of an IDX file: the type and the shape of its array, and the bytes before its first number."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def is_idx(first: bytes) -> bool:
    """Whether the first four bytes of a file are those of an IDX file."""
    return len(first) >= 4 and first[:2] == b"\0\0" and first[2] in TYPES and 1 <= first[3] <= MOST_AXES


def read_header(stream: Readable) -> IdxHeader:
    """Read the header of an IDX file.

    Raises:
        ValueError: It is none, or is cut.

    References:
        The format, http://yann.lecun.com/exdb/mnist/
    """
    first = stream.read(4)
    if not is_idx(first):
        raise ValueError("it is not an IDX file")
    axes = first[3]
    if len(sizes := stream.read(4 * axes)) < 4 * axes:
        raise ValueError("its header is incomplete")
    return IdxHeader(np.dtype(TYPES[first[2]]), struct.unpack(f">{axes}I", sizes), 4 + 4 * axes)


def read_array(stream: Readable, header: IdxHeader) -> np.ndarray:
    """Read the array after its header, in chunks, because a gzip file may hold less or much more than it states.

    Raises:
        ValueError: There are fewer or more bytes than the header states.
    """
    content = bytearray()
    while len(content) <= header.size and (part := stream.read(min(CHUNK_BYTES, header.size + 1 - len(content)))):
        content += part
    if len(content) != header.size:
        amount = f"{len(content)} bytes" if len(content) < header.size else "more bytes"
        raise ValueError(f"{amount} where {header.shape} needs {header.size}")
    return np.frombuffer(content, dtype=header.dtype).reshape(header.shape)
