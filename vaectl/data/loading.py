"""Loads data sets by name or path; each source has a file of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from vaectl.config import datasets
from vaectl.config.datasets import BUILT_IN, GIVEN, DataOptions, is_given, is_path, located
from vaectl.config.spec import SPLITS, Part, coerce
from vaectl.data.base import Data, Loading, Origin, Raw, Split, split_data
from vaectl.data.builtin.digits import load_digits
from vaectl.data.builtin.glyphs import known_factors, load_or_generate
from vaectl.data.builtin.idx import UnavailableError, load_idx, present
from vaectl.data.changes import Change, change_of
from vaectl.data.examples import Examples
from vaectl.data.info import DataInfo
from vaectl.data.location import place_to_train
from vaectl.data.own.source import UnusableError
from vaectl.data.report import Report, report_of
from vaectl.data.selection import chosen
from vaectl.data.survey import DIGEST_BYTES, Tally, digests_of
from vaectl.errors import DataError, SettingError, amount, check_choice, did_you_mean

__all__ = [
    "SOURCES",
    "Data",
    "DataInfo",
    "DataOptions",
    "Examples",
    "Loading",
    "Raw",
    "Report",
    "Split",
    "UnusableError",
    "is_path",
    "load",
    "located",
    "reported",
    "split_data",
]  # fmt: skip

ROWS_AT_ONCE = 1000
# option that is for own data -> why a built-in data set does not take it
OWN_ONLY = {
    "test_fraction": "has a test set",
    "test": "has a test set",
    "skip_bad": "is checked whole",
    "label_column": "has its labels",
    "drop_column": "holds images",
    "group_column": "holds images",
    "shape": "holds images",
    "images_key": "holds images",
    "labels_key": "has its labels",
    "normalize": "holds images of bytes",
}


def load(name: str, loading: Loading, **options: Any) -> Data:
    """Load a data set by name or path; for ``auto`` its description has the name of the actual data set.

    Args:
        name: A key of ``SOURCES``; ``auto``, which is MNIST if it is in the data directory or can be downloaded, else
            the built-in glyphs; or the path of own data, a folder of images or a file.
        loading: The directory of the files, and callbacks.
        options: The options of ``DataOptions``.

    Raises:
        SettingError: A seed is set but nothing is drawn, or an option does not apply to the data.
        DataError: The data are missing, damaged or cannot be read, or were objects of a Python program.
    """
    settings = DataOptions(**options)
    if is_given(name):
        raise DataError(
            f"{name.removeprefix(GIVEN)} was a Data object that a Python program trained on; it cannot be loaded",
            hint="name another data set with --dataset",
        )
    if settings.binarize == "none" and settings.binarize_seed:
        raise SettingError("data.binarize_seed", "is for --binarize static or dynamic")
    if is_path(name):
        from vaectl.data.own.loading import load_own  # not needed for built-in sets

        return load_own(located(name), loading, settings)
    change = change_of(settings, lenient=loading.lenient)
    _refuse_own(name, settings)
    if name == "auto":
        local = present("MNIST", loading.directory)
        try:
            raw = SOURCES["mnist"](dataclasses.replace(loading, hurried=True))
        except UnavailableError as error:
            loading.note(f"dataset: the built-in glyphs, because there is {error.message}")
            name, raw = "glyphs", SOURCES["glyphs"](loading)
        else:
            name = "mnist"
            loading.note(f"dataset: MNIST, {'found in' if local else 'downloaded to'} {loading.directory}")
    else:
        raw = SOURCES[name](loading)
    if settings.classes is not None:
        raw, others = _selected(name, raw, settings.classes)
        loading.note(f"{name}: {amount(others, 'example')} of other classes left out")
    if change is not None:
        raw = _changed(raw, change)
    return split_data(name, raw, settings.validation_fraction, settings.binarize, settings.binarize_seed)


def load_part(part: Part, loading: Loading) -> Data:
    """Load the data set of a spec's data part, see ``load``; the result has the part and the directory as origin."""
    data = load(part.name, loading, **part.options)
    own = is_path(part.name)
    name = located(part.name) if own else data.info.name  # the name that auto stands for
    directory = Path(name).parent if own else loading.directory
    return dataclasses.replace(data, origin=Origin(Part(name, part.options), directory))


