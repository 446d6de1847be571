"""Tables beside image files: labels, attributes and splits by file name.

References:
    The metadata files of image folders, https://huggingface.co/docs/datasets/image_dataset
    Deep Learning Face Attributes in the Wild (Liu et al., 2015), for CelebA's lists, https://arxiv.org/abs/1411.7766
"""

from __future__ import annotations

import csv
import io
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vaectl.data.info import LONGEST_CLASS, MOST_CLASSES
from vaectl.data.own.pictures.attributes import attributes_of
from vaectl.data.own.pictures.layout import ATTRIBUTES, LISTS, PARTITION, TABLES, Layout, part_of
from vaectl.data.own.pictures.listing import Listing
from vaectl.data.own.pictures.stores import FolderStore, Store, UnreadableError
from vaectl.data.own.source import Reading
from vaectl.data.own.tables.columns import MOST_COLUMNS
from vaectl.errors import DataError, SettingError, amount
from vaectl.system.extras import require
from vaectl.system.reading import check_size, data_limit, parse_json

# the folder of CelebA's images, above which its lists are
CELEBA = "img_align_celeba"
# columns that tell the split of a file, and CelebA's numbers of splits
SPLIT_COLUMNS, NUMBERED = ("split", "partition"), ("train", "validation", "test")
# memory of a table for each byte of its file; rows whose file names are looked up to find their column
TABLE_RATIO, LOOKED_AT = 20, 1000


@dataclass(frozen=True)
class SideTable:
    """A table beside images.

    Attributes:
        file: Its path in the store.
        columns: Values by column: text, numbers or None.
    """

    file: str
    columns: Mapping[str, Sequence[Any]]


def side_tables(path: Path, store: Store, listing: Listing, layout: Layout) -> list[SideTable]:
    """Read the tables beside or above the images.

    Args:
        path: The data set.
        store: Its files.
        listing: Their names.
        layout: The folders of the splits.

    Raises:
        DataError: A table is damaged or too large.
    """
    steps = layout.base.split("/") if layout.base else []
    folders = ["/".join(steps[:depth]) for depth in range(len(steps) + 1)]
    folders += [place.folder for places in layout.places.values() for place in places]
    tables = []
    for folder in dict.fromkeys(folders):
        inside = listing.files(folder)
        others = [name for name in inside if "metadata" in name.lower() and name.endswith((".csv", ".tsv"))]
        names = dict.fromkeys([*(name for name in (*TABLES, *LISTS) if name in inside), *others])
        tables += [posixpath.join(folder, name) for name in names]
    if path.name == CELEBA and isinstance(store, FolderStore):
        tables += [f"../{name}" for name in LISTS if (path.parent / name).is_file()]
    for table in tables:
        if isinstance(store, FolderStore) and not table.startswith("../"):
            home, target = os.path.realpath(store.root), os.path.realpath(store.root / table)
            if os.path.commonpath([home, target]) != home:
                raise DataError(f"{path}: the table {table} is a link that leads out of the folder, to {target}")
    return [SideTable(table, _columns(path, store, table)) for table in tables]


def divided(tables: Sequence[SideTable], layout: Layout, reading: Reading, name: str) -> Layout:
    """The layout with the splits that a table tells, if the folders tell none."""
    if layout.owned:
        return layout
    images = layout.images["train"]
    for table in tables:
        split = next((column for column in table.columns if column.lower() in SPLIT_COLUMNS), None)
        if split is None or (rows_of := _matched(table, images)) is None:
            continue
        parts = dict[str, list[str]]()
        for image, row in zip(images, rows_of, strict=True):
            value = "" if row < 0 else str(table.columns[split][row])
            part = NUMBERED[int(value)] if value in ("0", "1", "2") else part_of(value)
            parts.setdefault(part or "", []).append(image)
        if "train" in parts and len(parts) > 1:
            if others := parts.pop("", []):
                reading.note(f"{name}: {amount(len(others), 'image')} of no split in {table.file} left out")
            reading.note(f"{name}: column '{split}' of {table.file} tells the split")
            ordered = {part: parts[part] for part in NUMBERED if part in parts}
            return replace(layout, images=ordered, places=dict.fromkeys(ordered, layout.places["train"]), owned=True)
    return layout


