"""Images in ``.parquet`` files, as Hugging Face stores them.

Groups of rows are read when they are needed, and the last ones are kept.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vaectl.data.info import LONGEST_CLASS, MOST_CLASSES
from vaectl.data.own.pictures.attributes import attributes_of
from vaectl.data.own.pictures.folder import Pictures, open_pictures
from vaectl.data.own.pictures.stores import FILE_BYTES, UnreadableError, too_large
from vaectl.data.own.source import Reading, Source, check_count
from vaectl.errors import DataError, SettingError
from vaectl.system.extras import require
from vaectl.system.reading import HEADER_BYTES, check_size, data_limit, open_regular, parse_json, size_text
from vaectl.system.runtime import memory

# part of the memory for groups of rows that are kept, within the limit for data
KEPT_PART = 8
# rows whose labels are read at once
ROWS_AT_ONCE = 1 << 14
ROW = " row "
GROUP = "is in a group of rows that"
# names of a column of bytes that are images, without a path beside them
BYTES_NAMES = ("image", "images", "img", "picture", "photo", "bytes", "image_bytes", "jpg", "jpeg", "png")
# limit for a column of text that may be a label
TEXT_BYTES = 1 << 28


class RowNames(Sequence[str]):
    """The names of the rows of some files, made when they are name for.

    Args:
        files: Name and number of rows of each file.
    """

    def __init__(self, files: Sequence[tuple[str, int]]) -> None:
        self._files = [name for name, _ in files]
        self._ends = np.cumsum([count for _, count in files])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: Any) -> Any:
        if not 0 <= row < len(self):
            raise IndexError(row)
        file = int(np.searchsorted(self._ends, row, "right"))
        return f"{self._files[file]}{ROW}{row - (self._ends[file - 1] if file else 0) + 1}"


def room() -> int:
    """Bytes of images that are kept in memory."""
    return min(data_limit(), memory() // KEPT_PART)


class ParquetStore:
    """The rows of ``.parquet`` files as image files.

    Args:
        files: Path of each file by name.
        column: The column of images.
    """

    def __init__(self, files: Mapping[str, Any], column: str) -> None:
        self._files, self._column = files, column
        self._starts = {
            name: np.cumsum([0] + [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)])
            for name, file in files.items()
        }
        self._kept: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._problems = dict[tuple[str, int], str]()
        self._room = room()
        self._reading, self._changing = threading.Lock(), threading.Lock()

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open the image of a row."""
        file, _, row = name.rpartition(ROW)
        place = int(row) - 1
        group = int(np.searchsorted(self._starts[file], place, "right")) - 1
        content = self._group((file, group))[place - int(self._starts[file][group])]
        if not content.is_valid:
            raise UnreadableError("holds no image")
        buffer = content.as_buffer()
        if problem := too_large(buffer.size):
            raise UnreadableError(problem)
        yield io.BytesIO(memoryview(buffer))

    def _group(self, key: tuple[str, int]) -> Any:
        """The images of a group of rows, an array of bytes."""
        if (images := self._look_up(key)) is not None:
            return images
        with self._reading:  # a file has one place at which it is read
            if (images := self._look_up(key)) is None:
                try:
                    images = self._read(*key)
                except (DataError, UnreadableError) as error:
                    self._problems[key] = str(error)
                    raise UnreadableError(str(error)) from None
                with self._changing:
                    self._kept[key] = images
                    while len(self._kept) > 1 and sum(group.nbytes for group in self._kept.values()) > self._room:
                        self._kept.popitem(last=False)
        return images

    def _look_up(self, key: tuple[str, int]) -> Any:
        with self._changing:
            if key in self._problems:
                raise UnreadableError(self._problems[key])
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _read(self, name: str, group: int) -> Any:
        import pyarrow as pa

        file = self._files[name]
        size, at_once = _claim(file, group, self._column)
        check_size(GROUP, size)
        pieces, total = [], 0
        try:
            for batch in file.iter_batches(at_once, row_groups=[group], columns=[self._column]):
                pieces.append(_images(batch.column(0)))
                total += pieces[-1].nbytes
                check_size(GROUP, total)
            return pa.concat_arrays(pieces)
        except (pa.ArrowException, OSError, OverflowError, MemoryError) as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UnreadableError(f"is damaged: {text:.100}") from None


