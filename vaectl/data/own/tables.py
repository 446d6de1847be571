"""Tables of numbers: ``.csv`` and ``.parquet``.

A row is an example of shape (1, 1, W); one column may hold the labels.

Shapes: ``N`` rows, ``W`` columns of numbers.
"""

from __future__ import annotations

import csv
import io
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaectl.data.own.rows import SCALINGS, ArrayRows, are_bytes, encoding_of
from vaectl.data.own.source import Reading, Source, classes_of, unlabelled
from vaectl.errors import DataError, SettingError, nearest
from vaectl.output.arrays import require_format
from vaectl.system.reading import open_regular, size_text
from vaectl.system.runtime import memory
from vaectl.system.text import from_cell

LABEL_NAMES = ("label", "class", "target", "y")
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "-"))
DELIMITERS = (",", ";", "\t")
MOST_COLUMNS = 65_536


@dataclass(frozen=True)
class Table:
    """The complete rows of a table.

    Attributes:
        names: Name of each column of numbers (W).
        numbers: float64 (N, W).
        labels: Whole numbers or strings (N,), or None.
        line_numbers: Number of each row in the file, from 1, int64 (N,).
        bad: Name and problem of each unusable row.
    """

    names: Sequence[str]
    numbers: np.ndarray
    labels: np.ndarray | None
    line_numbers: np.ndarray
    bad: Sequence[tuple[str, str]]


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
        name = "data.image_size" if reading.change.size is not None else "data.grayscale"
        raise SettingError(name, f"is for images; {path.name} is a table")
    require_format(path.suffix.lower())
    table = _read_csv(path, reading) if path.suffix.lower() == ".csv" else _read_parquet(path, reading)
    if not table.names:
        raise DataError(f"{path} has no column of numbers")
    if not len(table.numbers) and not table.bad:
        raise DataError(f"{path} has no rows")
    encoding = encoding_of([table.numbers], reading.support)
    # numbers in a text file have no type that says whether they are whole
    if encoding == "numbers" and reading.support in (None, "bytes") and are_bytes(table.numbers):
        encoding = "bytes"
    rows = TableRows(table.numbers, "table", encoding, line_numbers=table.line_numbers)
    labels, classes = classes_of({} if table.labels is None else {"train": table.labels})
    return Source(
        {"train": rows}, labels or {"train": unlabelled(len(rows))}, SCALINGS[encoding], classes, table.bad,
        why_resident=f"{path.suffix} files are read whole; save the numbers as .npy", word="rows",
    )  # fmt: skip


def _read_csv(path: Path, reading: Reading) -> Table:
    try:
        size, memory_bytes = path.stat().st_size, memory()
        # cells take many times the memory of their text
        if size > memory_bytes // 16:
            raise DataError(
                f"{path} holds {size_text(size)}, and this machine has {size_text(memory_bytes)} of memory",
                hint="save the numbers as .npy, which can be streamed",
            )
        with open_regular(path) as file:
            text = file.read(size + 1).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    if "\0" in text:
        raise DataError(f"{path} is not a text table: it holds a zero byte")
    first = text.lstrip().partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(DELIMITERS, key=first.count))
    try:
        cells = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from None
    if not cells:
        raise DataError(f"{path} has no rows")
    width = len(cells[0][1])
    if width > MOST_COLUMNS:
        raise DataError(f"{path} has {width:,} columns; at most {MOST_COLUMNS:,}")
    names = [str(index + 1) for index in range(width)]
    if _is_header(cells):
        names = [from_cell(name.strip()) or str(index + 1) for index, name in enumerate(cells[0][1])]
        cells = cells[1:]
        if duplicate := next((name for name in names if names.count(name) > 1), None) if width < 2000 else None:
            raise DataError(f"{path} has two columns called '{duplicate}'")
    else:
        reading.note(f"{path.name}: the first line holds numbers, so the columns are called 1 to {width}")
    label = _label_index(path, names, reading)
    if (
        label is not None
        and not reading.demands_label
        and _is_real([row[label] for _, row in cells if len(row) > label])
    ):
        reading.note(f"{path.name}: column '{names[label]}' holds real numbers, so it is not used as the label")
        label = None
    columns = [index for index in range(width) if index != label]
    _refuse_texts(path, names, columns, [row for _, row in cells])
    numbers, line_numbers, labels, bad = array("d"), list[int](), list[str](), list[tuple[str, str]]()
    for line, row in cells:
        problem = None if len(row) == width else f"has {len(row)} cells, not {width}"
        values: list[float] = []
        if problem is None:
            try:
                values = [float(row[index]) for index in columns]
            except ValueError:
                problem = next(_cell_problem(names[p], row[p]) for p in columns if _number(row[p]) is None)
            else:
                if not all(map(math.isfinite, values)):
                    problem = next(f"column '{names[p]}' is not finite" for p, v in zip(columns, values, strict=True)
                                   if not math.isfinite(v))  # fmt: skip
                elif label is not None and row[label].strip().lower() in MISSING:
                    problem = f"column '{names[label]}' is empty"
        if problem is not None:
            bad.append((f"row {line}", problem))
            continue
        numbers.extend(values)
        line_numbers.append(line)
        if label is not None:
            labels.append(from_cell(row[label].strip()))
    return Table(
        [names[index] for index in columns],
        np.frombuffer(numbers, np.float64).reshape(-1, len(columns)) if columns else np.empty((0, 0)),
        None if label is None else _kinds(path, names[label], np.array(labels, dtype=str), reading),
        np.array(line_numbers, np.int64),
        bad,
    )


