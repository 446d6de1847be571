"""Small data and models for tests, among them one whose evidence is known exactly.

Shapes: ``B`` batch, ``D`` latent, ``P`` pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal

from vaectl.data import Data, Raw, split_data
from vaectl.vae import VAE


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


class LinearGaussian:
    """Probabilistic PCA: p(z) = N(0, I), p(x|z) = N(Wz + b, s^2 I), whose evidence and posterior are exact.

    References:
        Probabilistic Principal Component Analysis (Tipping and Bishop, 1999), equations 4 to 8
    """

    def __init__(self, pixels: int = 12, latent_dim: int = 3, scale: float = 0.7, dtype: torch.dtype = torch.float64):
        generator = torch.Generator().manual_seed(1)
        self.w = torch.randn(pixels, latent_dim, generator=generator, dtype=dtype)  # (P, D)
        self.b = torch.randn(pixels, generator=generator, dtype=dtype)  # (P,)
        self.scale = scale
        self.x = self.sample(64, generator)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, self.w.shape[1], generator=generator, dtype=self.w.dtype)
        noise = torch.randn(n, self.w.shape[0], generator=generator, dtype=self.w.dtype)
        return z @ self.w.T + self.b + self.scale * noise

    def log_evidence(self, x: Tensor) -> Tensor:
        """log p(x) in nats (B,)."""
        covariance = self.w @ self.w.T + self.scale**2 * torch.eye(len(self.b), dtype=self.w.dtype)
        value: Tensor = MultivariateNormal(self.b, covariance).log_prob(x)
        return value

    def posterior(self, x: Tensor) -> MultivariateNormal:
        precision = torch.eye(self.w.shape[1], dtype=self.w.dtype) + self.w.T @ self.w / self.scale**2
        covariance = torch.linalg.inv(precision)
        return MultivariateNormal((x - self.b) @ self.w @ covariance / self.scale**2, covariance)

    def model(self, *, loose: bool = False, full_prior: bool = False) -> VAE:
        """The model with its exact posterior, or with a factorised one of the same mean that is too wide."""
        oracle = self

        class Encoder(nn.Module):
            def forward(self, x: Tensor) -> torch.distributions.Distribution:
                exact = oracle.posterior(x)
                if not loose:
                    return exact
                return Independent(Normal(exact.mean, 1.3 * exact.stddev), 1)

        class Prior(nn.Module):
            def forward(self, encoder: nn.Module) -> torch.distributions.Distribution:
                zeros = torch.zeros(oracle.w.shape[1], dtype=oracle.w.dtype)
                if full_prior:
                    return MultivariateNormal(zeros, torch.eye(len(zeros), dtype=oracle.w.dtype))
                return Independent(Normal(zeros, torch.ones_like(zeros)), 1)

        class Decoder(nn.Module):
            def forward(self, z: Tensor) -> torch.distributions.Distribution:
                return Independent(Normal(z @ oracle.w.T + oracle.b, oracle.scale), 1)

        return VAE(Encoder(), Prior(), Decoder())  # type: ignore[arg-type]


def normal_kl(mean: Tensor, sigma: Tensor) -> Tensor:
    """KL(N(mean, sigma^2) || N(0, 1)) summed over the last dimension, by hand: the one place where it is written out.

    References:
        Auto-Encoding Variational Bayes (Kingma and Welling, 2014), appendix B
    """
    return 0.5 * (mean**2 + sigma**2 - 1 - 2 * sigma.log()).sum(-1)
