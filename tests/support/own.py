"""A person's own data, made small: pictures, folders of them, and how a test loads a path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vaectl.data import loading
from vaectl.data.base import Data, Loading

SIZE = (7, 5)


def pictures(n: int = 12, size: tuple[int, int] = SIZE, channels: int = 3, seed: int = 0) -> np.ndarray:
    """uint8 (n, H, W, C), or (n, H, W) for one channel, with both ends of the range."""
    images = np.random.default_rng(seed).integers(0, 256, (n, *size, channels), dtype=np.uint8)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    return images if channels > 1 else images[..., 0]


def folder(root: Path, images: np.ndarray, suffix: str = ".png", **options: Any) -> Path:
    """Images as files of a folder."""
    root.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(root / f"{number:03}{suffix}", **options)
    return root


def load(path: Path | str, notes: list[str] | None = None, **options: Any) -> Data:
    return loading.load(
        str(path), Loading(Path("nowhere"), note=(notes if notes is not None else []).append), **options
    )


def everything(loaded: Data) -> torch.Tensor:
    """All examples, in the order of the source where it is one part."""
    parts = [(split.rows, split.batch(slice(None)).x) for split in map(loaded.split, ("train", "validation", "test"))]
    order = torch.cat([part for part, _ in parts]).argsort()
    return torch.cat([x for _, x in parts])[order]
