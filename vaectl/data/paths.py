"""Names of data sets: built-in names, or paths of own data."""

from __future__ import annotations

import os
from pathlib import Path

BUILT_IN = ("mnist", "fashion-mnist", "kmnist", "digits", "glyphs", "cifar10", "svhn")
# suffixes of files that hold a data set; a folder of images is also a data set
SUFFIXES = (".npy", ".npz", ".safetensors", ".csv", ".parquet")


def is_path(name: str) -> bool:
    """Whether a name is the path of own data: not a built-in name, and it exists or looks like a path."""
    if name == "auto" or name in BUILT_IN:
        return False
    return os.sep in name or name.startswith("~") or os.path.exists(name) or Path(name).suffix.lower() in SUFFIXES


def located(name: str) -> str:
    """The absolute path of own data as typed, without following links."""
    return os.path.abspath(os.path.expanduser(name))  # noqa: PTH100, PTH111 - Path raises for some names