def attributes_beside(
    path: Path, tables: Sequence[SideTable], images: Mapping[str, Sequence[str]], reading: Reading
) -> tuple[dict[str, np.ndarray] | None, tuple[str, ...], dict[str, dict[str, np.ndarray]]]:
    """Labels and factors of images from the tables beside them.

    Returns:
        Labels by part or None, names of the classes, and factors by part and name.

    Raises:
        SettingError: The label column does not exist, or does not hold classes.
    """
    columns = dict[str, dict[str, np.ndarray]]()
    for table in tables:
        for name, values in _joined(path, table, images, reading).items():
            columns.setdefault(name, {}).update(values)
    for name in [name for name, values in columns.items() if set(values) != set(images)]:
        reading.note(f"{path.name}: column '{name}' is not there for every split and is ignored")
        del columns[name]
    if not columns and reading.demands_label:
        raise SettingError("data.label_column", f"is for a table of the images by name; {path.name} has none")
    if not columns:
        return None, (), {}
    counts = {part: len(files) for part, files in images.items()}
    labels, classes, factors = attributes_of(path, columns, counts, reading, alone=True)
    has_labels = any((values >= 0).any() for values in labels.values())
    return labels if has_labels else None, classes, factors


def _joined(
    path: Path, table: SideTable, images: Mapping[str, Sequence[str]], reading: Reading
) -> dict[str, dict[str, np.ndarray]]:
    """The columns of a table by part, in the order of the images; empty if it does not tell of them."""
    folder = posixpath.dirname(table.file)
    own = {part: files for part, files in images.items() if files and (folder in ("", "..") or
           all(file.startswith(f"{folder}/") for file in (files[0], files[-1])))}  # fmt: skip
    everything = [file for files in own.values() for file in files]
    rows_of = _matched(table, everything)
    if rows_of is None:
        reading.note(f"{path.name}: {table.file} has no column of the names of these images and is ignored")
        return {}
    key = _key_column(table, everything)
    if all(name == key or name.lower() in SPLIT_COLUMNS for name in table.columns):
        return {}  # it tells only the split
    missing, rows = int((rows_of < 0).sum()), len(next(iter(table.columns.values())))
    extra = rows - len(np.unique(rows_of[rows_of >= 0]))
    counts = [f"{amount(missing, 'image')} without a row" if missing else "",
              f"{amount(extra, 'row')} without an image" if extra else ""]  # fmt: skip
    notes = ", ".join(filter(None, counts))
    reading.note(f"{path.name}: {table.file} has attributes by file name" + (f"; {notes}" if notes else ""))
    columns, start = dict[str, dict[str, np.ndarray]](), 0
    places = {}
    for part, files in own.items():
        places[part] = rows_of[start : start + len(files)]
        start += len(files)
    for name, values in table.columns.items():
        if name == key or name.lower() in SPLIT_COLUMNS:
            continue
        numbers_or_text = _typed(values, signs=ATTRIBUTES in table.file)
        columns[name] = {part: _taken(numbers_or_text, rows_of_part) for part, rows_of_part in places.items()}
    return columns


