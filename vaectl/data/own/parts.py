"""A folder of files that hold data: a file for each split, the pieces of one, or both."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vaectl.config.datasets import PICTURES, TABLES, suffix_of
from vaectl.data.own.arrays.folder import ARCHIVES
from vaectl.data.own.joining import Opener, alike, chained, following, joined
from vaectl.data.own.pictures.layout import SPLIT_FOLDERS, part_of
from vaectl.data.own.source import Reading, Source
from vaectl.errors import DataError

# entries of a folder that are looked at, and files that one data set can have
MOST_ENTRIES, MOST_FILES = 100_000, 10_000
# files of arrays, of which each split may have one; whatever else lies in a folder is no piece of another
ARRAYS = (".npz", ".safetensors", ".h5", ".hdf5", ".mat")
# part of the name of a file that holds a piece: -00000-of-00002, _3
PIECE = re.compile(r"[-_.]?\d+([-_]of[-_]\d+)?$")
# the name of a table that holds nothing but labels
LABELS = re.compile(r"(y|labels?|targets?)[-_.]", re.IGNORECASE)


def tables_of(folder: Path) -> dict[str, list[Path]]:
    """The tables in a folder by split, in the order of their names; empty if it holds images, or no tables.

    ``train.csv`` and ``test.csv``, ``mnist_train.csv``; ``train-00000-of-00002.parquet``; without any such name all
    are pieces of the training part. A folder that holds nothing but one sub-folder stands for that. Files of arrays
    are taken by such names, too: ``train_32x32.mat`` and ``test_32x32.mat``.

    Raises:
        DataError: The folder cannot be read, or holds one split in two formats.
    """
    entries = _entries(folder)
    files = [entry for entry in entries if entry.is_file()]
    if not files and len(entries) == 1 and entries[0].is_dir():
        return tables_of(Path(entries[0].path))
    if any(suffix_of(entry.name) in PICTURES for entry in files):
        return {}
    arrays = ARRAYS if len(files) == len(entries) else ()
    tables = [entry.name for entry in files if suffix_of(entry.name) in (*TABLES, *arrays)]
    parts = {part: [name for name in tables if _part(name) == part] for part in SPLIT_FOLDERS}
    if not parts["train"]:
        rest = [name for name in tables if _part(name) is None and suffix_of(name) in TABLES]
        if any(entry.is_dir() for entry in entries) and len(rest) < 2 and not parts["test"]:
            return _below(entries)  # or a folder of images with a table beside them
        parts["train"] = rest
    if not parts["train"]:
        return {} if any(suffix_of(name) in ARRAYS for name in tables) else _below(entries)
    if any(len(names) > 1 and suffix_of(names[0]) in ARCHIVES for names in parts.values()):
        return {}  # images and labels in files of their own
    for part, names in parts.items():
        if len({suffix_of(name) for name in names}) > 1:
            raise DataError(
                f"{folder} holds its {part} split in several formats: {', '.join(names[:4])}",
                hint="name one of the files",
            )
    return {part: [folder / name for name in names] for part, names in parts.items() if names}


def _below(entries: Sequence[os.DirEntry[str]]) -> dict[str, list[Path]]:
    """The tables in folders that are called as splits are; empty if there are none, or files of images."""
    parts = dict[str, list[Path]]()
    for entry in entries:
        part = part_of(entry.name) if entry.is_dir() else None
        if part is not None:
            inside = _entries(Path(entry.path))
            if any(other.is_dir() or suffix_of(other.name) in PICTURES for other in inside):
                return {}
            parts[part] = [Path(other.path) for other in inside if suffix_of(other.name) in TABLES]
    return {part: parts[part] for part in SPLIT_FOLDERS if parts.get(part)} if parts.get("train") else {}


def open_parts(folder: Path, parts: Mapping[str, Sequence[Path]], reading: Reading, opened: Opener) -> Source:
    """Open the files of a folder as one source.

    Args:
        folder: The folder.
        parts: Its files by split.
        reading: How to read them.
        opened: Opens one file.

    Raises:
        DataError: A file cannot be read, or is not like the first one.
    """
    files = [(part, file) for part, members in parts.items() for file in members]
    if len(files) > MOST_FILES:
        raise DataError(f"{folder} holds {len(files):,} files of data; at most {MOST_FILES:,}")
    labels = [file.name for _, file in files if LABELS.match(file.name)]
    if 0 < len(labels) < len(files):
        raise DataError(
            f"{folder} holds labels in a table of their own, {labels[0]}",
            hint="add them to the table of the numbers, as a column called label",
        )
    listing = "; ".join(f"{part}: {_listed(members)}" for part, members in parts.items())
    beside = sorted({entry.name for entry in _entries(files[0][1].parent)} - {file.name for _, file in files})
    reading.note(f"{folder.name}: {listing}" + (f"; ignored: {', '.join(beside[:5])}" if beside else ""))
    first = opened(files[0][1], reading)
    # what is said of the first file holds for all
    quiet = dataclasses.replace(following(reading, first), note=lambda sentence: None)
    others = [opened(file, quiet) for _, file in files[1:]]
    for (_, file), source in zip(files, [first, *others], strict=True):
        if [*source.parts] != ["train"]:
            raise DataError(f"{file} has splits of its own", hint="name that file")
    names = [str(file.relative_to(folder)) if file.is_relative_to(folder) else file.name for _, file in files]
    sources = alike([*zip(names, [first, *others], strict=True)], reading)
    by_part = {
        part: chained([source for (own, _), source in zip(files, sources, strict=True) if own == part])
        for part in parts
    }
    return joined(by_part)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The visible entries of a folder by name; a DataError if it cannot be read. Of a huge folder only the first."""
    entries = list[os.DirEntry[str]]()
    try:
        with os.scandir(folder) as listing:
            for entry in listing:
                if not entry.name.startswith((".", "__")):
                    entries.append(entry)
                if len(entries) >= MOST_ENTRIES:
                    break
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}") from None
    return sorted(entries, key=lambda entry: entry.name)


def _part(name: str) -> str | None:
    """The split that the name of a file says, or None."""
    stem = PIECE.sub("", name.lower().removesuffix(suffix_of(name)))
    words = set(re.split("[^a-z]+", stem))
    parts = [part for part, names in SPLIT_FOLDERS.items() if words & {*names}]
    return parts[0] if len(parts) == 1 else None


def _listed(files: Sequence[Path]) -> str:
    if len(files) < 4:
        return ", ".join(file.name for file in files)
    return f"{files[0].name} to {files[-1].name}, {len(files)} files"
