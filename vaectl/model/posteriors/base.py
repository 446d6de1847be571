"""What a posterior head is: features -> q(z|x).

Shapes: ``*N`` leading dimensions, ``F`` features, flat or a map.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn
from torch.distributions import Distribution

from vaectl.model.distributions.codes import LatentSpace


class Posterior(nn.Module, ABC):
    """A head that gives the posterior of each example.

    Attributes:
        gives: What its latents are: ``vectors`` of real numbers, ``codes`` of a fixed codebook, or codes of a
            ``codebook`` that is learned. Priors and objectives say which of them they take.
        space: Shape and number of the latents.
    """

    gives: ClassVar[str]
    space: LatentSpace

    @abstractmethod
    def forward(self, features: Tensor) -> Distribution:
        """Features (*N, *F) -> q with batch shape (*N)."""

    def observe(self, q: Distribution) -> None:
        """Learn from the posteriors of a training step that was taken what no gradient teaches.

        It may change only what parameters and buffers hold, in place, for training repeats a recording of it.
        """
