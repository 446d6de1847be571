"""Arrays of a person's own: ``.npy``, ``.npz`` and ``.safetensors``.

Keys and axes are told by their names and lengths. Nothing is ever unpickled.

Shapes: ``N`` examples.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vaectl.data.own.rows import SCALINGS, ArrayRows, Layout, are_bytes, encoding_of, layout_of
from vaectl.data.own.source import Asked, Source, classes_of, unlabelled
from vaectl.errors import DataError, SettingError
from vaectl.system.reading import open_regular, size_text
from vaectl.system.runtime import memory

PARTS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
IMAGES, LABELS = ("images", "image", "x", "data", "arr_0"), ("labels", "label", "y", "targets", "target", "classes")
# examples that are looked at for a remark
LOOKED_AT = 100
# what files of a format begin with
MARKS = {".npy": b"\x93NUMPY", ".npz": b"PK"}
PROBLEMS = (ValueError, EOFError, zipfile.BadZipFile, zlib.error, OSError, SyntaxError, KeyError, RuntimeError,
            NotImplementedError, TypeError, OverflowError)  # fmt: skip


def open_npy(path: Path, asked: Asked) -> Source:
    """The one array of an ``.npy`` file, mapped and not read.

    Raises:
        DataError: It is damaged, empty, or holds no numbers.
    """
    with _reading(path):
        _check_mark(path, ".npy")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} is no .npy file")
    return assembled(path, {"train": array}, {}, asked, held=None)


def open_npz(path: Path, asked: Asked) -> Source:
    """The arrays of an ``.npz`` file, as several keys name them.

    Raises:
        DataError: It is damaged, its keys are unknown, or its arrays do not go together or into memory.
    """
    with _reading(path):
        _check_mark(path, ".npz")
    with _reading(path), open_regular(path) as file, np.load(file, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is no .npz file")
        with zipfile.ZipFile(path) as members:
            # as the headers say: a compressed file may be small and hold much
            sizes = {name: members.getinfo(name).file_size for name in members.namelist()}
        return _keyed(path, archive.files, lambda key: archive[key], lambda key: sizes.get(f"{key}.npy", 0), asked)


def open_safetensors(path: Path, asked: Asked) -> Source:
    """The tensors of a ``.safetensors`` file, as several keys name them.

    Raises:
        DataError: As ``open_npz``.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    def numbers(file: Any, key: str) -> np.ndarray:
        tensor: torch.Tensor = file.get_tensor(key)
        array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        return array

    try:
        with _reading(path):
            with open_regular(path):
                pass
            with safe_open(path, "pt") as file:
                size = path.stat().st_size
                return _keyed(path, list(file.keys()), lambda key: numbers(file, key), lambda key: size, asked)
    except SafetensorError as error:
        raise DataError(f"{path} is damaged: {error}") from None


def _check_mark(path: Path, suffix: str) -> None:
    """Raise a DataError where a file does not begin as those of its format do; a pipe is not waited for."""
    with open_regular(path) as file:
        first = file.read(8)
    if not first:
        raise DataError(f"{path} is empty")
    if not first.startswith(MARKS[suffix]):
        other = next((name for name, mark in MARKS.items() if first.startswith(mark)), None)
        hint = "numpy.save and numpy.savez write such files; a table of text ends in .csv"
        raise DataError(
            f"{path} is no {suffix} file", hint=hint if other is None else f"it is an {other} file: give it that name"
        )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (DataError, SettingError):
        raise
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except PROBLEMS as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if any(words in str(error) for words in ("allow_pickle", "Object arrays", "Python objects")):
            raise DataError(
                f"{path} holds Python objects, which are never read", hint="save it as an array of numbers"
            ) from None
        raise DataError(f"{path} is damaged: {text:.200}") from None


def _keyed(
    path: Path, keys: Collection[str], read: Callable[[str], np.ndarray], size: Callable[[str], int], asked: Asked
) -> Source:
    """The arrays that keys name; it is said which were taken."""
    images, labels = _roles(path, keys)
    taken = [*images.values(), *labels.values()]
    needed, there = sum(map(size, taken)), memory()
    if needed > there // 2:
        raise DataError(
            f"{path} holds {size_text(needed)}, and there are {size_text(there)} of memory",
            hint="save the images as .npy, which is read as it is needed",
        )
    if left := sorted(set(keys) - set(taken)):
        asked.note(f"{path.name}: {', '.join(left[:10])} left alone")
    asked.note(f"{path.name}: {', '.join(f'{part} images {key!r}' for part, key in images.items())}"
               + "".join(f", {part} labels {key!r}" for part, key in labels.items()))  # fmt: skip
    return assembled(
        path, {part: read(key) for part, key in images.items()}, {part: read(key) for part, key in labels.items()},
        asked, held=f"{path.suffix} files are read whole; save the images as .npy",
    )  # fmt: skip


