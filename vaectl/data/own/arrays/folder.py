"""Folders of array files, each an image or label array of a part: ``X_train.npy``, ``y_test.npy``."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from vaectl.config.datasets import PICTURES
from vaectl.data.own.arrays import npy
from vaectl.data.own.arrays.assembly import keyed
from vaectl.data.own.arrays.idx import idx_key, idx_member, is_idx_name
from vaectl.data.own.arrays.members import Member, damaged, unusable
from vaectl.data.own.arrays.problems import OBJECTS, PROBLEMS, data_errors, first_line
from vaectl.data.own.source import Reading, Source
from vaectl.errors import DataError, amount
from vaectl.system.reading import open_regular

MOST_FILES = 10_000


def holds_arrays(folder: Path) -> bool:
    """Whether a folder holds ``.npy`` or IDX files, and neither images nor folders."""
    seen = False
    with suppress(OSError), os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - a string, as there may be millions
            if entry.name.startswith("."):
                continue
            if number > MOST_FILES or suffix in PICTURES or entry.is_dir():
                return False
            seen = seen or suffix == ".npy" or is_idx_name(entry.name)
    return seen


def open_array_folder(root: Path, reading: Reading) -> Source:
    """Open the array files of a folder by their names.

    Raises:
        DataError: A file is damaged, the names are unknown, or the arrays do not match.
    """
    with data_errors(root):
        members, others = dict[str, Member](), 0
        names = [entry.name for entry in os.scandir(root)]
        for name in sorted(names, key=lambda name: (name.lower().endswith(".gz"), name)):
            if name.startswith("."):
                continue
            if name.lower().endswith(".npy"):
                members[name[:-4]] = _npy_member(root / name)
            elif is_idx_name(name):
                # MNIST's folder may have a file both packed and unpacked
                members.setdefault(idx_key(name), idx_member(root / name))
            else:
                others += 1
        if others:
            reading.note(f"{root.name}: {amount(others, 'file')} without arrays ignored")
        return keyed(root, members, reading)


def _npy_member(path: Path) -> Member:
    try:
        if os.path.islink(path) and os.path.dirname(os.path.realpath(path)) != os.path.realpath(path.parent):  # noqa: PTH114, PTH120
            raise DataError(f"{path} is a link that leads out of the folder")
        with open_regular(path) as file:
            header = npy.read_header(file)
    except npy.ObjectsError:
        return unusable(OBJECTS)
    except PROBLEMS as error:
        return damaged(first_line(error))
    return Member(header.shape, header.dtype, lambda: npy.mapped(path), streams=True)
