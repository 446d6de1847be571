"""Tables as ``.parquet``, read a few rows at a time, so that memory holds little more than numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vaectl.data.info import ACCOUNT_BYTES
from vaectl.data.own.columns import MOST_COLUMNS, STREAM_INSTEAD, Labels, Numbers, Table, label_index, no_numbers
from vaectl.data.own.source import Reading
from vaectl.errors import DataError
from vaectl.system.reading import check_size, open_regular

# cells that are read at once
CELLS = 1 << 18


def read_parquet(path: Path, reading: Reading) -> Table:
    """Read a ``.parquet`` file.

    Raises:
        DataError: The file is damaged, is not a table of numbers, or would take too much memory.
        SettingError: The label column does not exist, or does not hold classes.
    """
    import pyarrow as pa

    try:
        with open_regular(path) as file:
            return _read(path, file, reading)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or str(error).splitlines()[0]}") from None
    except (pa.ArrowException, ValueError, MemoryError, OverflowError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is damaged: {text:.200}") from None


def _read(path: Path, file: BinaryIO, reading: Reading) -> Table:
    from pyarrow import parquet

    stored = parquet.ParquetFile(file)
    count, schema = stored.metadata.num_rows, stored.schema_arrow
    names = list(schema.names)
    if len(names) > MOST_COLUMNS:
        raise DataError(f"{path} has {len(names):,} columns; at most {MOST_COLUMNS:,}")
    groups = [stored.metadata.row_group(number).total_byte_size for number in range(stored.metadata.num_row_groups)]
    if count < 0 or any(size < 0 for size in groups):
        raise ValueError("it claims a negative size")
    # the numbers as float32 and what is kept of a row; and the largest group of rows, which is unpacked at once
    check_size(f"the table {path}", count * (4 * len(names) + ACCOUNT_BYTES) + max(groups, default=0), STREAM_INSTEAD)
    label = label_index(path, names, reading)
    if label is not None and not reading.demands_label and _is_real(stored, schema, label):
        reading.note(f"{path.name}: column '{names[label]}' holds real numbers, so it is not used as the label")
        label = None
    columns = [index for index in range(len(names)) if index != label]
    for index in columns:
        if not _is_numbers(schema.field(index).type):
            raise no_numbers(path, names[index], str(schema.field(index).type))
    numbers, labels = Numbers(count, len(columns)), Labels()
    line_numbers, bad, done = list[np.ndarray](), list[tuple[str, str]](), 0
    for batch in stored.iter_batches(max(1, CELLS // max(1, len(names)))):
        problems = dict[int, str]()
        block = _block(batch, columns, problems)
        texts = [] if label is None else _texts(batch, label, problems)
        usable = np.ones(len(block), bool)
        usable[list(problems)] = False
        good = np.flatnonzero(usable)
        numbers.add(block[good])
        line_numbers.append(good + done + 1)
        if label is not None:
            labels.add(texts[row] for row in good.tolist())
        bad += [(f"row {done + row + 1}", problem) for row, problem in sorted(problems.items())]
        done += len(block)
        if done > count:
            raise ValueError(f"it holds more than the {count:,} rows that it claims")
    return Table(
        [names[index] for index in columns],
        numbers,
        None if label is None else labels.kinds(path, names[label]),
        labels.codes(),
        np.concatenate([np.zeros(0, np.int64), *line_numbers]),
        bad,
    )


def _is_numbers(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def _is_real(stored: Any, schema: Any, label: int) -> bool:
    """Whether a column holds real numbers of which some are not whole."""
    from pyarrow import types

    if not types.is_floating(schema.field(label).type):
        return False
    for batch in stored.iter_batches(CELLS, columns=[schema.names[label]]):
        values = batch.column(0).drop_null().to_numpy(zero_copy_only=False)
        if (values != np.rint(values)).any():
            return True
    return False


def _block(batch: Any, columns: list[int], problems: dict[int, str]) -> np.ndarray:
    """The numbers of some rows, float64 (B, W); those that are missing or not finite become problems."""
    import pyarrow as pa
    from pyarrow import compute

    block = np.empty((batch.num_rows, len(columns)))
    for out, index in enumerate(columns):
        # null becomes nan
        block[:, out] = compute.cast(batch.column(index), pa.float64()).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(~np.isfinite(block[:, out])).tolist():
            problems.setdefault(row, f"column '{batch.schema.names[index]}' is empty or not finite")
    return block


def _texts(batch: Any, label: int, problems: dict[int, str]) -> list[str]:
    """The labels of some rows as text; those that are missing become problems."""
    column = batch.column(label)
    for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
        problems.setdefault(row, f"column '{batch.schema.names[label]}' is empty")
    return ["" if value is None else str(value) for value in column.to_pylist()]
