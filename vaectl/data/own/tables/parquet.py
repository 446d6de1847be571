"""Tables of Arrow's formats, read a few rows at a time, so that memory holds little beside numbers.

Shapes: ``B`` rows at once, ``W`` columns of numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vaectl.data.info import ACCOUNT_BYTES
from vaectl.data.own.source import Reading
from vaectl.data.own.tables.arrow_file import Stored, stored_file
from vaectl.data.own.tables.columns import MOST_COLUMNS, STREAM_INSTEAD, Labels, LineNumbers, Numbers, Table
from vaectl.data.own.tables.lists import Lists, lists_of
from vaectl.data.own.tables.roles import Roles, no_numbers, roles_of
from vaectl.errors import DataError
from vaectl.system.reading import check_size

# cells that are read at once
CELLS = 1 << 18


def read_parquet(path: Path, reading: Reading) -> Table:
    """Read a ``.parquet``, ``.arrow`` or ``.feather`` file.

    Raises:
        DataError: The file is damaged, is not a table of numbers, or would take too much memory.
        SettingError: A column that an option names does not exist, or the label column does not hold classes.
    """
    with stored_file(path) as stored:
        return _read(stored, reading)


def _read(stored: Stored, reading: Reading) -> Table:
    path, names = stored.path, list(stored.schema.names)
    if len(names) > MOST_COLUMNS:
        raise DataError(f"{path} has {len(names):,} columns; at most {MOST_COLUMNS:,}")
    if duplicate := next((name for name, n in Counter(names).items() if n > 1), None):
        raise DataError(f"{path} has two columns called '{duplicate}'")
    lists = lists_of(stored, reading)
    width = len(names) if lists is None else lists.width
    # the numbers as float32 and what is kept of a row; and the largest piece, which is unpacked at once
    check_size(f"the table {path}", stored.count * (4 * width + ACCOUNT_BYTES) + stored.largest, STREAM_INSTEAD)
    roles = roles_of(
        path,
        names,
        reading,
        lambda index: _is_real(stored, index),
        lambda index: _counts(stored, index),
        beside=lists is not None,
    )
    if lists is not None:
        lists.note_others(path, names, roles, reading)
    else:
        for index in roles.numbers:
            if not _is_numbers(stored.schema.field(index).type):
                raise _no_numbers(stored, index)
    return _Gatherer(stored, roles, lists).table()


@dataclass
class _Gatherer:
    """Gathers the rows of a table.

    Attributes:
        stored: The file.
        roles: The roles of its columns.
        lists: The column of lists whose numbers are read instead of columns, or None.
    """

    stored: Stored
    roles: Roles
    lists: Lists | None

    def table(self) -> Table:
        """Read the file; a ValueError if it holds more rows than it claims."""
        stored, roles, lists = self.stored, self.roles, self.lists
        names = list(stored.schema.names)
        columns = [names[index] for index in roles.numbers] if lists is None else lists.names
        numbers, labels = Numbers(stored.count, len(columns)), {index: Labels() for index in roles.texts}
        line_numbers, bad, done = LineNumbers(), list[tuple[str, str]](), 0
        read = [*(columns if lists is None else [lists.name]), *(names[index] for index in roles.texts)]
        for batch in stored.batches(max(1, CELLS // max(1, len(columns))), read if len(read) < len(names) else None):
            problems = dict[int, str]()
            block = _block(batch, columns, problems) if lists is None else lists.block(batch, problems)
            texts = {index: _texts(batch, names[index], problems) for index in roles.texts}
            usable = np.ones(len(block), bool)
            usable[list(problems)] = False
            good = np.flatnonzero(usable)
            numbers.add(block[good])
            line_numbers.add(good + done + 1)
            for index, column in texts.items():
                labels[index].add(column[row] for row in good.tolist())
            bad += [(f"row {done + row + 1}", problem) for row, problem in sorted(problems.items())]
            done += len(block)
            if done > stored.count:
                raise ValueError(f"it holds more than the {stored.count:,} rows that it claims")
        return Table(
            names if lists is None else columns,
            columns,
            numbers,
            line_numbers,
            None if roles.label is None else labels[roles.label].kinds(stored.path, names[roles.label]),
            np.zeros(0, np.int32) if roles.label is None else labels[roles.label].codes(),
            None if roles.group is None else labels[roles.group].hashes(),
            bad,
            self._bools(columns) if lists is None else frozenset(),
            lists is None,
            None if lists is None else lists.axes,
        )

    def _bools(self, columns: Sequence[str]) -> frozenset[str]:
        """The columns of true and false."""
        from pyarrow import types

        schema = self.stored.schema
        return frozenset(name for name in columns if types.is_boolean(schema.field(name).type))


def _is_numbers(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def _no_numbers(stored: Stored, index: int) -> DataError:
    """The error for a column that holds something else than numbers, such as images outside of ``.parquet``."""
    from pyarrow import types

    field = stored.schema.field(index)
    inside = [part.type for part in field.type] if types.is_struct(field.type) else [field.type]
    if any(types.is_binary(kind) or types.is_large_binary(kind) for kind in inside):
        return DataError(
            f"{stored.path}: column '{field.name}' holds images or other bytes; images are read from .parquet files",
            hint="save it as such: datasets.load_from_disk(FOLDER)['train'].to_parquet('images.parquet')",
        )
    return no_numbers(stored.path, field.name, str(field.type))


def _is_real(stored: Stored, index: int) -> bool:
    """Whether a column holds real numbers of which some are not whole."""
    from pyarrow import types

    if not types.is_floating(stored.schema.field(index).type):
        return False
    for batch in stored.batches(CELLS, [stored.schema.names[index]]):
        values = batch.column(0).drop_null().to_numpy(zero_copy_only=False)
        if (values != np.rint(values)).any():
            return True
    return False


def _counts(stored: Stored, index: int) -> bool:
    """Whether each number of a column is the one above plus 1."""
    if not _is_numbers(stored.schema.field(index).type):
        return False
    last = np.zeros(0)
    for batch in stored.batches(CELLS, [stored.schema.names[index]]):
        values = np.concatenate([last, _floats(batch.column(0))])
        if not (np.diff(values) == 1).all():
            return False
        last = values[-1:]
    return bool(len(last))


def _floats(column: Any) -> np.ndarray:
    """The numbers of a column, float64 (B,), nan for null."""
    import pyarrow as pa
    from pyarrow import compute

    numbers: np.ndarray = compute.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
    return numbers


def _block(batch: Any, columns: Sequence[str], problems: dict[int, str]) -> np.ndarray:
    """The numbers of some rows, float64 (B, W); those that are missing or not finite become problems."""
    block = np.empty((batch.num_rows, len(columns)))
    for out, name in enumerate(columns):
        block[:, out] = _floats(batch.column(name))
        for row in np.flatnonzero(~np.isfinite(block[:, out])).tolist():
            problems.setdefault(row, f"column '{name}' is empty or not finite")
    return block


def _texts(batch: Any, name: str, problems: dict[int, str]) -> list[str]:
    """The labels of some rows as text; those that are missing become problems."""
    column = batch.column(name)
    for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
        problems.setdefault(row, f"column '{name}' is empty")
    return ["" if value is None else str(value) for value in column.to_pylist()]
