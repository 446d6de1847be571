"""A folder of images, whose sub-folders are classes or splits.

Shapes: ``N`` images, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image

from vaectl.config.datasets import PICTURES
from vaectl.data.own.ahead import ahead
from vaectl.data.own.decoding import CHANNELS, FileRows, Header, header_of
from vaectl.data.own.source import Reading, Source, named, unlabelled
from vaectl.errors import DataError, amount

# split -> names of its folder, in lower case
SPLIT_FOLDERS = {
    "train": ("train", "training"), "validation": ("validation", "val", "valid"), "test": ("test", "testing"),
}  # fmt: skip
# limits for a walk: levels; and entries that are no images, beside so many for each image
DEEPEST, MOST_OTHERS, OTHERS_EACH = 32, 100_000, 10
FILES_AT_ONCE = 32


def open_folder(root: Path, reading: Reading) -> Source:
    """Open a folder of images.

    Raises:
        DataError: The folder cannot be listed, or holds no images.
        SettingError: The requested change does not apply to these images.
    """
    Image.init()  # must not run in several threads at once
    bad: list[tuple[str, str]] = []
    folders = _splits(root)
    walk = _Walk(root, reading.most, bad)
    images = {part: walk.paths(folder) for part, folder in folders.items()}
    others = walk.ignored
    if not any(images.values()) and not bad:
        suffixes = " ".join(sorted(suffix[1:] for suffix in PICTURES))
        raise DataError(f"{root} holds no images", hint=f"names of images end in: {suffixes}")
    if others:
        reading.note(f"{root.name}: {amount(others, 'file')} without an image suffix ignored")
    if len(folders) > 1 or "" not in folders.values():
        beside = sorted(entry.name for entry in os.scandir(root) if entry.name not in folders.values())
        if beside := [name for name in beside if not name.startswith(".")]:
            reading.note(f"{root.name}: {', '.join(beside[:3])} ignored, outside its split folders")
    labels, classes = _classes(images, folders, bad)
    headers = _headers(root, images, reading)
    usable: dict[str, list[int]] = {}
    for part, files in images.items():
        for file, header in zip(files, headers[part], strict=True):
            if isinstance(header, str):
                bad.append((file, header))
        usable[part] = [row for row, header in enumerate(headers[part]) if isinstance(header, Header)]
    sound = [header for part in images for header in headers[part] if isinstance(header, Header)]
    sizes = Counter(header.size for header in sound)
    differ = len(sizes) > 1 and (reading.change is None or reading.change.size is None)
    if differ:
        # the most common size is right; of equally common ones, the first
        usual = sizes.most_common(1)[0][0]
        for part, rows in usable.items():
            wrong = [row for row in rows if _size(headers[part][row]) != usual]
            bad += [(images[part][row], f"is {_by(_size(headers[part][row]))}, not {_by(usual)}") for row in wrong]
            usable[part] = [row for row in rows if _size(headers[part][row]) == usual]
        sizes = Counter({usual: sizes[usual]})
    bands, depth = _common(sound, reading)
    size = next(iter(sizes)) if len(sizes) == 1 else None
    parts = {
        part: FileRows(root, [images[part][row] for row in rows], size, bands, depth, reading.change)
        for part, rows in usable.items()
    }
    if sound:
        next(iter(parts.values())).shape  # noqa: B018 - raises if the change does not apply to these images
    scaling = {8: "uint8 / 255", 16: "uint16 / 65535", 32: "numbers as they are"}[depth]
    if reading.change is not None:
        scaling += reading.change.text([(CHANNELS[bands], *size) for size in sizes])
    return Source(
        parts, {part: labels[part][rows] for part, rows in usable.items()}, scaling, classes, bad, sizes_differ=differ
    )


def _size(header: Header | str) -> tuple[int, int]:
    assert isinstance(header, Header)
    return header.size


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _splits(root: Path) -> dict[str, str]:
    """Split -> its folder; without a ``train`` folder everything is one part."""
    try:
        names_there = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    except OSError as error:
        raise DataError(f"cannot read {root}: {error.strerror}") from None
    folders = {}
    for part, names in SPLIT_FOLDERS.items():
        matches = [name for name in names_there if name.lower() in names]
        if len(matches) > 1:
            raise DataError(
                f"{root} has two folders for one split: {' and '.join(matches[:2])}", hint="keep one of them"
            )
        if matches:
            folders[part] = matches[0]
        elif part == "train":
            return {"train": ""}
    return folders


class _Walk:
    """Lists the images below a folder: on its file system, never through a link that leads out, within limits.

    Args:
        root: The folder.
        most: How many images there can be at most, or None.
        bad: Takes the name and the problem of each entry that cannot be used.
    """

    def __init__(self, root: Path, most: int | None, bad: list[tuple[str, str]]) -> None:
        self._root, self._most, self._bad = root, most, bad
        self._home, self._device = os.path.realpath(root), root.stat().st_dev
        self.images, self.others, self.ignored = 0, 0, 0

    def paths(self, folder: str, depth: int = 0) -> list[str]:
        """The sorted paths of the images below a folder, relative to the root.

        Raises:
            DataError: The folder cannot be read, or is none of images.
        """
        if depth > DEEPEST:
            raise DataError(f"{self._root / folder}: folders are nested more than {DEEPEST} levels deep")
        images = []
        for entry in self._entries(folder):
            name = os.path.join(folder, entry.name)  # noqa: PTH118 - a string, as there may be millions
            is_image = os.path.splitext(entry.name)[1].lower() in PICTURES  # noqa: PTH122
            self._count(is_image)
            if entry.is_symlink() and not self._may_follow(entry, name, is_image=is_image):
                continue
            if entry.is_dir():
                if entry.stat().st_dev == self._device:
                    images += self.paths(name, depth + 1)
                else:
                    self._bad.append((name, "is a folder on another file system"))
            elif not is_image:
                self.ignored += 1
            elif not os.path.exists(entry.path) or not stat.S_ISREG(entry.stat().st_mode):
                self._bad.append((name, "is not a regular file"))
            else:
                images.append(name)
        return images

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._root / folder) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise DataError(f"cannot read {self._root / folder}: {error.strerror}") from None
        return sorted(visible, key=lambda entry: entry.name)

    def _count(self, is_image: bool) -> None:
        """Count an entry, and give up a folder that is obviously not one of images."""
        self.images, self.others = self.images + is_image, self.others + (not is_image)
        if self.others > MOST_OTHERS + OTHERS_EACH * self.images:
            raise DataError(
                f"{self._root} is no folder of images: of its first {self.images + self.others:,} files and folders "
                f"{self.images:,} are images",
                hint="name the folder in which the images are",
            )
        if self._most is not None and self.images > self._most:
            raise DataError(
                f"{self._root} holds more than {self._most:,} images, many more than there were in training"
            )

    def _may_follow(self, entry: os.DirEntry[str], name: str, *, is_image: bool) -> bool:
        """Whether a link leads to a file within the root; else it is bad if an image or a folder is behind it."""
        target = os.path.realpath(entry.path)
        if os.path.commonpath([self._home, target]) != self._home:
            if is_image or os.path.isdir(target):
                self._bad.append((name, f"is a link that leads out of the folder, to {target}"))
            return False
        if os.path.isdir(target):
            self._bad.append((name, "is a link to a folder"))
            return False
        return True


def _classes(
    images: dict[str, list[str]], folders: Mapping[str, str], bad: list[tuple[str, str]]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels by part and class names, the folders directly below each split; images outside of them are bad."""
    first = {part: [_class(file, folders[part]) for file in files] for part, files in images.items()}
    names = sorted({name for labels in first.values() for name in labels if name})
    if not names:
        return {part: unlabelled(len(files)) for part, files in images.items()}, ()
    labels, number = {}, {name: index for index, name in enumerate(names)}
    for part, files in images.items():
        pairs = list(zip(files, first[part], strict=True))
        bad += [(file, "is outside the class folders") for file, name in pairs if not name]
        images[part] = [file for file, name in pairs if name]
        labels[part] = np.array([number[name] for _, name in pairs if name], np.int64)
    return labels, named(names)


