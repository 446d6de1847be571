"""Small image files for tests of own data, in folders and archives."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vaectl.data import loading
from vaectl.data.base import Data, Loading

SIZE = (7, 5)


def pictures(n: int, channels: int = 3, seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """uint8 (n, H, W, C), or (n, H, W) for one channel."""
    images = np.random.default_rng(seed).integers(0, 256, (n, *size, channels), dtype=np.uint8)
    return images if channels > 1 else images[..., 0]


def save(folder: Path, images: np.ndarray, suffix: str = ".png", first: int = 0) -> Path:
    """Images as numbered files of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, first):
        Image.fromarray(image).save(folder / f"{number:03}{suffix}")
    return folder


def pets(root: Path) -> Path:
    """Splits with two classes: 8 + 6 images to train on, 2 + 2 to test."""
    for number, (part, kind, count) in enumerate(
        (("train", "cat", 8), ("train", "dog", 6), ("test", "cat", 2), ("test", "dog", 2))
    ):
        save(root / part / kind, pictures(count, seed=number))
    return root


def zipped(root: Path, path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A folder's files in a zip archive, in an order that is not that of their names."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(root.rglob("*"), reverse=True):
            archive.write(file, file.relative_to(root).as_posix())
    return path


def tarred(root: Path, path: Path) -> Path:
    """A folder's files in a tar archive, with paths that begin with ``./``."""
    with tarfile.open(path, "w") as archive:
        archive.add(root, ".")
    return path


def load(path: Path | str, notes: list[str] | None = None, **options: Any) -> Data:
    """The data at a path; the notes on them are appended to ``notes``."""
    return loading.load(
        str(path), Loading(Path("nowhere"), note=(notes if notes is not None else []).append), **options
    )


def labels(loaded: Data) -> list[int]:
    """The labels of all splits, sorted."""
    return sorted(torch.cat([split.labels for split in (loaded.train, loaded.validation, loaded.test)]).tolist())


def everything(loaded: Data) -> torch.Tensor:
    """All examples, in the order of the source where it is one part."""
    parts = [(split.rows, split.batch(slice(None)).x) for split in map(loaded.split, ("train", "validation", "test"))]
    order = torch.cat([part for part, _ in parts]).argsort()
    return torch.cat([x for _, x in parts])[order]
