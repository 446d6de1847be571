"""The lines of a table of text, in a plain file, a ``.gz`` file or the member of a ``.zip`` file."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vaectl.data.own.bounded import Bounded
from vaectl.data.own.tables.columns import STREAM_INSTEAD
from vaectl.errors import DataError
from vaectl.system.reading import check_size, data_limit, open_regular, size_text

# bytes and characters that are read at once, and the longest line: 256 characters for each of the most columns
BLOCK, LONGEST_LINE = 1 << 19, 1 << 24
PACKED = (".gz", ".zip")
TABLES = (".csv", ".tsv")
PROBLEMS = (EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError, struct.error, ValueError)


@dataclass(frozen=True)
class TextFile:
    """A file that holds a table of text.

    Attributes:
        path: The file.
        member: The table in it, for a ``.zip`` file.
    """

    path: Path
    member: str | None = None

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Open the bytes of the table.

        Raises:
            DataError: The file cannot be read, or is damaged.
        """
        try:
            with open_regular(self.path) as file:
                if self.path.suffix.lower() == ".gz":
                    with gzip.GzipFile(fileobj=file) as packed, io.BufferedReader(packed) as unpacked:
                        yield unpacked
                elif self.member is not None:
                    with zipfile.ZipFile(Bounded(file)) as archive, archive.open(self.member) as unpacked:
                        yield unpacked
                else:
                    yield file
        except gzip.BadGzipFile as error:
            raise DataError(f"{self.path} is damaged: {error}") from None
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror or error}") from None
        except PROBLEMS as error:
            if self.path.suffix.lower() not in PACKED:
                raise
            raise DataError(f"{self.path} is damaged: {str(error) or type(error).__name__:.200}") from None


def text_file(path: Path) -> TextFile:
    """The table that a path stands for; a DataError if it is a ``.zip`` file that does not hold exactly one."""
    if path.suffix.lower() != ".zip":
        return TextFile(path)
    names = tables_in_zip(path)
    if len(names) != 1:
        some = f": {', '.join(names[:5])}" if names else ""
        raise DataError(
            f"{path} must hold exactly one table, a {' or '.join(TABLES)} file; it holds {len(names)}{some}",
            hint="unpack it, and name the folder or the file" if names else None,
        )
    return TextFile(path, names[0])


def tables_in_zip(path: Path) -> list[str]:
    """The tables in a ``.zip`` file; none if it holds other files, too; a DataError if it is damaged."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(Bounded(file)) as archive:
            members = [member.filename for member in archive.infolist() if not member.is_dir()]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except PROBLEMS as error:
        raise DataError(f"{path} is damaged: {error!s:.200}") from None
    members = [name for name in members if not any(part.startswith((".", "__MACOSX")) for part in Path(name).parts)]
    tables = [name for name in members if Path(name).suffix.lower() in TABLES]
    return tables if len(tables) == len(members) else []


def inspected(file: TextFile) -> tuple[int, int]:
    """The number of lines and of bytes of a table of text, unpacked.

    Raises:
        DataError: It is not UTF-8, holds a zero byte, or is larger than the limit for data that are read whole.
    """
    decoder, done, feeds, returns, zero = codecs.getincrementaldecoder("utf-8")(), 0, 0, 0, False
    limit = data_limit()
    with file.opened() as stream:
        while True:
            block = stream.read(BLOCK)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                position = done - pending + error.start
                raise DataError(
                    f"{file.path} is not UTF-8 text: {error.reason} at byte {position}",
                    hint="save it as UTF-8; in a spreadsheet that is a format of its own, CSV UTF-8",
                ) from None
            if not block:
                break
            zero, done = zero or b"\0" in block, done + len(block)
            feeds, returns = feeds + block.count(b"\n"), returns + block.count(b"\r")
            if done > limit:  # a packed file may go on for terabytes
                check_size(f"the table {file.path}", done, STREAM_INSTEAD)
    if zero:
        raise DataError(f"{file.path} is not a text table: it holds a zero byte")
    return max(feeds, returns) + 1, done


class Lines:
    """The lines of a file with their ends, and how many were read.

    Args:
        file: The file.
        text: Its text.
        blanks: Whether blanks part the cells, which become tabs.
    """

    def __init__(self, file: TextFile, text: io.TextIOWrapper, *, blanks: bool) -> None:
        self._path, self._text, self._blanks, self.count = file.path, text, blanks, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(LONGEST_LINE + 1)
        if not line:
            raise StopIteration
        self.count += 1
        if len(line) > LONGEST_LINE:
            raise DataError(f"{self._path}, line {self.count}: it is longer than {size_text(LONGEST_LINE)}")
        return "\t".join(line.split()) + "\n" if self._blanks else line

    def block(self) -> list[str]:
        """The next lines, about ``BLOCK`` characters; none at the end."""
        lines, size = list[str](), 0
        for line in self:
            lines.append(line)
            size += len(line)
            if size >= BLOCK:
                break
        return lines

    def rows(self, lines: Sequence[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
        """The cells and the line of each row of a block, and of what follows as long as a quote is open."""
        before = self.count - len(lines)
        reader = csv.reader(itertools.chain(lines, self), delimiter=delimiter)
        try:
            while reader.line_num < len(lines) and (row := next(reader, None)) is not None:
                if row:
                    yield before + reader.line_num, row
        except csv.Error as error:
            raise DataError(f"{self._path}, line {before + reader.line_num}: {error}") from None


@contextmanager
def lines_of(file: TextFile, skip: int = 0, *, blanks: bool = False) -> Iterator[Lines]:
    """The lines of a file after the first ``skip``."""
    with file.opened() as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
        lines = Lines(file, text, blanks=blanks)
        for _ in range(skip):
            next(lines, None)
        yield lines