def _taken(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The values at rows; nan or empty where there is none, row -1."""
    gaps = rows < 0
    if gaps.any() and values.dtype.kind == "i":
        values = values.astype(np.float64)
    values_there: np.ndarray = values[rows]
    if gaps.any():
        values_there[gaps] = np.nan if values.dtype.kind == "f" else ""
    return values_there


def _matched(table: SideTable, images: Sequence[str]) -> np.ndarray | None:
    """The row of each image in a table, -1 if it has none; None if no column names at least half of the images."""
    key = _key_column(table, images)
    if key is None:
        return None
    names = _names(images, posixpath.dirname(table.file))
    rows_of = np.full(len(images), -1, np.int64)
    for row, value in enumerate(table.columns[key]):
        place = _place(names, value)
        if place is not None and rows_of[place] < 0:
            rows_of[place] = row
    return rows_of


def _key_column(table: SideTable, images: Sequence[str]) -> str | None:
    """The column of file names: that with most names of images, if these are at least half of what is looked at."""
    names, best, most = _names(images, posixpath.dirname(table.file)), None, 0
    for column, values in table.columns.items():
        sample = values[:LOOKED_AT]
        count = sum(_place(names, value) is not None for value in sample)
        if 2 * count >= min(len(sample), len(images)) and count > most:
            best, most = column, count
    return best


def _names(images: Sequence[str], folder: str) -> dict[str, int | None]:
    """What a table may call an image -> its place: its path from the table's folder, its name, also without suffix."""
    names: dict[str, int | None] = {}
    for place, image in enumerate(images):
        base = posixpath.basename(image)
        for name in {base, base.rpartition(".")[0]}:
            names[name] = None if name in names else place  # a name that several have is none
    for place, image in enumerate(images):
        names[image.removeprefix(f"{folder}/") if folder else image] = place
    return names


def _place(names: Mapping[str, int | None], value: Any) -> int | None:
    text = posixpath.normpath(str(value)) if value not in (None, "") else ""
    place = names.get(text)
    return names.get(posixpath.basename(text)) if place is None and not text.startswith(("/", "..")) else place


def _typed(values: Sequence[Any], *, signs: bool) -> np.ndarray:
    """Whole numbers, else real ones with nan for what is missing, else text; signs -1 and 1 become 0 and 1."""
    for kind, dtype in ((int, np.int64), (float, np.float64)):
        try:
            numbers = [np.nan if value in (None, "") else kind(value) for value in values]
            if kind is int and any(isinstance(value, float) and value != int(value) for value in values):
                continue
            numbers_or_text = np.array(numbers, np.float64 if np.nan in numbers else dtype)
        except (ValueError, TypeError, OverflowError):
            continue
        return (numbers_or_text + 1) // 2 if signs and set(np.unique(numbers_or_text)) <= {-1, 1} else numbers_or_text
    texts = [str(value)[:LONGEST_CLASS] if isinstance(value, str | int | float) else "" for value in values]
    return np.array(texts if len(set(texts)) <= MOST_CLASSES + 1 else [""] * len(texts), str)


# --- reading ----------------------------------------------------------------------------------------------------------


def _columns(path: Path, store: Store, table: str) -> dict[str, Sequence[Any]]:
    name, limit = f"{path}: the table {table}", data_limit() // TABLE_RATIO
    try:
        with store.open(table) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            check_size(name, TABLE_RATIO * len(content))
        suffix = posixpath.splitext(table)[1]
        if suffix == ".parquet":
            return _of_parquet(name, content)
        text = content.decode("utf-8-sig")
        return _of_records(text) if suffix == ".jsonl" else _of_rows(_lines(table, text))
    except (OSError, UnreadableError) as error:
        raise DataError(f"{name} cannot be read: {error}") from None
    except (ValueError, csv.Error) as error:
        raise DataError(f"{name} is damaged: {str(error).splitlines()[0]:.200}") from None


def _lines(table: str, text: str) -> Iterator[list[str]]:
    """The rows of a table, its names of columns first."""
    if not table.endswith(".txt"):
        header = text.partition("\n")[0]
        yield from csv.reader(io.StringIO(text), delimiter=max(",;\t", key=header.count))
        return
    lines = (fields for line in text.splitlines() if (fields := line.split()))
    if PARTITION in table:
        yield ["image_id", "partition"]
    else:
        next(lines, [])  # the number of images
        yield ["image_id", *next(lines, [])]
    yield from lines


def _of_rows(rows: Iterator[list[str]]) -> dict[str, Sequence[Any]]:
    names = [name.strip() for name in next(rows, [])]
    if len(names) > MOST_COLUMNS or len(set(names)) < len(names):
        raise ValueError("it has too many columns, or two of one name")
    columns, texts = [list[str]() for _ in names], dict[str, str]()
    for number, row in enumerate(rows, 2):
        if row and len(row) != len(names):
            raise ValueError(f"line {number} has {len(row)} fields, not {len(names)}")
        for column, value in zip(columns, row, strict=False):
            column.append(texts.setdefault(value.strip(), value.strip()))  # of equal texts one is kept
    return dict(zip(names, columns, strict=True))


def _of_records(text: str) -> dict[str, Sequence[Any]]:
    records = [parse_json(line, any_number=True) for line in text.splitlines() if line.strip()]
    if not all(isinstance(record, dict) for record in records):
        raise ValueError("a line is no object")
    names = list(dict.fromkeys(name for record in records for name in record))
    if len(names) > MOST_COLUMNS or len(names) * len(records) > data_limit() // TABLE_RATIO:
        raise ValueError("it has too many fields")
    return {name: [record.get(name) for record in records] for name in names}


def _of_parquet(name: str, content: bytes) -> dict[str, Sequence[Any]]:
    require("pyarrow", "a .parquet file")
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(pa.BufferReader(content), pre_buffer=False)
        size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
        check_size(name, TABLE_RATIO * max(size, file.metadata.num_rows * file.metadata.num_columns))
        columns: dict[str, list[Any]] = {column: [] for column in file.schema_arrow.names}
        total = 0
        for batch in file.iter_batches(max(1, min(1000, data_limit() // max(1, TABLE_RATIO * size)))):
            total += batch.nbytes
            check_size(name, TABLE_RATIO * total)
            for column in columns:
                columns[column] += batch.column(column).to_pylist()
        return dict(columns)
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None
