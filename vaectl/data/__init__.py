"""Data sets: name -> Data, with one file per source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from vaectl.data.base import Binarize, Data, Raw, Split, Store, split_data
from vaectl.data.digits import load_digits
from vaectl.data.glyphs import known_factors, load_or_generate
from vaectl.data.idx import UnavailableError, load_idx, present
from vaectl.data.info import DataInfo
from vaectl.errors import DataError, SettingError
from vaectl.spec import Bounds, Seed

__all__ = ["SOURCES", "Data", "DataInfo", "Raw", "Split", "Store", "load", "split_data"]


def load(
    name: str,
    store: Store,
    *,
    validation_fraction: Annotated[float, Bounds(0, 0.9)] = 1 / 12,
    binarize: Binarize = "none",
    binarize_seed: Seed = 0,
) -> Data:
    """The data set of a source's name; its description carries the name that ``auto`` came to.

    Args:
        name: A key of ``SOURCES``, or ``auto``: MNIST where it is in the data directory or can be downloaded,
            else the built-in glyphs.
        store: Where the files are, and whom to tell.
        validation_fraction: Part of the training set that is held out; 0 holds out nothing.
        binarize: Whether and how pixels become 0 or 1, as in ``split_data``.
        binarize_seed: Seed of what is drawn once.

    Raises:
        SettingError: A seed is given where nothing is drawn.
        DataError: The data are missing, damaged or cannot be read.
    """
    if binarize == "none" and binarize_seed:
        raise SettingError("data.binarize_seed", "is for --binarize static or dynamic")
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
    return split_data(name, raw, validation_fraction, binarize, binarize_seed)


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


SOURCES: dict[str, Callable[[Store], Raw]] = {
    "mnist": lambda store: load_idx("MNIST", store),
    "fashion-mnist": lambda store: load_idx("FashionMNIST", store),
    "kmnist": lambda store: load_idx("KMNIST", store),
    "digits": load_digits,
    "glyphs": load_glyphs,
}
