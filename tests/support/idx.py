"""Small MNISTs: files in the IDX format, in the folders in which torchvision keeps them."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_file(shape: tuple[int, ...], *, magic: int = 0x800, body: bytes | None = None) -> bytes:
    """An IDX file of bytes; without a body its numbers count from 0 to 9, again and again."""
    header = struct.pack(f">{1 + len(shape)}I", magic + len(shape), *shape)
    return header + (bytes(i % 251 % 10 for i in range(math.prod(shape))) if body is None else body)


def mnist_files(
    train: int = 24, test: int = 12, side: int | tuple[int, int] = 8, *, classes: int = 10, level: int | None = None
) -> dict[str, bytes]:
    """The four files of a small MNIST.

    Args:
        train: Training images.
        test: Test images.
        side: Pixels of a side, or height and width.
        classes: Labels are drawn from 0 to this number less 1.
        level: The grey level of every pixel; None for noise.
    """
    random = np.random.default_rng(0)
    size = side if isinstance(side, tuple) else (side, side)
    files = {}
    for (images, labels), n in zip((FILES[:2], FILES[2:]), (train, test), strict=True):
        shape = (n, *size)
        pixels = random.integers(256, size=shape) if level is None else np.full(shape, level)
        files[images] = idx_file(shape, body=pixels.astype(np.uint8).tobytes())
        files[labels] = idx_file((n,), body=random.integers(classes, size=n).astype(np.uint8).tobytes())
    return files


def write_mnist(folder: Path, files: dict[str, bytes] | None = None, *, packed: bool = False) -> Path:
    """Write the files of a small MNIST into a data directory; returns the folder in which they are."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in (mnist_files() if files is None else files).items():
        (raw / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content, mtime=0) if packed else content)
    return raw
