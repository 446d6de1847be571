"""Published data sets with known factors, told by the keys and the shapes of their arrays.

Shapes: ``N`` images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaectl.data.own.arrays.members import Member
from vaectl.system.reading import check_size

DSPRITES = ("color", "shape", "scale", "orientation", "posX", "posY")
# factor -> number of its values, the slowest first where images are in the order of their factors
SHAPES3D = {"floor_hue": 10, "wall_hue": 10, "object_hue": 10, "scale": 8, "shape": 4, "orientation": 15}
MPI3D = {
    "object_color": 6, "object_shape": 6, "object_size": 2, "camera_height": 3, "background_color": 3,
    "horizontal_axis": 40, "vertical_axis": 40,
}  # fmt: skip
# height, width and channels of the images of the last two
IMAGE = (64, 64, 3)


@dataclass(frozen=True)
class Known:
    """A data set that was recognised.

    Attributes:
        title: Its published name.
        images: The key of its images.
        keys: The keys of the arrays that hold the factors.
        factors: Reads the kind of each image by factor, small whole numbers (N,).
        label: The factor that is the label, or None.
    """

    title: str
    images: str
    keys: tuple[str, ...]
    factors: Callable[[], dict[str, np.ndarray]]
    label: str | None


def known_of(path: Path, members: Mapping[str, Member]) -> Known | None:
    """The data set whose arrays these are, or None.

    Raises:
        DataError: Its factors would take too much memory.

    References:
        dSprites, https://github.com/google-deepmind/dsprites-dataset; 3D Shapes,
        https://github.com/google-deepmind/3d-shapes; MPI3D, https://github.com/rr-learning/disentanglement_dataset.
    """
    by_name = {key.lower().replace("/", "_"): key for key in members}
    images, labels = by_name.get("imgs"), by_name.get("latents_classes")
    if images and labels and members[labels].shape == (members[images].shape[0], len(DSPRITES)):
        classes = members[labels]
        return Known("dSprites", images, (labels,), lambda: _columns(path, classes, DSPRITES), "shape")
    images, labels = by_name.get("images"), by_name.get("labels")
    if images is None or members[images].shape[1:] != IMAGE:
        return None
    count = members[images].shape[0]
    if labels and members[labels].shape == (count, len(SHAPES3D)) and members[labels].dtype.kind == "f":
        factors = _columns(path, members[labels], tuple(SHAPES3D))
        if all(len(np.unique(factors[name])) <= size for name, size in SHAPES3D.items()):
            return Known("3D Shapes", images, (labels,), lambda: factors, "shape")
    if len(members) == 1 and count == math.prod(MPI3D.values()):
        return Known("MPI3D", images, (), _mpi3d, None)
    return None


def _columns(path: Path, member: Member, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Each column of an array (N, F) as numbers of its different values, which is what a factor's kinds are."""
    check_size(f"the factors of {path}", member.whole)
    values = member.values()
    return {name: _kinds(values[:, column]) for column, name in enumerate(names)}


def _kinds(values: np.ndarray) -> np.ndarray:
    kinds, numbers = np.unique(values, return_inverse=True)
    return numbers.astype(np.uint8 if len(kinds) <= 256 else np.int64)


def _mpi3d() -> dict[str, np.ndarray]:
    """The factors that follow from the place of an image."""
    sizes = tuple(MPI3D.values())
    places = np.unravel_index(np.arange(math.prod(sizes)), sizes)
    return {name: place.astype(np.uint8) for name, place in zip(MPI3D, places, strict=True)}
