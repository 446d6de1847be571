"""What a prior is: encoder -> p(z). A prior may look through the encoder, and never owns it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn
from torch.distributions import Distribution


class Prior(nn.Module, ABC):
    """A prior.

    Attributes:
        takes: The kinds of latents that it is over, of what posteriors give.
    """

    takes: ClassVar[frozenset[str]]

    @abstractmethod
    def forward(self, encoder: nn.Module) -> Distribution:
        """p with batch shape ()."""

    @property
    def in_second_stage(self) -> bool | None:
        """Whether ``begin_fit`` was called before the weights were saved; None where that makes no difference."""
        return None if any(True for _ in self.parameters()) else False

    def begin_fit(self) -> None:
        """Be told that from now on the prior is fitted alone, to the codes of an encoder that stays as it is."""
