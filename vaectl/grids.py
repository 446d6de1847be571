"""Batches of images as one picture: tiles in rows, enlarged without blur, and the PNG of it.

Shapes: ``N`` images of shape (C, H, W) with values in [0, 1]; a picture is uint8 (height, width, 3).
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from vaectl.files import replacing

# small images are enlarged by a whole factor until a tile has about this many pixels: within figures and alone
TILE_PIXELS, LARGE_TILE_PIXELS = 56, 112


def grid(images: Tensor, columns: int | None = None, tile_pixels: int = TILE_PIXELS) -> np.ndarray:
    """Tiles of ``images`` (N, C, H, W), row by row.

    Args:
        images: Values in [0, 1]; others are clamped.
        columns: Tiles in a row; the square root of N, rounded up, where None.
        tile_pixels: What the longer side of a tile should have at least, unless that of the image has half of it.

    Returns:
        The picture, uint8 (height, width, 3).
    """
    n = len(images)
    factor = max(1, tile_pixels // max(images.shape[-2:]))
    pixels = images.detach().float().cpu().clamp(0, 1).mul(255).round().to(torch.uint8)
    pixels = pixels.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)
    sheet: Tensor = make_grid(pixels, nrow=columns or math.ceil(math.sqrt(n)), padding=2, pad_value=64)
    return sheet.permute(1, 2, 0).numpy()


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
