"""What the chunks of a Zarr array unpack to, found before a codec takes memory for it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import IO, Any

from vaectl.system.reading import data_limit, size_text

# bytes of a packed chunk beyond its numbers; bytes that are unpacked at once to count them
EXTRA_BYTES, PART_BYTES = 1 << 16, 1 << 20
# bytes that one packed byte can become: a block of zstd repeats a byte, lzma and bz2 count runs of runs
MOST_RATIO = 1 << 16
ZSTD_MARK = b"\x28\xb5\x2f\xfd"
PACKERS = ("blosc", "lz4", "zstd", "gzip", "zlib", "bz2", "lzma")


def packer_of(codecs: Iterable[str]) -> str | None:
    """The one codec of a chain that packs, or None.

    Raises:
        ValueError: There are several, of which only the last one can be looked into.
    """
    packers = [name for name in codecs if name in PACKERS]
    if len(packers) > 1:
        raise ValueError(f"it is packed several times, by {' and '.join(packers)}")
    return packers[0] if packers else None


def check_chunks(
    sizes: Iterable[tuple[str, int]], opened: Callable[[str], AbstractContextManager[IO[bytes]]], packer: str, room: int
) -> None:
    """Raise a ValueError if a chunk unpacks to more than its numbers take.

    Args:
        sizes: Name and size of the file of each chunk.
        opened: Opens a file.
        packer: The codec, one of ``PACKERS``.
        room: Bytes of the numbers of a chunk.
    """
    for name, size in sizes:
        if size * MOST_RATIO <= room:
            continue
        with opened(name) as stream:
            unpacked = _unpacked(packer, stream, size, room + EXTRA_BYTES)
        if unpacked > room + EXTRA_BYTES:
            raise ValueError(f"chunk {name} unpacks to more than the {size_text(room)} of its numbers")


def _unpacked(packer: str, stream: IO[bytes], size: int, room: int) -> int:
    """The bytes that a chunk states to unpack to, or so many of them as exceed what there is room for."""
    if packer in ("blosc", "lz4"):
        head, start = stream.read(16), 4 if packer == "blosc" else 0
        return int.from_bytes(head[start : start + 4], "little")
    if packer == "zstd":
        stated = _zstd_size(stream.read(18))
        if stated is None and size * MOST_RATIO > data_limit():
            raise ValueError("a chunk does not state what it unpacks to")
        return stated or 0
    if packer == "zlib":
        unpacking, count = zlib.decompressobj(), 0
        while count <= room and (content := unpacking.unconsumed_tail or stream.read(PART_BYTES)):
            count += len(unpacking.decompress(content, PART_BYTES))
        return count
    readers: dict[str, Any] = {"gzip": gzip.open, "bz2": bz2.open, "lzma": lzma.open}
    with readers[packer](stream) as unpacked:
        count = 0
        while count <= room and (part := unpacked.read(PART_BYTES)):
            count += len(part)
    return count


def _zstd_size(head: bytes) -> int | None:
    """The size that a frame states; None if it does not.

    References:
        Zstandard Compression and the application/zstd Media Type (RFC 8878), section 3.1.1.1.
    """
    if not head.startswith(ZSTD_MARK) or len(head) < 6:
        return 0  # zstd itself refuses it
    flags = head[4]
    single = bool(flags & 0x20)
    width = (1 if single else 0, 2, 4, 8)[flags >> 6]
    start = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    if not width:
        return None
    return int.from_bytes(head[start : start + width], "little") + (256 if width == 2 else 0)
