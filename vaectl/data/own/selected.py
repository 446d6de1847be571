"""Some of the rows of own data.

Shapes: ``N`` examples, ``B`` of them read at once, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vaectl.data.own.joining import ChainedRows
from vaectl.data.own.pictures.decoding import FileRows
from vaectl.data.own.rows import ArrayRows, BadExampleError, Rows
from vaectl.data.own.source import Source
from vaectl.data.selection import chosen
from vaectl.errors import DataError


@dataclass(frozen=True)
class SelectedRows:
    """Some rows of a part.

    Attributes:
        source: The rows of the part.
        index: Row of each example there, int64 (N,).
    """

    source: Rows
    index: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """X."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers that ``read`` returns."""
        return self.source.dtype

    def __len__(self) -> int:
        return len(self.index)

    def name(self, row: int) -> str:
        """Name of an example, by its row in the part."""
        return self.source.name(int(self.index[row]))

    def read(self, index: np.ndarray) -> np.ndarray:
        """Read examples as ``Rows.read`` does."""
        try:
            return self.source.read(self.index[index])
        except BadExampleError as error:
            row = int(np.flatnonzero(self.index == error.row)[0])
            raise BadExampleError(row, error.problem) from None


def without_examples(rows: Rows) -> Rows:
    """Rows that tell only what examples are like, if the rows are an array, so that it need not stay in memory."""
    if isinstance(rows, SelectedRows):
        return SelectedRows(without_examples(rows.source), rows.index)
    return rows.emptied() if isinstance(rows, ArrayRows | ChainedRows) else rows


def files_of(rows: Rows) -> Sequence[str] | None:
    """The file of each example; None if the rows are no files."""
    if isinstance(rows, SelectedRows):
        files = files_of(rows.source)
        return None if files is None else [files[row] for row in rows.index.tolist()]
    return rows.names if isinstance(rows, FileRows) else None


def selected(name: str, source: Source, classes: Sequence[str]) -> tuple[Source, int]:
    """Keep the examples of some classes.

    Args:
        name: Name of the data set.
        source: The source.
        classes: Names or numbers of the classes.

    Returns:
        The source without the others, and their number.

    Raises:
        SettingError: A class is unknown, or there are none.
        DataError: A part has no example of these classes.
    """
    rows, labels, names = chosen(name, classes, source.labels, source.classes)
    for part, part_rows in rows.items():
        if not len(part_rows):
            raise DataError(f"{name}: its {part} part has no example of the classes {', '.join(classes)}")
    parts = {part: SelectedRows(part_source, rows[part]) for part, part_source in source.parts.items()}
    factors = {
        part: {key: values[rows[part]] for key, values in part_factors.items()}
        for part, part_factors in source.factors.items()
    }
    groups = None if source.groups is None else {part: values[rows[part]] for part, values in source.groups.items()}
    left_out = sum(map(len, source.parts.values())) - sum(map(len, parts.values()))
    return (
        dataclasses.replace(source, parts=parts, labels=labels, classes=names, factors=factors, groups=groups),
        left_out,
    )
