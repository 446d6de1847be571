"""Own arrays: ``.npy``, ``.npz`` and ``.safetensors``.

The names of keys give the roles of arrays, the lengths of axes their meaning. Nothing is ever unpickled.

Shapes: ``N`` examples.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vaectl.data.own import npy
from vaectl.data.own.rows import SCALINGS, ArrayRows, Layout, are_bytes, encoding_of, layout_of
from vaectl.data.own.source import Reading, Source, check_count, classes_of, unlabelled
from vaectl.errors import DataError, SettingError
from vaectl.system.reading import HEADER_BYTES, check_packed, check_size, open_regular, size_text

PARTS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
IMAGES, LABELS = ("images", "image", "x", "data", "arr_0"), ("labels", "label", "y", "targets", "target", "classes")
# number of examples checked for floats that look like bytes
LOOKED_AT = 100
# the first bytes of a format's files
MARKS = {".npy": b"\x93NUMPY", ".npz": b"PK"}
PROBLEMS = (ValueError, EOFError, zipfile.BadZipFile, zlib.error, OSError, LookupError, RuntimeError, TypeError,
            NotImplementedError, OverflowError, MemoryError, struct.error)  # fmt: skip


def open_npy(path: Path, reading: Reading) -> Source:
    """Open an ``.npy`` file as a memory map.

    Raises:
        DataError: The file is damaged, empty, or does not hold numbers.
    """
    with _data_errors(path):
        _check_mark(path, ".npy")
        array = npy.mapped(path)
    return assembled(path, {"train": array}, {}, reading, why_resident=None)


def open_npz(path: Path, reading: Reading) -> Source:
    """Open the arrays of an ``.npz`` file by the names of their keys.

    Raises:
        DataError: The file is damaged, its keys are unknown, its arrays do not match, or are too large.
    """
    with _data_errors(path):
        _check_mark(path, ".npz")
        with open_regular(path) as file, zipfile.ZipFile(_Bounded(file)) as archive:
            members = {
                name.removesuffix(".npy"): archive.getinfo(name) for name in archive.namelist() if name.endswith(".npy")
            }
            room = path.stat().st_size

            def read(key: str) -> np.ndarray:
                with _naming(key), archive.open(members[key]) as member:
                    return npy.read_array(member, members[key].file_size)

            def size(key: str) -> int:
                with _naming(key):
                    _check_member(members[key], room)
                return members[key].file_size

            return _keyed(path, list(members), read, size, reading)


def open_safetensors(path: Path, reading: Reading) -> Source:
    """Open the tensors of a ``.safetensors`` file by the names of their keys.

    Raises:
        DataError: As ``open_npz``.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with _data_errors(path):
            with open_regular(path) as stored:
                claimed = int.from_bytes(stored.read(8), "little")
                if claimed > min(HEADER_BYTES, path.stat().st_size):
                    raise DataError(
                        f"{path} is damaged: its header claims {size_text(claimed)}; at most {size_text(HEADER_BYTES)}"
                    )
            with safe_open(path, "pt") as file:
                return _keyed(path, list(file.keys()), partial(_tensor, file), partial(_tensor_size, file), reading)
    except SafetensorError as error:
        raise DataError(f"{path} is damaged: {error}") from None


def _tensor(file: Any, key: str) -> np.ndarray:
    import torch

    tensor: torch.Tensor = file.get_tensor(key)
    array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _tensor_size(file: Any, key: str) -> int:
    # no type has more than 8 bytes; safetensors itself has compared the sizes with that of the file
    shape: list[int] = file.get_slice(key).get_shape()
    return 8 * math.prod(shape)


