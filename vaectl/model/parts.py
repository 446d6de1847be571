"""The base classes of parts: networks, posteriors, priors and likelihoods.

A model is an encoder (network and posterior), a prior, and a decoder (network and likelihood). A part that implements
its base class works in every command. Objectives, which read a draw of the whole model, have theirs in ``objectives``.

Shapes: ``*N`` draw and batch dimensions, ``B`` batch, ``K`` draws, ``C`` given numbers, ``S`` the shape of a network's
input, ``F`` features, flat (features,) or a map (channels, height, width), ``X`` data shape, ``Z`` latent shape.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.distributions import Distribution

from vaectl.data.batch import Batch
from vaectl.model.distributions.codes import LatentSpace
from vaectl.model.layers.readout import Shape


class ModelPart(nn.Module, ABC):
    """A part of a model or the objective that trains it.

    A training step is recorded once and then repeated (see ``training.replay``). Therefore a part must do the same at
    every step: it must not ask for a tensor's value (``item()``, ``bool()``, ``tolist()``), may change parameters and
    buffers only in place, and may copy nothing from the host to an accelerator. It learns without a gradient only in
    ``observe``; computing a distribution or a log-probability changes nothing.

    Attributes:
        recordable: Whether a step with this part may be recorded. A part that cannot follow the rules sets it to
            False, and the step is then computed without a recording, which is slower.
    """

    recordable: ClassVar[bool] = True


@dataclass(frozen=True)
class Sizes:
    """The sizes that a network is built for.

    Attributes:
        inputs: Shape S of one input: a data shape for an encoder, a latent shape for a decoder.
        outputs: Data shape X of the likelihood after a decoder; None for an encoder.
        vector: Whether the latents of an encoder are a vector; a grid of codes is read from a map of features.
        given: Count C of the numbers that the model is conditioned on.
        missing: Whether values of the data may be missing.
    """

    inputs: Shape
    outputs: Shape | None = None
    vector: bool = True
    given: int = 0
    missing: bool = False


class Network(ModelPart):
    """The trunk of an encoder or decoder: inputs -> features. Its constructor takes ``Sizes`` and keyword options.

    Attributes:
        features: Shape F of the features.
    """

    features: Shape

    @abstractmethod
    def forward(self, x: Tensor, given: Tensor | None = None, observed: Tensor | None = None) -> Tensor:
        """Compute features (*N, *F).

        Args:
            x: Inputs (*N, *S); a missing value is 0.
            given: Numbers that the model is conditioned on (B, C), with B the last dimension of N, or None. A network
                that is not conditional ignores them.
            observed: For an encoder, which values were observed, bool (*N, *S); None if all were.
        """

    @abstractmethod
    def describe(self) -> str:
        """Describe the layers in a few characters for the line that heads a training, such as ``784-512-256``."""


class Posterior(ModelPart):
    """The head of an encoder: features -> q(z|x).

    Attributes:
        gives: The kind of its latents: ``vectors`` of real numbers, ``codes`` of a fixed codebook, or codes of a
            learned ``codebook``. Priors and objectives say which kinds they take.
        space: The latent space.
    """

    gives: ClassVar[str]
    space: LatentSpace

    @abstractmethod
    def forward(self, features: Tensor) -> Distribution:
        """Compute q with batch shape (*N) from features (*N, *F)."""

    def observe(self, q: Distribution) -> None:
        """Learn without a gradient from the posteriors of a training step."""


class Prior(ModelPart):
    """A prior p(z). It may use the encoder, and never owns it.

    Its constructor takes the latent space, data shape, support, count of given numbers, and keyword options.

    Attributes:
        takes: The kinds of latents that it models, see ``Posterior.gives``.
    """

    takes: ClassVar[frozenset[str]]

    @abstractmethod
    def forward(self, encoder: Encoder, given: Tensor | None = None) -> Distribution:
        """Compute p with batch shape (), or (B,) if it depends on ``given`` (B, C)."""

    @property
    def in_second_stage(self) -> bool | None:
        """Whether ``begin_fit`` was called before the weights were saved; None if that makes no difference."""
        return None if any(True for _ in self.parameters()) else False

    def begin_fit(self) -> None:
        """Prepare to be fitted alone from now on, to the latents of a fixed encoder."""


class Likelihood(ModelPart):
    """The head of a decoder: features -> p(x|z). Its constructor takes both shapes, F and X, and keyword options.

    Attributes:
        measures: The measure of its log-probability for each kind of data that it takes (``binary``, ``bytes``,
            ``unit``, ``real``). Values of different measures are never compared.
        floor: The smallest scale it can predict, as the model sees the data; None if there is no floor.
    """

    measures: ClassVar[Mapping[str, str]]
    floor: float | None = None

    @abstractmethod
    def forward(self, features: Tensor) -> Distribution:
        """Compute p with batch shape (*N) and event shape X from features (*N, *F)."""

    def observe(self, px: Distribution, batch: Batch) -> None:
        """Learn without a gradient from the likelihoods (K, B) of a training step."""


class Encoder(nn.Module):
    """The posterior given examples: a network's features through a posterior head.

    Args:
        network: Data -> features.
        head: Features -> q(z|x).
    """

    def __init__(self, network: Network, head: Posterior) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def features(self, batch: Batch) -> Tensor:
        """The network's features (*N, *F) of examples (*N, *X)."""
        features: Tensor = self.network(batch.x, batch.given, batch.observed)
        return features

    def forward(self, batch: Batch) -> Distribution:
        """The posterior given examples (*N, *X), with batch shape (*N)."""
        q: Distribution = self.head(self.features(batch))
        return q


class Decoder(nn.Module):
    """The likelihood given latents: a network's features through a likelihood head.

    Args:
        network: Latent -> features.
        head: Features -> p(x|z).
    """

    def __init__(self, network: Network, head: Likelihood) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, z: Tensor, given: Tensor | None = None) -> Distribution:
        """The likelihood given latents (*N, *Z), with batch shape (*N); ``given`` is (B, C) with B the last of N."""
        px: Distribution = self.head(self.network(z, given))
        return px