def _class(file: str, folder: str) -> str:
    steps = Path(file).relative_to(folder).parts if folder else Path(file).parts
    return steps[0] if len(steps) > 1 else ""


def _headers(root: Path, images: Mapping[str, list[str]], reading: Reading) -> dict[str, list[Header | str]]:
    """Read the header of every image file."""
    total, done = sum(map(len, images.values())), 0
    headers: dict[str, list[Header | str]] = {}
    for part, files in images.items():
        chunks = (files[start : start + FILES_AT_ONCE] for start in range(0, len(files), FILES_AT_ONCE))
        headers[part] = []
        with closing(ahead(lambda chunk: [header_of(root / file) for file in chunk], chunks)) as results:
            for result in results:
                headers[part] += result
                done += len(result)
                reading.progress(f"{root.name}: reading image headers", done, total)
    return headers


def _common(sound: Sequence[Header], reading: Reading) -> tuple[str, int]:
    """The channels and the depth that hold every image; a note says so if the images differ."""
    forms = Counter((header.bands, header.depth) for header in sound)
    bands = "".join(("RGB" if any("RGB" in band for band, _ in forms) else "L",
                     "A" if any(band.endswith("A") for band, _ in forms) else ""))  # fmt: skip
    depth = max((bits for _, bits in forms), default=8)
    if len(forms) > 1:
        counts = ", ".join(f"{count} {band} with {bits} bits" for (band, bits), count in forms.most_common())
        reading.note(f"images are of several kinds ({counts}): all are read as {bands} with {depth} bits")
    return bands, depth
