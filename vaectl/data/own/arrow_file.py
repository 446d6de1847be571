"""Files of Arrow's formats, ``.parquet``, ``.arrow`` and ``.feather``, of which a few rows are read at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vaectl.errors import DataError
from vaectl.system.extras import require
from vaectl.system.reading import open_regular

# first bytes of the format of files, and of the oldest feather files
FILE_MARK, OLD_MARK = b"ARROW1", b"FEA1"


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
        for batch in _pieces(self._file):
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
    except (pa.ArrowException, ValueError, MemoryError, OverflowError) as error:
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
    from pyarrow import ipc

    first = file.read(len(FILE_MARK))
    file.seek(0)
    if first.startswith(OLD_MARK):
        raise DataError(
            f"{path} is a feather file of version 1, which is no longer read",
            hint="write it again with pandas",
        )

    def again() -> Any:
        file.seek(0)
        return ipc.open_file(file) if first == FILE_MARK else ipc.open_stream(file)

    count = largest = 0
    for batch in _pieces(again):
        count, largest = count + batch.num_rows, max(largest, batch.nbytes)
    return Stored(path, again().schema, count, largest, again)


def _pieces(opened: Any) -> Iterator[Any]:
    """The pieces in which a file of Arrow's own format was written."""
    reader = opened()
    if hasattr(reader, "num_record_batches"):
        yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        yield from reader
