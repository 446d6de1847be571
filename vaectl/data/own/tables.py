"""Tables of numbers: ``.csv`` and ``.parquet``, a row an example of shape (1, 1, W). A column may hold its label.

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
from vaectl.data.own.source import Asked, Source, classes_of, unlabelled
from vaectl.errors import DataError, SettingError, nearest
from vaectl.output.arrays import require_format
from vaectl.system.reading import open_regular, size_text
from vaectl.system.runtime import memory

LABEL_NAMES = ("label", "class", "target", "y")
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "-"))
DELIMITERS = (",", ";", "\t")
MOST_COLUMNS = 65_536


@dataclass(frozen=True)
class Table:
    """The rows of a table that are whole.

    Attributes:
        names: Name of each column of numbers (W).
        numbers: float64 (N, W).
        labels: Whole numbers or texts (N,), or None.
        places: Number of each row, as a person counts them, int64 (N,).
        bad: Name and problem of each row that cannot be used.
    """

    names: Sequence[str]
    numbers: np.ndarray
    labels: np.ndarray | None
    places: np.ndarray
    bad: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class TableRows(ArrayRows):
    """Rows that know their number in the file."""

    places: np.ndarray | None = None

    def name(self, row: int) -> str:
        """``row 17``."""
        return f"row {row if self.places is None else self.places[row]}"


def open_table(path: Path, asked: Asked) -> Source:
    """The numbers of a ``.csv`` or ``.parquet`` file, and the labels that a column of it holds.

    Raises:
        DataError: It is damaged or empty, or a column holds something else than numbers.
        SettingError: There is no column of the name that was asked for, or a change that is for images was.
    """
    if asked.change is not None and asked.change.forced:
        name = "data.image_size" if asked.change.size is not None else "data.grayscale"
        raise SettingError(name, f"is for images; {path.name} is a table")
    require_format(path.suffix.lower())
    table = _read_csv(path, asked) if path.suffix.lower() == ".csv" else _read_parquet(path, asked)
    if not table.names:
        raise DataError(f"{path} has no column of numbers")
    if not len(table.numbers) and not table.bad:
        raise DataError(f"{path} has no rows")
    encoding = encoding_of([table.numbers], asked.support)
    # a table of text does not say that its numbers are whole
    if encoding == "numbers" and asked.support in (None, "bytes") and are_bytes(table.numbers):
        encoding = "bytes"
    rows = TableRows(table.numbers, "table", encoding, places=table.places)
    labels, classes = classes_of({} if table.labels is None else {"train": table.labels})
    return Source(
        {"train": rows}, labels or {"train": unlabelled(len(rows))}, SCALINGS[encoding], classes, table.bad,
        held=f"{path.suffix} files are read whole; save the numbers as .npy", word="rows",
    )  # fmt: skip


def _read_csv(path: Path, asked: Asked) -> Table:
    try:
        size, there = path.stat().st_size, memory()
        # cells take many times the memory of their text
        if size > there // 16:
            raise DataError(
                f"{path} holds {size_text(size)}, and there are {size_text(there)} of memory",
                hint="save the numbers as .npy, which is read as it is needed",
            )
        with open_regular(path) as file:
            text = file.read(size + 1).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: {error.reason} at byte {error.start}") from None
    if "\0" in text:
        raise DataError(f"{path} is no table of text: it holds a zero byte")
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
    names = [str(place + 1) for place in range(width)]
    if _is_header(cells):
        names = [name.strip() or str(place + 1) for place, name in enumerate(cells[0][1])]
        cells = cells[1:]
        if twice := next((name for name in names if names.count(name) > 1), None) if width < 2000 else None:
            raise DataError(f"{path} has two columns called '{twice}'")
    else:
        asked.note(f"{path.name}: its first line holds numbers, so its columns are called 1 to {width}")
    label = _label_place(path, names, asked)
    if label is not None and not asked.demands_label and _is_real([row[label] for _, row in cells if len(row) > label]):
        asked.note(f"{path.name}: column '{names[label]}' holds real numbers, so it is no label")
        label = None
    columns = [place for place in range(width) if place != label]
    _refuse_texts(path, names, columns, [row for _, row in cells])
    numbers, places, labels, bad = array("d"), list[int](), list[str](), list[tuple[str, str]]()
    for line, row in cells:
        problem = None if len(row) == width else f"has {len(row)} cells, not {width}"
        found: list[float] = []
        if problem is None:
            try:
                found = [float(row[place]) for place in columns]
            except ValueError:
                problem = next(_cell_problem(names[p], row[p]) for p in columns if _number(row[p]) is None)
            else:
                if not all(map(math.isfinite, found)):
                    problem = next(f"column '{names[p]}' is not finite" for p, v in zip(columns, found, strict=True)
                                   if not math.isfinite(v))  # fmt: skip
                elif label is not None and row[label].strip().lower() in MISSING:
                    problem = f"column '{names[label]}' is empty"
        if problem is not None:
            bad.append((f"row {line}", problem))
            continue
        numbers.extend(found)
        places.append(line)
        if label is not None:
            labels.append(row[label].strip())
    return Table(
        [names[place] for place in columns],
        np.frombuffer(numbers, np.float64).reshape(-1, len(columns)) if columns else np.empty((0, 0)),
        None if label is None else _kinds(path, names[label], np.array(labels, dtype=str), asked),
        np.array(places, np.int64),
        bad,
    )


def _is_header(cells: Sequence[tuple[int, Sequence[str]]]) -> bool:
    """Whether the first line names the columns: none of it is a number, or one stands above a number."""
    first = cells[0][1]
    texts = [place for place, cell in enumerate(first) if _number(cell) is None and cell.strip().lower() not in MISSING]
    if len(texts) == len(first):
        return True
    below = cells[1][1] if len(cells) > 1 else []
    return any(place < len(below) and _number(below[place]) is not None for place in texts)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _cell_problem(name: str, cell: str) -> str:
    missing = cell.strip().lower() in MISSING
    return f"column '{name}' is empty" if missing else f"column '{name}' holds '{cell.strip():.30}'"


def _is_real(cells: Sequence[str]) -> bool:
    """Whether cells are numbers of which some are not whole."""
    found = [_number(cell) for cell in cells if cell.strip().lower() not in MISSING]
    numbers = [value for value in found if value is not None]
    return len(numbers) == len(found) and any(math.isfinite(value) and value != int(value) for value in numbers)


def _label_place(path: Path, names: Sequence[str], asked: Asked) -> int | None:
    """The place of the column that holds the labels."""
    if asked.label_column is not None and (asked.demands_label or asked.label_column in names):
        if asked.label_column not in names:
            some = ", ".join(names[:20])
            raise SettingError(
                "data.label_column",
                f"names no column of {path.name}: '{asked.label_column:.100}'",
                hint=nearest(asked.label_column, names) or f"its columns: {some}",
            )
        return list(names).index(asked.label_column)
    found = [place for place, name in enumerate(names) if name.lower() in LABEL_NAMES]
    found.sort(key=lambda place: LABEL_NAMES.index(names[place].lower()))
    if found:
        asked.note(f"{path.name}: column '{names[found[0]]}' is the label")
    return found[0] if found else None


def _refuse_texts(path: Path, names: Sequence[str], columns: Sequence[int], rows: Sequence[Sequence[str]]) -> None:
    """Raise a DataError that names a column of which most cells are neither numbers nor missing."""
    sample = rows[:: max(1, len(rows) // 1000)]
    for place in columns:
        cells = [row[place].strip() for row in sample if place < len(row)]
        texts = [cell for cell in cells if _number(cell) is None and cell.lower() not in MISSING]
        if 2 * len(texts) > len(cells):
            raise _no_numbers(path, names[place], f"text, such as '{texts[0]:.40}'")


def _no_numbers(path: Path, name: str, what: str) -> DataError:
    return DataError(
        f"{path}: column '{name}' holds {what}, not numbers",
        hint=f"leave it out of the file, or if it is the label: --label-column {name}",
    )


def _kinds(path: Path, name: str, labels: np.ndarray, asked: Asked) -> np.ndarray:
    """Labels as whole numbers where all are, else as texts."""
    try:
        numbers = labels.astype(np.float64)
    except ValueError:
        return labels
    if np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all() and (np.abs(numbers) < 2**53).all():
        return numbers.astype(np.int64)
    raise SettingError(
        "data.label_column", f"must name a column of classes; '{name}' of {path.name} holds real numbers"
    )


def _read_parquet(path: Path, asked: Asked) -> Table:
    import pyarrow as pa
    from pyarrow import compute, parquet

    try:
        with open_regular(path) as file:
            opened = parquet.ParquetFile(file)
            count, width, there = opened.metadata.num_rows, opened.metadata.num_columns, memory()
            if 8 * count * width > there // 4:
                raise DataError(
                    f"{path} holds {size_text(8 * count * width)}, and there are {size_text(there)} of memory",
                    hint="save the numbers as .npy, which is read as it is needed",
                )
            table = opened.read()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or str(error).splitlines()[0]}") from None
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{path} is damaged: {str(error).splitlines()[0]:.200}") from None
    names = list(table.column_names)
    label = _label_place(path, names, asked)
    if label is not None and not asked.demands_label and pa.types.is_floating(table.schema.field(label).type):
        values = table.column(label).drop_null().to_numpy()
        if (values != np.rint(values)).any():
            asked.note(f"{path.name}: column '{names[label]}' holds real numbers, so it is no label")
            label = None
    columns, bad = [place for place in range(len(names)) if place != label], dict[int, str]()
    numbers = np.empty((count, len(columns)))
    for out, place in enumerate(columns):
        kind = table.schema.field(place).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
                or pa.types.is_decimal(kind)):  # fmt: skip
            raise _no_numbers(path, names[place], str(kind))
        numbers[:, out] = compute.cast(table.column(place), pa.float64()).to_numpy()  # null becomes nan
        for row in np.flatnonzero(~np.isfinite(numbers[:, out])).tolist():
            bad.setdefault(row, f"column '{names[place]}' is empty or not finite")
    labels = None
    if label is not None:
        column = table.column(label)
        for row in np.flatnonzero(column.is_null().to_numpy()).tolist():
            bad.setdefault(row, f"column '{names[label]}' is empty")
        labels = np.array(["" if value is None else str(value) for value in column.to_pylist()], dtype=str)
    good = np.array([row for row in range(count) if row not in bad], np.int64)
    return Table(
        [names[place] for place in columns],
        numbers[good],
        None if labels is None or label is None else _kinds(path, names[label], labels[good], asked),
        good + 1,
        [(f"row {row + 1}", problem) for row, problem in sorted(bad.items())],
    )
