"""Where image files are: in a folder, or packed in a zip or tar archive."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from vaectl.data.info import ACCOUNT_BYTES
from vaectl.errors import DataError
from vaectl.system.reading import HEADER_BYTES, check_packed, check_size, open_regular, size_text

# limit for one packed file, which is unpacked in memory; larger ones than the second are unpacked one at a time
FILE_BYTES, LARGE_BYTES = 1 << 28, 1 << 24
# memory of an archive's list of members for each byte of it
LIST_RATIO = 16
UNPACKING = threading.Lock()


class UnreadableError(Exception):
    """A file of a store cannot be read; the text is the rest of a sentence that begins with its name."""


class Store(Protocol):
    """Files by name, which several threads can read at once."""

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file for reading.

        Raises:
            OSError, UnreadableError: It cannot be read.
        """


@dataclass(frozen=True)
class FolderStore:
    """The files below a folder.

    Attributes:
        root: The folder.
    """

    root: Path

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a regular file."""
        return open_regular(self.root / name)


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        name: Its path.
        problem: The reason why it cannot be read, or None.
    """

    name: str
    problem: str | None = None


class _Measured:
    """A file whose reads are held against the limit of memory, because an archive's list is read whole."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file, self._size = path, file, path.stat().st_size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        """Read as a file does, unless it would take too much memory."""
        if size < 0 or size > HEADER_BYTES:
            rest = max(0, self._size - self._file.tell())
            size = rest if size < 0 else min(size, rest)
            check_size(f"the list of the files in {self._path}", LIST_RATIO * size, "unpack it and name the folder")
        return self._file.read(size)


class ZipStore:
    """The members of a zip archive.

    Args:
        path: The archive.

    Raises:
        DataError: It is damaged, or has too many members.
    """

    def __init__(self, path: Path) -> None:
        self._room = path.stat().st_size
        try:
            with open_regular(path):
                pass  # a pipe would block
            file = path.open("rb")
            weakref.finalize(self, file.close)
            self._archive = zipfile.ZipFile(_Measured(path, file))
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from None
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
            raise DataError(f"{path} is damaged: {str(error) or 'it is no zip archive'}") from None

    def members(self) -> Iterator[Member]:
        """List the files."""
        for info in self._archive.NameToInfo.values():
            if not info.is_dir():
                yield Member(info.filename, self._problem(info))

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Unpack a member in memory."""
        info = self._archive.getinfo(name)
        if problem := self._problem(info):
            raise UnreadableError(problem)
        with _turn(info.file_size):
            try:
                with self._archive.open(info) as member:
                    content = member.read(info.file_size)  # without a size zipfile unpacks more than it claims
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
                raise UnreadableError(f"is damaged: {error!s:.100}") from None
            yield io.BytesIO(content)

    def _problem(self, info: zipfile.ZipInfo) -> str | None:
        if stat.S_ISLNK(info.external_attr >> 16):
            return "is a link, which is not followed in an archive"
        if info.flag_bits & 1:
            return "is encrypted"
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return f"is packed by method {info.compress_type}: store or deflate it"
        try:
            check_packed(info.file_size, min(info.compress_size, self._room))
        except ValueError as error:
            return f"is damaged: {error}"
        return too_large(info.file_size)


class TarStore:
    """The members of tar archives that are not compressed; the offset of each is looked up once.

    Args:
        archives: Path of each archive by the beginning of its members' names, such as ``shard-0.tar/``; empty for one.

    Raises:
        DataError: One is damaged or compressed, or they have too many members.
    """

    def __init__(self, archives: Mapping[str, Path]) -> None:
        self._members, self._places = list[Member](), dict[str, tuple[int, int, int]]()
        self._files: list[BinaryIO] = []
        for prefix, path in archives.items():
            try:
                with open_regular(path):
                    pass  # a pipe would block
                self._files.append(path.open("rb", buffering=0))
                weakref.finalize(self, self._files[-1].close)
                with open_regular(path) as file:
                    self._list(path, file, prefix)
            except OSError as error:
                raise DataError(f"cannot read {path}: {error.strerror or error}") from None
            except (tarfile.TarError, ValueError, EOFError) as error:
                raise DataError(f"{path} is damaged or no tar archive: {error!s:.200}") from None

    def _list(self, path: Path, file: BinaryIO, prefix: str) -> None:
        size, number = path.stat().st_size, len(self._files) - 1
        if not size:
            raise DataError(f"{path} is empty")
        if file.read(2) in (b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5"):
            raise DataError(
                f"{path} is compressed, so its images cannot be read one by one", hint="unpack it and name the folder"
            )
        file.seek(0)
        with tarfile.open(fileobj=_Headers(file), mode="r:") as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined] # tarfile keeps all that it has seen
                if info.isdir():
                    continue
                name, problem = prefix + info.name.removeprefix("./"), None
                if info.issym() or info.islnk():
                    problem = "is a link, which is not followed in an archive"
                elif not info.isreg() or info.issparse():
                    problem = "is not a regular file"
                else:
                    problem = too_large(info.size)
                self._members.append(Member(name, problem))
                self._places[name] = (number, info.offset_data, info.size)
                if len(self._members) % 10_000 == 0:
                    check_size(f"the list of the files in {path}", 4 * ACCOUNT_BYTES * len(self._members))
            file.seek(archive.offset)
            last = file.read(tarfile.BLOCKSIZE)
            if not last:
                raise ValueError(f"it is cut off after {len(self._members):,} files, before the mark of its end")
            if any(last):
                raise ValueError(f"after {len(self._members):,} files comes none, nor the end")

    def members(self) -> Iterator[Member]:
        """List the files."""
        return iter(self._members)

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Read a member into memory."""
        number, offset, size = self._places[name]
        if problem := too_large(size):
            raise UnreadableError(problem)
        with _turn(size):
            content = os.pread(self._files[number].fileno(), size, offset)
            if len(content) < size:
                raise UnreadableError("is cut off")
            yield io.BytesIO(content)


class _Headers:
    """A file of which no more than a header is read at once, because a tar archive may claim long ones."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        """Read as a file does.

        Raises:
            ValueError: It would be more than a header.
        """
        if not 0 <= size <= HEADER_BYTES:
            raise ValueError(f"a header is longer than {size_text(HEADER_BYTES)}")
        return self._file.read(size)


def too_large(size: int) -> str | None:
    """The problem with a packed file of so many bytes; None if there is none."""
    return (
        f"has {size_text(size)}; the limit for a packed file is {size_text(FILE_BYTES)}" if size > FILE_BYTES else None
    )


def _turn(size: int) -> AbstractContextManager[object]:
    """A context in which a file may be unpacked: a large one waits until no other large one is in memory."""
    return UNPACKING if size > LARGE_BYTES else nullcontext()