def _claim(file: Any, group: int, column: str) -> tuple[int, int]:
    """Bytes of a column in a group of rows, and the rows of it that may be read at once."""
    size, repeats = 0, False
    for index in range(file.metadata.num_columns):
        chunk = file.metadata.row_group(group).column(index)
        if chunk.path_in_schema.split(".")[0] == column:
            size += max(0, chunk.total_uncompressed_size)
            repeats = repeats or any("DICTIONARY" in encoding for encoding in chunk.encodings)
    # one value of a dictionary may stand in many rows
    return size, min(ROWS_AT_ONCE, max(1, FILE_BYTES // max(1, size)) if repeats else ROWS_AT_ONCE)


def _images(column: Any) -> Any:
    """The bytes of a column of images, large_binary."""
    import pyarrow as pa
    from pyarrow import compute

    images = compute.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
    return compute.cast(images, pa.large_binary())


def _are_images(field: Any) -> bool:
    from pyarrow import types

    if types.is_struct(field.type):
        names = [field.type.field(index).name for index in range(field.type.num_fields)]
        return "bytes" in names and _is_binary(field.type.field("bytes").type)
    return field.name.lower() in BYTES_NAMES and _is_binary(field.type)


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def holds_images(path: Path) -> bool:
    """Whether a ``.parquet`` file has a column of images; false if it cannot be read."""
    require("pyarrow", "a .parquet file")
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with open_regular(path) as file:
            schema = parquet.read_schema(file)
    except (OSError, pa.ArrowException, ValueError):
        return False
    return any(map(_are_images, schema))


def open_image_table(path: Path, shards: Mapping[str, Mapping[str, Path]], reading: Reading) -> Source:
    """Open the images in ``.parquet`` files, with labels and attributes in their other columns.

    Args:
        path: The data set: the file, or the folder of the files.
        shards: The files by part and name.
        reading: How to read them.

    Raises:
        DataError: A file is damaged, or their columns differ.
        SettingError: An option does not apply to these data.
    """
    import pyarrow as pa

    files = {name: file for part in shards.values() for name, file in _opened(part).items()}
    schema = next(iter(files.values())).schema_arrow
    for name, file in files.items():
        if file.schema_arrow.names != schema.names:
            raise DataError(f"{path}: {name} has other columns than {next(iter(files))}")
    column = _image_column(path, schema, reading)
    images = {
        part: RowNames([(name, files[name].metadata.num_rows) for name in names]) for part, names in shards.items()
    }
    check_count(path, images.values())
    others = [field.name for field in schema if field.name != column and _is_simple(field.type)]
    complex_columns = [field.name for field in schema if field.name != column and field.name not in others]
    if complex_columns:
        reading.note(f"{path.name}: columns ignored: {', '.join(complex_columns[:10])}")
    try:
        columns = {
            name: {part: _values([files[file] for file in names], name) for part, names in shards.items()}
            for name in others
        }
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is damaged: {str(error).splitlines()[0]:.200}") from None
    counts = {part: len(rows) for part, rows in images.items()}
    labels, classes, factors = attributes_of(path, columns, counts, reading, _class_names(schema))
    size = sum(_claim(file, group, column)[0] for file in files.values() for group in range(file.num_row_groups))
    if size > room():
        reading.note(
            f"{path.name}: {size_text(size)} of images do not stay in memory; streamed in random order, groups of rows "
            "are read again and again, which is slow: a folder, a zip or a tar of them is faster"
        )
    store = ParquetStore(files, column)
    return open_pictures(Pictures(path.name, store, images, labels, classes, [], factors), reading, keyed=True)


def _opened(part: Mapping[str, Path]) -> dict[str, Any]:
    import pyarrow as pa
    from pyarrow import parquet

    files = {}
    for name, path in part.items():
        try:
            with open_regular(path):
                pass  # a pipe would block
            # without buffering and read-ahead a group takes no more memory than its rows
            files[name] = parquet.ParquetFile(path, pre_buffer=False)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise DataError(f"cannot read {path}: {str(error).splitlines()[0]:.200}") from None
        if files[name].metadata.num_rows < 0:
            raise DataError(f"{path} is damaged: it claims a negative size")
    return files


def _image_column(path: Path, schema: Any, reading: Reading) -> str:
    names = [field.name for field in schema if _are_images(field)]
    name = reading.options.images_key
    if name is not None and name not in names:
        raise SettingError(
            "data.images_key", f"names no column of images: {name!r:.100}; there are: {', '.join(names)}"
        )
    if name is None and len(names) > 1:
        reading.note(
            f"{path.name}: column '{names[0]}' is read; --images-key names another one: {', '.join(names[1:])}"
        )
    return names[0] if name is None else name


def _is_simple(kind: Any) -> bool:
    from pyarrow import types

    return any(
        test(kind) for test in (types.is_integer, types.is_floating, types.is_boolean, types.is_string,
                                types.is_large_string)
    )  # fmt: skip


def _values(files: Sequence[Any], column: str) -> np.ndarray:
    """A column: whole numbers, real ones with nan if one is missing, or text, see ``_texts``."""
    from pyarrow import types

    kind = files[0].schema_arrow.field(column).type
    if types.is_string(kind) or types.is_large_string(kind):
        return _texts(files, column)
    pieces = [np.empty(0, np.float64 if types.is_floating(kind) else np.int64)]
    for batch in _batches(files, column):
        numbers = batch.to_numpy(zero_copy_only=False)
        pieces.append(numbers.astype(np.float64 if numbers.dtype.kind in "fO" else np.int64))
    return np.concatenate(pieces)


def _texts(files: Sequence[Any], column: str) -> np.ndarray:
    """A column of text that may be a label, each cut at the length of a class name; all empty if it is none."""
    numbers, codes = {"": 0}, [np.zeros(0, np.int32)]
    for batch in _batches(files, column):
        pairs = (numbers.setdefault((text or "")[:LONGEST_CLASS], len(numbers)) for text in batch.to_pylist())
        codes.append(np.fromiter(pairs, np.int32, len(batch)))
        if len(numbers) > 1 + MOST_CLASSES:
            numbers, codes = {"": 0}, [np.zeros(sum(file.metadata.num_rows for file in files), np.int32)]
            break
    texts, places = np.array(list(numbers), str), np.concatenate(codes)
    if texts.itemsize * len(places) > TEXT_BYTES:
        return np.zeros(len(places), "U1")
    return texts[places]


def _batches(files: Sequence[Any], column: str) -> Iterator[Any]:
    """The values of a column, piece by piece.

    Raises:
        ValueError: A file holds another number of rows than it claims.
    """
    for file in files:
        rows, done = file.metadata.num_rows, 0
        at_once = [_claim(file, group, column)[1] for group in range(file.metadata.num_row_groups)]
        for batch in file.iter_batches(min(at_once, default=1), columns=[column]):
            done += len(batch)
            if done > rows:
                break
            yield batch.column(0)
        if done != rows:
            raise ValueError(f"it does not hold the {rows:,} rows that it claims")


def _class_names(schema: Any) -> dict[str, Sequence[str]]:
    """The names of classes by column, which Hugging Face keeps in the schema."""
    text = (schema.metadata or {}).get(b"huggingface", b"")
    if not 0 < len(text) <= HEADER_BYTES:
        return {}
    try:
        features = parse_json(text.decode(), any_number=True)["info"]["features"]
        classes = {column: feature["names"] for column, feature in features.items()
                   if feature.get("_type") == "ClassLabel" and column in schema.names}  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {
        column: names
        for column, names in classes.items()
        if isinstance(names, list) and len(names) <= MOST_CLASSES and all(isinstance(name, str) for name in names)
    }
