"""Atomic files: written under a temporary name in the same folder, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from vaectl.errors import OutputError, UsageError

# pattern of the numbers in the names that are counted up; a name with more digits is not one of them
NUMBER = "[0-9]{1,9}"
# part of the names of incomplete files
MARK = ".tmp-"
# pattern of the temporary files of safetensors
FOREIGN = ".tmp??????"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError in the block, which writes ``path``, into an OutputError that names it.

    Raises:
        OutputError: The file cannot be written, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A new empty file in the folder of ``path``; the end of the block removes it unless it was renamed."""
    # named before it is created, so that it is removed even after a signal; writers choose a format by the suffix
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
    """A temporary path in the folder of ``path``; renamed to ``path`` if the block succeeds, else removed.

    A path that ``beside`` made is itself the temporary one: its caller renames it, and names the file in errors.

    Raises:
        OutputError: The folder is missing or cannot be written, or the disk is full.
    """
    if path.name.startswith(".") and MARK in path.name:
        yield path
        return
    with writing(path), beside(path) as temporary:
        yield temporary
        _flush(temporary)
        rename(temporary, path)


def sweep(folder: Path) -> None:
    """Remove the incomplete files of killed processes from a folder; no process may be writing to it."""
    for pattern in (f".*{MARK}*", FOREIGN):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


def rename(source: Path, target: Path) -> None:
    """Rename a file within its folder, replacing an older one, and flush the folder so that the name is durable."""
    os.replace(source, target)
    _flush(target.parent)


def write_numbered(folder: Path, suffix: str, write: Callable[[Path], None]) -> Path:
    """Write a file under the next free number of a folder, such as ``0001.png``; it is complete once it is visible.

    Args:
        folder: The folder, created if missing.
        suffix: Suffix of the file; numbers of files with other suffixes are skipped, too.
        write: Called with a temporary path that has the suffix.

    Returns:
        The path, which no other call or process gets or overwrites.

    Raises:
        OutputError: The folder cannot be created or written, or the disk is full.
    """
    try:
        folder.mkdir(exist_ok=True)
        with beside(folder / f"new{suffix}") as temporary:
            write(temporary)
            _flush(temporary)
            number = 0
            while True:
                stems = (file.stem for file in folder.iterdir())
                number = max([number, *(int(stem) for stem in stems if re.fullmatch(NUMBER, stem))]) + 1
                path = folder / f"{number:04d}{suffix}"
                with suppress(FileExistsError):
                    _name(temporary, path)
                    _flush(folder)
                    return path
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {error.strerror or error}") from None


def _name(temporary: Path, path: Path) -> None:
    """Give a file a new name, or raise FileExistsError if it exists, which a rename would overwrite."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # a file system without hard links: an empty file reserves the name and is visible for a moment
        path.touch(exist_ok=False)
        try:
            os.replace(temporary, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def open_append(path: Path) -> TextIO:
    """Open a regular file for appending text, created if missing; a FIFO, which would block, is refused.

    Raises:
        OSError: The file cannot be written or is not a regular file.
    """
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
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
    """Write a JSON document atomically.

    Raises:
        OutputError: As ``replacing``.
        ValueError: The document holds a non-finite number.
    """
    text = json.dumps(document, indent=1, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_output(path: Path, write: Callable[[Path], None], *, force: bool, flag: str = "-o") -> None:
    """Write a file that was checked by ``check_output``; without ``force`` one that appeared since then is kept.

    Args:
        path: The file.
        write: Called with the path to write atomically, which has the same suffix.
        force: Whether an existing file is replaced.
        flag: Name of the path in errors.

    Raises:
        OutputError: The path exists and ``force`` is false, the file cannot be written, or the disk is full.
    """
    if force:
        write(path)
        return
    with writing(path), beside(path) as temporary:
        write(temporary)
        _flush(temporary)
        try:
            _name(temporary, path)
        except FileExistsError:
            raise _existing(path, flag) from None
        _flush(path.parent)


def _existing(path: Path, flag: str) -> OutputError:
    return OutputError(f"{flag} {path} exists", hint="overwrite it with --force, or name another file")


def check_output(path: Path, suffixes: Collection[str], *, force: bool, flag: str = "-o") -> None:
    """Check an output path before any work is done for it.

    Raises:
        UsageError: The suffix is not one of ``suffixes``.
        OutputError: The path is a directory or exists and ``force`` is false, or its folder is missing or read-only.
    """
    if path.suffix.lower() not in suffixes:
        problem = f"unknown format '{path.suffix}'" if path.suffix else "has no suffix that names a format"
        raise UsageError(f"{flag} {path}: {problem}", hint="allowed: " + ", ".join(suffixes))
    # os.path returns False for a name that is too long, where Path raises
    if os.path.isdir(path):
        raise OutputError(f"{flag} {path} is a directory", hint="name a file in it")
    if not os.path.isdir(path.parent):
        raise OutputError(
            f"{flag} {path}: the folder {path.parent} does not exist", hint=f"create it with: mkdir -p {path.parent}"
        )
    # also a link that leads nowhere
    if os.path.lexists(path) and not force:
        raise _existing(path, flag)
    try:
        handle, probe = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
        os.close(handle)
        Path(probe).unlink()
    except OSError as error:
        raise OutputError(f"{flag} {path}: {path.parent} cannot be written: {error.strerror}") from None
