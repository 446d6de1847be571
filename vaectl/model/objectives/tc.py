"""The negative ELBO with its KL in three weighted terms, among them the total correlation.

Shapes: ``K`` draws, ``B`` batch, ``b`` of its rows at a time, ``Z`` latent shape, ``D`` latent (flattened),
``N`` training examples. Log quantities are in nats per example.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from vaectl.config.values import BetaSchedule, Count, NonNegative, Size
from vaectl.model.distributions.codes import LatentSpace
from vaectl.model.distributions.pixels import base_of
from vaectl.model.objectives.base import CYCLES, Loss, Objective, TrainingSet, kl_weight
from vaectl.model.vae import Draw

Weights = Literal["minibatch-weighted", "stratified"]
# most numbers in memory at once in a (draws, rows, batch, latent) block of densities
NUMBERS_AT_ONCE = 4_000_000


class TotalCorrelation(Objective):
    """The negative ELBO with separate weights on the three terms of its KL.

    ``mean_B(recon) + alpha * I + beta(step) * TC + gamma * sum_d KL_d``, where, with q(z) the aggregate posterior,
    ``I = E log q(z|x) - log q(z)`` is the index-code mutual information, ``TC = E log q(z) - log prod_d q(z_d)`` the
    total correlation and ``sum_d KL_d = E log prod_d q(z_d) - log p(z)``. All three use the sampled log-probabilities;
    for every draw they add up to ``log q(z|x) - log p(z)``, so with all weights 1 this is the sampled ELBO.

    Args:
        data: The training set, whose size N the estimate of q(z) needs.
        space: The latent space, unused.
        alpha: Weight of the index-code mutual information.
        beta: Weight of the total correlation.
        gamma: Weight of the KL by dimension.
        schedule: How beta rises over the warm-up, as for the ELBO.
        warmup_epochs: Epochs over which beta rises from 0; 0 starts at beta.
        cycles: Rises of the cyclical schedule.
        weights: How a batch estimates the mean over all N examples in q(z) and each q(z_d), see ``log_weights``.

    Raises:
        SettingError: The schedule and the warm-up contradict each other.

    References:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), equations 2 to 4 and
        appendix C, https://arxiv.org/abs/1802.04942
    """

    needs_factors = True
    needs_pairs = True
    needs_one_level = True

    def __init__(
        self,
        data: TrainingSet,
        space: LatentSpace,
        *,
        alpha: NonNegative = 1.0,
        beta: NonNegative = 6.0,
        gamma: NonNegative = 1.0,
        schedule: BetaSchedule = "linear",
        warmup_epochs: Count = 0,
        cycles: Size = CYCLES,
        weights: Weights = "stratified",
    ) -> None:
        super().__init__()
        self._beta = kl_weight(data.steps_per_epoch, beta, schedule, warmup_epochs, cycles)
        self.examples = data.examples
        self.alpha, self.gamma = alpha, gamma
        self.weights = weights
        # copied to the device once, because a recorded step may copy nothing from the host
        self._log_w: dict[tuple[torch.device, torch.dtype, int], Tensor] = {}
        self.warmup_epochs = warmup_epochs

    def beta(self, step: int) -> float:
        """The weight of the total correlation at a step."""
        return self._beta(step)

    def scheduled(self, step: int) -> float:
        """Beta."""
        return self._beta(step)

    def forward(self, draw: Draw, scheduled: Tensor | float) -> Loss:
        """The loss of a draw with beta as scheduled."""
        log_w = self._log_weights(draw.z, len(draw.x))
        joint, marginals = aggregate(draw, log_w)
        recon = draw.recon
        information = (draw.log_q - joint).mean(0)  # (B,)
        correlation = (joint - marginals).mean(0)  # (B,)
        by_dimension = (marginals - draw.log_p).mean(0)  # (B,)
        weighted = self.alpha * information + scheduled * correlation + self.gamma * by_dimension
        terms = {
            "recon": recon,
            "mutual_information": information,
            "total_correlation": correlation,
            "kl_by_dimension": by_dimension,
        }
        return Loss((recon + weighted).mean(), terms)

    def _log_weights(self, like: Tensor, batch: int) -> Tensor:
        """``log_weights`` of a batch, with the type and device of another tensor."""
        key = (like.device, like.dtype, batch)
        if key not in self._log_w:
            self._log_w[key] = log_weights(batch, self.examples, self.weights).to(like)
        return self._log_w[key]


def log_weights(batch: int, examples: int, weights: Weights) -> Tensor:
    """log w (B, B) of the estimate ``q(z_i) = sum_j w_ij q(z_i|x_j)`` of the mean over all N examples.

    ``stratified``: 1/N on the diagonal, because z_i is drawn from x_i, one of N, and (N - 1) / (N (B - 1)) elsewhere.
    A row adds up to 1, the estimate of q(z_i) is unbiased, and if the batch has all N examples it is q(z_i).
    The paper weights one of the others differently, so that its estimate depends on the order of the batch; this is the
    average over all orders, with the same mean and never more variance. A batch of one has no other example: its weight
    is 1 and its total correlation 0.

    ``minibatch-weighted``: 1/(N B) everywhere. A row adds up to 1/N, so every log q is too low: by log B if the
    posteriors are far apart, by log N if they overlap. The mutual information is too high by as much, the total
    correlation by about (D - 1) log N, and the KL by dimension is too low by their sum. It trains, but its terms are
    not estimates.

    Args:
        batch: Examples in the batch (B).
        examples: Training examples (N).
        weights: Which weights.

    References:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), appendix C.1 for
        minibatch-weighted and C.2 for stratified sampling, https://arxiv.org/abs/1802.04942
    """
    if weights == "minibatch-weighted":
        return torch.full((batch, batch), -math.log(examples * batch), dtype=torch.float64)
    if batch == 1:
        return torch.zeros(1, 1, dtype=torch.float64)
    w = torch.full((batch, batch), (examples - 1) / (examples * (batch - 1)), dtype=torch.float64)
    return w.fill_diagonal_(1 / examples).log()


def aggregate(draw: Draw, log_w: Tensor) -> tuple[Tensor, Tensor]:
    """``log q(z)`` and ``sum_d log q(z_d)`` for draws of a factorised posterior, in nats (K, B) each.

    ``log q(z_i) = log sum_j w_ij prod_d q(z_id|x_j)`` and ``log q(z_id) = log sum_j w_ij q(z_id|x_j)``: a weight enters
    the joint density once, and each of the D marginal densities once.

    Args:
        draw: Draws z (K, B, *Z) of a posterior that factorises.
        log_w: log w (B, B), a row for each draw and a column for each posterior.
    """
    q = base_of(draw.q)
    rows = max(1, NUMBERS_AT_ONCE // draw.z.numel())  # a row's (K, 1, B, D) block has as many numbers as z
    joint, marginals = [], []
    for z, w in zip(torch.split(draw.z, rows, dim=1), torch.split(log_w, rows), strict=True):  # (K, b, *Z) and (b, B)
        each = q.log_prob(z.unsqueeze(2)).flatten(3)  # (K, b, B, D)
        joint.append((w + each.sum(-1)).logsumexp(2))
        marginals.append((w[..., None] + each).logsumexp(2).sum(-1))
    return torch.cat(joint, 1), torch.cat(marginals, 1)
