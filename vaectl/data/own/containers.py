"""Files and folders that are opened by what they hold: images, tables or shards."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from vaectl.data.own.archives import open_npz
from vaectl.data.own.folder import open_folder, open_members
from vaectl.data.own.image_tables import holds_images, open_image_table
from vaectl.data.own.layout import part_of
from vaectl.data.own.listing import is_picture
from vaectl.data.own.source import Reading, Source
from vaectl.data.own.stores import TarStore, ZipStore
from vaectl.data.own.tables import open_table
from vaectl.data.own.webdataset import has_labels, open_shards
from vaectl.errors import DataError

# limits for the search of shards: levels of folders, and folders
DEEPEST, MOST_FOLDERS = 3, 100
SHOWN = 5


def open_zip(path: Path, reading: Reading) -> Source:
    """Open a zip archive of images as if it were unpacked, or one of ``.npy`` arrays as ``.npz``.

    Raises:
        DataError: The archive is damaged, or holds neither.
        SettingError: An option does not apply to these data.
    """
    store = ZipStore(path)
    names = [member.name for member in store.members()]
    if any(name.endswith(".npy") for name in names) and not any(map(is_picture, names)):
        return open_npz(path, reading)
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
    """Open a folder: of images, or of ``.parquet`` or ``.tar`` files that hold images.

    Raises:
        DataError: The folder cannot be read, or holds something else.
        SettingError: An option does not apply to these data.
    """
    tables = _shards(root, ".parquet")
    if tables and holds_images(root / next(iter(tables))):
        return open_image_table(root, _parts(root, tables, reading), reading)
    if archives := _shards(root, ".tar"):
        parts = _parts(root, archives, reading)
        return open_shards(root, {part: {f"{name}/": path for name, path in files.items()}
                                  for part, files in parts.items()}, reading)  # fmt: skip
    return open_folder(root, reading)


def _shards(root: Path, suffix: str) -> list[str]:
    """The files of a kind in a folder and those in it, by their paths; none if there is an image file anywhere."""
    shards, folders, seen = list[str](), [""], 0
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
                    elif entry.name.lower().endswith(suffix):
                        shards.append(name)
        except OSError:  # which is said when the folder is read as one of images
            return []
    return sorted(shards)


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
