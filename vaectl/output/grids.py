"""Batches of images as one picture: tiles in rows, enlarged without blur, and its PNG.

One channel is grey, three are colours, and four are colours with transparency on a mid-grey background; for any other
number of channels the mean is shown as grey. A row of a table is a strip, a quarter as high as it is wide at most.

Shapes: ``N`` images of shape (C, H, W); a picture is uint8 (height, width, 3).
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vaectl.system.files import replacing

# small images are enlarged by a whole factor until a tile has about this many pixels, in figures and on its own
TILE_PIXELS, LARGE_TILE_PIXELS = 56, 112
# channels -> mode of a picture
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
# width and grey level of the gap between and around tiles
GAP, GAP_GREY = 2, 64
# grey level behind transparent pixels
BEHIND = 0.5
# rows of pairs are separated by so many white pixels, and named in text of this size and colour
BETWEEN, TEXT_PIXELS, TEXT_COLOUR = 16, 16, (31, 35, 40)
PAIR_NAMES = ("original", "reconstruction")


def grid(
    images: Tensor,
    columns: int | None = None,
    tile_pixels: int = TILE_PIXELS,
    span: tuple[float, float] = (0.0, 1.0),
) -> np.ndarray:
    """Arrange ``images`` (N, C, H, W) as tiles, row by row.

    Args:
        images: Values in ``span``; others are clamped.
        columns: Tiles per row; None uses the square root of N, rounded up.
        tile_pixels: Upper limit for the longer side of a tile after it is enlarged by a whole factor.
        span: Values shown as black and white, such as the range of real-valued data.

    Returns:
        The picture, uint8 (height, width, 3).
    """
    n = len(images)
    factor = max(1, tile_pixels // max(images.shape[-2:]))
    values = images.detach().float().cpu()
    if span != (0.0, 1.0):
        values = (values - span[0]) / max(span[1] - span[0], torch.finfo(torch.float32).tiny)
    pixels = _visible(values.clamp(0, 1)).mul(255).round().to(torch.uint8)
    # one pixel high, a row of a table could not be seen
    tall = max(factor, min(pixels.shape[-1] * factor, tile_pixels) // 4) if pixels.shape[-2] == 1 else factor
    pixels = pixels.repeat_interleave(tall, dim=-2).repeat_interleave(factor, dim=-1)
    return _sheet(pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy(), columns or math.ceil(math.sqrt(n)))


def _visible(images: Tensor) -> Tensor:
    """Convert images (N, C, H, W) to grey (N, 1, H, W) or colour (N, 3, H, W)."""
    channels = images.shape[1]
    if channels in (1, 3):
        return images
    if channels == 4:
        alpha = images[:, 3:]
        return alpha * images[:, :3] + (1 - alpha) * BEHIND
    return images.mean(1, keepdim=True)


def _sheet(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Arrange tiles (N, height, width, 3) like torchvision's ``make_grid``, whose import takes as long as torch's."""
    n, height, width, channels = tiles.shape
    if n == 1:
        single: np.ndarray = tiles[0]
        return single
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    framed = np.full((rows * columns, height + GAP, width + GAP, channels), GAP_GREY, np.uint8)
    framed[:n, GAP:, GAP:] = tiles
    lines = framed.reshape(rows, columns, height + GAP, width + GAP, channels).swapaxes(1, 2)
    sheet = lines.reshape(rows * (height + GAP), columns * (width + GAP), channels)
    return np.pad(sheet, ((0, GAP), (0, GAP), (0, 0)), constant_values=GAP_GREY)


def tile_of_width(images: Tensor, columns: int, width: int) -> int:
    """Pixels of a tile's longer side, a whole multiple of the images' (N, C, H, W), for a grid of about a width."""
    longest = max(images.shape[-2:])
    return longest * max(1, round(width / columns / longest))


def paired(
    above: Tensor,
    below: Tensor,
    columns: int,
    tile_pixels: int = TILE_PIXELS,
    span: tuple[float, float] = (0.0, 1.0),
) -> np.ndarray:
    """Arrange originals above their reconstructions, in named rows with a gap between each two and the next.

    Args:
        above: Originals (N, C, H, W).
        below: Their reconstructions (N, C, H, W).
        columns: Pairs per row.
        tile_pixels: As for ``grid``.
        span: As for ``grid``.

    Returns:
        The picture, uint8 (height, width, 3).
    """
    columns = min(columns, len(above))
    blocks = [
        np.concatenate(
            [_line(images[start : start + columns], columns, tile_pixels, span) for images in (above, below)]
        )
        for start in range(0, len(above), columns)
    ]
    height, width = blocks[0].shape[:2]
    font = ImageFont.load_default(TEXT_PIXELS)
    margin = TEXT_PIXELS + math.ceil(max(font.getlength(name) for name in PAIR_NAMES))
    picture = Image.new("RGB", (margin + width, len(blocks) * (height + BETWEEN) - BETWEEN), "white")
    draw = ImageDraw.Draw(picture)
    for number, block in enumerate(blocks):
        top = number * (height + BETWEEN)
        picture.paste(Image.fromarray(block), (margin, top))
        for row, name in enumerate(PAIR_NAMES):
            middle = (margin - TEXT_PIXELS // 2, top + height * (2 * row + 1) // 4)
            draw.text(middle, name, TEXT_COLOUR, font, anchor="rm")
    return np.asarray(picture)


def _line(images: Tensor, columns: int, tile_pixels: int, span: tuple[float, float]) -> np.ndarray:
    """One row of tiles, white where images are missing."""
    row = grid(images, columns, tile_pixels, span)
    if len(images) == 1:  # a grid of one image has no frame
        row = np.pad(row, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=GAP_GREY)
    width = (row.shape[1] - GAP) // len(images) * columns + GAP
    return np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255)


def encode_png(picture: np.ndarray) -> bytes:
    """The PNG of a picture, uint8 (height, width, 3)."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, format="PNG")
    return out.getvalue()


def save_png(picture: np.ndarray, path: Path) -> None:
    """Write a picture, uint8 (height, width, 3).

    Raises:
        OutputError: The file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(encode_png(picture))
