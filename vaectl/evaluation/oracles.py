"""Models with exact solutions, for comparing an estimator with the truth.

Shapes: ``N`` draws, ``B`` batch, ``D`` latent, ``P`` pixels. Log quantities are in nats per example, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from vaectl.model.distributions.codes import VECTORS, LatentSpace
from vaectl.model.parts import Decoder, Encoder, Likelihood, Network, Posterior
from vaectl.model.posteriors.gaussian import SCALE_FLOOR, GaussianPosterior
from vaectl.model.priors import StandardNormal
from vaectl.model.vae import VAE


class NormalPixels(Likelihood):
    """A likelihood head with a known scale: ``p(x|z) = N(features, scale^2 I)``."""

    measures: ClassVar[Mapping[str, str]] = {"real": "density"}

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, features: Tensor) -> Independent[Normal]:
        """Features (*N, P) -> p with batch shape (*N) and event shape (P,)."""
        return Independent(Normal(features, self.scale, validate_args=False), 1, validate_args=False)


class FullGaussian(Posterior):
    """A posterior head with a known covariance (D, D): ``q(z|x) = N(features, covariance)``.

    torch has no closed form for its KL to a factorised prior, so the KL is estimated from draws.
    """

    gives: ClassVar[str] = VECTORS
    factor: Tensor

    def __init__(self, covariance: Tensor) -> None:
        super().__init__()
        self.space = LatentSpace((len(covariance),))
        self.register_buffer("factor", torch.linalg.cholesky(covariance))

    def forward(self, features: Tensor) -> MultivariateNormal:
        """Features (*N, D) -> q with batch shape (*N) and event shape (D,)."""
        return MultivariateNormal(features, scale_tril=self.factor, validate_args=False)


class Affine(Network):
    """The network ``W x + b``, or the identity.

    Args:
        features: Number of outputs P.
        layer: The layer; None for the identity.
    """

    def __init__(self, features: int, layer: nn.Linear | None = None) -> None:
        super().__init__()
        self.features = (features,)
        self.layer = layer if layer is not None else nn.Identity()

    def forward(self, x: Tensor, given: Tensor | None = None, observed: Tensor | None = None) -> Tensor:
        """Compute features (*N, P)."""
        features: Tensor = self.layer(x)
        return features

    def describe(self) -> str:
        """The number of outputs."""
        return str(self.features[0])


class LinearGaussian:
    """Probabilistic PCA, ``p(z) = N(0, I), p(x|z) = N(W z + b, s^2 I)``, with known evidence and posterior.

    The posterior is ``N(S W^T (x - b) / s^2, S)`` with ``S = (I + W^T W / s^2)^-1``. If the columns of W are
    orthogonal it factorises, and a Gaussian encoder can be exact.

    Args:
        w: Loadings W (P, D).
        b: Offsets b (P,).
        scale: Standard deviation s of a pixel given z.

    References:
        Probabilistic Principal Component Analysis (Tipping and Bishop, 1999), equations 4 to 8,
        https://doi.org/10.1111/1467-9868.00196
    """

    def __init__(self, w: Tensor, b: Tensor, scale: float) -> None:
        # rounded to fp32, so that a model in fp32 and the closed forms in float64 have the same W and b
        self.w, self.b, self.scale = w.float().double(), b.float().double(), scale
        identity = torch.eye(self.w.shape[1], dtype=torch.float64)
        self.covariance = torch.linalg.inv(identity + self.w.T @ self.w / scale**2)  # (D, D)

    @classmethod
    def orthogonal(cls, norms: Sequence[float], pixels: int, scale: float, seed: int = 0) -> LinearGaussian:
        """A model whose W has orthogonal columns (to fp32) with these norms; a norm of 0 makes a dimension inactive."""
        generator = torch.Generator().manual_seed(seed)
        directions, _ = torch.linalg.qr(torch.randn(pixels, len(norms), generator=generator, dtype=torch.float64))
        b = torch.randn(pixels, generator=generator, dtype=torch.float64)
        return cls(directions * torch.tensor(norms, dtype=torch.float64), b, scale)

    @classmethod
    def random(cls, pixels: int, latent_dim: int, scale: float, seed: int = 0) -> LinearGaussian:
        """A model whose W has standard normal entries, so that its posterior has a full covariance."""
        generator = torch.Generator().manual_seed(seed)
        w = torch.randn(pixels, latent_dim, generator=generator, dtype=torch.float64)
        return cls(w, torch.randn(pixels, generator=generator, dtype=torch.float64), scale)

    @property
    def latent_dim(self) -> int:
        """The number of latent dimensions D."""
        return self.w.shape[1]

    @property
    def mutual_information(self) -> float:
        """I(x; z) in nats: ``1/2 log det(I + W^T W / s^2)``."""
        return -0.5 * float(torch.logdet(self.covariance))

    @property
    def mean_variance(self) -> Tensor:
        """Variance over p(x) of the posterior mean, by latent dimension (D,): ``1 - S_dd``."""
        variance: Tensor = 1 - self.covariance.diagonal()
        return variance

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw ``n`` examples from p(x), float64 (N, P), rounded to values of fp32."""
        z = torch.randn(n, self.latent_dim, generator=generator, dtype=torch.float64)
        noise = torch.randn(n, len(self.b), generator=generator, dtype=torch.float64)
        x: Tensor = z @ self.w.T + self.b + self.scale * noise
        return x.float().double()

    def log_evidence(self, x: Tensor) -> Tensor:
        """log p(x) (B,) for examples (B, P)."""
        covariance = self.w @ self.w.T + self.scale**2 * torch.eye(len(self.b), dtype=torch.float64)
        evidence: Distribution = MultivariateNormal(self.b, covariance)
        value: Tensor = evidence.log_prob(x.cpu().double())
        return value

    def posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z|x) for examples (B, P)."""
        return MultivariateNormal((x.cpu().double() - self.b) @ self._gain().T, self.covariance)

    def gap(self, q: Distribution, x: Tensor) -> Tensor:
        """KL(q || p(z|x)) (B,) for a Gaussian q, the difference between log p(x) and its ELBO."""
        full = MultivariateNormal(q.mean.cpu().double(), torch.diag_embed(q.variance.cpu().double()))
        value: Tensor = kl_divergence(full, self.posterior(x))
        return value

    def recon(self, mean: Tensor, variance: Tensor, x: Tensor) -> Tensor:
        """The reconstruction term -E_q log p(x|z) (B,) under ``q = N(mean, diag(variance))``, each (B, D) or (D,).

        ``P/2 log(2 pi s^2) + (|x - W mean - b|^2 + sum_d variance_d |w_d|^2) / 2 s^2``; with a variance of 0 it is
        the term at the mean.
        """
        residual = (x.cpu().double() - self.b - mean @ self.w.T).square().sum(-1) + variance @ self.w.square().sum(0)
        return 0.5 * len(self.b) * math.log(2 * math.pi * self.scale**2) + residual / (2 * self.scale**2)

    def model(self, *, widen: float = 1.0, shift: float = 0.0, dtype: torch.dtype = torch.float32) -> VAE:
        """The model with a factorised Gaussian posterior, made of the parts of trained models.

        It has the means and marginal standard deviations of the posterior, and is exact if W has orthogonal columns.

        Args:
            widen: Factor on the posterior's standard deviations.
            shift: Distance of the means from the posterior's, in its standard deviations, in every dimension.
            dtype: Type of the model's weights.
        """
        sigma = self.covariance.diagonal().sqrt()  # (D,)
        gain = self._gain()
        head = GaussianPosterior((len(self.b),), self.latent_dim)
        # the head's scale is softplus(s) + SCALE_FLOOR
        s = (widen * sigma - SCALE_FLOOR).expm1().log()
        _set(head.linear, torch.cat((gain, torch.zeros_like(gain))), torch.cat((shift * sigma - gain @ self.b, s)))
        return self._model(Encoder(Affine(len(self.b)), head), dtype)

    def full_model(self, *, dtype: torch.dtype = torch.float32) -> VAE:
        """The model with its exact posterior for any W, a Gaussian with full covariance."""
        gain = self._gain()
        mean = nn.Linear(len(self.b), self.latent_dim)
        _set(mean, gain, -gain @ self.b)
        return self._model(Encoder(Affine(self.latent_dim, mean), FullGaussian(self.covariance)), dtype)

    def _gain(self) -> Tensor:
        """The matrix (D, P) from x - b to the posterior mean."""
        gain: Tensor = self.covariance @ self.w.T / self.scale**2
        return gain

    def _model(self, encoder: Encoder, dtype: torch.dtype) -> VAE:
        loadings = nn.Linear(self.latent_dim, len(self.b))
        _set(loadings, self.w, self.b)
        decoder = Decoder(Affine(len(self.b), loadings), NormalPixels(self.scale))
        return VAE(encoder, StandardNormal(LatentSpace((self.latent_dim,)), self.b.shape, "real"), decoder).to(dtype)


def _set(linear: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, weight: Tensor, bias: Tensor) -> None:
    linear.weight, linear.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())


def weight_moment(power: int, latent_dim: int, widen: float, shift: float) -> float:
    """E_q (w / p(x))^n for the importance weight w = p(x, z) / q(z|x) and q of ``LinearGaussian.model(widen, shift)``.

    With a = widen, c = shift and v = 1 + n (a^2 - 1) it is ``(a^n v^-1/2 exp(n (n - 1) c^2 / 2v))^D``, the Gaussian
    integral of ``p(z|x)^n q(z|x)^(1-n)``. It is the same for every x.

    Args:
        power: The order n.
        latent_dim: D.
        widen: Factor on the exact posterior's standard deviations.
        shift: Distance of the means in standard deviations, in every dimension.

    Raises:
        ValueError: q is so narrow that the moment is infinite.
    """
    v = 1 + power * (widen**2 - 1)
    if v <= 0:
        raise ValueError(f"the weights of a posterior {widen} times as wide have no moment of order {power}")
    return float((widen**power / math.sqrt(v) * math.exp(power * (power - 1) * shift**2 / (2 * v))) ** latent_dim)


def importance_gap(samples: int, latent_dim: int, *, widen: float = 1.0, shift: float = 0.0) -> float:
    """The difference between log p(x) and the K-sample bound in nats, for q of ``LinearGaussian.model(widen, shift)``.

    For K = 1 it is exactly KL(q || p(z|x)). For larger K it is the expansion of E log(mean weight) to second order,
    ``m2 / 2K - m3 / 3K^2 + 3 m2^2 / 4K^2`` with m the central moments of w / p(x), accurate if m2 is well below K.

    References:
        Debiasing Evidence Approximations: On Importance-weighted Autoencoders and Jackknife Variational Inference
        (Nowozin, 2018), proposition 1, https://openreview.net/forum?id=HyZoi-WRb
    """
    if samples == 1:
        return latent_dim * 0.5 * (widen**2 + shift**2 - 1 - 2 * math.log(widen))
    second, third = (weight_moment(power, latent_dim, widen, shift) for power in (2, 3))
    m2, m3 = second - 1, third - 3 * second + 2
    return m2 / (2 * samples) - (m3 / 3 - 0.75 * m2**2) / samples**2
