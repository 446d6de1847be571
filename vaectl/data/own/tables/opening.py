"""Tables of numbers, of which a row is an example; one column may hold the labels.

Shapes: ``N`` rows, ``W`` columns of numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from vaectl.config.datasets import suffix_of
from vaectl.data.own.rows import SCALINGS, ArrayRows, Layout
from vaectl.data.own.shapes import are_pixels, image_axes, pixel_axes
from vaectl.data.own.source import Names, Reading, Source, classes_of, refuse_options, unlabelled
from vaectl.data.own.tables.advice import note_columns, refuse_pattern
from vaectl.data.own.tables.columns import LineNumbers, Table
from vaectl.data.own.tables.h5ad import read_h5ad
from vaectl.data.own.tables.parquet import read_parquet
from vaectl.data.own.tables.text import read_text_table
from vaectl.errors import DataError, SettingError

READERS = {".parquet": read_parquet, ".arrow": read_parquet, ".feather": read_parquet, ".h5ad": read_h5ad}
# formats with columns of lists, of which the option images_key names one
LISTS = (".parquet", ".arrow", ".feather")
# options for images, which rows of numbers do not take
FOR_IMAGES = ("image_size", "grayscale", "crop", "channels", "invert")


@dataclass(frozen=True)
class TableRows(ArrayRows):
    """Rows with their numbers in the file."""

    line_numbers: LineNumbers | None = None

    def name(self, row: int) -> str:
        """``row 17``."""
        return f"{self.word} {row if self.line_numbers is None else self.line_numbers[row]}"


def open_table(path: Path, reading: Reading) -> Source:
    """Open the numbers of a table, and the labels in one of its columns.

    Raises:
        DataError: The file is damaged or empty, or a column does not hold numbers.
        SettingError: A column that an option names does not exist, or a change for images was requested of others.
    """
    suffix = suffix_of(path.name)
    refuse_options(reading, {"labels_key": f"is for arrays; {path.name} is a table, which takes --label-column"})
    if suffix not in LISTS:
        refuse_options(reading, {"images_key": f"is for arrays; {path.name} is a table"})
    table = READERS.get(suffix, read_text_table)(path, reading)
    numbers = table.numbers.values
    if not table.names:
        raise DataError(f"{path} has no column of numbers")
    if not len(numbers) and not table.bad:
        raise DataError(f"{path} has no rows")
    refuse_pattern(path, table, reading)
    axes, layout = _axes(path, table, reading)
    encoding = table.numbers.encoding(reading.support, pixels=layout != "table" or are_pixels(table.names))
    note_columns(path, table, reading, images=layout != "table")
    change = reading.change if layout != "table" else None
    if layout == "table":
        _refuse_images(path, reading)
    rows = TableRows(numbers.reshape(len(numbers), *axes), layout, encoding, change, line_numbers=table.line_numbers)
    scaling = SCALINGS[encoding] + (change.text([rows.native]) if change else "")
    labels, classes = unlabelled(len(rows)), tuple[str, ...]()
    if table.labels is not None:
        kinds, classes = classes_of({"train": table.labels})
        labels = kinds["train"][table.codes]
    return Source(
        {"train": rows},
        {"train": labels},
        scaling,
        classes,
        table.bad,
        why_resident=f"{path.suffix} files are read whole; save the numbers as .npy",
        word="rows",
        columns=table.columns() if layout == "table" and table.named else (),
        names=Names(path.name, tuple(table.names), tuple(table.every)),
        groups=None if table.groups is None else {"train": table.groups},
    )


def _axes(path: Path, table: Table, reading: Reading) -> tuple[tuple[int, ...], Layout]:
    """The axes of the numbers of a row, and their layout: those of an image, or of one row of numbers."""
    width = len(table.names)
    plain: tuple[tuple[int, ...], Layout] = ((width,), "table")
    if reading.options.shape is not None:
        axes, layout = image_axes(reading.options.shape, width, path.name)
        reading.note(f"{path.name}: rows are read as images of {_said(axes, layout)}")
        return axes, layout
    if table.axes is not None:
        return image_axes(table.axes, width, path.name)
    # a run of before has such a table in one row of pixels
    if reading.shape is not None and reading.shape == (1, 1, width):
        return plain
    square = pixel_axes(table.names)
    if square is None and reading.shape is not None and reading.shape[0] == 1 and math.prod(reading.shape) == width:
        return image_axes(reading.shape[1:], width, path.name)
    if square is None:
        return plain
    reading.note(
        f"{path.name}: columns {table.names[0]} to {table.names[-1]} are pixels, read as images of "
        f"{_said(square, 'grey')}"
    )
    return square, "grey"


def _said(axes: tuple[int, ...], layout: Layout) -> str:
    height, width = (axes[1], axes[2]) if layout == "channels first" else (axes[0], axes[1])
    colours = {"channels last": ", the colours of a pixel together", "channels first": ", one colour after another"}
    return f"{height} x {width} pixels" + colours.get(layout, "")


def _refuse_images(path: Path, reading: Reading) -> None:
    """Raise a SettingError if an option for images is set."""
    options = reading.options
    for name in FOR_IMAGES:
        value = getattr(options, name)
        forced = name == "image_size" or not reading.lenient
        if value is not None and value is not False and forced:
            raise SettingError(
                f"data.{name}", f"is for images; {path.name} is a table",
                hint="if its rows are images, say their shape: --shape H,W",
            )  # fmt: skip
