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

from vaectl.data.own.ahead import ahead
from vaectl.data.own.decoding import CHANNELS, FileRows, Header, header_of
from vaectl.data.own.source import Asked, Source, named, unlabelled
from vaectl.errors import DataError

SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", ".tga", ".jp2", ".avif",
})  # fmt: skip
# split -> names of its folder, in small letters
SPLIT_FOLDERS = {
    "train": ("train", "training"), "validation": ("validation", "val", "valid"), "test": ("test", "testing"),
}  # fmt: skip
DEEPEST = 32
FILES_AT_ONCE = 32


def open_folder(root: Path, asked: Asked) -> Source:
    """The images of a folder.

    Raises:
        DataError: It cannot be listed, or holds no images.
        SettingError: The change that was asked for is not one for such images.
    """
    Image.init()  # which threads must not do at once
    bad: list[tuple[str, str]] = []
    places = _splits(root)
    found, others = dict[str, list[str]](), 0
    for part, folder in places.items():
        found[part], left = _listed(root, folder, bad)
        others += left
    if not any(found.values()) and not bad:
        suffixes = " ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise DataError(f"{root} holds no images", hint=f"names of images end in: {suffixes}")
    if others:
        what = (
            "1 file is no image by its name and is"
            if others == 1
            else f"{others} files are no images by their names and are"
        )
        asked.note(f"{root.name}: {what} left alone")
    if len(places) > 1 or "" not in places.values():
        beside = sorted(entry.name for entry in os.scandir(root) if entry.name not in places.values())
        if beside := [name for name in beside if not name.startswith(".")]:
            asked.note(f"{root.name}: beside its splits there is {', '.join(beside[:3])}; it is left alone")
    labels, classes = _classes(found, places, bad)
    headers = _headers(root, found, asked)
    kept: dict[str, list[int]] = {}
    for part, files in found.items():
        for file, header in zip(files, headers[part], strict=True):
            if isinstance(header, str):
                bad.append((file, header))
        kept[part] = [row for row, header in enumerate(headers[part]) if isinstance(header, Header)]
    sound = [header for part in found for header in headers[part] if isinstance(header, Header)]
    sizes = Counter(header.size for header in sound)
    differ = len(sizes) > 1 and (asked.change is None or asked.change.size is None)
    if differ:
        # most are right; of equally many the size that comes first
        usual = sizes.most_common(1)[0][0]
        for part, rows in kept.items():
            wrong = [row for row in rows if _size(headers[part][row]) != usual]
            bad += [(found[part][row], f"is {_by(_size(headers[part][row]))}, not {_by(usual)}") for row in wrong]
            kept[part] = [row for row in rows if _size(headers[part][row]) == usual]
        sizes = Counter({usual: sizes[usual]})
    bands, depth = _common(sound, asked)
    size = next(iter(sizes)) if len(sizes) == 1 else None
    parts = {
        part: FileRows(root, [found[part][row] for row in rows], size, bands, depth, asked.change)
        for part, rows in kept.items()
    }
    if sound:
        next(iter(parts.values())).shape  # noqa: B018 - refuses a change that is not one for such images
    scaling = {8: "uint8 / 255", 16: "uint16 / 65535", 32: "numbers as they are"}[depth]
    if asked.change is not None:
        scaling += asked.change.text([(CHANNELS[bands], *size) for size in sizes])
    return Source(
        parts, {part: labels[part][rows] for part, rows in kept.items()}, scaling, classes, bad, sizes_differ=differ
    )


def _size(header: Header | str) -> tuple[int, int]:
    assert isinstance(header, Header)
    return header.size


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _splits(root: Path) -> dict[str, str]:
    """Split -> its folder; without a ``train`` folder the whole is one part."""
    try:
        folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    except OSError as error:
        raise DataError(f"cannot read {root}: {error.strerror}") from None
    places = {}
    for part, names in SPLIT_FOLDERS.items():
        there = [name for name in folders if name.lower() in names]
        if len(there) > 1:
            raise DataError(f"{root} has two folders of one split: {' and '.join(there[:2])}", hint="keep one of them")
        if there:
            places[part] = there[0]
        elif part == "train":
            return {"train": ""}
    return places


