"""The model: an encoder, a prior and a decoder that return distributions, and a draw through them.

Shapes: ``K`` draws, ``B`` batch, ``Z`` latent shape, ``D`` latent (flattened), ``X`` data shape, ``C`` given numbers.
Log quantities are in nats.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, kl_divergence

from vaectl.data.batch import Batch, as_batch
from vaectl.model.distributions.codes import LatentSpace, tempered
from vaectl.model.distributions.levels import Levels
from vaectl.model.distributions.pixels import log_prob_of_observed
from vaectl.model.distributions.scaled import Scale, Scaled
from vaectl.model.parts import Decoder, Encoder, Prior
from vaectl.parallel.shares import batch_mean, current_share
from vaectl.system.runtime import seeded


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
    return _over_draws(closed, 1)


def kl_per_dimension(q: Distribution, p: Distribution) -> Tensor:
    """KL(q_d || p_d) in nats (B, D), or (B, 0) if q and p are not both factorised with a closed form."""
    if isinstance(q, Independent) and isinstance(p, Independent):
        try:
            terms: Tensor = kl_divergence(q.base_dist, p.base_dist)
        except NotImplementedError:
            return torch.empty(q.batch_shape[-1], 0)
        leading = len(q.batch_shape)
        return _over_draws(terms.flatten(leading), 2)
    return torch.empty(q.batch_shape[-1], 0)


def _over_draws(values: Tensor, dims: int) -> Tensor:
    """The mean (B, ...) over draws; only levels below the top have values by draw (K, B, ...)."""
    return values.mean(0) if values.dim() > dims else values


@dataclass(frozen=True)
class Level:
    """The draws of one level of latents, and quantities computed from them.

    Attributes:
        q: Posterior, batch shape (B,), or (K, B) below the top level.
        z: Reparameterised draws of q (K, B, *Z).
        p: Prior, batch shape (), (B,) if the model is conditioned on something, or (K, B) below the top level.
    """

    q: Distribution
    z: Tensor
    p: Distribution

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
        """KL by latent dimension in nats (B, D); (B, 0) if it does not factorise."""
        return kl_per_dimension(self.q, self.p)


@dataclass(frozen=True)
class Draw:
    """One pass of a batch through the model, and quantities computed from it when they are first used.

    Attributes:
        batch: The examples.
        q: Posterior q(z|x), batch shape (B,).
        z: Reparameterised draws of q (K, B, *Z).
        p: Prior p(z), batch shape (), or (B,) if the model is conditioned on something.
        px: Likelihood p(x|z), batch shape (K, B).
    """

    batch: Batch
    q: Distribution
    z: Tensor
    p: Distribution
    px: Distribution

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The levels of latents, from the top: the levels of q and p if both have the same ones, else one level."""
        if isinstance(self.q, Levels) and isinstance(self.p, Levels) and self.q.sizes == self.p.sizes:
            pairs = zip(self.q.levels(self.z), self.p.levels(self.z), strict=True)
            return tuple(Level(q, z, p) for (q, z), (p, _) in pairs)
        return (Level(self.q, self.z, self.p),)

    @property
    def x(self) -> Tensor:
        """The examples' values (B, *X)."""
        return self.batch.x

    @cached_property
    def log_px(self) -> Tensor:
        """log p(x|z) in nats (K, B), summed over the observed values of an example."""
        if self.batch.observed is not None:
            return log_prob_of_observed(self.px, self.batch.x, self.batch.observed)
        value: Tensor = self.px.log_prob(self.batch.x)
        return value

    @cached_property
    def log_q(self) -> Tensor:
        """log q(z|x) in nats (K, B), summed over levels."""
        return _sum([level.log_q for level in self.levels])

    @cached_property
    def log_p(self) -> Tensor:
        """log p(z) in nats (K, B), summed over levels."""
        return _sum([level.log_p for level in self.levels])

    @cached_property
    def kl(self) -> Tensor:
        """KL(q(z|x) || p(z)) in nats (B,), summed over levels."""
        return _sum([level.kl for level in self.levels])

    @cached_property
    def kl_per_dim(self) -> Tensor:
        """KL by latent dimension in nats (B, D), all levels from the top; (B, 0) if one does not factorise."""
        terms = [level.kl_per_dim for level in self.levels]
        if any(term.shape[1] == 0 for term in terms):
            return terms[0][:, :0]
        return terms[0] if len(terms) == 1 else torch.cat(terms, 1)

    @cached_property
    def recon(self) -> Tensor:
        """The reconstruction term -E_q log p(x|z) in nats (B,), estimated with the K draws."""
        return -self.log_px.mean(0)

    @cached_property
    def elbo(self) -> Tensor:
        """The evidence lower bound at beta = 1 in nats (B,): ``-(recon + kl)``."""
        return -(self.recon + self.kl)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of values by example (B, ...) over the whole batch, also if several processes share it.

        An objective that is not linear in such a mean must use this method; a mean over the examples of one process
        would be another objective. Every process must call it equally often.
        """
        return batch_mean(values.mean(0))


def _sum(terms: list[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


class VAE(nn.Module):
    """Encoder q(z|x), prior p(z) and decoder p(x|z).

    Args:
        encoder: Data -> posterior.
        prior: Encoder -> prior.
        decoder: Latent -> likelihood.
        scale: The scale on which encoder and decoder see real data, or None if they see the data's own numbers. What
            goes in and comes out is in the data's units.

    References:
        Auto-Encoding Variational Bayes (Kingma and Welling, 2014), https://arxiv.org/abs/1312.6114
    """

    def __init__(self, encoder: Encoder, prior: Prior, decoder: Decoder, scale: Scale | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.prior = prior
        self.decoder = decoder
        self.scale = scale

    @property
    def space(self) -> LatentSpace:
        """The latent space."""
        return self.encoder.head.space

    def encode(self, batch: Batch | Tensor) -> Distribution:
        """The posterior q(z|x) given examples (B, *X), batch shape (B,)."""
        q: Distribution = self.encoder(self._seen(as_batch(batch)))
        return q

    def prior_at(self, given: Tensor | None = None) -> Distribution:
        """The prior p(z), batch shape (), or (B,) if it depends on ``given`` (B, C)."""
        p: Distribution = self.prior(self.encoder, given)
        return p

    def decode(self, z: Tensor, given: Tensor | None = None) -> Distribution:
        """The likelihood p(x|z) given latents (*N, *Z), batch shape (*N); ``given`` is (B, C) with B the last of N.

        The latents may be flattened, (*N, D).
        """
        px: Distribution = self.decoder(z, given)
        return px if self.scale is None else Scaled(px, self.scale)

    def draw(self, batch: Batch | Tensor, k: int = 1) -> Draw:
        """``k`` reparameterised draws for each example of a batch (B, *X).

        For a process's share of a batch, the draws equal the draws that one process would make for the whole batch.
        """
        batch, share = as_batch(batch), current_share()
        if share is None:
            q = self.encode(batch)
            z = q.rsample((k,))  # (K, B, *Z)
        else:
            features = self.encoder.features(self._seen(batch))
            q = self.encoder.head(features)
            # drawn for the whole batch, so that every process uses the same random numbers; only the own rows are kept
            z = self.encoder.head(share.padded(features)).rsample((k,))[:, share.rows]
        return Draw(batch, q, z, self.prior_at(batch.given), self.decode(z, batch.given))

    def sample(self, n: int, temperature: float = 1.0, given: Tensor | None = None) -> Distribution:
        """The likelihood given ``n`` draws of the prior, batch shape (n,).

        Args:
            n: Number of draws.
            temperature: Factor on each draw's distance from the prior's mean; for codes, the divisor of their
                log-probabilities. 1 draws from the prior itself.
            given: Numbers that a conditional model is conditioned on (n, C).
        """
        return self.decode(tempered(self.prior_at(given), n, temperature), given)

    def reconstruct(self, batch: Batch | Tensor) -> Distribution:
        """The likelihood at the posterior means of examples (B, *X), batch shape (B,)."""
        batch = as_batch(batch)
        return self.decode(self.encode(batch).mean, batch.given)

    def observe(self, draw: Draw) -> None:
        """Let the posterior and the likelihood learn from a training step; evaluations are not observed."""
        self.encoder.head.observe(draw.q)
        px = draw.px.base if isinstance(draw.px, Scaled) else draw.px
        self.decoder.head.observe(px, self._seen(draw.batch))

    def _seen(self, batch: Batch) -> Batch:
        """A batch as encoder and decoder see it."""
        return batch if self.scale is None else self.scale.seen(batch)


@contextmanager
def evaluating(model: VAE, seed: int) -> Iterator[None]:
    """Put the model into evaluation mode and draw from ``seed`` within the block; then restore mode and stream."""
    training = model.training
    model.eval()
    try:
        with seeded(seed):
            yield
    finally:
        model.train(training)
