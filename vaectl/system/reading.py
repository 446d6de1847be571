"""Safe reading of untrusted files: regular files of bounded size and depth, inside their folder."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from vaectl.errors import DataError, RunError, UsageError
from vaectl.system.runtime import memory

# size limits for a config, the header of weights, run.json, and files that grow with epochs or examples; parsed JSON
# takes up to about thirty times the memory of its text
CONFIG_BYTES, HEADER_BYTES, RECORD_BYTES, SERIES_BYTES = 1 << 18, 1 << 20, 1 << 24, 1 << 26
# limit for what a file of data that is read whole may take in memory, unless LIMIT_VARIABLE says otherwise; dSprites,
# the largest packed data set in common use, takes 2.8 GiB
DATA_BYTES, LIMIT_VARIABLE = 3 << 30, "VAECTL_MAX_BYTES"
# bytes that one byte of deflated data, as in .npz and .gz, can become; https://zlib.net/zlib_tech.html
DEFLATE_RATIO = 1032
UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
# levels of nested tables and lists; files written by vaectl have at most six
LEVELS = 16
# the square of a larger number overflows a float32
LARGEST = 1e30


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; a FIFO, which would block, and a device are refused.

    Raises:
        OSError: The file is missing, cannot be read or is not a regular file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    with path.open("rb") as file:
        yield file


def read_text(path: Path, limit: int, *, errors: str = "strict") -> str:
    """Read the UTF-8 text of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: The file is missing, cannot be read, is not a regular file or is larger.
        ValueError: The file is not UTF-8 and ``errors`` is strict.
    """
    with open_regular(path) as file:
        # no more than the limit, because a sparse file may have terabytes
        content = file.read(limit + 1)
        if len(content) > limit:
            raise OSError(errno.EFBIG, f"it is larger than {size_text(limit)}", str(path))
    return content.decode("utf-8", errors)


def parse_json(text: str, *, any_number: bool = False) -> Any:
    """Parse JSON with finite numbers, 64-bit whole numbers and unique keys.

    Args:
        text: The document.
        any_number: Also accept NaN, infinity and numbers of any size, which the caller must check.

    Raises:
        ValueError: The text is not such JSON, or has more than ``LEVELS`` levels.
    """
    checks: dict[str, Any] = {"parse_constant": _no_constant, "parse_float": _finite, "parse_int": _whole}
    try:
        document = json.loads(text, object_pairs_hook=_unique, **({} if any_number else checks))
    except RecursionError:
        raise ValueError(f"it has more than {LEVELS} levels") from None
    check_depth(document)
    return document


def check_depth(document: Any) -> None:
    """Raise a ValueError if lists and tables are nested more than ``LEVELS`` levels deep.

    Functions that walk a document recurse once per level, and so does Python's ``repr``.
    """
    level = [document]
    for _ in range(LEVELS + 1):
        tables = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        if not tables:
            return
        level = [child for table in tables for child in table if isinstance(child, dict | list)]
    raise ValueError(f"it has more than {LEVELS} levels")


def path_within(folder: Path, name: str) -> Path:
    """A path below a folder. The folder itself may be a link, but no link below it may lead out of it.

    Raises:
        RunError: A link on the path leads out of the folder.
    """
    home, path = os.path.realpath(folder), folder
    for step in Path(name).parts:
        path /= step
        if path.is_symlink() and os.path.commonpath([home, target := os.path.realpath(path)]) != home:
            raise RunError(f"{path} is a link that leads out of the run's folder, to {target}")
    return path


def data_limit() -> int:
    """Bytes that a file of data that is read whole may take: ``DATA_BYTES`` or half of the memory, if that is less.

    The environment's VAECTL_MAX_BYTES is used instead if it is set: bytes, or with a unit such as 8G or 8GiB.

    Raises:
        UsageError: VAECTL_MAX_BYTES is not a size.
    """
    text = os.environ.get(LIMIT_VARIABLE)
    if not text:
        return min(DATA_BYTES, memory() // 2)
    size = re.fullmatch(r"(\d{1,18}) *([KMGT]?)(i?B)?", text.strip(), re.ASCII | re.IGNORECASE)
    if size is None:
        raise UsageError(f"{LIMIT_VARIABLE} must be a number of bytes such as 8589934592 or 8GiB; got '{text:.40}'")
    return int(size[1]) << UNITS[size[2].upper()]


def check_size(what: str, size: int, hint: str = "") -> None:
    """Refuse data that would take more memory than ``data_limit``, before any of it is taken.

    Args:
        what: The subject of the message, such as a file's path and ``unpacked``.
        size: Bytes of memory that it would take.
        hint: Another way to use the data, or empty.

    Raises:
        DataError: The size is over the limit.
    """
    if size > (limit := data_limit()):
        allow = f"if you trust the file and have the memory, raise the limit: {LIMIT_VARIABLE}={-(-size // 2**30)}GiB"
        raise DataError(
            f"{what} would take {size_text(size)} of memory; the limit is {size_text(limit)}",
            hint=f"{hint}; or {allow}" if hint else allow,
        )


def check_packed(claimed: int, stored: int) -> None:
    """Raise a ValueError if deflated data of ``stored`` bytes claim to be more than they can be unpacked."""
    if claimed > DEFLATE_RATIO * stored:
        raise ValueError(f"{size_text(stored)} of packed data cannot be the {size_text(claimed)} that they claim to be")


def size_text(count: float) -> str:
    """A number of bytes with a unit, such as ``64 KiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:,.0f} {unit}" if count == round(count) or count >= 100 else f"{count:.1f} {unit}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("an object has a duplicate key")
    return table


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text:.40} is too large")
    return number


def _whole(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"the number {text:.40} is too large")
    return int(text)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def is_number(value: Any) -> bool:
    """Whether a value is a number whose square does not overflow a float32."""
    return isinstance(value, int | float) and abs(value) <= LARGEST


def has_numbers(table: Any, *keys: str) -> bool:
    """Whether a value is a table with a finite number under each key."""
    values = [table.get(key) for key in keys] if isinstance(table, Mapping) else [None]
    return all(is_number(value) for value in values)
