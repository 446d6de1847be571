"""Changes of an image before it is stored: grey levels of its colours, and another size.

Shapes: ``X`` data shape (C, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vaectl.errors import SettingError

# channels that have a grey level: grey and colour, each without and with transparency, which is left out
COLOURED = (3, 4)


@dataclass(frozen=True)
class Change:
    """Grey levels, and a plain resize with antialiasing: nothing is cropped, so the sides may change their ratio.

    Attributes:
        size: Height and width to come to, or None to keep them.
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
        """What becomes of the shape of an image.

        Raises:
            SettingError: Its channels have no grey level.
        """
        channels, height, width = shape
        if self.grey and (channels in COLOURED or not self.lenient):
            if channels not in COLOURED:
                what = "is grey already" if channels == 1 else f"has {channels} channels, not red, green and blue"
                raise SettingError("data.grayscale", f"is for images in colour; this data set {what}")
            channels = 1
        return (channels, *(self.size or (height, width)))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """An image (C, H, W), uint8 or float32, changed; of floats in [0, 1] all stay there.

        One image at a time: of a batch, the last bits would depend on how many there are.
        """
        import torch
        from torchvision.transforms.v2 import functional  # its import takes as long as torch's

        changed = torch.from_numpy(np.ascontiguousarray(image))
        if self.grey and len(image) in COLOURED:
            changed = functional.rgb_to_grayscale(changed[:3])
        if self.size is not None and tuple(changed.shape[1:]) != self.size:
            # colours that come to one pixel are refused by torch, which takes their channels for another axis
            pieces = [channel[None] for channel in changed] if self.size == (1, 1) else [changed]
            changed = torch.cat([functional.resize(piece, list(self.size), antialias=True) for piece in pieces])
        result: np.ndarray = changed.numpy()
        if result.dtype != np.uint8:
            result = np.clip(result, image.min(), image.max())
        return np.ascontiguousarray(result)

    def text(self, shapes: Sequence[tuple[int, ...]]) -> str:
        """What is done to images of such shapes, to be added to how they are scaled; empty where it is nothing."""
        resized = self.size is not None and any(tuple(shape[1:]) != self.size for shape in shapes)
        size = f", resized to {self.size[0]} x {self.size[1]}" if self.size is not None and resized else ""
        return (", in grey" if self.grey else "") + size


def change_of(image_size: tuple[int, ...] | None, grayscale: bool, *, lenient: bool = False) -> Change | None:
    """The change that the settings ask for, or None.

    Raises:
        SettingError: The size is neither one number nor two.
    """
    if image_size is not None and len(image_size) > 2:
        raise SettingError("data.image_size", f"must be a side, or height and width; got {len(image_size)} numbers")
    if image_size is None and not grayscale:
        return None
    return Change(None if image_size is None else (image_size[0], image_size[-1]), grayscale, lenient)
