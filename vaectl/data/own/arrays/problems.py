"""Errors for files that cannot be read: whatever a library raises becomes one line with the file."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vaectl.errors import DataError, VaectlError
from vaectl.system.reading import open_regular

# the first bytes of a format's files
MARKS = {".npy": b"\x93NUMPY", ".npz": b"PK", ".h5": b"\x89HDF\r\n\x1a\n"}
PROBLEMS = (ValueError, EOFError, zipfile.BadZipFile, zlib.error, OSError, LookupError, RuntimeError, TypeError,
            NotImplementedError, OverflowError, MemoryError, AssertionError, AttributeError, struct.error)  # fmt: skip
OBJECTS = "holds Python objects, which are never loaded"


def check_mark(path: Path, suffix: str) -> None:
    """Raise a DataError if a file does not begin with the mark of its format; a pipe does not block."""
    with open_regular(path) as file:
        first = file.read(8)
    if not first:
        raise DataError(f"{path} is empty")
    if not first.startswith(MARKS[suffix]):
        other = next((name for name, mark in MARKS.items() if first.startswith(mark)), None)
        hint = f"a table of text ends in .csv; {WRITERS[suffix]} such files"
        raise DataError(
            f"{path} is not an {suffix} file",
            hint=hint if other is None else f"it is an {other} file: rename it accordingly",
        )


WRITERS = {".npy": "numpy.save writes", ".npz": "numpy.savez writes", ".h5": "h5py and MATLAB write"}


@contextmanager
def data_errors(path: Path) -> Iterator[None]:
    """Turn whatever a library raises for a damaged file into a DataError that names the file."""
    try:
        yield
    except VaectlError:
        raise
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or first_line(error)}") from None
    except PROBLEMS as error:
        raise DataError(f"{path} is damaged: {first_line(error):.300}") from None


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Name an array in the problems with it."""
    try:
        yield
    except PROBLEMS as error:
        raise ValueError(f"array {key!r:.100}: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its type if it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
