"""glyphs: digits of eleven fonts, redrawn with a round pen and bent like handwriting.

``midlines.npz`` holds the thin lines of the fonts' characters, made by ``docs/midlines.py``, so that the images are the
same whatever fonts and libraries are installed.

Shapes: N images (n in a chunk), F factors, G glyphs (all usable ones of the fonts, digit fastest), T side of a
glyph's tile, H hull points, K control points along an edge of a smooth field, S = 28 side of an image.
Axes of two hold (y, x); y grows downwards. Lengths are in pixels of the finished image unless stated otherwise.
"""

import math
import os
import uuid
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vaectl.system.reading import open_regular

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

VERSION = 1  # part of the cache's file name: a change of pixels needs a new one
FACTORS = ("font", "slant", "thickness", "width", "rotation", "size", "elastic", "shift_x", "shift_y")
"""Columns of Glyphs.factors: font (index into FONTS), slant (degrees, to the right is positive), thickness
(pixels, full stroke width), width (ratio, 1 is the font's own), rotation (degrees, clockwise is positive), size
(pixels, longer side of the digit's box before bending), elastic (pixels, standard deviation of the bending),
shift_x and shift_y (pixels, right and down, of that box from the middle of the image)."""

# (file, slant of the font in degrees, characters for 0 to 9). A dot is an unusable digit: slab feet and curls
# fill up under a thick pen. Letters shaped like digits add handwritten forms that no font has for a digit: a
# plain stroke for 1, an open 4, a 9 with a straight back.
FONTS = (
    ("DejaVuSans.ttf", 0.0, "0I23456789"),
    ("DejaVuSans.ttf", 0.0, "OIZƷЧSб7ზq"),
    ("DejaVuSansMono.ttf", 0.0, "0123Ч5678g"),
    ("DejaVuSerif.ttf", 0.0, "0123.5.78."),
    ("STIXGeneral.ttf", 0.0, "0123456789"),
    ("STIXGeneralItalic.ttf", 15.5, "0l23456789"),
    ("cmr10.ttf", 0.0, "0.23.5.78."),
    ("cmss10.ttf", 0.0, "0I23456789"),
    ("cmti10.ttf", 14.0, "01..45..89"),
    ("cmtt10.ttf", 0.0, "0123.56789"),
    ("cmmi10.ttf", 0.0, "0.2......."),
)
USABLE = np.array([[character != "." for character in characters] for _, _, characters in FONTS])  # (fonts, 10)
NUMBER = USABLE.cumsum().reshape(USABLE.shape) - 1  # (fonts, 10): index in the atlas of a usable digit
OWN_SLANT = np.array([slant for _, slant, _ in FONTS], np.float32)  # (fonts,)
TRAIN, TEST = (60_000, 1), (10_000, 2)  # (n, seed)

SIDE = 28
MIDLINES = Path(__file__).with_name("midlines.npz")
PART_BYTES = 1 << 20  # bytes of the cache that are read at once
CHUNK = 500  # images rendered at once: small enough for the processor's cache
TILE = 160
HULL = 32
CONTROL = 4
EDGE = 1.4  # pixels over which a stroke's edge fades, as soft as MNIST's


class Glyphs(NamedTuple):
    """images (N, 28, 28) uint8 white on black, labels (N,) int64, factors (N, len(FACTORS)) float32."""

    images: npt.NDArray[np.uint8]
    labels: Integers
    factors: Floats


class Atlas(NamedTuple):
    """Midlines in tile pixels: distance (G*T, T) to them, centre (G, 2), hull around it (G, H, 2)."""

    distance: Floats
    centre: Floats
    hull: Floats


