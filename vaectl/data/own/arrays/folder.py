"""Folders of array files: each holds images or labels of a part, or a piece: ``x_train_0.npy``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from vaectl.config.datasets import PICTURES
from vaectl.data.own.arrays import npy
from vaectl.data.own.arrays.archives import npz_members
from vaectl.data.own.arrays.assembly import keyed
from vaectl.data.own.arrays.hdf5 import hdf5_members
from vaectl.data.own.arrays.idx import idx_key, idx_member, is_idx_name
from vaectl.data.own.arrays.keys import PARTS
from vaectl.data.own.arrays.members import Member, damaged, unusable
from vaectl.data.own.arrays.problems import OBJECTS, PROBLEMS, data_errors, first_line
from vaectl.data.own.arrays.stored import Chained
from vaectl.data.own.source import Reading, Source
from vaectl.errors import DataError, amount
from vaectl.system.reading import open_regular

MOST_FILES = 10_000
# archives of arrays, of which each has one or several
ARCHIVES = (".npz", ".h5", ".hdf5")
# the number of a piece at the end of a name
PIECE = re.compile(r"[-_.]?\d+$")


def holds_arrays(folder: Path) -> bool:
    """Whether a folder holds files of arrays and neither images nor folders, or a folder of such for each split."""
    return bool(_split_folders(folder)) or _holds_arrays(folder)


def _holds_arrays(folder: Path) -> bool:
    seen = False
    with suppress(OSError), os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - a string, as there may be millions
            if entry.name.startswith("."):
                continue
            if number > MOST_FILES or suffix in PICTURES or entry.is_dir():
                return False
            seen = seen or suffix in (".npy", *ARCHIVES) or is_idx_name(entry.name)
    return seen


def _split_folders(root: Path) -> dict[str, Path]:
    """The folders of a folder if all are called as splits are and hold arrays, one of them those to train on."""
    folders = dict[str, Path]()
    with suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
                continue
            part = next((part for part, names in PARTS.items() if entry.name.lower() in names), None)
            if part is None or part in folders or not _holds_arrays(root / entry.name):
                return {}
            folders[part] = root / entry.name
    return folders if "train" in folders else {}


def open_array_folder(root: Path, reading: Reading) -> Source:
    """Open the array files of a folder by their names, with those of the folders of splits before them.

    Raises:
        DataError: A file is damaged, the names are unknown, or the arrays do not match.
    """
    with data_errors(root), ExitStack() as closing:
        members = dict[str, Member]()
        for part, folder in (_split_folders(root) or {"": root}).items():
            own = _pieced(folder, _members(folder, closing, reading), reading)
            members |= {f"{part}/{key}" if part else key: member for key, member in own.items()}
        return keyed(root, members, reading)


def _members(folder: Path, closing: ExitStack, reading: Reading) -> dict[str, Member]:
    """The arrays of the files in a folder."""
    members, others = dict[str, Member](), 0
    names = [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")]
    for name in sorted(names, key=lambda name: (name.lower().endswith(".gz"), name)):
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        if suffix.lower() == ".npy":
            members[stem] = _npy_member(folder / name)
        elif suffix.lower() in ARCHIVES:
            members |= _archive_members(folder, name, closing)
        elif is_idx_name(name):
            # MNIST's folder may have a file both packed and unpacked
            members.setdefault(idx_key(name), idx_member(folder / name))
        else:
            others += 1
    if others:
        reading.note(f"{folder.name}: {amount(others, 'file')} without arrays ignored")
    return members


def _archive_members(root: Path, name: str, closing: ExitStack) -> dict[str, Member]:
    """The arrays of an archive under the name of their file; a single one has no other."""
    path, stem = root / name, os.path.splitext(name)[0]  # noqa: PTH122
    if problem := _leads_out(path):
        raise DataError(f"{path} {problem}")
    members = closing.enter_context(npz_members(path)) if name.lower().endswith(".npz") else hdf5_members(path)
    return {stem if len(members) == 1 else f"{stem}/{key}": member for key, member in members.items()}


def _pieced(root: Path, members: dict[str, Member], reading: Reading) -> dict[str, Member]:
    """The arrays, with pieces of one in place of ``x_0``, ``x_1``, ...

    Raises:
        DataError: Each array is an image, or may be.
    """
    groups = dict[str, list[str]]()
    for key in members:
        groups.setdefault(PIECE.sub("", key), []).append(key)
    out = dict[str, Member]()
    for stem, names in groups.items():
        keys = sorted(names, key=lambda key: (len(key), key))  # 10 after 9
        pieces = [members[key] for key in keys]
        alike = len({(piece.shape[1:], piece.dtype) for piece in pieces}) == 1 and not any(p.problem for p in pieces)
        if len(keys) < 2 or not alike:
            out |= {key: members[key] for key in keys}
            continue
        if len(pieces[0].shape) == 2:
            raise DataError(
                f"{root} holds {len(keys)} arrays {keys[0]}, {keys[1]}, ... of shape {pieces[0].shape}, which may be "
                "images or rows of numbers",
                hint="save them as one array: np.stack of images, np.concatenate of rows",
            )
        reading.note(f"{root.name}: {keys[0]} to {keys[-1]} are {len(keys)} pieces of one array")
        out[stem or keys[0]] = _chained(pieces)
    return out


def _chained(pieces: Sequence[Member]) -> Member:
    first = pieces[0]
    return Member(
        (sum(piece.shape[0] for piece in pieces), *first.shape[1:]),
        first.dtype,
        lambda: Chained([piece.load() for piece in pieces]),
        streams=all(piece.streams for piece in pieces),
        unpacked=max(piece.unpacked for piece in pieces),
    )


def _leads_out(path: Path) -> str:
    """The problem with a link that leads out of its folder; empty if there is none."""
    home = os.path.realpath(path.parent)
    return "is a link that leads out of the folder" if os.path.dirname(os.path.realpath(path)) != home else ""  # noqa: PTH120


def _npy_member(path: Path) -> Member:
    try:
        if problem := _leads_out(path):
            raise DataError(f"{path} {problem}")
        with open_regular(path) as file:
            header = npy.read_header(file)
    except npy.ObjectsError:
        return unusable(OBJECTS)
    except PROBLEMS as error:
        return damaged(first_line(error))
    return Member(header.shape, header.dtype, lambda: npy.mapped(path), streams=True)
