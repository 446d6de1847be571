"""Names of data sets: built in, or the paths of a person's own."""

from __future__ import annotations

import os
from pathlib import Path

BUILT_IN = ("mnist", "fashion-mnist", "kmnist", "digits", "glyphs", "cifar10", "svhn")
# files that hold a data set; a folder of images is one, too
SUFFIXES = (".npy", ".npz", ".safetensors", ".csv", ".parquet")


def is_path(name: str) -> bool:
    """Whether a name is the path of own data: that of no built-in set, and it is there or has the form of a path."""
    if name == "auto" or name in BUILT_IN:
        return False
    return os.sep in name or name.startswith("~") or os.path.exists(name) or Path(name).suffix.lower() in SUFFIXES


def located(name: str) -> str:
    """The path of own data in full, by the names that were typed: links on it are not followed."""
    return os.path.abspath(os.path.expanduser(name))  # noqa: PTH100, PTH111 - Path raises for some names
