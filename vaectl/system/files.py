"""Files that are whole or not there: written beside their place, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from vaectl.errors import OutputError, UsageError

# in the names of files that are not whole yet
MARK = ".tmp-"
# what safetensors calls its own file while it writes one
FOREIGN = ".tmp??????"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the block a file is written: what the system refuses is an OutputError that names it.

    Raises:
        OutputError: It cannot be written, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A new empty file in the folder of ``path``, removed when the block ends unless that gave it another name."""
    # named before it is made, so that it is removed whenever a signal comes; writers choose a format by the suffix
    temporary = path.with_name(f".{path.stem}{MARK}{os.urandom(6).hex()}{path.suffix}")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Flush a file or a folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of ``path``, renamed to it when the block ends well, else removed.

    Raises:
        OutputError: The folder is missing or cannot be written, or the disk is full.
    """
    with writing(path), beside(path) as temporary:
        yield temporary
        _flush(temporary)
        rename(temporary, path)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder; nobody may be writing to it."""
    for pattern in (f".*{MARK}*", FOREIGN):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


def rename(source: Path, target: Path) -> None:
    """Rename a file within its folder, over an older one, and flush the folder to disk, so that it stays renamed."""
    os.replace(source, target)
    _flush(target.parent)


def write_numbered(folder: Path, suffix: str, write: Callable[[Path], None]) -> Path:
    """Write a file under the next free number of a folder, ``0001.png``; it is whole as soon as it is there.

    Args:
        folder: Made if missing.
        suffix: Suffix of the file, which the numbers of other suffixes count for, too.
        write: Called with a path that has the suffix.

    Returns:
        The path, which no other call and no other process has got or will overwrite.

    Raises:
        OutputError: The folder cannot be made or written, or the disk is full.
    """
    try:
        folder.mkdir(exist_ok=True)
        with beside(folder / f"new{suffix}") as temporary:
            write(temporary)
            _flush(temporary)
            while True:
                taken = (int(file.stem) for file in folder.iterdir() if file.stem.isdecimal())
                path = folder / f"{max(taken, default=0) + 1:04d}{suffix}"
                with suppress(FileExistsError):
                    _name(temporary, path)
                    _flush(folder)
                    return path
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {error.strerror or error}") from None


def _name(temporary: Path, path: Path) -> None:
    """Give a file a name that is free, or raise FileExistsError; a rename would overwrite."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # a file system without hard links: the name is taken by an empty file, and for a moment that is seen
        path.touch(exist_ok=False)
        os.replace(temporary, path)


def open_append(path: Path) -> TextIO:
    """A regular file opened to append text to it, made if missing: never a FIFO, which would wait for a reader.

    Raises:
        OSError: It cannot be written or is something else.
    """
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(handle, "a", encoding="utf-8")


def finite(document: Any) -> Any:
    """The document with null in place of every number that JSON does not have."""
    if isinstance(document, float):
        return document if math.isfinite(document) else None
    if isinstance(document, dict):
        return {key: finite(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [finite(value) for value in document]
    return document


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document, whole or not at all.

    Raises:
        OutputError: As ``replacing``.
        ValueError: The document holds a number that is not finite.
    """
    text = json.dumps(document, indent=1, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def check_output(path: Path, suffixes: Collection[str], *, force: bool, flag: str = "-o") -> None:
    """Refuse an output path before any work is done for it.

    Raises:
        UsageError: The suffix is not one of ``suffixes``.
        OutputError: The path is a directory or exists and ``force`` is false, or its folder is missing or read-only.
    """
    if path.suffix.lower() not in suffixes:
        given = f"unknown format '{path.suffix}'" if path.suffix else "has no suffix that names a format"
        raise UsageError(f"{flag} {path}: {given}", hint="allowed: " + ", ".join(suffixes))
    # os.path answers False where Path raises: for a name that is too long
    if os.path.isdir(path):
        raise OutputError(f"{flag} {path} is a directory", hint="name a file in it")
    if not os.path.isdir(path.parent):
        raise OutputError(
            f"{flag} {path}: there is no folder {path.parent}", hint=f"make it with: mkdir -p {path.parent}"
        )
    if os.path.exists(path) and not force:
        raise OutputError(f"{flag} {path} exists", hint="overwrite it with --force, or name another file")
    try:
        handle, probe = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
        os.close(handle)
        Path(probe).unlink()
    except OSError as error:
        raise OutputError(f"{flag} {path}: {path.parent} cannot be written: {error.strerror}") from None
