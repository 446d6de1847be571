"""The causal transformer: the probability of a sequence of codes, each given the codes before it.

Shapes: ``N`` sequences, ``P`` positions, ``K`` codebook size, ``W`` width, ``H`` heads. Log quantities are in nats.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaectl.model.distributions.codes import draw_at
from vaectl.model.distributions.pixels import at_least_fp32

# most logits in memory at once without a gradient, and most numbers of all layers with one
LOGITS_AT_ONCE, NUMBERS_AT_ONCE = 2**24, 2**26
# numbers that a block keeps for its gradient, for each position and unit of its width
KEPT_OF_A_BLOCK = 20
# most keys and values in caches at once
CACHED_AT_ONCE = 2**26


class Cache:
    """The keys and values of one layer at the positions so far.

    Args:
        like: A tensor whose type and device are used.
        n, heads, positions, size: Sequences N, heads H, positions P, and size of a head W / H.
    """

    def __init__(self, like: Tensor, n: int, heads: int, positions: int, size: int) -> None:
        self.keys, self.values = (like.new_empty(n, heads, positions, size) for _ in range(2))

    def extend(self, position: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store a position's key and value (N, H, 1, W / H); return all up to it (N, H, position + 1, W / H)."""
        self.keys[:, :, position], self.values[:, :, position] = key[:, :, 0], value[:, :, 0]
        return self.keys[:, :, : position + 1], self.values[:, :, : position + 1]


class Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))``; each position attends to those up to it.

    Args:
        width: W.
        heads: H.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, position: int = 0, cache: Cache | None = None) -> Tensor:
        """Compute all positions (N, P, W), or with a cache the one at ``position`` (N, 1, W)."""
        heads = self.query_key_value(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1))  # (N, P, 3, H, W / H)
        query, key, value = heads.movedim(2, 0).transpose(2, 3)  # (N, H, P, W / H) each
        if cache is not None:
            key, value = cache.extend(position, key, value)
        attention = F.scaled_dot_product_attention(query, key, value, is_causal=cache is None)
        x = x + self.out(attention.transpose(1, 2).flatten(2))
        added: Tensor = x + self.down(F.gelu(self.up(self.norm_mlp(x))))
        return added


class Transformer(nn.Module):
    """The model ``log p(k) = sum_i log p(k_i | k_1, ..., k_(i-1))`` of sequences of P codes.

    It begins as the uniform distribution, because its last layer begins at 0.

    Args:
        codebook_size: K.
        positions: P.
        width: W.
        depth: Blocks.
        heads: H, a divisor of W.

    References:
        Language Models are Unsupervised Multitask Learners (Radford et al., 2019), section 2.3: the architecture
    """

    def __init__(self, codebook_size: int, positions: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.codebook_size, self.positions, self.heads = codebook_size, positions, heads
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.embedding = nn.Parameter(0.02 * torch.randn(codebook_size, width))
        # the embedding of positions, under the name that it has in checkpoints
        self.place = nn.Parameter(0.02 * torch.randn(positions, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, codebook_size)
        nn.init.zeros_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)

    def log_prob(self, sequences: Tensor) -> Tensor:
        """log p in nats (N,) of sequences of codes, int64 (N, P)."""
        if torch.is_grad_enabled():
            return self._learning(sequences)
        at_once = max(1, LOGITS_AT_ONCE // (self.positions * self.codebook_size))
        return torch.cat([self._log_prob(part) for part in torch.split(sequences, at_once)])

    def _learning(self, sequences: Tensor) -> Tensor:
        """``log_prob`` with a gradient; large batches in parts, recomputed in the backward pass to save memory."""
        each = self.positions * (2 * self.codebook_size + KEPT_OF_A_BLOCK * len(self.start) * len(self.blocks))
        at_once = max(1, NUMBERS_AT_ONCE // each)
        if len(sequences) <= at_once:
            return self._log_prob(sequences)
        # imported here, because older versions of torch then import sympy, which takes a second
        from torch.utils.checkpoint import checkpoint

        parts = torch.split(sequences, at_once)
        # no random state to preserve: nothing here is random
        return torch.cat(
            [checkpoint(self._log_prob, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
        )

    def _log_prob(self, sequences: Tensor) -> Tensor:
        start = self.start.expand(len(sequences), 1, -1)
        x = torch.cat((start, F.embedding(sequences[:, :-1], self.embedding)), dim=1) + self.place  # (N, P, W)
        for block in self.blocks:
            x = block(x)
        logits = at_least_fp32(self.logits(self.norm(x)))  # (N, P, K)
        surprise = F.cross_entropy(logits.flatten(0, 1), sequences.flatten(), reduction="none")
        return -surprise.view(sequences.shape).sum(1)

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """Draw ``n`` sequences, int64 (n, P), position by position.

        Args:
            n: Sequences.
            temperature: Divisor of the logits.
        """
        at_once = max(1, CACHED_AT_ONCE // (2 * self.positions * len(self.start) * len(self.blocks)))
        parts = [self._sample(min(at_once, n - start), temperature) for start in range(0, n, at_once)]
        return torch.cat(parts)

    def _sample(self, n: int, temperature: float) -> Tensor:
        width = len(self.start)
        caches = [Cache(self.start, n, self.heads, self.positions, width // self.heads) for _ in self.blocks]
        draws = torch.empty(n, self.positions, dtype=torch.int64, device=self.start.device)
        previous = self.start.expand(n, -1)  # (n, W)
        for i in range(self.positions):
            x = (previous + self.place[i])[:, None]  # (n, 1, W)
            for block, cache in zip(self.blocks, caches, strict=True):
                x = block(x, i, cache)
            draws[:, i] = draw_at(at_least_fp32(self.logits(self.norm(x[:, 0]))), temperature)
            previous = F.embedding(draws[:, i], self.embedding)
        return draws
