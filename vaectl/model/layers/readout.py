"""Layers between features and numbers of a given shape, whichever are flat or maps.

Shapes: ``*N`` any leading (draw and batch) dimensions, ``F`` a shape of features, flat (features,) or a map
(channels, height, width), ``S`` the shape to come to, ``R`` numbers of each element of it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vaectl.model.layers.linear import Linear

Shape = tuple[int, ...]


def halved(size: int) -> int:
    """What a side of a map measures after a convolution of stride 2: half, rounded up."""
    return -(-size // 2)


def leading(x: Tensor, dims: int) -> tuple[Tensor, Shape]:
    """``x`` (*N, ...) with its leading dimensions as one, as convolutions ask for, and *N.

    Args:
        x: Any tensor.
        dims: Dimensions of one example.
    """
    before = x.shape[: x.dim() - dims]
    return x.reshape(math.prod(before), *x.shape[x.dim() - dims :]), tuple(before)


class Dense(Linear):
    """Every number of the shape from every feature: ``y = x W^T + b``.

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
    """A map from a map of the same size, each of its points from the features of that point alone.

    Args:
        features: (channels, height, width).
        shape: (channels, height, width), or with R numbers of each element (channels, height, width, R).
    """

    def __init__(self, features: Shape, shape: Shape) -> None:
        super().__init__(features[0], shape[0] * math.prod(shape[3:]), 1)
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Features (*N, *F) -> (*N, *S)."""
        maps, before = leading(x, 3)
        return _arranged(super().forward(maps), before, self.shape)


class Upsampled(nn.ConvTranspose2d):
    """A map from one of half its size, rounded up: a transposed convolution of stride 2, cut to the size.

    Its kernel of 4 covers every output equally often, so that no checkerboard is built in.

    Args:
        features: (channels, height, width).
        shape: (channels, height, width), or with R numbers of each element (channels, height, width, R).

    References:
        Deconvolution and Checkerboard Artifacts (Odena et al., 2016), https://doi.org/10.23915/distill.00003
    """

    def __init__(self, features: Shape, shape: Shape) -> None:
        super().__init__(features[0], shape[0] * math.prod(shape[3:]), 4, stride=2, padding=1)
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Features (*N, *F) -> (*N, *S)."""
        maps, before = leading(x, 3)
        return _arranged(super().forward(maps)[..., : self.shape[1], : self.shape[2]], before, self.shape)


def _arranged(maps: Tensor, before: Shape, shape: Shape) -> Tensor:
    """Maps (N, channels * R, height, width) as (*N, *S)."""
    if len(shape) == 3:
        return maps.reshape(*before, *shape)
    each = maps.reshape(*before, shape[0], shape[3], *shape[1:3])
    return each.movedim(-3, -1)  # (*N, channels, height, width, R)


def readout(features: Shape, shape: Shape) -> Dense | Pointwise | Upsampled:
    """The layer from features (*N, *F) to numbers (*N, *S).

    Between maps of one size it is a convolution of 1 x 1, from a map of half the size a transposed one, and
    otherwise a fully connected layer.

    Args:
        features: Shape F: (features,) or (channels, height, width).
        shape: Shape S, of any dimensions; that of images is (channels, height, width), perhaps with R numbers of each.
    """
    if len(features) == 3 and len(shape) >= 3:
        if features[1:] == shape[1:3]:
            return Pointwise(features, shape)
        if features[1:] == tuple(map(halved, shape[1:3])):
            return Upsampled(features, shape)
    return Dense(features, shape)
