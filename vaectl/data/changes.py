"""Changes to an image before it is stored: conversion to grey levels, and resizing.

Shapes: ``X`` data shape (C, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vaectl.errors import SettingError

# numbers of channels that can be converted to grey: colour without and with transparency, which is dropped
COLOURED = (3, 4)


@dataclass(frozen=True)
class Change:
    """Conversion to grey and resizing with antialiasing; nothing is cropped, so the aspect ratio may change.

    Attributes:
        size: New height and width, or None to keep them.
        grey: Whether colours become grey levels.
        lenient: Whether images without colours stay as they are, instead of being refused.
    """

    size: tuple[int, int] | None = None
    grey: bool = False
    lenient: bool = False

    @property
    def forced(self) -> bool:
        """Whether data that are no images must be refused."""
        return self.size is not None or not self.lenient

    def shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """The shape of a changed image.

        Raises:
            SettingError: The image cannot be converted to grey.
        """
        channels, height, width = shape
        if self.grey and (channels in COLOURED or not self.lenient):
            if channels not in COLOURED:
                what = "is grey already" if channels == 1 else f"has {channels} channels, not red, green and blue"
                raise SettingError("data.grayscale", f"is for colour images; this data set {what}")
            channels = 1
        return (channels, *(self.size or (height, width)))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Change an image (C, H, W), uint8 or float32; floats stay in the range of the image.

        Images are changed one at a time, because the last bits of a batch would depend on its size.
        """
        import torch
        from torchvision.transforms.v2 import functional  # its import takes as long as torch's

        changed = torch.from_numpy(np.ascontiguousarray(image))
        if self.grey and len(image) in COLOURED:
            changed = functional.rgb_to_grayscale(changed[:3])
        if self.size is not None and tuple(changed.shape[1:]) != self.size:
            # torch refuses to resize colours to one pixel, because it mistakes the channels for another axis
            pieces = [channel[None] for channel in changed] if self.size == (1, 1) else [changed]
            changed = torch.cat([functional.resize(piece, list(self.size), antialias=True) for piece in pieces])
        result: np.ndarray = changed.numpy()
        if result.dtype != np.uint8:
            result = np.clip(result, image.min(), image.max())
        return np.ascontiguousarray(result)

    def text(self, shapes: Sequence[tuple[int, ...]]) -> str:
        """Description of the change for images of these shapes, to append to the scaling; empty if there is none."""
        resized = self.size is not None and any(tuple(shape[1:]) != self.size for shape in shapes)
        size = f", resized to {self.size[0]} x {self.size[1]}" if self.size is not None and resized else ""
        return (", in grey" if self.grey else "") + size


def change_of(image_size: tuple[int, ...] | None, grayscale: bool, *, lenient: bool = False) -> Change | None:
    """The change for the settings, or None.

    Raises:
        SettingError: The size is neither one number nor two.
    """
    if image_size is not None and len(image_size) > 2:
        raise SettingError("data.image_size", f"must be one side, or height and width; got {len(image_size)} numbers")
    if image_size is None and not grayscale:
        return None
    return Change(None if image_size is None else (image_size[0], image_size[-1]), grayscale, lenient)