def _listed(root: Path, folder: str, bad: list[tuple[str, str]], depth: int = 0) -> tuple[list[str], int]:
    """The images below a folder by their paths within the root, sorted, and how many files there are besides."""
    if depth > DEEPEST:
        raise DataError(f"{root / folder}: folders lie more than {DEEPEST} deep within each other")
    try:
        entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot read {root / folder}: {error.strerror}") from None
    images, others, home = list[str](), 0, os.path.realpath(root)
    for entry in entries:
        name = os.path.join(folder, entry.name)  # noqa: PTH118 - a text, as there may be millions
        if entry.name.startswith("."):
            continue
        is_image = os.path.splitext(entry.name)[1].lower() in SUFFIXES  # noqa: PTH122
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if os.path.commonpath([home, target]) != home:
                if is_image or os.path.isdir(target):
                    bad.append((name, f"is a link that leads out of the folder, to {target}"))
                continue
            if os.path.isdir(target):
                bad.append((name, "is a link to a folder"))
                continue
        if entry.is_dir():
            more, left = _listed(root, name, bad, depth + 1)
            images, others = images + more, others + left
        elif not is_image:
            others += 1
        elif not os.path.exists(entry.path) or not stat.S_ISREG(entry.stat().st_mode):
            bad.append((name, "is no regular file"))
        else:
            images.append(name)
    return images, others


def _classes(
    found: dict[str, list[str]], places: Mapping[str, str], bad: list[tuple[str, str]]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels by part and the names of their classes, the first folder below a split's; images beside those are bad."""
    first = {part: [_class(file, places[part]) for file in files] for part, files in found.items()}
    names = sorted({name for labels in first.values() for name in labels if name})
    if not names:
        return {part: unlabelled(len(files)) for part, files in found.items()}, ()
    labels, number = {}, {name: place for place, name in enumerate(names)}
    for part, files in found.items():
        pairs = list(zip(files, first[part], strict=True))
        bad += [(file, "lies beside the folders of the classes") for file, name in pairs if not name]
        found[part] = [file for file, name in pairs if name]
        labels[part] = np.array([number[name] for _, name in pairs if name], np.int64)
    return labels, named(names)


def _class(file: str, place: str) -> str:
    steps = Path(file).relative_to(place).parts if place else Path(file).parts
    return steps[0] if len(steps) > 1 else ""


def _headers(root: Path, found: Mapping[str, list[str]], asked: Asked) -> dict[str, list[Header | str]]:
    """What every file says of its image."""
    total, done = sum(map(len, found.values())), 0
    headers: dict[str, list[Header | str]] = {}
    for part, files in found.items():
        chunks = (files[start : start + FILES_AT_ONCE] for start in range(0, len(files), FILES_AT_ONCE))
        headers[part] = []
        with closing(ahead(lambda chunk: [header_of(root / file) for file in chunk], chunks)) as results:
            for result in results:
                headers[part] += result
                done += len(result)
                asked.progress(f"{root.name}: looking at images", done, total)
    return headers


def _common(sound: Sequence[Header], asked: Asked) -> tuple[str, int]:
    """The channels and the depth that hold every image, said where they are several."""
    forms = Counter((header.bands, header.depth) for header in sound)
    bands = "".join(("RGB" if any("RGB" in band for band, _ in forms) else "L",
                     "A" if any(band.endswith("A") for band, _ in forms) else ""))  # fmt: skip
    depth = max((bits for _, bits in forms), default=8)
    if len(forms) > 1:
        counts = ", ".join(f"{count} {band} of {bits} bits" for (band, bits), count in forms.most_common())
        asked.note(f"images are of several kinds ({counts}): all are read as {bands} of {depth} bits")
    return bands, depth
