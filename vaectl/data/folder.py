"""A folder of images: sub-folders are classes, and ``train``, ``validation`` and ``test`` are splits where they are.

Shapes: ``N`` images, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import os
import stat
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vaectl.data.ahead import ahead
from vaectl.data.changes import Change
from vaectl.data.rows import BadExampleError
from vaectl.data.source import Asked, Source, named, unlabelled
from vaectl.errors import DataError
from vaectl.reading import open_regular

SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", ".tga", ".jp2", ".avif",
})  # fmt: skip
# split -> names of its folder
SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
# PIL's mode -> channels and depth of what it holds; what is not here is colour of 8 bits
MODES = {
    "1": ("L", 8), "L": ("L", 8), "LA": ("LA", 8), "La": ("LA", 8), "RGB": ("RGB", 8), "RGBA": ("RGBA", 8),
    "RGBa": ("RGBA", 8), "PA": ("RGBA", 8), "I;16": ("L", 16), "I;16B": ("L", 16), "I;16L": ("L", 16),
    "I;16N": ("L", 16), "I": ("L", 16), "F": ("L", 32),
}  # fmt: skip
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
ORIENTATION, TURNED = 0x0112, 5
DEEPEST = 32
FILES_AT_ONCE = 32


@dataclass(frozen=True)
class Header:
    """What a file says of its image: height and width as it is to be looked at, channels and bits."""

    size: tuple[int, int]
    bands: str
    depth: int


@dataclass(frozen=True)
class FileRows:
    """Images of files, decoded as they are read.

    Attributes:
        root: The folder.
        files: Path of each within it.
        size: Height and width of every image before it is changed; None where they differ.
        bands: Channels that all come to: L, LA, RGB or RGBA.
        depth: Bits of a channel: 8, 16 or 32 (floats).
        change: What is done to each image, or None.
    """

    root: Path
    files: Sequence[str]
    size: tuple[int, int] | None
    bands: str
    depth: int
    change: Change | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """X."""
        native = (CHANNELS[self.bands], *(self.size or (1, 1)))
        return self.change.shape(native) if self.change else native

    @property
    def dtype(self) -> np.dtype:
        """Of what is read."""
        return np.dtype(np.uint8 if self.depth == 8 else np.float32)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, row: int) -> str:
        """Its path within the folder."""
        return self.files[row]

    def read(self, index: np.ndarray) -> np.ndarray:
        """As ``Rows``."""
        out = np.empty((len(index), *self.shape), self.dtype)
        for place, row in enumerate(index.tolist()):
            image = self._decoded(row)
            if self.change is not None:
                image = self.change(image)
            if image.shape != out.shape[1:] or image.dtype != out.dtype:
                raise BadExampleError(row, f"is {image.dtype} {image.shape}, not {out.dtype} {out.shape[1:]}")
            out[place] = image
        return out

    def _decoded(self, row: int) -> np.ndarray:
        try:
            with _opened(self.root / self.files[row]) as image:
                upright = ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image
                pixels = _pixels(upright, self.bands, self.depth)
        except BadExampleError:
            raise
        except Exception as error:  # a decoder may raise anything for a file that it does not understand
            raise BadExampleError(row, _problem(error)) from None
        if self.depth != 8 and not np.isfinite(pixels).all():
            raise BadExampleError(row, "holds a number that is not finite")
        return pixels


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with open_regular(path) as file, Image.open(file) as image:
        yield image


def _pixels(image: Image.Image, bands: str, depth: int) -> np.ndarray:
    """An image as numbers (C, H, W): uint8, or float32 where a channel has more than 8 bits."""
    found = _form(image)
    if found.depth == 8:
        whole = image if image.mode in ("1", "L", "LA", "RGB", "RGBA") else image.convert(found.bands)
        numbers = np.asarray(whole.convert(bands) if whole.mode != bands else whole)
        pixels = numbers if depth == 8 else numbers.astype(np.float32) * np.float32(1 / 255)
    else:
        numbers = np.asarray(image)
        if found.depth == 16 and (numbers.min(initial=0) < 0 or numbers.max(initial=0) > 65535):
            raise ValueError("it holds numbers of more than 16 bits")
        pixels = numbers.astype(np.float32) * np.float32(1 / 65535 if found.depth == 16 else 1)
        if bands != "L":  # grey among colours
            opaque = np.ones_like(pixels)
            pixels = np.stack({"LA": [pixels], "RGB": [pixels] * 3, "RGBA": [pixels] * 3}[bands]
                              + ([opaque] if bands.endswith("A") else []), axis=-1)  # fmt: skip
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _form(image: Image.Image) -> Header:
    height, width = image.size[::-1]
    if image.mode == "P":
        bands, depth = ("RGBA" if "transparency" in image.info else "RGB"), 8
    else:
        bands, depth = MODES.get(image.mode, ("RGB", 8))
        if depth == 8 and "transparency" in image.info and bands in ("L", "RGB") and image.mode != "1":
            bands = {"L": "LA", "RGB": "RGBA"}[bands]
    return Header((height, width), bands, depth)


def _header(path: Path) -> Header | str:
    """What a file says of its image, or what is the matter with it."""
    try:
        with _opened(path) as image:
            found = _form(image)
            turned = image.getexif().get(ORIENTATION, 1) >= TURNED
    except Exception as error:  # as in decoding
        return _problem(error)
    if 0 in found.size:
        return "has no pixels"
    return Header(found.size[::-1], found.bands, found.depth) if turned else found


def _problem(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    if isinstance(error, UnidentifiedImageError):
        return "is no image that can be read"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"is damaged: {text:.100}"


@contextmanager
def strict_pictures() -> Iterator[None]:
    """Within the block an image that is too large is an error; what else PIL warns of is no concern of a person's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def open_folder(root: Path, asked: Asked) -> Source:
    """The images of a folder.

    Raises:
        DataError: It cannot be listed, or holds no images.
        SettingError: The change that was asked for is not one for such images.
    """
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
        asked.note(f"{root.name}: {others} files are no images by their names and are left alone")
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
        folders = {entry.name for entry in os.scandir(root) if entry.is_dir()}
    except OSError as error:
        raise DataError(f"cannot read {root}: {error.strerror}") from None
    if "train" not in folders:
        return {"train": ""}
    places = {}
    for part, names in SPLIT_FOLDERS.items():
        there = [name for name in names if name in folders]
        if len(there) > 1:
            raise DataError(f"{root} has two folders of one split: {' and '.join(there)}", hint="keep one of them")
        if there:
            places[part] = there[0]
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
        with closing(ahead(lambda chunk: [_header(root / file) for file in chunk], chunks)) as results:
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
