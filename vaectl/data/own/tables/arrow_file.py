"""Files of Arrow's formats, ``.parquet``, ``.arrow`` and ``.feather``, of which a few rows are read at a time."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vaectl.errors import DataError
from vaectl.system.extras import require
from vaectl.system.reading import check_size, open_regular

# first and last bytes of the format of files, where a stream begins in it, and first bytes of the oldest feather files
FILE_MARK, FILE_START, OLD_MARK = b"ARROW1", 8, b"FEA1"
# the kind of a message that holds a dictionary
DICTIONARY = 2


@dataclass(frozen=True)
class Stored:
    """An open file.

    Attributes:
        path: Its path.
        schema: Its schema, as pyarrow has it.
        count: Its number of rows as it claims them.
        largest: Bytes of the largest piece, which is unpacked at once.
    """

    path: Path
    schema: Any
    count: int
    largest: int
    _file: Any

    def batches(self, size: int, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """The rows, at most ``size`` at a time, as pyarrow's record batches, in order.

        Args:
            size: Rows of a batch.
            columns: The columns to read; None for all.
        """
        if self.path.suffix.lower() == ".parquet":
            yield from self._file.iter_batches(size, columns=columns)
            return
        for batch in self._file():
            selection = batch if columns is None else batch.select(columns)
            for start in range(0, batch.num_rows, size):
                yield selection.slice(start, size)


@contextmanager
def stored_file(path: Path) -> Iterator[Stored]:
    """Open a file of one of Arrow's formats.

    Raises:
        DataError: It cannot be read, or is damaged.
        VaectlError: pyarrow is not installed.
    """
    require("pyarrow", f"a {path.suffix.lower()} file")
    import pyarrow as pa

    try:
        with open_regular(path) as file:
            yield _parquet(path, file) if path.suffix.lower() == ".parquet" else _arrow(path, file)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or str(error).splitlines()[0]}") from None
    except (pa.ArrowException, ValueError, MemoryError, OverflowError, struct.error) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is damaged: {text:.200}") from None


def _parquet(path: Path, file: BinaryIO) -> Stored:
    from pyarrow import parquet

    stored = parquet.ParquetFile(file)
    groups = [stored.metadata.row_group(number).total_byte_size for number in range(stored.metadata.num_row_groups)]
    if stored.metadata.num_rows < 0 or any(size < 0 for size in groups):
        raise ValueError("it claims a negative size")
    return Stored(path, stored.schema_arrow, stored.metadata.num_rows, max(groups, default=0), stored)


def _arrow(path: Path, file: BinaryIO) -> Stored:
    """Open a file of Arrow's own format; one that can be read in any order is a stream after its mark, too."""
    from pyarrow import ipc

    first = file.read(len(FILE_MARK))
    if first.startswith(OLD_MARK):
        raise DataError(
            f"{path} is a feather file of version 1, which is no longer read", hint="write it again with pandas"
        )
    start = FILE_START if first == FILE_MARK else 0
    if start:
        file.seek(-len(FILE_MARK), os.SEEK_END)
        if file.read() != FILE_MARK:
            raise DataError(f"{path} is cut off: it ends without the mark of its end")

    def again() -> Any:
        file.seek(start)
        return ipc.open_stream(file)

    count = largest = 0
    file.seek(start)
    for message in ipc.MessageReader.open_stream(file):
        if message.type != "schema":
            rows, size = claims(message.metadata.to_pybytes(), message.body)
            check_size(f"a piece of {path}", size)
            count, largest = count + (rows if message.type == "record batch" else 0), max(largest, size)
    return Stored(path, again().schema, count, largest, again)


def claims(metadata: bytes, body: Any) -> tuple[int, int]:
    """The rows of a piece, and the bytes that it claims to become when it is unpacked, which pyarrow does not tell.

    Args:
        metadata: The head of a record batch or of a dictionary, as a flatbuffer.
        body: Its buffers; one that is packed begins with its size.

    Raises:
        struct.error, ValueError: They are damaged.

    References:
        Arrow's columnar format, https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format
    """

    def number(form: str, place: int) -> int:
        value: int = struct.unpack_from(f"<{form}", metadata, place)[0]
        return value

    def member(table: int, index: int) -> int | None:
        """The place of a member of a table, or None if it is left out."""
        members = table - number("i", table)
        offset = number("H", members + 4 + 2 * index) if 4 + 2 * index < number("H", members) else 0
        return table + offset if offset else None

    def table_at(place: int | None) -> int:
        if place is None:
            raise ValueError("it has no head")
        return place + number("I", place)

    message = table_at(0)
    kind, batch = member(message, 1), table_at(member(message, 2))
    if kind is not None and number("B", kind) == DICTIONARY:
        batch = table_at(member(batch, 1))
    length, buffers = member(batch, 0), member(batch, 2)
    rows, size, packed = (0 if length is None else number("q", length)), 0, member(batch, 3) is not None
    if rows < 0:
        raise ValueError("it claims a negative size")
    if buffers is not None:
        first = table_at(buffers)
        for index in range(number("I", first)):
            offset, stored = number("q", first + 4 + 16 * index), number("q", first + 12 + 16 * index)
            whole = struct.unpack_from("<q", body, offset)[0] if packed and stored else stored
            size += max(whole, stored)  # -1 for one that was not worth packing
    return rows, size