class _Bounded:
    """A file of which no more than a header is read at once: zipfile reads the whole list of an archive's members."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        """Read as a file does.

        Raises:
            ValueError: It would be more than a header.
        """
        content = self._file.read(min(size, HEADER_BYTES + 1) if size >= 0 else HEADER_BYTES + 1)
        if len(content) > HEADER_BYTES:
            raise ValueError(f"the list of its arrays is longer than {size_text(HEADER_BYTES)}")
        return content


def _check_member(member: zipfile.ZipInfo, room: int) -> None:
    """Raise a ValueError unless what a member of an archive claims of itself is possible.

    Args:
        member: The member.
        room: Bytes of the archive.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"it is packed by method {member.compress_type}; numpy stores arrays or deflates them")
    if member.compress_size > room:
        raise ValueError(f"it claims {size_text(member.compress_size)} of a file of {size_text(room)}")
    check_packed(member.file_size, member.compress_size)


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Name an array in the problems with it."""
    try:
        yield
    except PROBLEMS as error:
        raise ValueError(f"array {key!r:.100}: {_first_line(error)}") from None


def _check_mark(path: Path, suffix: str) -> None:
    """Raise a DataError if a file does not begin with the mark of its format; a pipe does not block."""
    with open_regular(path) as file:
        first = file.read(8)
    if not first:
        raise DataError(f"{path} is empty")
    if not first.startswith(MARKS[suffix]):
        other = next((name for name, mark in MARKS.items() if first.startswith(mark)), None)
        hint = "numpy.save and numpy.savez write such files; a table of text ends in .csv"
        raise DataError(
            f"{path} is not an {suffix} file",
            hint=hint if other is None else f"it is an {other} file: rename it accordingly",
        )


@contextmanager
def _data_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (DataError, SettingError):
        raise
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except PROBLEMS as error:
        if "Python objects" in str(error):
            raise DataError(
                f"{path} holds Python objects, which are never loaded", hint="save it as an array of numbers"
            ) from None
        raise DataError(f"{path} is damaged: {_first_line(error):.300}") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _keyed(
    path: Path, keys: Collection[str], read: Callable[[str], np.ndarray], size: Callable[[str], int], reading: Reading
) -> Source:
    """Read the arrays by the names of their keys; notes list the keys that were used and ignored."""
    images, labels = _roles(path, keys)
    used_keys = [*images.values(), *labels.values()]
    check_size(f"the arrays of {path}", sum(map(size, used_keys)), "save the images as .npy, which can be streamed")
    if unused := sorted(set(keys) - set(used_keys)):
        reading.note(f"{path.name}: {', '.join(unused[:10])} ignored")
    reading.note(f"{path.name}: {', '.join(f'{part} images {key!r}' for part, key in images.items())}"
               + "".join(f", {part} labels {key!r}" for part, key in labels.items()))  # fmt: skip
    return assembled(
        path, {part: read(key) for part, key in images.items()}, {part: read(key) for part, key in labels.items()},
        reading, why_resident=f"{path.suffix} files are read whole; save the images as .npy",
    )  # fmt: skip


def _roles(path: Path, keys: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The keys of images and of labels by part.

    Keys are ``images`` and ``labels`` (or x, data, y, targets), alone or with a part before or after (``train_images``,
    ``x_test``), or a single key of any name.
    """
    plain_keys = {_plain(key): key for key in keys}
    images, labels = dict[str, str](), dict[str, str]()
    for roles, names in ((images, IMAGES), (labels, LABELS)):
        for part, folders in PARTS.items():
            forms = [f"{folder}_{name}" for folder in folders for name in names]
            forms += [f"{name}_{folder}" for folder in folders for name in names]
            if form := next((form for form in forms if form in plain_keys), None):
                roles[part] = plain_keys[form]
    if "train" not in images:
        alone = next((plain_keys[name] for name in IMAGES if name in plain_keys), None)
        if alone is None and len(keys) == 1:
            (alone,) = keys
        if alone is None:
            listing = ", ".join(sorted(keys)[:20]) or "none"
            raise DataError(
                f"{path}: no array is called images; its arrays: {listing}",
                hint="name the arrays images and labels, or train_images, train_labels, test_images, ...",
            )
        images = {"train": alone, **{part: key for part, key in images.items() if part != "train"}}
        if label := next(
            (plain_keys[name] for name in LABELS if name in plain_keys and plain_keys[name] != alone), None
        ):
            labels["train"] = label
    return images, {part: key for part, key in labels.items() if part in images}


def _plain(key: str) -> str:
    return key.lower().replace("-", "_").replace(".", "_").replace("/", "_")


def assembled(
    path: Path,
    images: Mapping[str, np.ndarray],
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
    """
    if reading.label_column is not None:
        raise SettingError("data.label_column", f"is for tables with named columns; {path.name} has none")
    for part, array in images.items():
        if array.ndim < 2:
            hint = "for one number per example use (N, 1): array.reshape(-1, 1)" if array.ndim else None
            raise DataError(
                f"{path}: the {part} array of shape {array.shape} has too few axes: the first is for the examples, and "
                "at least one more is needed for their numbers",
                hint=hint,
            )
        if 0 in array.shape:
            raise DataError(f"{path}: the {part} array of shape {array.shape} holds no examples")
    check_count(path, images.values())
    try:
        layouts: dict[str, Layout] = {part: layout_of(array.shape) for part, array in images.items()}
        encoding = encoding_of(list(images.values()), reading.support)
    except DataError as error:
        raise DataError(f"{path}: {error.message}") from None
    table = "table" in layouts.values()
    if table and reading.change is not None and reading.change.forced:
        raise SettingError(reading.change.setting, f"is for images; {path.name} holds a table")
    if (
        encoding == "numbers"
        and images["train"].dtype.kind == "f"
        and are_bytes(np.asarray(images["train"][:LOOKED_AT]))
    ):
        reading.note(
            f"{path.name}: its numbers look like bytes stored as floats; save them as uint8 to use them as bytes"
        )
    axes = {"table": "(N, columns)", "grey": "(N, H, W)", "channels last": "(N, H, W, C)",
            "channels first": "(N, C, H, W)"}  # fmt: skip
    first = images["train"]
    reading.note(f"{path.name}: {first.dtype} {tuple(first.shape)}, read as {axes[layouts['train']]}")
    parts = {part: ArrayRows(array, layouts[part], encoding, reading.change) for part, array in images.items()}
    shapes = {rows.native for rows in parts.values()}
    if len({rows.shape for rows in parts.values()}) > 1:
        raise DataError(f"{path}: its parts hold examples of different shapes: {sorted(shapes)}")
    scaling = SCALINGS[encoding] + (reading.change.text(sorted(shapes)) if reading.change else "")
    raw_labels = {part: _labels(path, part, values, len(images[part]), reading) for part, values in labels.items()}
    indices, classes = classes_of({part: values for part, values in raw_labels.items() if values is not None})
    every = {part: indices.get(part, unlabelled(len(array))) for part, array in images.items()}
    return Source(parts, every, scaling, classes, why_resident=why_resident, word="rows")


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
