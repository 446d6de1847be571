"""Image files: their headers and their pixels.

Shapes: ``B`` images read at once, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vaectl.data.changes import Change
from vaectl.data.own.pictures.stores import Store, UnreadableError
from vaectl.data.own.rows import BadExampleError

# PIL mode -> channels and depth; all other modes are colour with 8 bits
MODES = {
    "1": ("L", 8), "L": ("L", 8), "LA": ("LA", 8), "La": ("LA", 8), "RGB": ("RGB", 8), "RGBA": ("RGBA", 8),
    "RGBa": ("RGBA", 8), "PA": ("RGBA", 8), "I;16": ("L", 16), "I;16B": ("L", 16), "I;16L": ("L", 16),
    "I;16N": ("L", 16), "I": ("L", 16), "F": ("L", 32),
}  # fmt: skip
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
ORIENTATION, TURNED = 0x0112, 5
# the tag of a page that is a smaller copy of another one, and the bit that says so
SUBFILE, REDUCED = 254, 1
# formats whose files may be animations
MOVING = ("GIF", "WEBP", "PNG", "AVIF")
# images of more pixels are decoded one at a time, because a decoded image takes up to fourteen bytes a pixel
LARGE_PIXELS = 2**24
TURN = threading.Lock()


@dataclass(frozen=True)
class Header:
    """The header of an image: height and width after rotation, channels and bits.

    Attributes:
        page: Number of the page of a file with several, from 0.
        palette: Whether the channels are those of a palette's colours.
        moving: Whether the file holds further frames, of an animation.
        coarse: Whether the file has colours of 16 bits, of which PIL reads 8.
    """

    size: tuple[int, int]
    bands: str
    depth: int
    page: int = 0
    palette: bool = False
    moving: bool = False
    coarse: bool = False


@dataclass(frozen=True)
class FileRows:
    """Image files that are decoded when they are read.

    Attributes:
        store: Where the files are.
        files: Name of each example's file in the store.
        size: Height and width of every image before ``change``; None if they differ.
        bands: Channels that all images are converted to: L, LA, RGB or RGBA.
        depth: Bits per channel: 8, 16 or 32 (floats).
        change: The change applied to each image, or None.
        pages: Page of each example in its file (N,); None if every file has one.
    """

    store: Store
    files: Sequence[str]
    size: tuple[int, int] | None
    bands: str
    depth: int
    change: Change | None = None
    pages: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """X."""
        if self.change is None:
            return (CHANNELS[self.bands], *(self.size or (1, 1)))
        return self.change.shape((CHANNELS[self.bands], *(self.size or self.change.least)))

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers that ``read`` returns."""
        return np.dtype(np.uint8 if self.depth == 8 else np.float32)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, row: int) -> str:
        """Path of the file within the folder, with its page if there are several."""
        return self.files[row] if self.pages is None else page_name(self.files[row], int(self.pages[row]))

    @property
    def names(self) -> Sequence[str]:
        """The name of each example."""
        return self.files if self.pages is None else [self.name(row) for row in range(len(self))]

    def read(self, index: np.ndarray) -> np.ndarray:
        """Read examples as ``Rows.read`` does."""
        out = np.empty((len(index), *self.shape), self.dtype)
        # pages of one file, and neighbours in an archive, are read together
        rows, order = index.tolist(), np.argsort(index, kind="stable").tolist()
        for name, group in groupby(order, key=lambda position: self.files[rows[position]]):
            positions = list(group)
            images = self._decoded(name, [rows[position] for position in positions])
            for position, image in zip(positions, images, strict=True):
                if image.shape != out.shape[1:] or image.dtype != out.dtype:
                    problem = f"is {image.dtype} {image.shape}, not {out.dtype} {out.shape[1:]}"
                    raise BadExampleError(rows[position], problem)
                out[position] = image
        return out

    def _decoded(self, name: str, rows: Sequence[int]) -> Iterator[np.ndarray]:
        """Decode the rows that are in one file."""
        row = rows[0]
        with ExitStack() as closing:
            try:
                image = closing.enter_context(_opened(self.store, name))
            except Exception as error:  # a decoder may raise anything for a file that it does not understand
                raise BadExampleError(row, problem_of(error)) from None
            for row in rows:
                yield self._page(image, row)

    def _page(self, image: Image.Image, row: int) -> np.ndarray:
        with ExitStack() as turn:
            try:
                if self.pages is not None:
                    image.seek(int(self.pages[row]))
                turn.enter_context(_turn(image))
                upright = ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image
                pixels = _pixels(upright, self.bands, self.depth)
                del upright  # its memory is needed for the change
            except Exception as error:  # as above
                raise BadExampleError(row, problem_of(error)) from None
            if self.depth != 8 and not np.isfinite(pixels).all():
                raise BadExampleError(row, "holds a number that is not finite")
            return pixels if self.change is None else self.change(pixels)