def generate(n: int, seed: int) -> Glyphs:
    """Draw n digits as a pure function of (n, seed).

    Args:
        n: Number of images, at least 1.
        seed: Any integer from 0.

    Raises:
        ValueError: n < 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    atlas = _atlas()
    rng = np.random.Generator(np.random.PCG64(seed))
    labels = rng.permutation(np.arange(n, dtype=np.int64) % 10)  # (N,)
    # The largest of independent uniform numbers chooses each font with the digit equally often.
    font = np.where(USABLE.T[labels], rng.random((n, len(FONTS))), -1).argmax(1)  # (N,)
    factors = np.stack(
        [
            font,
            rng.normal(11, 12, n).clip(-20, 42),
            rng.normal(2.6, 0.65, n).clip(1.6, 4.0),
            np.exp(rng.normal(0.12, 0.2, n)).clip(0.7, 1.7),
            rng.normal(0, 6, n).clip(-15, 15),
            rng.normal(18.8, 0.7, n).clip(17, 20),
            rng.uniform(0.4, 1.4, n),
            *rng.normal(0, 0.3, (2, n)).clip(-0.8, 0.8),
        ],
        axis=1,
    ).astype(np.float32)  # (N, F)
    # For bending down, bending right and the pen's pressure; far outliers would fold the digit over itself.
    control = rng.standard_normal((n, 3, CONTROL, CONTROL), dtype=np.float32).clip(-2, 2)  # (N, 3, K, K)
    control -= control.mean((2, 3), keepdims=True)  # no digit is moved as a whole
    images = np.empty((n, SIDE, SIDE), np.uint8)  # (N, S, S)

    def fill(start: int) -> None:
        part = slice(start, start + CHUNK)
        images[part] = _render(atlas, labels[part], factors[part], control[part])

    with ThreadPoolExecutor() as pool:
        list(pool.map(fill, range(0, n, CHUNK)))
    return Glyphs(images, labels, factors)


def known_factors(glyphs: Glyphs) -> dict[str, npt.NDArray[Any]]:
    """The factors of each glyph by name (N,): the digit and the font as integers, the others as real numbers."""
    columns = dict(zip(FACTORS, glyphs.factors.T, strict=True))
    return {"digit": glyphs.labels, **columns, "font": columns["font"].astype(np.int64)}


def load_or_generate(directory: Path, note: Callable[[str], None], *, keep: bool = True) -> tuple[Glyphs, Glyphs]:
    """Return (train, test), 60,000 and 10,000 glyphs, cached under directory.

    Args:
        directory: Folder of data sets, created if missing.
        note: Called with a sentence if the cache is rebuilt or cannot be written; neither is an error.
        keep: Whether to write a missing or damaged cache.
    """
    path = directory / "glyphs" / f"glyphs-v{VERSION}.npz"
    try:
        return _load(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except Exception as error:  # a damaged archive fails in more ways than numpy and zipfile list
        note(f"The cached glyphs in {path} could not be used ({error}) and are generated again.")
    train, test = generate(*TRAIN), generate(*TEST)
    if not keep:
        return train, test
    try:
        _save(path, train, test)
    except OSError as error:
        note(f"The glyphs were generated but not cached in {path.parent}: {error.strerror or error}.")
    return train, test


def _load(path: Path) -> tuple[Glyphs, Glyphs]:
    splits = []
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        for split, (n, _) in (("train", TRAIN), ("test", TEST)):
            images = _array(archive, f"{split}_images.npy", (n, SIDE, SIDE), np.uint8)
            labels = _array(archive, f"{split}_labels.npy", (n,), np.int64)
            factors = _array(archive, f"{split}_factors.npy", (n, len(FACTORS)), np.float32)
            splits.append(Glyphs(images, labels, factors))
    return splits[0], splits[1]


def _array(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: type) -> npt.NDArray[Any]:
    """Read an array of an archive after checking in its header that it has the expected shape and type."""
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        header = np.lib.format.read_array_header_1_0(member) if version == (1, 0) else None
        if header != (shape, False, np.dtype(dtype)):
            raise ValueError(f"unexpected array {name}: {header}")
        size = math.prod(shape) * np.dtype(dtype).itemsize
        # read to the end, where zipfile compares the checksum, and one byte further to detect a longer member;
        # in parts, because zipfile would hold the whole array twice
        content = bytearray()
        while len(content) <= size and (part := member.read(min(PART_BYTES, size + 1 - len(content)))):
            content += part
    if len(content) != size:
        raise ValueError(f"{name} does not have the {size} bytes of its shape")
    return np.frombuffer(content, dtype).reshape(shape)


def _save(path: Path, train: Glyphs, test: Glyphs) -> None:
    splits = (("train", train), ("test", test))
    arrays: dict[str, Any] = {
        f"{split}_{field}": array for split, glyphs in splits for field, array in glyphs._asdict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _render(atlas: Atlas, labels: Integers, factors: Floats, control: Floats) -> npt.NDArray[np.uint8]:
    """Images (n, S, S) of labels (n,), factors (n, F) and control points (n, 3, K, K)."""
    # imported here and below, because reading the cache needs no scipy
    from scipy import ndimage

    # Values per image have the shape (n, 1, 1), to broadcast over the pixels.
    columns = factors.T.astype(np.float64)[..., None, None]  # (F, n, 1, 1)
    font, slant, thickness, width, rotation, size, elastic, shift_x, shift_y = columns
    kind = font.astype(np.int64)
    glyph = NUMBER[kind, labels[:, None, None]]
    shear = np.tan(np.deg2rad(slant)) - np.tan(np.deg2rad(OWN_SLANT[kind])) * width
    cos, sin = np.cos(np.deg2rad(rotation)), np.sin(np.deg2rad(rotation))
    # Rotation @ shear @ width maps an offset in the tile to one in the image, up to the scale.
    yy, yx, xy, xx = cos - sin * shear, sin * width, -sin - cos * shear, cos * width
    hull = atlas.hull[glyph]  # (n, 1, 1, H, 2)
    hull_y = hull[..., 0] * yy[..., None] + hull[..., 1] * yx[..., None]  # (n, 1, 1, H)
    hull_x = hull[..., 0] * xy[..., None] + hull[..., 1] * xx[..., None]  # (n, 1, 1, H)
    low_y, high_y, low_x, high_x = hull_y.min(-1), hull_y.max(-1), hull_x.min(-1), hull_x.max(-1)
    scale = (size - thickness) / np.maximum(high_y - low_y, high_x - low_x)  # image pixels per tile pixel

    bent_y, bent_x, pressure = np.moveaxis(_smooth(control), 1, 0)  # each (n, S, S)
    grid = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)  # (S,)
    y = (grid[:, None] + bent_y * elastic - shift_y) / scale + (low_y + high_y) / 2  # (n, S, S)
    x = (grid[None, :] + bent_x * elastic - shift_x) / scale + (low_x + high_x) / 2  # (n, S, S)
    # The matrix's determinant is the width, whatever the angles.
    tile_y = ((xx * y - yx * x) / width + atlas.centre[glyph, 0]).clip(0, TILE - 1)  # (n, S, S)
    tile_x = ((yy * x - xy * y) / width + atlas.centre[glyph, 1]).clip(0, TILE - 1)  # (n, S, S)
    distance = ndimage.map_coordinates(
        atlas.distance, [tile_y + glyph * TILE, tile_x], output=np.float32, order=1, mode="nearest"
    )  # (n, S, S)
    radius = thickness / 2 * (1 + 0.12 * pressure).clip(0.75, 1.3)  # (n, S, S)
    # Width stretches strokes too, but only along x: its square root keeps their thickness right on average.
    coverage = (radius - distance * scale * np.sqrt(width)) / EDGE + 0.5  # (n, S, S)
    images: npt.NDArray[np.uint8] = np.rint(coverage.clip(0, 1) * 255).astype(np.uint8)
    return images


def _smooth(control: Floats) -> Floats:
    """Fields (n, C, S, S) of about unit variance from standard normal control points (n, C, K, K)."""
    centres = np.linspace(0, SIDE - 1, CONTROL)
    bumps = np.exp(-0.5 * ((np.arange(SIDE) - centres[:, None]) / 7.5) ** 2)  # (K, S)
    basis = (bumps / np.linalg.norm(bumps, axis=0)).astype(np.float32)  # (K, S)
    # Sums written out: a BLAS may add in another order for another chunk or thread count.
    rows = sum(control[..., k, None] * basis[k] for k in range(CONTROL))  # (n, C, K, S)
    fields: Floats = sum(rows[..., k, None, :] * basis[k][:, None] for k in range(CONTROL))  # (n, C, S, S)
    return fields


@lru_cache(maxsize=1)
def _atlas() -> Atlas:
    from scipy import ndimage

    with np.load(MIDLINES) as archive:
        lines = np.unpackbits(archive["midlines"], axis=-1).astype(np.bool_)  # (G, T, T)
    fields = [ndimage.gaussian_filter(ndimage.distance_transform_edt(~line), 1.0) for line in lines]
    angles = np.arange(HULL) * (2 * np.pi / HULL)
    directions = np.stack([np.sin(angles), np.cos(angles)])  # (2, H)
    points = [np.argwhere(line) for line in lines]  # each (pixels, 2)
    centre = np.stack([p.mean(0) for p in points])  # (G, 2)
    hull = np.stack([p[(p @ directions).argmax(0)] for p in points]) - centre[:, None]  # (G, H, 2)
    return Atlas(np.concatenate(fields).astype(np.float32), centre.astype(np.float32), hull.astype(np.float32))
