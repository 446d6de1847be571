"""Opens a path by what is there: a file by its suffix, an archive or a folder by what it holds."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from vaectl.config.datasets import PICTURES, SUFFIXES, TABLES, suffix_of
from vaectl.data.own.arrays.archives import open_npy, open_npz, open_safetensors
from vaectl.data.own.arrays.folder import holds_arrays, open_array_folder
from vaectl.data.own.arrays.hdf5 import open_hdf5
from vaectl.data.own.arrays.idx import is_idx_file, is_idx_name, open_idx
from vaectl.data.own.arrays.matlab import open_matlab
from vaectl.data.own.arrays.zarr_store import is_zarr, open_zarr
from vaectl.data.own.parts import open_parts, tables_of
from vaectl.data.own.pictures.folder import open_folder, open_members, open_picture
from vaectl.data.own.pictures.layout import part_of
from vaectl.data.own.pictures.listing import is_picture
from vaectl.data.own.pictures.parquet import holds_images, open_image_table
from vaectl.data.own.pictures.stores import TarStore, ZipStore
from vaectl.data.own.pictures.webdataset import has_labels, open_shards
from vaectl.data.own.source import Reading, Source
from vaectl.data.own.tables.opening import open_table
from vaectl.data.own.tables.text_lines import tables_in_zip
from vaectl.errors import DataError

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".7z", ".rar")
# limits for the search of data files in a folder: levels of folders, and folders
DEEPEST, MOST_FOLDERS = 3, 100
SHOWN = 5
# suffix of a file that is not read -> how to convert it
HOW = {
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".pth", ".joblib", ".rds", ".rdata"),
                    "objects are never loaded: save its arrays with numpy.savez"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "save the sheet as .csv"),
    **dict.fromkeys((".txt", ".dat", ".data", ".tab"), "if it is a table of numbers, call it .csv or .tsv"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson", ".sav", ".dta", ".sas7bdat", ".db", ".sqlite"),
                    "if it is a table, save it as .csv or .parquet: pandas reads it"),
    **dict.fromkeys((".dcm", ".nii", ".mha", ".fits", ".czi", ".nd2", ".lif"),
                    "save its pixels with numpy.save, images first, or as .tif"),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv"), "save its frames as images in a folder"),
    **dict.fromkeys((".tfrecord", ".tfrecords", ".bin", ".lmdb", ".mdb"), "save its arrays with numpy.savez"),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst"), "unpack it"),
}  # fmt: skip


def opened(path: Path, reading: Reading) -> Source:
    """Open own data at a path.

    Raises:
        DataError: There are none, they are damaged, or their format is unknown.
        SettingError: An option does not apply to these data.
    """
    if not os.path.lexists(path):
        raise DataError(
            f"{path} does not exist", hint="name a folder of images or a file, or a built-in data set such as mnist"
        )
    if os.path.isdir(path):
        return open_directory(path, reading)
    if path.name.lower().endswith(COMPRESSED):
        raise DataError(
            f"{path} is a compressed archive, of which no image can be read alone", hint="unpack it and name the folder"
        )
    suffix = _suffix(path)
    if suffix not in OPENERS and suffix not in PICTURES:
        hint = HOW.get(suffix, f"a folder of images, or a file: {', '.join(SUFFIXES)}")
        raise DataError(f"{path}: unknown format '{suffix}'", hint=hint)
    if not os.path.isfile(path):
        raise DataError(f"cannot read {path}: it is not a regular file")
    if suffix in PICTURES:
        return open_picture(path, reading)
    return OPENERS[suffix](path, reading)


def _suffix(path: Path) -> str:
    """The suffix of a file in lower case, or that of its format where it goes by other names."""
    if path.name.lower().endswith(".zarr.zip"):
        return ".zarr"
    suffix = suffix_of(path.name)
    if is_idx_name(path.name) or (suffix not in (*OPENERS, *PICTURES) and is_idx_file(path)):
        return ".idx"
    return suffix


def open_zip(path: Path, reading: Reading) -> Source:
    """Open a zip archive of images as if it were unpacked, of a table, or of ``.npy`` arrays as ``.npz``.

    Raises:
        DataError: The archive is damaged, or holds none of these.
        SettingError: An option does not apply to these data.
    """
    store = ZipStore(path)
    names = [member.name for member in store.members()]
    if not any(map(is_picture, names)):
        if any(name.endswith(".npy") for name in names):
            return open_npz(path, reading)
        if tables_in_zip(path):
            return open_table(path, reading)
    return open_members(path, store, reading)


def open_tar(path: Path, reading: Reading) -> Source:
    """Open a tar archive of images as if it were unpacked, or one in the format of WebDataset, with labels as files.

    Raises:
        DataError: The archive is damaged or compressed, or holds no images.
        SettingError: An option does not apply to these data.
    """
    store = TarStore({"": path})
    if has_labels(store):
        return open_shards(path, {"train": {"": path}}, reading)
    return open_members(path, store, reading)


def open_parquet(path: Path, reading: Reading) -> Source:
    """Open a ``.parquet`` file of images, or one of numbers.

    Raises:
        DataError: The file is damaged or empty, or holds something else.
        SettingError: An option does not apply to these data.
    """
    if holds_images(path):
        return open_image_table(path, {"train": {path.name: path}}, reading)
    return open_table(path, reading)


def open_directory(root: Path, reading: Reading) -> Source:
    """Open a folder of images, or of files that hold data: tables, arrays, or images in ``.parquet`` or ``.tar`` files.

    Raises:
        DataError: The folder cannot be read, or holds something else.
        SettingError: An option does not apply to these data.
    """
    if is_zarr(root) or root.suffix.lower() == ".zarr":
        return open_zarr(root, reading)
    files = _data_files(root)
    shards, archives = ([name for name in files if name.lower().endswith(end)] for end in (".parquet", ".tar"))
    if shards and holds_images(root / shards[0]):
        return open_image_table(root, _parts(root, shards, reading), reading)
    if files and (parts := tables_of(root)):
        return open_parts(root, parts, reading, opened)
    if holds_arrays(inner := _inner(root)):
        if inner != root:
            reading.note(f"{root.name}: {inner.relative_to(root)} in it is read, the only folder there")
        return open_array_folder(inner, reading)
    if archives:
        places = {part: {f"{name}/": path for name, path in members.items()}
                  for part, members in _parts(root, archives, reading).items()}  # fmt: skip
        return open_shards(root, places, reading)
    return open_folder(root, reading)


def _inner(root: Path) -> Path:
    """The folder itself, or the one below folders that hold nothing but one other folder, such as MNIST/raw."""
    for _ in range(DEEPEST):
        with suppress(OSError), os.scandir(root) as entries:
            visible = list(itertools.islice((entry for entry in entries if not entry.name.startswith(".")), 2))
            if len(visible) == 1 and visible[0].is_dir(follow_symlinks=False):
                root = root / visible[0].name
                continue
        break
    return root


def _data_files(root: Path) -> list[str]:
    """The files in a folder and those in it, by their paths; none if there is an image file anywhere."""
    files, folders, seen = list[str](), [""], 0
    while folders and seen < MOST_FOLDERS:
        folder, seen = folders.pop(0), seen + 1
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    name = os.path.join(folder, entry.name)  # noqa: PTH118 - a string, as there may be millions
                    if entry.name.startswith(".") or entry.is_symlink():
                        continue
                    if is_picture(entry.name):
                        return []
                    if entry.is_dir() and name.count(os.sep) < DEEPEST:
                        folders.append(name)
                    elif entry.is_file():
                        files.append(name)
        except OSError:  # which is said when the folder is read as one of images
            return []
    return sorted(files)


def _parts(root: Path, shards: list[str], reading: Reading) -> dict[str, Mapping[str, Path]]:
    """The shards of each split, by the folder of a split or by words in their names: ``train-00000-of-00002``."""
    sets = dict[str, list[str]]()
    for shard in shards:
        above = [step for step in Path(shard).parent.parts if part_of(step) is None and step != "data"]
        sets.setdefault("/".join(above), []).append(shard)
    if len(sets) > 1:
        raise DataError(
            f"{root} holds several data sets, in the folders {', '.join(sorted(sets)[:SHOWN])}", hint="name one of them"
        )
    parts = dict[str, dict[str, Path]]()
    others = []
    for shard in shards:
        words = [*Path(shard).parent.parts, *re.split(r"[-_.]", Path(shard).name)]
        part = next((part for word in words if (part := part_of(word)) is not None), None)
        if part is None:
            others.append(shard)
        else:
            parts.setdefault(part, {})[shard] = root / shard
    if "train" not in parts:
        return {"train": {shard: root / shard for shard in shards}}
    if others:
        reading.note(f"{root.name}: {', '.join(others[:SHOWN])} ignored, which belong to no split")
    return {part: parts[part] for part in ("train", "validation", "test") if part in parts}


OPENERS: dict[str, Callable[[Path, Reading], Source]] = {
    ".npy": open_npy,
    ".npz": open_npz,
    ".safetensors": open_safetensors,
    ".h5": open_hdf5,
    ".hdf5": open_hdf5,
    ".mat": open_matlab,
    ".zarr": open_zarr,
    ".idx": open_idx,
    **dict.fromkeys(TABLES, open_table),
    ".parquet": open_parquet,
    ".zip": open_zip,
    ".tar": open_tar,
}
