"""A column of lists of equal length, whose numbers are the examples of a table: vectors, or images.

Shapes: ``B`` rows at once, ``W`` numbers of a list.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vaectl.data.own.source import Reading
from vaectl.data.own.tables.arrow_file import Stored
from vaectl.data.own.tables.columns import MOST_COLUMNS
from vaectl.data.own.tables.roles import Roles
from vaectl.errors import DataError, SettingError, nearest

# lists from which their usual length is told
FIRST_LISTS = 64


@dataclass(frozen=True)
class Lists:
    """A column of lists, maybe of lists again.

    Attributes:
        name: Its name.
        lengths: The length of every list, from the outermost to the innermost.
    """

    name: str
    lengths: tuple[int, ...]

    @property
    def width(self) -> int:
        """W."""
        return math.prod(self.lengths)

    @property
    def names(self) -> list[str]:
        """Names for the numbers: that of the column, and a count."""
        return [f"{self.name}{index}" for index in range(self.width)]

    @property
    def axes(self) -> tuple[int, ...] | None:
        """The axes of lists of lists, or None for plain lists."""
        return self.lengths if len(self.lengths) > 1 else None

    def block(self, batch: Any, problems: dict[int, str]) -> np.ndarray:
        """The numbers of some rows, float64 (B, W); lists that cannot be used become problems, and zeros."""
        import pyarrow as pa
        from pyarrow import compute

        column = _plain(batch.column(self.name))
        rows, each = np.arange(batch.num_rows), 1
        for length in self.lengths:
            lengths = compute.list_value_length(column).fill_null(-1).to_numpy(zero_copy_only=False)
            right = (lengths.reshape(len(rows), each) == length).all(1)
            for row, wrong in zip(rows[~right].tolist(), lengths.reshape(len(rows), each)[~right], strict=True):
                odd = int(wrong[wrong != length][0])
                what = "is empty" if odd < 0 else f"holds a list of {odd:,} numbers, not {length:,}"
                problems[row] = f"column '{self.name}' {what}"
            rows, column = rows[right], column.filter(pa.array(np.repeat(right, each)))
            column, each = _plain(compute.list_flatten(column)), each * length
        block = np.zeros((batch.num_rows, self.width))
        block[rows] = compute.cast(column, pa.float64()).to_numpy(zero_copy_only=False).reshape(len(rows), self.width)
        for row in np.flatnonzero(~np.isfinite(block).all(1)).tolist():
            problems[row] = f"column '{self.name}' holds a number that is missing or not finite"
        return block

    def note_others(self, path: Path, names: Sequence[str], roles: Roles, reading: Reading) -> None:
        """Note which columns are read, and which are left out."""
        others = [names[index] for index in roles.numbers if names[index] != self.name]
        size = " x ".join(map(str, self.lengths))
        text = f"{path.name}: column '{self.name}' holds lists of {size} numbers, which are the examples"
        if others:
            text += f"; left out: {', '.join(others[:5])}{', ...' if len(others) > 5 else ''}"
        reading.note(text)


def lists_of(stored: Stored, reading: Reading) -> Lists | None:
    """The column of lists that holds the examples of a file, or None if its columns hold numbers.

    Raises:
        DataError: Several columns hold lists, or its lists are too long or empty.
        SettingError: ``images_key`` does not name such a column.
    """
    names = [field.name for field in stored.schema if _depth(field.type)]
    key = reading.options.images_key
    if key is not None and key not in names and not (reading.lenient and not names):
        known = ", ".join(names[:10]) or "none"
        raise SettingError(
            "data.images_key",
            f"names no column of lists of {stored.path.name}: '{key:.100}'",
            hint=nearest(key, names) or f"its columns of lists: {known}",
        )
    if not names:
        return None
    if key is None and len(names) > 1:
        raise DataError(
            f"{stored.path} has several columns of lists: {', '.join(names[:10])}",
            hint=f"name the one that holds the examples: --images-key {names[0]}",
        )
    name = key or names[0]
    lengths = _lengths(stored, name)
    if lengths is None or not 0 < math.prod(lengths) <= MOST_COLUMNS * 256:
        what = "no numbers" if lengths is None else f"lists of {' x '.join(map(str, lengths))} numbers"
        raise DataError(f"{stored.path}: column '{name}' holds {what}")
    return Lists(name, lengths)


def _lengths(stored: Stored, name: str) -> tuple[int, ...] | None:
    """The usual lengths of the first lists of a column that are there, or None if it has none."""
    counts = Counter[tuple[int, ...]]()
    for batch in stored.batches(FIRST_LISTS, [name]):
        for value in _plain(batch.column(name)):
            lengths, item = list[int](), value.as_py()
            while isinstance(item, list):
                lengths.append(len(item))
                item = item[0] if item else None
            if lengths:
                counts[tuple(lengths)] += 1
        if counts:
            return counts.most_common(1)[0][0]
    return None


def _depth(kind: Any) -> int:
    """How deep the lists of numbers of a type are nested; 0 for other types."""
    import pyarrow as pa
    from pyarrow import types

    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = kind.value_type
        if types.is_integer(inner) or types.is_floating(inner) or types.is_boolean(inner):
            return 1
        return 1 + depth if (depth := _depth(inner)) else 0
    return 0


def _plain(column: Any) -> Any:
    """A column of an extension's type as the lists in which it is stored."""
    return column.storage if hasattr(column, "storage") else column
