"""Priors over grids of codes: uniform, and autoregressive.

Shapes: ``N`` grids of height ``h`` and width ``w``, ``X`` data shape.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from vaectl.config.spec import Bounds
from vaectl.errors import SettingError
from vaectl.model.distributions.codes import CODEBOOK, CODES, Codebook, CodeDistribution, LatentSpace
from vaectl.model.layers.readout import Shape
from vaectl.model.parts import Prior
from vaectl.model.priors.transformer import Transformer

if TYPE_CHECKING:
    from vaectl.model.vae import Encoder

Width = Annotated[int, Bounds(1, 4096)]
Depth = Annotated[int, Bounds(1, 64)]
Heads = Annotated[int, Bounds(1, 64)]


class CodePrior(Prior, ABC):
    """A prior over grids of codes, which knows them by their indices and asks the encoder's head for their vectors.

    Args:
        space: What a latent is: a grid of codes.
    """

    takes: ClassVar[frozenset[str]] = frozenset({CODES, CODEBOOK})
    like: Tensor

    def __init__(self, space: LatentSpace) -> None:
        super().__init__()
        self.space = space
        # of the model's type and on its device; it holds nothing
        self.register_buffer("like", torch.zeros(()), persistent=False)

    def over(
        self,
        encoder: Encoder,
        log_prob_of: Callable[[Tensor], Tensor] | None = None,
        draw: Callable[[int, float], Tensor] | None = None,
    ) -> CodeDistribution:
        """The distribution of probabilities as given, or the uniform one."""
        codebook = encoder.head
        assert isinstance(codebook, Codebook)  # the builder lets no other posterior come with such a prior
        return CodeDistribution(self.space, codebook, self.like, log_prob_of, draw)


class UniformCodes(CodePrior):
    """All grids of codes alike: ``p(z) = K^(-h w)``, ``h w log K`` nats for each.

    Args:
        space: What a latent is: a grid of codes.
        shape: Data shape X, which plays no part.
        support: Kind of the data, which plays no part.
        given: Given numbers, which play no part.

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
    """Codes one after the other, row by row, each by a causal transformer from those before it.

    It is the uniform prior until it is fitted, which is done alone, when the codes no longer change.

    Args:
        space: What a latent is: a grid of codes.
        shape: Data shape X, which plays no part.
        support: Kind of the data, which plays no part.
        given: Given numbers, which play no part.
        width: Width of the transformer.
        depth: Its blocks.
        heads: Its attention heads, a divisor of the width.

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
        # what the buffer says, for Python: a step that is recorded must not ask for a tensor's value
        self.is_fitted = False
        self.register_load_state_dict_post_hook(_look)  # type: ignore[no-untyped-call]

    @property
    def in_second_stage(self) -> bool:
        """Whether it is fitted, or begun to be."""
        return self.is_fitted

    def begin_fit(self) -> None:
        """Be autoregressive from now on, and uniform no longer."""
        self.fitted.fill_(True)
        self.is_fitted = True

    def forward(self, encoder: Encoder, given: Tensor | None = None) -> CodeDistribution:
        """p with batch shape () and event shape (D, h, w)."""
        return self.over(encoder, self._log_prob_of, self._draw) if self.is_fitted else self.over(encoder)

    def _log_prob_of(self, indices: Tensor) -> Tensor:
        return self.transformer.log_prob(indices.flatten(1))

    def _draw(self, n: int, temperature: float) -> Tensor:
        return self.transformer.sample(n, temperature).view(n, *self.space.grid)


def _look(prior: nn.Module, incompatible: Any) -> None:
    assert isinstance(prior, TransformerPrior)
    prior.is_fitted = bool(prior.fitted)
