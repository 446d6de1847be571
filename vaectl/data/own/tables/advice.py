"""Remarks on columns of a table that may not be meant as they are, and on rows bad in one way.

Shapes: ``N`` rows, ``W`` columns of numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vaectl.data.own.shapes import are_pixels, square_axes
from vaectl.data.own.source import Reading
from vaectl.data.own.tables.columns import Table
from vaectl.errors import DataError

# rows from which on a column may count them, and a column of few numbers be one of classes
FEWEST_ROWS = 10
COLUMN = re.compile("column '(.*)' (?:is empty|is empty or not finite|is not finite)")


def refuse_pattern(path: Path, table: Table, reading: Reading) -> None:
    """Raise a DataError that names what most rows of a table have in common, if that makes them bad.

    Leaving most rows out would not help, so that is done only on request.
    """
    total = len(table.bad) + len(table.numbers.values)
    if 2 * len(table.bad) <= total or (reading.options.skip_bad and len(table.numbers.values)):
        return
    counts = Counter(problem for _, problem in table.bad)
    problem, count = counts.most_common(1)[0]
    empty = {match[1]: n for text, n in counts.items() if (match := COLUMN.fullmatch(text))}
    row = next(name for name, text in table.bad if text == problem)
    if problem.startswith("has ") and 2 * count > len(table.bad):
        raise DataError(
            f"{path}: {count:,} of {total:,} rows have another number of cells than the first line: {row} {problem}",
            hint="remove lines before the names of the columns, or let them begin with #",
        )
    if 2 * sum(empty.values()) > len(table.bad):
        names = [name for name, n in sorted(empty.items(), key=lambda item: -item[1]) if 10 * n > total][:5]
        which = ", ".join(f"'{name}'" for name in names or list(empty)[:5])
        raise DataError(
            f"{path}: {len(table.bad):,} of {total:,} rows have an empty cell, most often in column {which}",
            hint=f"leave out such columns: --drop-column {','.join(names)}" if names else "fill the empty cells",
        )
    raise DataError(f"{path}: {len(table.bad):,} of {total:,} rows cannot be used, most often as {row}: {problem}")


def note_columns(path: Path, table: Table, reading: Reading, *, images: bool) -> None:
    """Note columns that may be no measurements, and rows that may be images.

    Args:
        path: The table.
        table: Its rows.
        reading: How it is read; a file to apply a model to is what the training examples were.
        images: Whether the rows are read as images.
    """
    count, width = len(table.numbers.values), len(table.names)
    if reading.lenient or reading.names is not None or count < FEWEST_ROWS:
        return
    for name in (table.names[index] for index in table.numbers.profile.counting):
        reading.note(f"{path.name}: column '{name}' counts the rows; to leave it out: --drop-column {name}")
    if images:
        return
    classes = _like_classes(table)
    for index in classes:
        name, values = table.names[index], _listed(table.numbers.profile.few[index] or ())
        reading.note(f"{path.name}: if {values} in column {name} are classes, not numbers: --label-column {name}")
    if not table.numbers.are_bytes:
        return
    label = f"--label-column {table.names[classes[0]]} " if classes and not square_axes(width) else ""
    square = square_axes(width - 1 if label else width)
    if square is not None and not table.numbers.are_small:
        reading.note(
            f"{path.name}: if rows are images of {square[0]} x {square[1]} pixels: {label}--shape "
            f"{square[0]},{square[1]}"
        )
    elif are_pixels(table.names):
        reading.note(f"{path.name}: its columns are pixels; to read images: --shape H,W or H,W,C or C,H,W")


def _like_classes(table: Table) -> list[int]:
    """The first and the last column of a table without names, if they hold few whole numbers beside wider columns."""
    profile, width, count = table.numbers.profile, len(table.names), len(table.numbers.values)
    if table.named or table.labels is not None or width < 2:
        return []
    classes = []
    for index in dict.fromkeys((0, width - 1)):
        others = np.arange(width) != index
        spread = profile.high[others].max() - profile.low[others].min()
        wider = not profile.whole[others].all() or spread >= 2 * (profile.high[index] - profile.low[index])
        values = profile.few[index]
        if values is not None and 2 <= len(values) <= count / 2 and profile.whole[index] and wider:
            classes.append(index)
    return classes


def _listed(values: Iterable[float]) -> str:
    numbers = sorted(values)
    return f"the {len(numbers)} different numbers from {numbers[0]:g} to {numbers[-1]:g}"
