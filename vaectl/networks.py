"""Networks: a tensor of a known shape -> features, the trunk of an encoder or decoder.

Shapes: ``*N`` any leading (draw and batch) dimensions, ``S`` the shape a network was sized for, ``F`` features.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from vaectl.linear import Linear
from vaectl.spec import Dims

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}


class MLP(nn.Module):
    """Fully connected layers, each followed by an activation: ``h_i = a(W_i h_{i-1} + b_i)``.

    Args:
        shape: Shape ``S`` of one input.
        hidden_dims: Units of each layer, from the input on.
        activation: The activation a.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        hidden_dims: Dims = (512, 256),
        activation: Literal["silu", "relu", "gelu", "tanh", "softplus"] = "silu",
    ) -> None:
        super().__init__()
        self.input_dims = len(shape)
        self.features = hidden_dims[-1]
        sizes = (math.prod(shape), *hidden_dims)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [Linear(before, after), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of shape (*N, *S) -> features (*N, F)."""
        flat = x.flatten(start_dim=x.dim() - self.input_dims)  # (*N, prod(S))
        features: Tensor = self.layers(flat)
        return features


NETWORKS: dict[str, Callable[..., nn.Module]] = {"mlp": MLP}
