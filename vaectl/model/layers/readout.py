"""Layers from features to numbers of any shape; either may be flat or a map.

Shapes: ``*N`` any leading (draw and batch) dimensions, ``F`` a shape of features, flat (features,) or a map
(channels, height, width), ``S`` the output shape, ``R`` numbers for each of its elements.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vaectl.model.layers.linear import Linear

Shape = tuple[int, ...]


def halved(size: int) -> int:
    """The side of a map after a convolution of stride 2: half, rounded up."""
    return -(-size // 2)


def merge_leading(x: Tensor, dims: int) -> tuple[Tensor, Shape]:
    """Merge the leading dimensions of ``x`` (*N, ...) into one, as convolutions require, and return *N too.

    Args:
        x: Any tensor.
        dims: Dimensions of one example.
    """
    before = x.shape[: x.dim() - dims]
    return x.reshape(math.prod(before), *x.shape[x.dim() - dims :]), tuple(before)


class Dense(Linear):
    """A fully connected layer from features to numbers of a shape: ``y = x W^T + b``.

    Args:
        features: Shape F of the features.
        shape: Shape S.
    """

    def __init__(self, features: Shape, shape: Shape) -> None:
        super().__init__(math.prod(features), math.prod(shape))
        self.dims, self.shape = len(features), shape

    def forward(self, x: Tensor) -> Tensor:
        """Features (*N, *F) -> (*N, *S)."""
        return torch.unflatten(super().forward(x.flatten(-self.dims)), -1, self.shape)


class Pointwise(nn.Conv2d):
    """A convolution of 1 x 1: each point of a map from the features at that point alone.

    Args:
        features: (channels, height, width).
        shape: (channels, height, width), or with R numbers for each element (channels, height, width, R).
    """

    def __init__(self, features: Shape, shape: Shape) -> None:
        super().__init__(features[0], shape[0] * math.prod(shape[3:]), 1)
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Features (*N, *F) -> (*N, *S)."""
        maps, before = merge_leading(x, 3)
        return _arranged(super().forward(maps), before, self.shape)


class Upsampled(nn.ConvTranspose2d):
    """A transposed convolution of stride 2 from a map of half the size, rounded up, cut to the size.

    Its kernel of 4 covers every output equally often, which avoids checkerboard artifacts.

    Args:
        features: (channels, height, width).
        shape: (channels, height, width), or with R numbers for each element (channels, height, width, R).

    References:
        Deconvolution and Checkerboard Artifacts (Odena et al., 2016), https://doi.org/10.23915/distill.00003
    """

    def __init__(self, features: Shape, shape: Shape) -> None:
        super().__init__(features[0], shape[0] * math.prod(shape[3:]), 4, stride=2, padding=1)
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Features (*N, *F) -> (*N, *S)."""
        maps, before = merge_leading(x, 3)
        return _arranged(super().forward(maps)[..., : self.shape[1], : self.shape[2]], before, self.shape)


def _arranged(maps: Tensor, before: Shape, shape: Shape) -> Tensor:
    """Maps (N, channels * R, height, width) as (*N, *S)."""
    if len(shape) == 3:
        return maps.reshape(*before, *shape)
    each = maps.reshape(*before, shape[0], shape[3], *shape[1:3])
    return each.movedim(-3, -1)  # (*N, channels, height, width, R)


def readout(features: Shape, shape: Shape) -> Dense | Pointwise | Upsampled:
    """The layer from features (*N, *F) to numbers (*N, *S).

    It is a convolution of 1 x 1 between maps of one size, a transposed convolution from a map of half the size, and
    otherwise a fully connected layer.

    Args:
        features: Shape F: (features,) or (channels, height, width).
        shape: Shape S, any; for images (channels, height, width), perhaps with R numbers for each element.
    """
    if len(features) == 3 and len(shape) >= 3:
        if features[1:] == shape[1:3]:
            return Pointwise(features, shape)
        if features[1:] == tuple(map(halved, shape[1:3])):
            return Upsampled(features, shape)
    return Dense(features, shape)
