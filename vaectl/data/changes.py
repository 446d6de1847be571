"""Changes to an image before it is stored: crop, grey or colour, size, and inversion.

Shapes: ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vaectl.config.datasets import DataOptions
from vaectl.errors import SettingError, shown

# numbers of channels that can be converted to grey: colour without and with transparency, which is dropped
COLOURED = (3, 4)
# channels -> how many of them are light, and not transparency
LIGHT = {1: 1, 2: 1, 3: 3, 4: 3}


@dataclass(frozen=True)
class Crop:
    """The part of an image that is kept.

    Attributes:
        size: Its height and width in pixels.
        corner: The row and the column at which it begins, or None for the middle of the image.
    """

    size: tuple[int, int]
    corner: tuple[int, int] | None = None

    @classmethod
    def parse(cls, text: str) -> Crop:
        """Read ``center:N``, ``center:H,W`` or ``X,Y,W,H``.

        Raises:
            SettingError: The text has another form, or a side of no pixels.
        """
        numbers = r"(\d{1,5})"
        if middle := re.fullmatch(rf"cent(?:er|re):{numbers}(?:,{numbers})?", text.replace(" ", "").lower()):
            crop = cls((int(middle[1]), int(middle[2] or middle[1])))
        elif box := re.fullmatch(",".join([numbers] * 4), text.replace(" ", "")):
            left, top, width, height = map(int, box.groups())
            crop = cls((height, width), (top, left))
        else:
            raise SettingError(
                "data.crop", f"must be center:N, center:H,W or X,Y,W,H, in pixels; got {shown(text)}",
                hint="center:140 keeps the middle square, 10,0,64,48 a part of width 64 and height 48",
            )  # fmt: skip
        if 0 in crop.size:
            raise SettingError("data.crop", f"must keep at least one pixel; got {shown(text)}")
        return crop

    def fits(self, size: tuple[int, ...]) -> bool:
        """Whether an image of a height and width holds the part."""
        top, left = self.corner or (0, 0)
        return self.size[0] + top <= size[0] and self.size[1] + left <= size[1]

    @property
    def text(self) -> str:
        """Description of the part, such as ``140 x 140 in the middle``."""
        height, width = self.size
        place = "in the middle" if self.corner is None else f"from row {self.corner[0]} and column {self.corner[1]}"
        return f"{height} x {width} {place}"


@dataclass(frozen=True)
class Change:
    """A crop, then grey or colour, then resizing with antialiasing, then inversion.

    Resizing alone crops nothing, so the aspect ratio may change.

    Attributes:
        size: New height and width, or None to keep them.
        grey: Whether colours become grey levels.
        lenient: Whether images to which a change does not apply stay as they are, instead of being refused.
        crop: The part that is kept, or None to keep the whole.
        channels: 1 for grey levels, 3 for colours, both without transparency; or None to keep the channels.
        invert: Whether light and dark are exchanged.
    """

    size: tuple[int, int] | None = None
    grey: bool = False
    lenient: bool = False
    crop: Crop | None = None
    channels: int | None = None
    invert: bool = False

    @property
    def forced(self) -> bool:
        """Whether data that are no images must be refused."""
        return self.size is not None or not self.lenient

    @property
    def setting(self) -> str:
        """The setting that an error names, because data are no images."""
        for name, value in (("image_size", self.size), ("crop", self.crop), ("channels", self.channels)):
            if value is not None:
                return f"data.{name}"
        return "data.grayscale" if self.grey else "data.invert"

    @property
    def makes_one_size(self) -> bool:
        """Whether images of any size come to one."""
        return self.size is not None or self.crop is not None

    @property
    def least(self) -> tuple[int, int]:
        """Height and width of an image that is just large enough."""
        if self.crop is None:
            return 1, 1
        top, left = self.crop.corner or (0, 0)
        return self.crop.size[0] + top, self.crop.size[1] + left

    def shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """The shape of a changed image.

        Raises:
            SettingError: The image cannot be converted, or is smaller than the crop.
        """
        channels, height, width = shape
        if self.crop is not None:
            if not self.crop.fits((height, width)):
                raise SettingError("data.crop", f"{self.crop.text} is larger than the images: {height} x {width}")
            height, width = self.crop.size
        if not self.lenient:
            self._check(channels)
        return (self._channels(channels), *(self.size or (height, width)))

    def _check(self, channels: int) -> None:
        """Refuse a conversion that does not apply to images, or changes nothing."""
        if self.grey and channels not in COLOURED:
            what = "is grey already" if channels == 1 else f"has {channels} channels, not red, green and blue"
            raise SettingError("data.grayscale", f"is for colour images; this data set {what}")
        if self.channels is not None and channels not in LIGHT:
            raise SettingError("data.channels", f"is for grey and colour images; this data set has {channels} channels")
        if self.channels == channels:
            what = "one channel" if channels == 1 else f"{channels} channels"
            raise SettingError("data.channels", f"{channels} changes nothing: the images have {what} already")

    def _channels(self, channels: int) -> int:
        if self.grey and channels in COLOURED:
            return 1
        return self.channels if self.channels is not None and channels in LIGHT else channels

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Change an image (C, H, W), uint8 or float32; floats stay in its range, or are inverted in [0, 1].

        Images are changed one at a time, because the last bits of a batch would depend on its size.
        """
        import torch
        from torchvision.transforms.v2 import functional  # its import takes as long as torch's

        changed = torch.from_numpy(np.ascontiguousarray(image))
        if self.crop is not None and self.crop.corner is None:
            changed = functional.center_crop(changed, list(self.crop.size))
        elif self.crop is not None and self.crop.corner is not None:
            (top, left), (height, width) = self.crop.corner, self.crop.size
            changed = changed[:, top : top + height, left : left + width]
        channels = self._channels(len(image))
        if channels == 1 and len(image) in COLOURED:
            changed = functional.rgb_to_grayscale(changed[:3])
        elif channels != len(image):  # transparency is dropped, and grey repeated
            changed = changed[: min(channels, LIGHT[len(image)])].expand(channels, -1, -1)
        if self.size is not None and tuple(changed.shape[1:]) != self.size:
            # torch refuses to resize colours to one pixel, because it mistakes the channels for another axis
            pieces = [channel[None] for channel in changed] if self.size == (1, 1) else [changed]
            changed = torch.cat([functional.resize(piece, list(self.size), antialias=True) for piece in pieces])
        result: np.ndarray = changed.numpy()
        if result.dtype != np.uint8:
            result = np.clip(result, image.min(), image.max())
        if self.invert:
            light = LIGHT.get(len(result), len(result))
            white = np.array(255 if result.dtype == np.uint8 else 1, result.dtype)
            result = np.concatenate([white - result[:light], result[light:]])
        return np.ascontiguousarray(result)

    def text(self, shapes: Sequence[tuple[int, ...]]) -> str:
        """Description of the change for images of these shapes, to append to the scaling; empty if there is none."""
        crop = "" if self.crop is None else f", cropped to {self.crop.text}"
        inside = [tuple(shape[1:]) if self.crop is None else self.crop.size for shape in shapes]
        resized = self.size is not None and any(shape != self.size for shape in inside)
        size = f", resized to {self.size[0]} x {self.size[1]}" if self.size is not None and resized else ""
        colour = ", in grey" if self.grey else ""
        if self.channels is not None and any(shape[0] != self.channels for shape in shapes):
            colour = ", in grey" if self.channels == 1 else ", in colour"
        return crop + colour + size + (", inverted" if self.invert else "")


def change_of(options: DataOptions, *, lenient: bool = False) -> Change | None:
    """The change for the options of a data set, or None.

    Raises:
        SettingError: An option has a form that is not allowed, or contradicts another one.
    """
    size, channels = options.image_size, options.channels
    if size is not None and len(size) > 2:
        raise SettingError("data.image_size", f"must be one side, or height and width; got {len(size)} numbers")
    if channels not in (None, 1, 3):
        raise SettingError("data.channels", f"must be 1 for grey or 3 for colour; got {channels}")
    if options.grayscale and channels == 3:
        raise SettingError("data.channels", "cannot be 3 with --grayscale, which makes one channel")
    crop = None if options.crop is None else Crop.parse(options.crop)
    if size is None and crop is None and channels is None and not options.grayscale and not options.invert:
        return None
    side = None if size is None else (size[0], size[-1])
    return Change(side, options.grayscale, lenient, crop, channels, options.invert)
