"""Images as files of a folder, which is complete once it is visible.

Shapes: an image is (C, H, W).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from vaectl.config.datasets import PICTURES
from vaectl.errors import OutputError
from vaectl.output.grids import MODES
from vaectl.system.files import MARK, replacing, writing

# bytes of a file's name that every file system takes, with room for a suffix
LONGEST = 200


def check_folder(path: Path, *, force: bool, flag: str = "-o") -> None:
    """Check an output folder before any work is done for it.

    Raises:
        OutputError: It is a file, or holds something and ``force`` is false, or its parent is missing or read-only.
    """
    if os.path.lexists(path) and not os.path.isdir(path):
        raise OutputError(f"{flag} {path} is a file", hint="name a folder")
    if not os.path.isdir(path.parent):
        raise OutputError(
            f"{flag} {path}: the folder {path.parent} does not exist", hint=f"create it with: mkdir -p {path.parent}"
        )
    if os.path.isdir(path) and any(path.iterdir()) and not force:
        raise OutputError(
            f"{flag} {path} is a folder that holds files", hint="write into it with --force, or name another folder"
        )
    if not os.access(path if os.path.isdir(path) else path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{flag} {path} cannot be written")


def save_images(images: Iterable[tuple[str, np.ndarray]], folder: Path) -> int:
    """Write images as PNG files; a new folder appears when all are there, and files of an old one are replaced.

    Args:
        images: Name of each file, relative to the folder, and its pixels, uint8 (C, H, W) with C from 1 to 4.
        folder: The folder, which ``check_folder`` has checked.

    Returns:
        The number of images.

    Raises:
        OutputError: A file cannot be written.
    """
    count, names = 0, set[str]()
    with _complete(folder) as place:
        for name, image in images:
            path = place / _file(name, names)
            with writing(folder / path.relative_to(place)):
                path.parent.mkdir(parents=True, exist_ok=True)
                # files of a new folder are named when the folder is
                with nullcontext(path) if place != folder else replacing(path) as file:
                    save_image(image, file)
            count += 1
    return count


def save_image(image: np.ndarray, path: Path) -> None:
    """Write pixels, uint8 (C, H, W) with C from 1 to 4, as a picture of exactly these numbers."""
    pixels = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    Image.fromarray(pixels, MODES[len(image)]).save(path, format="PNG")


@contextmanager
def _complete(folder: Path) -> Iterator[Path]:
    """The folder itself if it exists, else one beside it that is renamed once the block has ended."""
    if folder.is_dir():
        yield folder
        return
    place = folder.with_name(f".{folder.name}{MARK}{os.urandom(6).hex()}")
    try:
        with writing(folder):
            place.mkdir()
        yield place
        with writing(folder):
            place.rename(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _file(name: str, names: set[str]) -> str:
    """A name below the folder that no other image has: that of its own file with the suffix ``.png``."""
    steps = [step for step in PurePosixPath(name).parts if step not in ("/", "..", ".")] or ["image"]
    stem = Path(steps[-1])
    last = stem.stem if stem.suffix.lower() in PICTURES else stem.name
    for end in (".png", f"{stem.suffix}.png", *(f"-{number}.png" for number in range(2, len(names) + 3))):
        path = "/".join([*steps[:-1], last.encode()[:LONGEST].decode(errors="ignore") + end])
        if path.lower() not in names:  # some file systems do not tell capitals
            names.add(path.lower())
            return path
    raise AssertionError(name)
