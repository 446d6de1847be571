"""Priors over grids of codes, uniform and autoregressive.

Shapes: ``N`` grids of height ``h`` and width ``w``, ``X`` data shape.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from vaectl.config.spec import Bounds
from vaectl.errors import SettingError
from vaectl.model.distributions.codes import CODEBOOK, CODES, Codebook, CodeDistribution, LatentSpace
from vaectl.model.layers.readout import Shape
from vaectl.model.parts import Encoder, Prior
from vaectl.model.priors.transformer import Transformer

Width = Annotated[int, Bounds(1, 4096)]
Depth = Annotated[int, Bounds(1, 64)]
Heads = Annotated[int, Bounds(1, 64)]


class CodePrior(Prior, ABC):
    """The base class of priors over grids of codes. It models indices; the encoder's head has their vectors.

    Args:
        space: The latent space: a grid of codes.
    """

    takes: ClassVar[frozenset[str]] = frozenset({CODES, CODEBOOK})
    like: Tensor

    def __init__(self, space: LatentSpace) -> None:
        super().__init__()
        self.space = space
        # has the type and device of the model; its value is unused
        self.register_buffer("like", torch.zeros(()), persistent=False)

    def over(
        self,
        encoder: Encoder,
        log_prob_of: Callable[[Tensor], Tensor] | None = None,
        draw: Callable[[int, float], Tensor] | None = None,
    ) -> CodeDistribution:
        """The distribution with these functions, see ``CodeDistribution``; without them the uniform one."""
        codebook = encoder.head
        assert isinstance(codebook, Codebook)  # the builder refuses other posteriors
        return CodeDistribution(self.space, codebook, self.like, log_prob_of, draw)


class UniformCodes(CodePrior):
    """The uniform prior over grids of codes: ``p(z) = K^(-h w)``, ``h w log K`` nats for each grid.

    Args:
        space: The latent space: a grid of codes.
        shape: Data shape X, unused.
        support: Kind of the data, unused.
        given: Count of given numbers, unused.

    References:
        Neural Discrete Representation Learning (van den Oord et al., 2017), section 3.2,
        https://arxiv.org/abs/1711.00937
    """

    def __init__(self, space: LatentSpace, shape: Shape, support: str, given: int = 0) -> None:
        super().__init__(space)

    def forward(self, encoder: Encoder, given: Tensor | None = None) -> CodeDistribution:
        """p with batch shape () and event shape (D, h, w)."""
        return self.over(encoder)


class TransformerPrior(CodePrior):
    """An autoregressive prior: a causal transformer predicts each code, row by row, from the codes before it.

    It is the uniform prior until the second stage, which fits it alone to codes that no longer change.

    Args:
        space: The latent space: a grid of codes.
        shape: Data shape X, unused.
        support: Kind of the data, unused.
        given: Count of given numbers, unused.
        width: Width of the transformer.
        depth: Blocks of the transformer.
        heads: Attention heads of a block, a divisor of the width.

    Raises:
        SettingError: The heads do not divide the width.

    References:
        Neural Discrete Representation Learning (van den Oord et al., 2017), section 3.3, where it is a PixelCNN,
        https://arxiv.org/abs/1711.00937
    """

    fitted: Tensor

    def __init__(
        self,
        space: LatentSpace,
        shape: Shape,
        support: str,
        given: int = 0,
        *,
        width: Width = 128,
        depth: Depth = 2,
        heads: Heads = 4,
    ) -> None:
        super().__init__(space)
        if width % heads:
            raise SettingError("prior.heads", f"must divide the width of {width}; got {heads}")
        self.transformer = Transformer(space.codebook_size, math.prod(space.grid), width, depth, heads)
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        # the value of the buffer as a bool: a recorded step must not read values of tensors
        self.is_fitted = False
        self.register_load_state_dict_post_hook(_read_fitted)  # type: ignore[no-untyped-call]

    @property
    def in_second_stage(self) -> bool:
        """Whether it is fitted or being fitted."""
        return self.is_fitted

    def begin_fit(self) -> None:
        """Be autoregressive from now on instead of uniform."""
        self.fitted.fill_(True)
        self.is_fitted = True

    def forward(self, encoder: Encoder, given: Tensor | None = None) -> CodeDistribution:
        """p with batch shape () and event shape (D, h, w)."""
        return self.over(encoder, self._log_prob_of, self._draw) if self.is_fitted else self.over(encoder)

    def _log_prob_of(self, indices: Tensor) -> Tensor:
        return self.transformer.log_prob(indices.flatten(1))

    def _draw(self, n: int, temperature: float) -> Tensor:
        return self.transformer.sample(n, temperature).view(n, *self.space.grid)


def _read_fitted(prior: nn.Module, incompatible: Any) -> None:
    assert isinstance(prior, TransformerPrior)
    prior.is_fitted = bool(prior.fitted)
