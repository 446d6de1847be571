"""Tables of numbers: ``.csv`` and ``.parquet``.

A row is an example of shape (1, 1, W); one column may hold the labels.

Shapes: ``N`` rows, ``W`` columns of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaectl.data.own.parquet_table import read_parquet
from vaectl.data.own.rows import SCALINGS, ArrayRows
from vaectl.data.own.source import Reading, Source, classes_of, unlabelled
from vaectl.data.own.text_table import read_csv
from vaectl.errors import DataError, SettingError
from vaectl.output.arrays import require_format


@dataclass(frozen=True)
class TableRows(ArrayRows):
    """Rows with their numbers in the file."""

    line_numbers: np.ndarray | None = None

    def name(self, row: int) -> str:
        """``row 17``."""
        return f"row {row if self.line_numbers is None else self.line_numbers[row]}"


def open_table(path: Path, reading: Reading) -> Source:
    """Open the numbers of a ``.csv`` or ``.parquet`` file, and the labels in one of its columns.

    Raises:
        DataError: The file is damaged or empty, or a column does not hold numbers.
        SettingError: The label column does not exist, or a change for images was requested.
    """
    if reading.change is not None and reading.change.forced:
        raise SettingError(reading.change.setting, f"is for images; {path.name} is a table")
    require_format(path.suffix.lower())
    table = read_csv(path, reading) if path.suffix.lower() == ".csv" else read_parquet(path, reading)
    if not table.names:
        raise DataError(f"{path} has no column of numbers")
    numbers = table.numbers.values
    if not len(numbers) and not table.bad:
        raise DataError(f"{path} has no rows")
    encoding = table.numbers.encoding(reading.support)
    rows = TableRows(numbers, "table", encoding, line_numbers=table.line_numbers)
    labels, classes = unlabelled(len(rows)), tuple[str, ...]()
    if table.labels is not None:
        kinds, classes = classes_of({"train": table.labels})
        labels = kinds["train"][table.codes]
    return Source(
        {"train": rows}, {"train": labels}, SCALINGS[encoding], classes, table.bad,
        why_resident=f"{path.suffix} files are read whole; save the numbers as .npy", word="rows",
    )  # fmt: skip
