"""Networks: the trunks of encoders and decoders, from inputs of a known shape to features.

No network normalises over a batch, so a batch of one and an evaluation are computed like any other batch.

Shapes: ``*N`` draw and batch dimensions, ``S`` the shape of an input, ``X`` data shape, ``F`` features, flat
(features,) or a map (channels, height, width).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor, nn

from vaectl.config.values import Activation, Bounds, Depth, Dims, Width
from vaectl.model.layers.linear import Linear
from vaectl.model.layers.readout import Dense, Shape, Upsampled, halved, merge_leading, readout
from vaectl.model.parts import Network, Sizes

Blocks = Annotated[int, Bounds(1, 16)]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}
# fewest channels in a group of a group norm
GROUP = 8
# largest side of the smallest map, most halvings, and most channels as a multiple of the width
LARGEST_SIDE, DEEPEST, WIDEST = 8, 8, 8


class MLP(Network):
    """Fully connected layers, each followed by an activation: ``h_i = a(W_i h_{i-1} + b_i)``.

    Args:
        sizes: Its sizes; only the inputs matter.
        hidden_dims: Units of each layer, from the input on.
        activation: The activation a.
    """

    def __init__(
        self,
        sizes: Sizes,
        *,
        hidden_dims: Dims = (512, 256),
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        self.input_dims = len(sizes.inputs)
        self.features: Shape = (hidden_dims[-1],)
        self.units = (math.prod(sizes.inputs), *hidden_dims)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(self.units):
            layers += [Linear(before, after), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, given: Tensor | None = None, observed: Tensor | None = None) -> Tensor:
        """Compute features (*N, F) of inputs (*N, *S)."""
        flat = x.flatten(start_dim=x.dim() - self.input_dims)  # (*N, prod(S))
        features: Tensor = self.layers(flat)
        return features

    def describe(self) -> str:
        """The units of each layer, such as ``784-512-256``."""
        return "-".join(map(str, self.units))


class Norm(nn.GroupNorm):
    """A group norm that, unlike torch's, also takes maps of a single number, and makes them 0."""

    def forward(self, x: Tensor) -> Tensor:
        """A map (N, channels, height, width) -> another of the same shape."""
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class Residual(nn.Module):
    """``x + W_1 a(W_3 a(n(x)))`` with convolutions of 3 x 3 and 1 x 1 and a norm n over groups of channels.

    Args:
        channels: Channels of the map.
        activation: The activation a.

    References:
        Identity Mappings in Deep Residual Networks (He et al., 2016), https://arxiv.org/abs/1603.05027;
        Group Normalization (Wu and He, 2018), https://arxiv.org/abs/1803.08494
    """

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        # the norm is over each example alone
        groups = max(g for g in range(1, max(1, channels // GROUP) + 1) if channels % g == 0)
        self.layers = nn.Sequential(
            Norm(groups, channels),
            ACTIVATIONS[activation](),
            nn.Conv2d(channels, channels, 3, padding=1),
            ACTIVATIONS[activation](),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """A map (N, channels, height, width) -> another of the same shape."""
        added: Tensor = x + self.layers(x)
        return added


def depth_of(shape: Shape) -> int:
    """The number of halvings of a map until no side exceeds eight: from one to eight."""
    sides, depth = tuple(map(halved, shape[1:])), 1
    while max(sides) > LARGEST_SIDE and depth < DEEPEST:
        sides, depth = tuple(map(halved, sides)), depth + 1
    return depth


def channels_of(width: int, depth: int) -> list[int]:
    """The channels after each of ``depth`` convolutions of stride 2: doubled each time, up to eight times ``width``."""
    return [width * min(2**i, WIDEST) for i in range(depth)]


def _sides(shape: Shape, depth: int) -> list[Shape]:
    """The height and width of a map before and after each of ``depth`` convolutions of stride 2."""
    sides = [shape[1:]]
    for _ in range(depth):
        sides.append(tuple(map(halved, sides[-1])))
    return sides


def _after(blocks: int, channels: int, activation: str) -> list[nn.Module]:
    """The layers after a change of size: an activation, or residual blocks, which have their own."""
    return [Residual(channels, activation) for _ in range(blocks)] if blocks else [ACTIVATIONS[activation]()]


class ConvEncoder(Network):
    """Convolutions of 3 x 3 and stride 2, each followed by an activation or by residual blocks.

    Each halves both sides of the map, rounded up, and the number of channels doubles, up to eight times ``width``.
    If the latents are vectors, a fully connected layer of as many units comes last.

    Args:
        sizes: Its sizes; inputs are (channels, height, width) of any size.
        width: Channels after the first convolution.
        depth: Convolutions of stride 2; 0 halves until no side exceeds eight.
        activation: The activation.
        blocks: Residual blocks after each; 0 for an activation alone.
    """

    def __init__(self, sizes: Sizes, width: int, depth: int, activation: str, blocks: int = 0) -> None:
        super().__init__()
        shape, vector = sizes.inputs, sizes.vector
        depth = depth or depth_of(shape)
        self.shape, self.channels = shape, channels_of(width, depth)
        channels = [shape[0], *self.channels]
        self.map: Shape = (channels[-1], *_sides(shape, depth)[-1])
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), *_after(blocks, after, activation)]
        if blocks:
            layers.append(ACTIVATIONS[activation]())
        self.layers = nn.Sequential(*layers)
        self.features: Shape = (WIDEST * width,) if vector else self.map
        self.last: nn.Module = nn.Identity()
        if vector:
            self.last = nn.Sequential(Dense(self.map, self.features), ACTIVATIONS[activation]())

    def forward(self, x: Tensor, given: Tensor | None = None, observed: Tensor | None = None) -> Tensor:
        """Compute features (*N, *F) of data (*N, *X)."""
        maps, before = merge_leading(x, 3)
        features: Tensor = self.last(self.layers(maps))
        return features.reshape(*before, *self.features)

    def describe(self) -> str:
        """The data's shape and the channels after each convolution of stride 2, such as ``1x28x28-32-64``."""
        return "-".join(("x".join(map(str, self.shape)), *map(str, self.channels)))


class ConvDecoder(Network):
    """The mirror of ``ConvEncoder``, up to a map of half the data's size, which the likelihood doubles.

    Args:
        sizes: Its sizes; inputs are (latent,) or a map (channels, height, width).
        width, depth, activation, blocks: As for the encoder.
    """

    def __init__(self, sizes: Sizes, width: int, depth: int, activation: str, blocks: int = 0) -> None:
        super().__init__()
        shape, target = sizes.inputs, sizes.outputs
        assert target is not None  # decoders have outputs
        depth = depth or depth_of(target)
        channels = channels_of(width, depth)[::-1]
        self.channels, self.target = channels, target
        sides = _sides(target, depth)[:0:-1]
        self.features: Shape = (channels[-1], *sides[-1])
        units, start = (WIDEST * width,), (channels[0], *sides[0])
        self.first: nn.Module = readout(shape, start)
        if len(shape) == 1:
            self.first = nn.Sequential(Dense(shape, units), ACTIVATIONS[activation](), Dense(units, start))
        layers: list[nn.Module] = _after(blocks, channels[0], activation)
        for (before, after), (small, large) in zip(
            itertools.pairwise(channels), itertools.pairwise(sides), strict=True
        ):
            layers += [Upsampled((before, *small), (after, *large)), *_after(blocks, after, activation)]
        if blocks:
            layers.append(ACTIVATIONS[activation]())
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, given: Tensor | None = None, observed: Tensor | None = None) -> Tensor:
        """Compute a map of features (*N, *F) from latents (*N, *S)."""
        maps, before = merge_leading(self.first(x), 3)
        features: Tensor = self.layers(maps)
        return features.reshape(*before, *self.features)

    def describe(self) -> str:
        """The channels before each doubling of the map and the data's shape, such as ``64-32-1x28x28``."""
        return "-".join((*map(str, self.channels), "x".join(map(str, self.target))))


def conv_encoder(sizes: Sizes, *, width: Width = 32, depth: Depth = 0, activation: Activation = "silu") -> ConvEncoder:
    """``ConvEncoder`` without residual blocks."""
    return ConvEncoder(sizes, width, depth, activation)


def conv_decoder(sizes: Sizes, *, width: Width = 32, depth: Depth = 0, activation: Activation = "silu") -> ConvDecoder:
    """``ConvDecoder`` without residual blocks."""
    return ConvDecoder(sizes, width, depth, activation)


def resnet_encoder(
    sizes: Sizes,
    *,
    width: Width = 32,
    depth: Depth = 0,
    blocks: Blocks = 2,
    activation: Activation = "silu",
) -> ConvEncoder:
    """``ConvEncoder`` with residual blocks."""
    return ConvEncoder(sizes, width, depth, activation, blocks)


def resnet_decoder(
    sizes: Sizes,
    *,
    width: Width = 32,
    depth: Depth = 0,
    blocks: Blocks = 2,
    activation: Activation = "silu",
) -> ConvDecoder:
    """``ConvDecoder`` with residual blocks."""
    return ConvDecoder(sizes, width, depth, activation, blocks)


ENCODERS: dict[str, Callable[..., Network]] = {"mlp": MLP, "conv": conv_encoder, "resnet": resnet_encoder}
DECODERS: dict[str, Callable[..., Network]] = {"mlp": MLP, "conv": conv_decoder, "resnet": resnet_decoder}