def _roles(path: Path, keys: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The keys of images and of labels by part.

    ``images`` and ``labels`` (or x, data, y, targets) alone, with a part before or after (``train_images``,
    ``x_test``), or a single key of any name.
    """
    known = {_plain(key): key for key in keys}
    images, labels = dict[str, str](), dict[str, str]()
    for found, names in ((images, IMAGES), (labels, LABELS)):
        for part, folders in PARTS.items():
            forms = [f"{folder}_{name}" for folder in folders for name in names]
            forms += [f"{name}_{folder}" for folder in folders for name in names]
            if form := next((form for form in forms if form in known), None):
                found[part] = known[form]
    if "train" not in images:
        alone = next((known[name] for name in IMAGES if name in known), None)
        if alone is None and len(keys) == 1:
            (alone,) = keys
        if alone is None:
            there = ", ".join(sorted(keys)[:20]) or "none"
            raise DataError(
                f"{path}: no array is called images; there are: {there}",
                hint="name the arrays images and labels, or train_images, train_labels, test_images, ...",
            )
        images = {"train": alone, **{part: key for part, key in images.items() if part != "train"}}
        if label := next((known[name] for name in LABELS if name in known and known[name] != alone), None):
            labels["train"] = label
    return images, {part: key for part, key in labels.items() if part in images}


def _plain(key: str) -> str:
    return key.lower().replace("-", "_").replace(".", "_").replace("/", "_")


def assembled(
    path: Path,
    images: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    asked: Asked,
    *,
    held: str | None,
) -> Source:
    """The source that arrays make.

    Args:
        path: Where they are from.
        images: By part.
        labels: By part, where there are any.
        asked: How they are to be read.
        held: Why they cannot be read as they are needed, or None.

    Raises:
        DataError: They are empty, hold no numbers, or do not go together.
    """
    if asked.label_column is not None:
        raise SettingError("data.label_column", f"is for tables with named columns; {path.name} has none")
    for part, array in images.items():
        if array.ndim < 2:
            hint = "one number of each example is (N, 1): array.reshape(-1, 1)" if array.ndim else None
            raise DataError(
                f"{path}: the {part} array of shape {array.shape} has too few axes: one is for the examples, and there "
                "must be more for the numbers of each",
                hint=hint,
            )
        if 0 in array.shape:
            raise DataError(f"{path}: the {part} array of shape {array.shape} holds no examples")
    try:
        layouts: dict[str, Layout] = {part: layout_of(array.shape) for part, array in images.items()}
        encoding = encoding_of(list(images.values()), asked.support)
    except DataError as error:
        raise DataError(f"{path}: {error.message}") from None
    table = "table" in layouts.values()
    if table and asked.change is not None and asked.change.forced:
        name = "data.image_size" if asked.change.size is not None else "data.grayscale"
        raise SettingError(name, f"is for images; {path.name} holds a table")
    if (
        encoding == "numbers"
        and images["train"].dtype.kind == "f"
        and are_bytes(np.asarray(images["train"][:LOOKED_AT]))
    ):
        asked.note(
            f"{path.name}: its numbers look like bytes that are stored as floats; save them as uint8 to make them so"
        )
    axes = {"table": "(N, columns)", "grey": "(N, H, W)", "channels last": "(N, H, W, C)",
            "channels first": "(N, C, H, W)"}  # fmt: skip
    first = images["train"]
    asked.note(f"{path.name}: {first.dtype} {tuple(first.shape)}, read as {axes[layouts['train']]}")
    parts = {part: ArrayRows(array, layouts[part], encoding, asked.change) for part, array in images.items()}
    shapes = {rows.native for rows in parts.values()}
    if len({rows.shape for rows in parts.values()}) > 1:
        raise DataError(f"{path}: its parts hold examples of shapes {sorted(shapes)}")
    scaling = SCALINGS[encoding] + (asked.change.text(sorted(shapes)) if asked.change else "")
    known = {part: _labels(path, part, values, len(images[part]), asked) for part, values in labels.items()}
    found, classes = classes_of({part: values for part, values in known.items() if values is not None})
    every = {part: found.get(part, unlabelled(len(array))) for part, array in images.items()}
    return Source(parts, every, scaling, classes, held=held, word="rows")


def _labels(path: Path, part: str, values: np.ndarray, count: int, asked: Asked) -> np.ndarray | None:
    """Labels as one whole number or text for each example, or None where they are no classes."""
    if values.shape[:1] != (count,):
        raise DataError(f"{path}: {count} {part} images, and labels of shape {values.shape}")
    if values.ndim == 2 and values.shape[1] > 1 and values.dtype.kind in "buif" and bool((values.sum(1) == 1).all()):
        values = values.argmax(1)  # one of several columns is 1
    values = values.reshape(count, -1)
    whole = values.dtype.kind in "biuUS" or (
        values.dtype.kind == "f" and bool(np.isfinite(values).all()) and bool((values == np.rint(values)).all())
    )
    if values.shape[1] != 1 or not whole:
        asked.note(f"{path.name}: the {part} labels ({values.dtype} {values.shape}) are no classes and are left alone")
        return None
    flat = values[:, 0]
    if flat.dtype.kind in "US":
        return flat.astype(str)
    return flat.astype(np.int64)
