"""Image files: their headers and their pixels.

Shapes: ``B`` images read at once, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vaectl.data.changes import Change
from vaectl.data.own.rows import BadExampleError
from vaectl.system.reading import open_regular

# PIL mode -> channels and depth; all other modes are colour with 8 bits
MODES = {
    "1": ("L", 8), "L": ("L", 8), "LA": ("LA", 8), "La": ("LA", 8), "RGB": ("RGB", 8), "RGBA": ("RGBA", 8),
    "RGBa": ("RGBA", 8), "PA": ("RGBA", 8), "I;16": ("L", 16), "I;16B": ("L", 16), "I;16L": ("L", 16),
    "I;16N": ("L", 16), "I": ("L", 16), "F": ("L", 32),
}  # fmt: skip
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
ORIENTATION, TURNED = 0x0112, 5
# images of more pixels are decoded one at a time, because a decoded image takes up to fourteen bytes a pixel
LARGE_PIXELS = 2**24
TURN = threading.Lock()


@dataclass(frozen=True)
class Header:
    """The header of an image file: height and width after rotation, channels and bits."""

    size: tuple[int, int]
    bands: str
    depth: int


@dataclass(frozen=True)
class FileRows:
    """Image files that are decoded when they are read.

    Attributes:
        root: The folder.
        files: Path of each file within the folder.
        size: Height and width of every image before ``change``; None if they differ.
        bands: Channels that all images are converted to: L, LA, RGB or RGBA.
        depth: Bits per channel: 8, 16 or 32 (floats).
        change: The change applied to each image, or None.
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
        """Type of the numbers that ``read`` returns."""
        return np.dtype(np.uint8 if self.depth == 8 else np.float32)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, row: int) -> str:
        """Path of the file within the folder."""
        return self.files[row]

    def read(self, index: np.ndarray) -> np.ndarray:
        """Read examples as ``Rows.read`` does."""
        out = np.empty((len(index), *self.shape), self.dtype)
        for position, row in enumerate(index.tolist()):
            image = self._decoded(row)
            if image.shape != out.shape[1:] or image.dtype != out.dtype:
                raise BadExampleError(row, f"is {image.dtype} {image.shape}, not {out.dtype} {out.shape[1:]}")
            out[position] = image
        return out

    def _decoded(self, row: int) -> np.ndarray:
        with ExitStack() as turn:
            try:
                with _opened(self.root / self.files[row]) as image:
                    turn.enter_context(_turn(image))
                    upright = ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image
                    pixels = _pixels(upright, self.bands, self.depth)
                    del upright  # its memory is needed for the change
            except Exception as error:  # a decoder may raise anything for a file that it does not understand
                raise BadExampleError(row, _problem(error)) from None
            if self.depth != 8 and not np.isfinite(pixels).all():
                raise BadExampleError(row, "holds a number that is not finite")
            return pixels if self.change is None else self.change(pixels)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with open_regular(path) as file, Image.open(file) as image:
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


def _form(image: Image.Image) -> Header:
    height, width = image.size[::-1]
    if image.mode == "P":
        bands, depth = ("RGBA" if "transparency" in image.info else "RGB"), 8
    else:
        bands, depth = MODES.get(image.mode, ("RGB", 8))
        if depth == 8 and "transparency" in image.info and bands in ("L", "RGB") and image.mode != "1":
            bands = {"L": "LA", "RGB": "RGBA"}[bands]
    return Header((height, width), bands, depth)


def header_of(path: Path) -> Header | str:
    """Read the header of an image file; if it cannot be used, return the problem as text."""
    try:
        with _opened(path) as image, _turn(image):  # to look for the orientation PIL decodes a PNG
            header = _form(image)
            turned = image.getexif().get(ORIENTATION, 1) >= TURNED
    except Exception as error:  # a decoder may raise anything
        with suppress(OSError):
            if path.stat().st_size == 0:
                return "is empty"
        return _problem(error)
    if 0 in header.size:
        return "has no pixels"
    return Header(header.size[::-1], header.bands, header.depth) if turned else header


def _problem(error: Exception) -> str:
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
