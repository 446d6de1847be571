"""Batches of images as one picture: tiles in rows, enlarged without blur, and the PNG of it.

One channel is grey, three are colours, and four are colours with transparency, seen before a mid grey; of any other
number of channels the mean is shown as grey. A row of a table is a strip.

Shapes: ``N`` images of shape (C, H, W); a picture is uint8 (height, width, 3).
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vaectl.system.files import replacing

# small images are enlarged by a whole factor until a tile has about this many pixels: within figures and alone
TILE_PIXELS, LARGE_TILE_PIXELS = 56, 112
# between tiles and around them
GAP, GAP_GREY = 2, 64
# what is seen through transparent pixels
BEHIND = 0.5


def grid(
    images: Tensor,
    columns: int | None = None,
    tile_pixels: int = TILE_PIXELS,
    span: tuple[float, float] = (0.0, 1.0),
) -> np.ndarray:
    """Tiles of ``images`` (N, C, H, W), row by row.

    Args:
        images: Values in ``span``; others are clamped.
        columns: Tiles in a row; the square root of N, rounded up, where None.
        tile_pixels: What the longer side of a tile should have at least, unless that of the image has half of it.
        span: What is shown as black and as white: the range of the data where they are any real numbers.

    Returns:
        The picture, uint8 (height, width, 3).
    """
    n = len(images)
    factor = max(1, tile_pixels // max(images.shape[-2:]))
    shown = images.detach().float().cpu()
    if span != (0.0, 1.0):
        shown = (shown - span[0]) / max(span[1] - span[0], torch.finfo(torch.float32).tiny)
    pixels = _visible(shown.clamp(0, 1)).mul(255).round().to(torch.uint8)
    pixels = pixels.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)
    return _sheet(pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy(), columns or math.ceil(math.sqrt(n)))


def _visible(images: Tensor) -> Tensor:
    """Images (N, C, H, W) as grey (N, 1, H, W) or colour (N, 3, H, W)."""
    channels = images.shape[1]
    if channels in (1, 3):
        return images
    if channels == 4:
        alpha = images[:, 3:]
        return alpha * images[:, :3] + (1 - alpha) * BEHIND
    return images.mean(1, keepdim=True)


def _sheet(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Tiles (N, height, width, 3) in rows, as torchvision's ``make_grid``, whose import takes as long as torch's."""
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


def pairs(above: Tensor, below: Tensor, columns: int) -> Tensor:
    """Images of two batches (N, C, H, W) ordered so that, in rows of ``columns``, each stands above its partner."""
    rows = []
    for start in range(0, len(above), columns):
        upper, lower = above[start : start + columns], below[start : start + columns]
        blank = torch.zeros(columns - len(upper), *above.shape[1:], device=above.device)
        rows += [torch.cat((upper, blank)), torch.cat((lower, blank))]
    return torch.cat(rows)


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
