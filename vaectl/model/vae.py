"""The model: an encoder, a prior and a decoder that return distributions, and a draw through them.

Shapes: ``K`` draws, ``B`` batch, ``Z`` latent shape, ``D`` latent (flattened), ``X`` data shape.
Log quantities are in nats.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, kl_divergence

from vaectl.model.distributions.codes import LatentSpace, tempered
from vaectl.parallel.shares import current_share
from vaectl.system.runtime import seeded


class Conditional(nn.Module):
    """A distribution given an input: a network's features through a head.

    Args:
        network: Tensor -> features.
        head: Features -> Distribution.
    """

    def __init__(self, network: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, given: Tensor) -> Distribution:
        """The distribution given ``given`` (*N, ...), with batch shape (*N)."""
        distribution: Distribution = self.head(self.network(given))
        return distribution


def kl(q: Distribution, p: Distribution, z: Tensor) -> Tensor:
    """KL(q || p) in nats (B,): the registered closed form, else the Monte Carlo mean over the draws ``z`` (K, B, *Z).

    References:
        Auto-Encoding Variational Bayes (Kingma and Welling, 2014), equation 3 and appendix B,
        https://arxiv.org/abs/1312.6114
    """
    try:
        closed: Tensor = kl_divergence(q, p)
    except NotImplementedError:
        sampled: Tensor = (q.log_prob(z) - p.log_prob(z)).mean(0)
        return sampled
    return closed


def kl_per_dimension(q: Distribution, p: Distribution) -> Tensor:
    """KL(q_d || p_d) in nats (B, D), or (B, 0) where q and p are not both factorised with a closed form."""
    if isinstance(q, Independent) and isinstance(p, Independent):
        try:
            terms: Tensor = kl_divergence(q.base_dist, p.base_dist)
        except NotImplementedError:
            return torch.empty(q.batch_shape[0], 0)
        return terms.flatten(1)
    return torch.empty(q.batch_shape[0], 0)


@dataclass(frozen=True)
class Draw:
    """One pass of a batch through the model, and what follows from it, each computed once when asked for.

    Attributes:
        x: Data (B, *X).
        q: Posterior q(z|x), batch shape (B,).
        z: Reparameterised draws of q (K, B, *Z).
        p: Prior p(z), batch shape ().
        px: Likelihood p(x|z), batch shape (K, B).
    """

    x: Tensor
    q: Distribution
    z: Tensor
    p: Distribution
    px: Distribution

    @cached_property
    def log_px(self) -> Tensor:
        """log p(x|z) in nats (K, B), summed over the data's dimensions."""
        value: Tensor = self.px.log_prob(self.x)
        return value

    @cached_property
    def log_q(self) -> Tensor:
        """log q(z|x) in nats (K, B)."""
        value: Tensor = self.q.log_prob(self.z)
        return value

    @cached_property
    def log_p(self) -> Tensor:
        """log p(z) in nats (K, B)."""
        value: Tensor = self.p.log_prob(self.z)
        return value

    @cached_property
    def kl(self) -> Tensor:
        """KL(q(z|x) || p(z)) in nats (B,)."""
        return kl(self.q, self.p, self.z)

    @cached_property
    def kl_per_dim(self) -> Tensor:
        """KL by latent dimension in nats (B, D); (B, 0) where it does not factorise."""
        return kl_per_dimension(self.q, self.p)

    @cached_property
    def recon(self) -> Tensor:
        """The reconstruction term -E_q log p(x|z) in nats (B,), estimated with the K draws."""
        return -self.log_px.mean(0)

    @cached_property
    def elbo(self) -> Tensor:
        """The evidence lower bound at beta = 1 in nats (B,): ``-(recon + kl)``."""
        return -(self.recon + self.kl)


class VAE(nn.Module):
    """Encoder q(z|x), prior p(z) and decoder p(x|z).

    Args:
        encoder: Data -> posterior.
        prior: Encoder -> prior.
        decoder: Latent -> likelihood.

    References:
        Auto-Encoding Variational Bayes (Kingma and Welling, 2014), https://arxiv.org/abs/1312.6114
    """

    def __init__(self, encoder: Conditional, prior: nn.Module, decoder: Conditional) -> None:
        super().__init__()
        self.encoder = encoder
        self.prior = prior
        self.decoder = decoder

    @property
    def space(self) -> LatentSpace:
        """What a latent is."""
        head: Any = self.encoder.head
        found: LatentSpace = head.space
        return found

    def draw(self, x: Tensor, k: int = 1) -> Draw:
        """``k`` reparameterised draws for each example of ``x`` (B, *X).

        Where ``x`` is this process's share of a batch, the draws are those that one process would have made for it.
        """
        share = current_share()
        if share is None:
            q = self.encoder(x)
            z = q.rsample((k,))  # (K, B, *Z)
        else:
            features = self.encoder.network(x)
            q = self.encoder.head(features)
            # with the random numbers of the whole batch, of which only the own rows are of use
            z = self.encoder.head(share.within(features)).rsample((k,))[:, share.rows]
        return Draw(x=x, q=q, z=z, p=self.prior(self.encoder), px=self.decoder(z))

    def sample(self, n: int, temperature: float = 1.0) -> Distribution:
        """The likelihood of ``n`` draws of the prior, batch shape (n,).

        Args:
            n: Number of draws.
            temperature: Factor on each draw's distance from the prior's mean, or on codes' log-probabilities its
                inverse; 1 draws from the prior itself.
        """
        px: Distribution = self.decoder(tempered(self.prior(self.encoder), n, temperature))
        return px

    def observe(self, draw: Draw) -> None:
        """Let the posterior learn from a training step that was taken; an evaluation is not to be observed."""
        head: Any = self.encoder.head
        head.observe(draw.q)


@contextmanager
def evaluating(model: VAE, seed: int) -> Iterator[None]:
    """Within the block the model is in evaluation mode and draws from ``seed``; mode and stream are then as before."""
    training = model.training
    model.eval()
    try:
        with seeded(seed):
            yield
    finally:
        model.train(training)
