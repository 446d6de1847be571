"""Files read with suspicion: regular, of bounded size and depth, and within their folder."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from vaectl.errors import RunError

# the largest files that are read: a config, the header of weights, a run.json, and what grows with epochs or examples;
# parsed, JSON takes up to some thirty times the memory of its text
CONFIG_BYTES, HEADER_BYTES, RECORD_BYTES, SERIES_BYTES = 1 << 18, 1 << 20, 1 << 24, 1 << 26
# tables and lists within each other; no file of ours has more than six
LEVELS = 16
# beyond it the square of a number in a float32 overflows
LARGEST = 1e30


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """A regular file opened for reading: never a FIFO, which would wait for a writer, or a device.

    Raises:
        OSError: It is missing, cannot be read or is something else.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    with path.open("rb") as file:
        yield file


def read_text(path: Path, limit: int, *, errors: str = "strict") -> str:
    """The UTF-8 text of a regular file of at most ``limit`` bytes, of which no more is read.

    Raises:
        OSError: It is missing, cannot be read, is no regular file or is larger.
        ValueError: It is not UTF-8, where ``errors`` is strict.
    """
    with open_regular(path) as file:
        # no more than that of a sparse file, which may claim terabytes
        content = file.read(limit + 1)
        if len(content) > limit:
            raise OSError(errno.EFBIG, f"it is larger than {size_text(limit)}", str(path))
    return content.decode("utf-8", errors)


def parse_json(text: str, *, any_number: bool = False) -> Any:
    """JSON whose numbers are finite, whose whole numbers have 64 bits, and whose objects name a key once.

    Args:
        text: The document.
        any_number: Take NaN, infinity and numbers of any size too, for who checks each of them under its name.

    Raises:
        ValueError: It is something else, or has more than ``LEVELS`` levels.
    """
    checks: dict[str, Any] = {"parse_constant": _no_constant, "parse_float": _finite, "parse_int": _whole}
    try:
        document = json.loads(text, object_pairs_hook=_unique, **({} if any_number else checks))
    except RecursionError:
        raise ValueError(f"it has more than {LEVELS} levels") from None
    check_depth(document)
    return document


def check_depth(document: Any) -> None:
    """Raise a ValueError where lists and tables within each other have more than ``LEVELS`` levels.

    Whoever walks a document calls itself once a level, as does Python to show one.
    """
    level = [document]
    for _ in range(LEVELS + 1):
        tables = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        if not tables:
            return
        level = [child for table in tables for child in table if isinstance(child, dict | list)]
    raise ValueError(f"it has more than {LEVELS} levels")


def within(folder: Path, name: str) -> Path:
    """A path below a folder; the folder itself may be a link, what lies in it may not lead out of it.

    Raises:
        RunError: A link on the way leads out of the folder.
    """
    home, path = os.path.realpath(folder), folder
    for step in Path(name).parts:
        path /= step
        if path.is_symlink() and os.path.commonpath([home, target := os.path.realpath(path)]) != home:
            raise RunError(f"{path} is a link that leads out of the run's folder, to {target}")
    return path


def size_text(count: float) -> str:
    """A number of bytes as a person reads it: ``64 KiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:,.0f} {unit}" if count == round(count) or count >= 100 else f"{count:.1f} {unit}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("an object names a key twice")
    return table


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.40} is too large a number")
    return number


def _whole(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"{text:.40} is too large a number")
    return int(text)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON has")


def is_number(value: Any) -> bool:
    """Whether something is a number that may be in nats, and whose square does not overflow."""
    return isinstance(value, int | float) and abs(value) <= LARGEST


def has_numbers(table: Any, *keys: str) -> bool:
    """Whether something is a table with a finite number under each key."""
    values = [table.get(key) for key in keys] if isinstance(table, Mapping) else [None]
    return all(is_number(value) for value in values)
