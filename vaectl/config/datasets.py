"""Data sets by name or path, and the options that all of them take."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from vaectl.config.values import (
    Binarize,
    Channels,
    ImageSize,
    Names,
    Normalize,
    Seed,
    Shape,
    Storage,
    TestFraction,
    ValidationFraction,
)

DatasetName = Literal["auto", "mnist", "fashion-mnist", "kmnist", "digits", "glyphs", "cifar10", "svhn"]
# auto stands for one of the others
BUILT_IN: tuple[str, ...] = get_args(DatasetName)[1:]
# name -> source; `data.loading` registers the built-in ones, and a plug-in may register others
SOURCES: dict[str, Callable[..., Any]] = {}
# in a run's config this comes before the name of data that were passed from Python
GIVEN = "python:"
# files that hold a data set; a folder of images is one, too
SUFFIXES = (
    ".npy", ".npz", ".safetensors", ".h5", ".hdf5", ".mat", ".zarr", ".idx", ".csv", ".tsv", ".csv.gz", ".tsv.gz",
    ".zip", ".tar", ".parquet", ".arrow", ".feather", ".h5ad",
)  # fmt: skip
# those of tables
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zip", ".tsv.zip", ".parquet", ".arrow", ".feather", ".h5ad")
# files of images, which a folder holds
PICTURES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", ".tga", ".jp2", ".avif",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The options of a data set, built in or your own, and their defaults.

    Attributes:
        validation_fraction: Part of the training set that is held out; 0 holds out nothing.
        test_fraction: Part of own data without a test set that becomes one.
        image_size: Height and width to resize images to, or one number for both; None keeps their size.
        grayscale: Whether colours become grey levels.
        binarize: Whether and how pixels become 0 or 1, as in ``data.base.split_data``.
        binarize_seed: Seed of the pixels that are drawn once.
        skip_bad: Whether examples of own data that cannot be used are left out; else they are an error.
        normalize: How real numbers are brought to a common scale: the columns of a table each, images as a whole.
            ``auto`` standardises them; none, by mean and standard deviation, range, or median and quartiles.
        crop: The part of each image to keep before it is resized: ``center:H,W`` or ``LEFT,TOP,WIDTH,HEIGHT``; None
            keeps the whole.
        channels: 1 turns colours into grey levels, 3 grey levels into colours, and both drop transparency; None keeps
            what there is.
        invert: Whether light and dark are exchanged.
        shape: Shape of the image that a row of a table or array holds, ``H, W`` or ``H, W, C``, or ``C, H, W`` with the
            colours one after another; None takes rows as they are, unless the names of their columns tell.
        classes: The classes to keep, by name or number; None keeps all.
        label_column: The column of a table that holds the labels; None looks for the usual names.
        drop_column: Columns of a table to leave out.
        group_column: A column of a table whose equal values stay in one split, such as a patient.
        images_key, labels_key: Name of the array or column of images, and of that of labels; None looks for the usual
            names.
        test: Path of the test examples, in a file or folder of their own.
        storage: Whether own data are held in memory or read when needed; ``auto`` streams data that would take more
            than a quarter of the memory.
    """

    validation_fraction: ValidationFraction = 1 / 12
    test_fraction: TestFraction = 0.1
    image_size: ImageSize = None
    grayscale: bool = False
    binarize: Binarize = "none"
    binarize_seed: Seed = 0
    skip_bad: bool = False
    normalize: Normalize = "auto"
    crop: str | None = None
    channels: Channels = None
    invert: bool = False
    shape: Shape = None
    classes: Names = None
    label_column: str | None = None
    drop_column: Names = None
    group_column: str | None = None
    images_key: str | None = None
    labels_key: str | None = None
    test: str | None = None
    storage: Storage = "auto"


def suffix_of(name: str) -> str:
    """The suffix of a file's name in lower case, of a packed table with that before it: ``.csv.gz``."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    both = "".join(suffixes[-2:])
    return both if both in TABLES else "".join(suffixes[-1:])


def dataset_names() -> tuple[str, ...]:
    """The names of data sets, built in or registered since."""
    return tuple(dict.fromkeys((*BUILT_IN, *SOURCES)))


def is_path(name: str) -> bool:
    """Whether a name is the path of own data: not a registered set, and it exists or looks like a path."""
    if name == "auto" or name in dataset_names() or is_given(name):
        return False
    known = (*SUFFIXES, *TABLES, *PICTURES)
    return os.sep in name or name.startswith("~") or os.path.exists(name) or suffix_of(name) in known


def is_given(name: str) -> bool:
    """Whether a name is that of data passed from Python."""
    return name.startswith(GIVEN)


def located(name: str) -> str:
    """The absolute path of own data; symbolic links are not followed."""
    return os.path.abspath(os.path.expanduser(name))  # noqa: PTH100, PTH111 - Path raises for some names