def page_name(file: str, page: int) -> str:
    """The name of a page in messages, counted from 1."""
    return f"{file} page {page + 1}"


@contextmanager
def _opened(store: Store, name: str) -> Iterator[Image.Image]:
    with store.open(name) as file, Image.open(file) as image:
        yield image


def _turn(image: Image.Image) -> AbstractContextManager[object]:
    """A context in which an image may be decoded: a large one waits until no other large one is decoded."""
    return TURN if image.width * image.height > LARGE_PIXELS else nullcontext()


def _pixels(image: Image.Image, bands: str, depth: int) -> np.ndarray:
    """Convert an image to numbers (C, H, W): uint8, or float32 if a channel has more than 8 bits."""
    form = _form(image)
    if form.depth == 8:
        whole = image if image.mode in ("1", "L", "LA", "RGB", "RGBA") else image.convert(form.bands)
        numbers = np.asarray(whole.convert(bands) if whole.mode != bands else whole)
        pixels = numbers if depth == 8 else numbers.astype(np.float32) * np.float32(1 / 255)
    else:
        numbers = np.asarray(image)
        if form.depth == 16 and (numbers.min(initial=0) < 0 or numbers.max(initial=0) > 65535):
            raise ValueError("it holds numbers of more than 16 bits")
        pixels = numbers.astype(np.float32) * np.float32(1 / 65535 if form.depth == 16 else 1)
        if bands != "L":  # grey among colours
            opaque = np.ones_like(pixels)
            pixels = np.stack({"LA": [pixels], "RGB": [pixels] * 3, "RGBA": [pixels] * 3}[bands]
                              + ([opaque] if bands.endswith("A") else []), axis=-1)  # fmt: skip
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _form(image: Image.Image, page: int = 0) -> Header:
    height, width = image.size[::-1]
    palette = image.mode in ("P", "PA")
    if image.mode == "P":
        bands, depth = ("RGBA" if "transparency" in image.info else "RGB"), 8
    else:
        bands, depth = MODES.get(image.mode, ("RGB", 8))
        if depth == 8 and "transparency" in image.info and bands in ("L", "RGB") and image.mode != "1":
            bands = {"L": "LA", "RGB": "RGBA"}[bands]
    coarse = depth == 8 and any(";16" in str(part[3]) for part in getattr(image, "tile", ()))
    return Header((height, width), bands, depth, page, palette, coarse=coarse)


def headers_of(store: Store, name: str) -> list[Header] | str:
    """Read the headers of the images in a file, one for each page; if it cannot be used, return the problem as text."""
    try:
        with _opened(store, name) as image:
            if image.format == "TIFF":
                return _page_headers(image)
            with _turn(image):  # to look for the orientation PIL decodes a PNG
                return [_upright(image)]
    except Exception as error:  # a decoder may raise anything
        with suppress(OSError, UnreadableError), store.open(name) as file:
            if not file.read(1):
                return "is empty"
        return problem_of(error)


def _page_headers(image: Any) -> list[Header]:
    headers = []
    for page in range(image.n_frames):
        image.seek(page)
        if not page or not int(image.tag_v2.get(SUBFILE, 0)) & REDUCED:
            headers.append(_upright(image, page))
    return headers


def _upright(image: Any, page: int = 0) -> Header:
    header = _form(image, page)
    if 0 in header.size:
        raise UnreadableError("has no pixels")
    moving = image.format in MOVING and getattr(image, "is_animated", False)
    turned = image.getexif().get(ORIENTATION, 1) >= TURNED
    return replace(header, size=header.size[::-1] if turned else header.size, moving=moving)


def is_opaque(store: Store, name: str) -> bool:
    """Whether an image has transparency that is nowhere used."""
    try:
        with _opened(store, name) as image, _turn(image):
            whole = image if image.mode in ("LA", "RGBA") else image.convert("RGBA")
            return bool(whole.getchannel("A").getextrema() == (255, 255))
    except Exception:  # a decoder may raise anything; that the image is bad is said when it is read
        return False


def problem_of(error: Exception) -> str:
    """The problem with an image file as text, from what PIL or a store raised."""
    if isinstance(error, UnreadableError):
        return str(error)
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    if isinstance(error, UnidentifiedImageError):
        return "is not a readable image"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"is damaged: {text:.100}"


@contextmanager
def strict_pictures() -> Iterator[None]:
    """Make PIL's warning about too large images an error, and silence its other warnings, within the block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
