"""Data sets: name -> Data, with one file per source."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from vaectl.config import datasets
from vaectl.config.datasets import BUILT_IN, GIVEN, DataOptions, is_given, is_path, located
from vaectl.config.spec import SPLITS, Part, coerce
from vaectl.data.base import Data, Origin, Raw, Split, Store, split_data
from vaectl.data.builtin.digits import load_digits
from vaectl.data.builtin.glyphs import known_factors, load_or_generate
from vaectl.data.builtin.idx import UnavailableError, load_idx, present
from vaectl.data.changes import Change, change_of
from vaectl.data.examples import Examples
from vaectl.data.info import DataInfo
from vaectl.data.location import place_to_train
from vaectl.data.own.source import UnusableError
from vaectl.data.report import Report, report_of
from vaectl.data.survey import DIGEST_BYTES, Tally, digests_of
from vaectl.errors import DataError, SettingError, check_choice, did_you_mean

__all__ = [
    "SOURCES", "Data", "DataInfo", "DataOptions", "Examples", "Raw", "Report", "Split", "Store", "UnusableError",
    "is_path", "load", "located", "reported", "split_data",
]  # fmt: skip

ROWS_AT_ONCE = 1000


def load(name: str, store: Store, **options: Any) -> Data:
    """The data set of a source's name; its description carries the name that ``auto`` came to.

    Args:
        name: A key of ``SOURCES``; ``auto``: MNIST where it is in the data directory or can be downloaded, else the
            built-in glyphs; or the path of own data, a folder of images or a file.
        store: Where the files are, and whom to tell.
        options: Those of ``DataOptions``.

    Raises:
        SettingError: A seed is given where nothing is drawn, or an option does not go with the data.
        DataError: The data are missing, damaged or cannot be read, or were objects of a Python program.
    """
    wanted = DataOptions(**options)
    if is_given(name):
        raise DataError(
            f"{name.removeprefix(GIVEN)} was a Data object that a Python program trained on; it cannot be loaded",
            hint="name another data set with --dataset",
        )
    if wanted.binarize == "none" and wanted.binarize_seed:
        raise SettingError("data.binarize_seed", "is for --binarize static or dynamic")
    if is_path(name):
        from vaectl.data.own.loading import load_own  # which a built-in set has no need of

        return load_own(located(name), store, wanted)
    change = change_of(wanted.image_size, wanted.grayscale, lenient=store.lenient)
    _refuse_own(name, wanted)
    if name == "auto":
        found = present("MNIST", store.directory)
        try:
            raw = SOURCES["mnist"](store)
        except UnavailableError as error:
            store.note(f"dataset: the built-in glyphs, because there is {error.message}")
            name, raw = "glyphs", SOURCES["glyphs"](store)
        else:
            name = "mnist"
            store.note(f"dataset: MNIST, {'found in' if found else 'downloaded to'} {store.directory}")
    else:
        raw = SOURCES[name](store)
    if change is not None:
        raw = _changed(raw, change)
    return split_data(name, raw, wanted.validation_fraction, wanted.binarize, wanted.binarize_seed)


def load_part(part: Part, store: Store) -> Data:
    """Load the data set of a spec's data part, as ``load``; it remembers the part and the directory it is in."""
    data = load(part.name, store, **part.options)
    own = is_path(part.name)
    name = located(part.name) if own else data.info.name  # what auto came to
    directory = Path(name).parent if own else store.directory
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
        UsageError: ``source`` is neither a built-in data set nor a path, or ``data_dir`` is given beside a path.
        DataError: The data are missing, damaged or cannot be read.
    """
    part = source if isinstance(source, Part) else Part(str(source), {})
    name = str(Path(source).absolute()) if isinstance(source, Path) else part.name
    if not (is_path(name) or is_given(name)):
        check_choice("the data set", name, ("auto", *SOURCES), other="a path")
    store = Store(place_to_train(name, data_dir).path, note=note, progress=progress)
    return load_part(Part(name, _checked({**part.options, **options})), store)


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of data sets with the types and bounds that its annotations ask for."""
    hints = get_type_hints(DataOptions, include_extras=True)
    for name in options:
        if name not in hints:
            raise SettingError(f"data.{name}", "is not an option of data sets", hint=did_you_mean(name, hints))
    return {name: coerce(f"data.{name}", value, hints[name]) for name, value in options.items()}


def reported(data: Data) -> Report:
    """The report of a data set: that of own data is there already, for another its examples are passed over."""
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


def _refuse_own(name: str, wanted: DataOptions) -> None:
    """Refuse for a built-in data set what would be ignored."""
    own = "is for data of your own"
    if wanted.test_fraction != DataOptions().test_fraction:
        raise SettingError("data.test_fraction", f"{own} without a test set; {name} has one")
    if wanted.skip_bad:
        raise SettingError("data.skip_bad", f"{own}; {name} is checked whole")
    if wanted.label_column is not None:
        raise SettingError("data.label_column", f"{own}; {name} has its labels")
    if wanted.storage == "stream":
        raise SettingError("data.storage", f"cannot be stream: {name} is held in memory")


def _changed(raw: Raw, change: Change) -> Raw:
    """A built-in data set whose images are changed."""
    native = raw.train_images.shape[1:]
    shape = change.shape(native)

    def changed(images: np.ndarray) -> np.ndarray:
        out = np.empty((len(images), *shape), images.dtype)
        for place, image in enumerate(images):
            out[place] = change(image)
        return out

    return dataclasses.replace(
        raw,
        train_images=changed(raw.train_images),
        test_images=changed(raw.test_images),
        scaling=raw.scaling + change.text([native]),
    )


def _vision(name: str, store: Store) -> Raw:
    from vaectl.data.builtin import vision  # which few need

    return {"cifar10": vision.load_cifar10, "svhn": vision.load_svhn}[name](store)


def load_glyphs(store: Store) -> Raw:
    """The built-in glyphs, made on first use and cached in the data directory.

    Raises:
        DataError: The fonts that they are drawn from, which matplotlib ships, are missing.
    """
    try:
        train, test = load_or_generate(store.directory, store.note, keep=store.keeps)
    except FileNotFoundError as error:
        raise DataError(f"the glyphs cannot be drawn: {error}", hint="reinstall matplotlib from its wheel") from None
    train_factors, test_factors = (known_factors(part) for part in (train, test))
    return Raw(train.images[:, None], train.labels, test.images[:, None], test.labels, train_factors, test_factors)


SOURCES: dict[str, Callable[[Store], Raw]] = datasets.SOURCES
SOURCES |= {
    "mnist": lambda store: load_idx("MNIST", store),
    "fashion-mnist": lambda store: load_idx("FashionMNIST", store),
    "kmnist": lambda store: load_idx("KMNIST", store),
    "digits": load_digits,
    "glyphs": load_glyphs,
    "cifar10": lambda store: _vision("cifar10", store),
    "svhn": lambda store: _vision("svhn", store),
}
assert tuple(SOURCES) == BUILT_IN