def _is_header(cells: Sequence[tuple[int, Sequence[str]]]) -> bool:
    """Whether the first line names the columns: no cell is a number, or a text is above a number."""
    first = cells[0][1]
    texts = [index for index, cell in enumerate(first) if _number(cell) is None and cell.strip().lower() not in MISSING]
    if len(texts) == len(first):
        return True
    below = cells[1][1] if len(cells) > 1 else []
    return any(index < len(below) and _number(below[index]) is not None for index in texts)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _cell_problem(name: str, cell: str) -> str:
    missing = cell.strip().lower() in MISSING
    return f"column '{name}' is empty" if missing else f"column '{name}' holds '{cell.strip():.30}'"


def _is_real(cells: Sequence[str]) -> bool:
    """Whether all cells are numbers and some are not whole."""
    values = [_number(cell) for cell in cells if cell.strip().lower() not in MISSING]
    numbers = [value for value in values if value is not None]
    return len(numbers) == len(values) and any(math.isfinite(value) and value != int(value) for value in numbers)


def _label_index(path: Path, names: Sequence[str], reading: Reading) -> int | None:
    """The index of the column that holds the labels, or None."""
    if reading.label_column is not None and (reading.demands_label or reading.label_column in names):
        if reading.label_column not in names:
            some = ", ".join(names[:20])
            raise SettingError(
                "data.label_column",
                f"names no column of {path.name}: '{reading.label_column:.100}'",
                hint=nearest(reading.label_column, names) or f"its columns: {some}",
            )
        return list(names).index(reading.label_column)
    candidates = [index for index, name in enumerate(names) if name.lower() in LABEL_NAMES]
    candidates.sort(key=lambda index: LABEL_NAMES.index(names[index].lower()))
    if candidates:
        reading.note(f"{path.name}: column '{names[candidates[0]]}' is the label")
    return candidates[0] if candidates else None


def _refuse_texts(path: Path, names: Sequence[str], columns: Sequence[int], rows: Sequence[Sequence[str]]) -> None:
    """Raise a DataError if most cells of a column are neither numbers nor missing."""
    sample = rows[:: max(1, len(rows) // 1000)]
    for index in columns:
        cells = [row[index].strip() for row in sample if index < len(row)]
        texts = [cell for cell in cells if _number(cell) is None and cell.lower() not in MISSING]
        if 2 * len(texts) > len(cells):
            raise _no_numbers(path, names[index], f"text, such as '{texts[0]:.40}'")


def _no_numbers(path: Path, name: str, what: str) -> DataError:
    return DataError(
        f"{path}: column '{name}' holds {what}, not numbers",
        hint=f"remove it from the file, or if it is the label: --label-column {name}",
    )


def _kinds(path: Path, name: str, labels: np.ndarray, reading: Reading) -> np.ndarray:
    """Labels as whole numbers if all of them are, else as strings."""
    try:
        numbers = labels.astype(np.float64)
    except ValueError:
        return labels
    if np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all() and (np.abs(numbers) < 2**53).all():
        return numbers.astype(np.int64)
    raise SettingError(
        "data.label_column", f"must name a column of classes; '{name}' of {path.name} holds real numbers"
    )


def _read_parquet(path: Path, reading: Reading) -> Table:
    import pyarrow as pa
    from pyarrow import compute, parquet

    try:
        with open_regular(path) as file:
            table_file = parquet.ParquetFile(file)
            count, width, memory_bytes = table_file.metadata.num_rows, table_file.metadata.num_columns, memory()
            if 8 * count * width > memory_bytes // 4:
                raise DataError(
                    f"{path} holds {size_text(8 * count * width)}, and this machine has {size_text(memory_bytes)} of "
                    "memory",
                    hint="save the numbers as .npy, which can be streamed",
                )
            table = table_file.read()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or str(error).splitlines()[0]}") from None
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{path} is damaged: {str(error).splitlines()[0]:.200}") from None
    names = list(table.column_names)
    label = _label_index(path, names, reading)
    if label is not None and not reading.demands_label and pa.types.is_floating(table.schema.field(label).type):
        values = table.column(label).drop_null().to_numpy()
        if (values != np.rint(values)).any():
            reading.note(f"{path.name}: column '{names[label]}' holds real numbers, so it is not used as the label")
            label = None
    columns, bad = [index for index in range(len(names)) if index != label], dict[int, str]()
    numbers = np.empty((count, len(columns)))
    for out, index in enumerate(columns):
        kind = table.schema.field(index).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
                or pa.types.is_decimal(kind)):  # fmt: skip
            raise _no_numbers(path, names[index], str(kind))
        numbers[:, out] = compute.cast(table.column(index), pa.float64()).to_numpy()  # null becomes nan
        for row in np.flatnonzero(~np.isfinite(numbers[:, out])).tolist():
            bad.setdefault(row, f"column '{names[index]}' is empty or not finite")
    labels = None
    if label is not None:
        column = table.column(label)
        for row in np.flatnonzero(column.is_null().to_numpy()).tolist():
            bad.setdefault(row, f"column '{names[label]}' is empty")
        labels = np.array(["" if value is None else str(value) for value in column.to_pylist()], dtype=str)
    good = np.array([row for row in range(count) if row not in bad], np.int64)
    return Table(
        [names[index] for index in columns],
        numbers[good],
        None if labels is None or label is None else _kinds(path, names[label], labels[good], reading),
        good + 1,
        [(f"row {row + 1}", problem) for row, problem in sorted(bad.items())],
    )
