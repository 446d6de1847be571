"""Small data for tests, and the one formula that is written out by hand.

Shapes: ``N`` examples, ``P`` pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from vaectl.data.base import Data, Raw, Split, split_data
from vaectl.evaluation.oracles import LinearGaussian
from vaectl.model.distributions.codes import VECTORS, LatentSpace
from vaectl.model.posteriors import Posterior


def toy_data(train: int = 300, test: int = 100, side: int = 6, validation_fraction: float = 0.2) -> Data:
    """Blurred one-of-two-corners images with labels 0 and 1."""
    generator = np.random.default_rng(0)

    def make(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = generator.integers(0, 2, n)
        images = generator.integers(0, 60, (n, 1, side, side))
        images[labels == 0, :, : side // 2, : side // 2] += 180
        images[labels == 1, :, side // 2 :, side // 2 :] += 180
        return images.astype(np.uint8), labels

    return split_data("toy", Raw(*make(train), *make(test)), validation_fraction)


def points(x: Tensor) -> Split:
    """Real-valued examples as a split, which passes them on in float32."""
    return Split(x.float(), torch.zeros(len(x), dtype=torch.int64), torch.arange(len(x)))


def drawn(oracle: LinearGaussian, n: int = 64, seed: int = 1) -> Tensor:
    """``n`` examples of a model whose evidence is known, float64 (N, P)."""
    return oracle.sample(n, torch.Generator().manual_seed(seed))


def normal_kl(mean: Tensor, sigma: Tensor) -> Tensor:
    """KL(N(mean, sigma^2) || N(0, 1)) summed over the last dimension, by hand.

    References:
        Auto-Encoding Variational Bayes (Kingma and Welling, 2014), appendix B
    """
    return 0.5 * (mean**2 + sigma**2 - 1 - 2 * sigma.log()).sum(-1)


class FullPosterior(Posterior):
    """A posterior head that does not factorise: its KL against the standard normal has no closed form in torch."""

    gives = VECTORS

    def __init__(self, features: tuple[int, ...], latent_dim: int) -> None:
        super().__init__()
        self.space = LatentSpace((latent_dim,))
        self.linear = nn.Linear(features[0], latent_dim)

    def forward(self, features: Tensor) -> MultivariateNormal:
        mean = self.linear(features)
        return MultivariateNormal(mean, torch.eye(mean.shape[-1]))