def load_data(
    source: str | Path | Part,
    data_dir: str | Path | None = None,
    *,
    note: Callable[[str], None] = lambda sentence: None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    **options: Any,
) -> Data:
    """Load a built-in data set, or your own from a path.

    Args:
        source: A name (``mnist``, ``digits``, ...; ``auto``), a path, or the data part of a spec.
        data_dir: The directory of built-in data sets; None takes ``VAECTL_DATA_DIR``, else ``./data``.
        note: Called with each sentence that the user should read.
        progress: Called with (what, done, total) while data are downloaded (bytes) or read (examples).
        options: The options of ``DataOptions``, such as ``binarize="static"`` or ``validation_fraction=0.1``.

    Raises:
        SettingError: An option is unknown, has a value that is not allowed, or does not go with the data.
        UsageError: ``source`` is neither a built-in data set nor a path, or ``data_dir`` is set along with a path.
        DataError: The data are missing, damaged or cannot be read.
    """
    part = source if isinstance(source, Part) else Part(str(source), {})
    name = str(Path(source).absolute()) if isinstance(source, Path) else part.name
    if not (is_path(name) or is_given(name)):
        check_choice("the data set", name, ("auto", *SOURCES), other="a path")
    loading = Loading(place_to_train(name, data_dir).path, note=note, progress=progress)
    return load_part(Part(name, _checked({**part.options, **options})), loading)


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of data sets, checked against the types and bounds of ``DataOptions``."""
    hints = get_type_hints(DataOptions, include_extras=True)
    for name in options:
        if name not in hints:
            raise SettingError(f"data.{name}", "is not an option of data sets", hint=did_you_mean(name, hints))
    return {name: coerce(f"data.{name}", value, hints[name]) for name, value in options.items()}


def reported(data: Data) -> Report:
    """The report on a data set: the existing report of own data, else the result of a pass over the examples."""
    if data.report is not None:
        return data.report
    splits, tally = {name: data.split(name) for name in SPLITS}, Tally(data.info.shape)
    digests = {}
    for name, examples in splits.items():
        marks = [np.empty((0, DIGEST_BYTES), np.uint8)]
        for stored in examples.stored(ROWS_AT_ONCE):
            tally.add(stored)
            marks.append(digests_of(stored))
        digests[name] = np.concatenate(marks)
    labels = {name: examples.labels.cpu().numpy() for name, examples in splits.items()}
    return report_of(data.info, tally, digests, labels, stored="uint8")


def _refuse_own(name: str, settings: DataOptions) -> None:
    """Refuse options for own data, which a built-in data set would ignore."""
    usual = DataOptions()
    for option, reason in OWN_ONLY.items():
        if getattr(settings, option) != getattr(usual, option):
            raise SettingError(f"data.{option}", f"is for data of your own; {name} {reason}")
    if settings.storage == "stream":
        raise SettingError("data.storage", f"cannot be stream: {name} is held in memory")


def _selected(name: str, raw: Raw, classes: Sequence[str]) -> tuple[Raw, int]:
    """The examples of some classes of a built-in data set, and the number of the others."""
    rows, labels, names = chosen(name, classes, {"train": raw.train_labels, "test": raw.test_labels}, raw.classes)
    train, test = rows["train"], rows["test"]
    return dataclasses.replace(
        raw,
        train_images=raw.train_images[train],
        train_labels=labels["train"],
        test_images=raw.test_images[test],
        test_labels=labels["test"],
        train_factors={key: values[train] for key, values in raw.train_factors.items()},
        test_factors={key: values[test] for key, values in raw.test_factors.items()},
        classes=names,
    ), len(raw.train_labels) + len(raw.test_labels) - len(train) - len(test)


def _changed(raw: Raw, change: Change) -> Raw:
    """A built-in data set whose images are changed."""
    native = raw.train_images.shape[1:]
    shape = change.shape(native)

    def change_all(images: np.ndarray) -> np.ndarray:
        out = np.empty((len(images), *shape), images.dtype)
        for index, image in enumerate(images):
            out[index] = change(image)
        return out

    return dataclasses.replace(
        raw,
        train_images=change_all(raw.train_images),
        test_images=change_all(raw.test_images),
        scaling=raw.scaling + change.text([native]),
    )


def _vision(name: str, loading: Loading) -> Raw:
    from vaectl.data.builtin import vision  # rarely needed

    return {"cifar10": vision.load_cifar10, "svhn": vision.load_svhn}[name](loading)


def load_glyphs(loading: Loading) -> Raw:
    """The built-in glyphs, made on first use and cached in the data directory."""
    train, test = load_or_generate(loading.directory, loading.note, keep=loading.keeps)
    train_factors, test_factors = (known_factors(part) for part in (train, test))
    return Raw(train.images[:, None], train.labels, test.images[:, None], test.labels, train_factors, test_factors)


SOURCES: dict[str, Callable[[Loading], Raw]] = datasets.SOURCES
SOURCES |= {
    "mnist": lambda loading: load_idx("MNIST", loading),
    "fashion-mnist": lambda loading: load_idx("FashionMNIST", loading),
    "kmnist": lambda loading: load_idx("KMNIST", loading),
    "digits": load_digits,
    "glyphs": load_glyphs,
    "cifar10": lambda loading: _vision("cifar10", loading),
    "svhn": lambda loading: _vision("svhn", loading),
}
assert tuple(SOURCES) == BUILT_IN
