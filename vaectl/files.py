"""Files that are whole or not there: written beside their place, flushed to disk, then renamed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vaectl.errors import OutputError, UsageError

# in the names of files that are not whole yet
MARK = ".tmp-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of ``path``, renamed to it when the block ends well, else removed.

    Raises:
        OutputError: The folder is missing or cannot be written, or the disk is full.
    """
    temporary = None
    try:
        # the suffix is kept because writers choose a format by it
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}{MARK}", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        rename(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder; nobody may be writing to it."""
    for file in folder.glob(f".*{MARK}*"):
        file.unlink(missing_ok=True)


def rename(source: Path, target: Path) -> None:
    """Rename a file within its folder, over an older one, and flush the folder to disk, so that it stays renamed."""
    os.replace(source, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
