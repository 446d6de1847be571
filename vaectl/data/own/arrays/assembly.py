"""Own arrays, whatever holds them: the lengths of axes give their meaning.

Shapes: ``N`` examples, ``W`` columns of a table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from vaectl.data.own.arrays.keys import maybe_labels, roles_of
from vaectl.data.own.arrays.known import Known, known_of
from vaectl.data.own.arrays.members import NUMBERS, Member
from vaectl.data.own.arrays.problems import OBJECTS, naming
from vaectl.data.own.arrays.records import records_of
from vaectl.data.own.arrays.stored import Stored, reshaped
from vaectl.data.own.rows import SCALINGS, ArrayRows, Encoding, Layout, are_bytes, encoding_of, layout_of
from vaectl.data.own.shapes import image_axes, square_axes
from vaectl.data.own.source import Reading, Source, check_count, classes_of, unlabelled
from vaectl.errors import DataError, SettingError
from vaectl.system.reading import check_size

# number of examples checked for floats that look like bytes
LOOKED_AT = 100
AXES: dict[Layout, str] = {
    "table": "(N, columns)", "grey": "(N, H, W)", "channels last": "(N, H, W, C)", "channels first": "(N, C, H, W)",
}  # fmt: skip
# settings without effect on arrays
FOR_TABLES = ("label_column", "drop_column", "group_column")
STREAM_INSTEAD = "save the images as .npy, which can be streamed"


def keyed(path: Path, members: Mapping[str, Member], reading: Reading) -> Source:
    """Build a source from arrays with names; notes list those that were used and ignored.

    Args:
        path: The file or folder.
        members: Its arrays.
        reading: How to read them.

    Raises:
        DataError: The arrays cannot be told by their keys, do not match, or are too large.
        SettingError: An option names no array.
    """
    plain = reading.options.images_key is None and reading.options.labels_key is None
    if plain and (known := known_of(path, members)) is not None:
        return _recognised(path, members, known, reading)
    roles = roles_of(path, members, reading)
    keys = list(roles.images.values())
    labels_keys = {part: key for part, key in roles.labels.items() if _can_be_labels(path, key, members, reading)}
    _check_usable(path, members, keys, labels_keys.values())
    _note_unused(path, members, [*keys, *roles.labels.values()], reading)
    _note_roles(path, roles.images, labels_keys, roles.remark, reading)
    candidate = None if roles.labels else maybe_labels(members[keys[0]], members, keys)
    if candidate is not None:
        reading.note(f"{path.name}: if '{candidate}' holds the labels: --labels-key {candidate}")
    return assembled(
        path,
        {part: _opened(members, key) for part, key in roles.images.items()},
        {part: _whole(members, key) for part, key in labels_keys.items()},
        reading,
        why_resident=_why_resident(path, members, keys),
    )


def _recognised(path: Path, members: Mapping[str, Member], known: Known, reading: Reading) -> Source:
    """Build a source from a published data set, with its factors."""
    _check_usable(path, members, [known.images], known.keys)
    factors = known.factors()
    _note_unused(path, members, [known.images, *known.keys], reading)
    label = "" if known.label is None else f", and the label is its {known.label}"
    reading.note(f"{path.name}: {known.title}; its factors {', '.join(factors)} are kept{label}")
    source = assembled(
        path,
        {"train": _opened(members, known.images)},
        {} if known.label is None else {"train": factors[known.label]},
        reading,
        why_resident=_why_resident(path, members, [known.images]),
    )
    return dataclasses.replace(source, factors={"train": factors})


def _check_usable(path: Path, members: Mapping[str, Member], images: Collection[str], others: Collection[str]) -> None:
    """Raise a DataError if images cannot be read, or with the other arrays would take too much memory."""
    for key in images:
        if problem := members[key].problem:
            hint = "save it as an array of numbers" if OBJECTS in problem else None
            raise DataError(f"{path}: array '{key:.100}' {problem}", hint=hint)
    size = sum(members[key].opened for key in images) + sum(members[key].whole for key in others)
    check_size(f"the arrays of {path}", size, STREAM_INSTEAD)


def _can_be_labels(path: Path, key: str, members: Mapping[str, Member], reading: Reading) -> bool:
    """Whether labels can be read; a note says why not, and images are read without them."""
    if problem := members[key].problem:
        advice = f"; save them as text or whole numbers: {key}.astype(str)" if OBJECTS in problem else ""
        reading.note(f"{path.name}: array '{key}' {problem}, so there are no labels{advice}")
    return not problem


def _note_unused(path: Path, members: Mapping[str, Member], used: list[str], reading: Reading) -> None:
    unused = sorted(set(members) - set(used))
    if unused:
        texts = [f"{key} ({members[key].problem})" if members[key].problem else key for key in unused[:10]]
        more = f" and {len(unused) - 10} more" if len(unused) > 10 else ""
        reading.note(f"{path.name}: {', '.join(texts)}{more} ignored")


def _note_roles(
    path: Path, images: Mapping[str, str], labels: Mapping[str, str], remark: str, reading: Reading
) -> None:
    texts = [f"{part} images {key!r}" for part, key in images.items()]
    texts += [f"{part} labels {key!r}" for part, key in labels.items()]
    reading.note(f"{path.name}: {', '.join(texts)}" + (f"; {remark}" if remark else ""))


def _opened(members: Mapping[str, Member], key: str) -> Stored:
    with naming(key):
        return members[key].load()


def _whole(members: Mapping[str, Member], key: str) -> np.ndarray:
    with naming(key):
        return members[key].values()


def _why_resident(path: Path, members: Mapping[str, Member], keys: list[str]) -> str | None:
    if all(members[key].streams for key in keys):
        return None
    return f"{path.suffix} files like this are read whole; save the images as .npy"


def assembled(
    path: Path,
    images: Mapping[str, Stored],
    labels: Mapping[str, np.ndarray],
    reading: Reading,
    *,
    why_resident: str | None,
) -> Source:
    """Build a source from arrays.

    Args:
        path: The file of the arrays.
        images: Arrays of images by part.
        labels: Arrays of labels by part; may be empty.
        reading: How to read the arrays.
        why_resident: The reason why they cannot be streamed, or None.

    Raises:
        DataError: The arrays are empty, do not hold numbers, or do not match.
        SettingError: An option has no effect on them.
    """
    records = None if images["train"].dtype.names is None else records_of(path, images, reading)
    if records is not None:
        images, labels = records.numbers, records.labels or labels
    else:
        _refuse_options(path, reading)
    for part, array in images.items():
        _check_axes(path, part, array)
    check_count(path, images.values())
    images, layouts = _laid_out(path, images, reading)
    table = "table" in layouts.values()
    if table and reading.change is not None and reading.change.forced:
        raise SettingError(reading.change.setting, f"is for images; {path.name} holds a table")
    encoding = encoding_of(list(images.values()), reading.support, numbers=table and _are_columns(images, reading))
    _note_axes(path, images["train"], layouts["train"], encoding, reading)
    parts = {part: ArrayRows(array, layouts[part], encoding, reading.change) for part, array in images.items()}
    shapes = {rows.native for rows in parts.values()}
    if len({rows.shape for rows in parts.values()}) > 1:
        raise DataError(f"{path}: its parts hold examples of different shapes: {sorted(shapes)}")
    scaling = SCALINGS[encoding] + (reading.change.text(sorted(shapes)) if reading.change else "")
    raw_labels = {part: _labels(path, part, values, len(images[part]), reading) for part, values in labels.items()}
    indices, classes = classes_of({part: values for part, values in raw_labels.items() if values is not None})
    every = {part: indices.get(part, unlabelled(len(array))) for part, array in images.items()}
    return Source(
        parts,
        every,
        scaling,
        classes,
        why_resident=why_resident,
        word="rows",
        columns=() if records is None else records.columns,
        names=None if records is None else records.names,
        groups=None if records is None else records.groups,
    )


def _refuse_options(path: Path, reading: Reading) -> None:
    for name in FOR_TABLES:
        if getattr(reading.options, name) is not None and not reading.lenient:
            raise SettingError(f"data.{name}", f"is for tables with named columns; {path.name} has none")


def _check_axes(path: Path, part: str, array: Stored) -> None:
    shape = tuple(array.shape)
    if array.dtype.kind not in NUMBERS:
        raise DataError(f"{path}: it holds {array.dtype}, not numbers")
    if len(shape) < 2:
        hint = "for one number per example use (N, 1): array.reshape(-1, 1)" if shape else None
        raise DataError(
            f"{path}: the {part} array of shape {shape} has too few axes: the first is for the examples, and "
            "at least one more is needed for their numbers",
            hint=hint,
        )
    if 0 in shape:
        raise DataError(f"{path}: the {part} array of shape {shape} holds no examples")


def _laid_out(
    path: Path, images: Mapping[str, Stored], reading: Reading
) -> tuple[dict[str, Stored], dict[str, Layout]]:
    """The arrays and the meaning of their axes; rows of flattened images have the axes of the option ``shape``."""
    arrays, layouts = dict(images), dict[str, Layout]()
    for part, array in images.items():
        try:
            layouts[part] = layout_of(tuple(array.shape))
        except DataError as error:
            raise DataError(f"{path}: {error.message}") from None
        if reading.options.shape is None:
            continue
        if layouts[part] == "table":
            axes, layouts[part] = image_axes(reading.options.shape, array.shape[1], path.name)
            arrays[part] = reshaped(array, axes)
        elif not reading.lenient:
            raise SettingError("data.shape", f"is for rows of numbers; {path.name} holds images of {array.shape[1:]}")
    return arrays, layouts


def _are_columns(images: Mapping[str, Stored], reading: Reading) -> bool:
    """Whether whole numbers of tables are numbers as they are, and not pixels.

    A type of one byte says that they are pixels; a wider one does not, unless the rows may be square images.
    """
    wide = any(array.dtype.itemsize > 1 for array in images.values())
    return wide and square_axes(images["train"].shape[1]) is None and reading.support not in ("bytes", "unit")


def _note_axes(path: Path, first: Stored, layout: Layout, encoding: Encoding, reading: Reading) -> None:
    """Say how the axes are read, and what may have been meant instead."""
    shape = tuple(first.shape)
    if encoding == "numbers" and first.dtype.kind == "f":
        some = np.asarray(first[:LOOKED_AT])
        if are_bytes(some) and some.max() > 1:
            reading.note(
                f"{path.name}: its numbers look like bytes stored as floats; save them as uint8 to use them as bytes"
            )
    reading.note(f"{path.name}: {first.dtype} {shape}, read as {AXES[layout]}")
    if layout != "table":
        return
    rows, width = shape
    if (square := square_axes(width)) is not None and encoding in ("bytes", "sixteen", "binary"):
        side = square[0]
        reading.note(f"{path.name}: if its rows are images of {side} x {side} pixels: --shape {side},{side}")
    if rows == width or (first.dtype == np.uint8 and rows <= 2 * width and square is None):
        reading.note(f"{path.name}: read as {rows} rows of {width} columns; to use it as one image, save array[None]")


def _labels(path: Path, part: str, values: np.ndarray, count: int, reading: Reading) -> np.ndarray | None:
    """Labels as one whole number or string for each example, or None if they are not classes."""
    if values.shape[:1] != (count,):
        raise DataError(f"{path}: {count} {part} images, and labels of shape {values.shape}")
    if values.ndim == 2 and values.shape[1] > 1 and values.dtype.kind in "buif" and bool((values.sum(1) == 1).all()):
        values = values.argmax(1)  # one-hot columns
    values = values.reshape(count, -1)
    whole = values.dtype.kind in "biuUS" or (
        values.dtype.kind == "f" and bool(np.isfinite(values).all()) and bool((values == np.rint(values)).all())
    )
    if values.shape[1] != 1 or not whole:
        reading.note(f"{path.name}: the {part} labels ({values.dtype} {values.shape}) are not classes and are ignored")
        return None
    flat = values[:, 0]
    if flat.dtype.kind in "US":
        return flat.astype(str)
    return flat.astype(np.int64)
