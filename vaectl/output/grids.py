"""Batches of images as one picture: tiles in rows, enlarged without blur, and its PNG.

One channel is grey, three are colours, and four are colours with transparency on a mid-grey background; for any other
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

# small images are enlarged by a whole factor until a tile has about this many pixels, in figures and on its own
TILE_PIXELS, LARGE_TILE_PIXELS = 56, 112
# width and grey level of the gap between and around tiles
GAP, GAP_GREY = 2, 64
# grey level behind transparent pixels
BEHIND = 0.5


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
    pixels = pixels.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)
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


def pairs(above: Tensor, below: Tensor, columns: int) -> Tensor:
    """Interleave two batches of images (N, C, H, W) so that, in rows of ``columns``, each is above its partner."""
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
