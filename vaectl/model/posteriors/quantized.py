"""Deterministic posteriors over grids of codes: vector and finite scalar quantisation.

Shapes: ``*N`` leading dimensions, ``B`` batch, ``F`` features, flat or a map, ``K`` codebook size, ``D`` numbers of a
code, ``h`` and ``w`` sides of the grid, ``M`` vectors. Codes are computed in fp32, whatever the networks' precision.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from vaectl.config.values import MOST_CODES, Bounds, CodebookSize
from vaectl.errors import SettingError
from vaectl.model.distributions.codes import CODEBOOK, CODES, Codebook, LatentSpace, Quantized
from vaectl.model.distributions.pixels import at_least_fp32
from vaectl.model.layers.readout import Shape, readout
from vaectl.model.parts import Posterior
from vaectl.parallel.shares import current_share

Positions = Annotated[int, Bounds(1, 4096)]
Levels = Annotated[tuple[int, ...], Bounds(3, 256)]
Part = Annotated[float, Bounds(0, 1)]

POSITIONS = 16
# most distances from codes in memory at once
DISTANCES_AT_ONCE = 2**24
# usage given to a revived code, as a multiple of the revival threshold
REVIVED = 1.1
# avoids 0 / 0 for a code that was never used
LEAST_USAGE = 1e-12


class QuantizedPosterior(Posterior, Codebook):
    """A head whose latents are grids of codes: one code for each point of a map, or several from flat features.

    Args:
        features: Shape F of the network's features.
        latent_dim: Numbers of a code D.
        codebook_size: K.
        positions: Codes of an example if the features are flat.

    Raises:
        SettingError: ``positions`` is set but the features are a map, which has its own.
    """

    def __init__(self, features: Shape, latent_dim: int, codebook_size: int, positions: int) -> None:
        super().__init__()
        if len(features) == 3 and positions != POSITIONS:
            raise SettingError(
                "posterior.positions",
                f"is for --network mlp; this network has {features[1]} x {features[2]} positions",
                hint="--depth halves them again, or doubles them",
            )
        grid = features[1:] if len(features) == 3 else (1, positions)
        self.space = LatentSpace((latent_dim, *grid), codebook_size)
        self.linear = readout(features, self.space.shape)

    def encoded(self, features: Tensor) -> Tensor:
        """The vectors to quantise (*N, D, h, w), in fp32."""
        return at_least_fp32(self.linear(features))


class VectorQuantizer(QuantizedPosterior):
    """The nearest of K learned codes at every position: ``q(z = e_k|x) = 1`` for ``k = argmin_j |z_e(x) - e_j|^2``.

    Moving averages with decay g move a code to its vectors. With n_k the number of vectors of a batch nearest to code k
    and s_k their sum: ``u_k <- g u_k + (1 - g) n_k``, ``e_k <- e_k + (1 - g) (s_k - n_k e_k) / u_k``. This is the
    paper's ratio of two averages, written so that a code without vectors does not move, whatever its usage u_k.

    A code that is hardly used is revived: it is moved to a random vector of the batch, and its usage is set slightly
    above the threshold, so that it soon moves again if it stays unused. Usages begin at 0, so codes begin at vectors of
    the first batch, except codes that already have far more than their share.

    Args:
        features: Shape F of the network's features.
        latent_dim: Numbers of a code D.
        codes: The codebook size K.
        codebook: How the codebook learns: ``ema`` by moving averages of the vectors, ``loss`` by the gradient of a term
            of the objective.
        decay: Decay g of the moving averages, usage included.
        revive: Codes used less than this fraction of an even share are revived; 0 revives none.
        positions: Codes of an example if the features are flat.

    References:
        Neural Discrete Representation Learning (van den Oord et al., 2017), sections 3.1 and 3.2 and appendix A.1,
        https://arxiv.org/abs/1711.00937;
        revival: Jukebox: A Generative Model for Music (Dhariwal et al., 2020), section 3.1,
        https://arxiv.org/abs/2005.00341
    """

    gives: ClassVar[str] = CODEBOOK
    codebook: Tensor
    usage: Tensor

    def __init__(
        self,
        features: Shape,
        latent_dim: int,
        *,
        codes: CodebookSize = 512,
        codebook: Literal["ema", "loss"] = "ema",
        decay: Part = 0.99,
        revive: Part = 0.03,
        positions: Positions = POSITIONS,
    ) -> None:
        super().__init__(features, latent_dim, codes, positions)
        self.decay, self.revive, self.by_gradient = decay, revive, codebook == "loss"
        initial = (2 * torch.rand(codes, latent_dim) - 1) / codes
        if self.by_gradient:
            self.codebook = nn.Parameter(initial)
        else:
            self.register_buffer("codebook", initial)
        # recent usage of each code, relative to an even share
        self.register_buffer("usage", torch.zeros(codes))

    def forward(self, features: Tensor) -> Quantized:
        """Features (B, *F) -> q with batch shape (B,) and event shape (D, h, w)."""
        encoded = self.encoded(features)
        indices = self.nearest(encoded)
        return Quantized(encoded, self.vectors(indices), indices, by_gradient=self.by_gradient)

    def vectors(self, indices: Tensor) -> Tensor:
        """The codes (*N, D, h, w) of indices (*N, h, w)."""
        return F.embedding(indices, self.codebook).movedim(-1, -3)

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """The indices (*N, h, w) of the codes nearest to vectors (*N, D, h, w)."""
        rows = z.movedim(-3, -1)  # (*N, h, w, D)
        return self._nearest(rows.flatten(0, -2)).view(rows.shape[:-1])

    def _nearest(self, rows: Tensor) -> Tensor:
        with torch.autocast(rows.device.type, enabled=False):
            half_norms = 0.5 * self.codebook.square().sum(1)  # (K,)
            codes = self.codebook.t()
            at_once = max(1, DISTANCES_AT_ONCE // len(half_norms))
            # |z - e|^2 / 2 without |z|^2 / 2, which is the same for all codes
            indices = [torch.addmm(half_norms, part, codes, alpha=-1).argmin(1) for part in torch.split(rows, at_once)]
        return torch.cat(indices) if len(indices) > 1 else indices[0]

    @torch.no_grad()
    def observe(self, q: Distribution) -> None:
        """Move the codes towards their vectors, and revive codes that are hardly used."""
        assert isinstance(q, Quantized)
        share, encoded, indices = current_share(), q.encoded.detach(), q.indices
        if share is not None:  # every process learns from the whole batch, so that all stay equal
            encoded, indices = (share.add(share.padded(own[: share.count])) for own in (encoded, indices))
        rows, indices = encoded.movedim(-3, -1).flatten(0, -2), indices.flatten()  # (M, D), (M,)
        codebook_size = len(self.usage)
        counts = torch.zeros_like(self.usage).index_add(0, indices, rows.new_ones(len(rows)))  # (K,)
        sums = torch.zeros_like(self.codebook).index_add(0, indices, rows)  # (K, D)
        evenly = (1 - self.decay) * codebook_size / len(rows)
        usage = self.decay * self.usage + evenly * counts
        codebook = self.codebook
        if not self.by_gradient:
            step = (sums - counts[:, None] * codebook) / usage.clamp(min=LEAST_USAGE)[:, None]
            codebook = codebook + evenly * step
        replacements = rows.index_select(0, torch.randint(len(rows), (codebook_size,), device=rows.device))
        dead = usage < self.revive
        finite = sums.sum().isfinite()  # a step that is not finite is not taken
        self.codebook.copy_(torch.where(finite, torch.where(dead[:, None], replacements, codebook), self.codebook))
        self.usage.copy_(torch.where(finite, torch.where(dead, REVIVED * self.revive, usage), self.usage))


class FiniteScalarQuantizer(QuantizedPosterior):
    """Rounds each number of a code to one of a few levels; the fixed codebook is all combinations of levels.

    ``z_d = round(tanh(s_d + c) (L_d - 1) / 2 - o) / (L_d // 2)``, where o is 1/2 for an even number of levels, so
    that 0 is a level, and c maps an input of 0 to 0.

    Args:
        features: Shape F of the network's features.
        latent_dim: Numbers of a code D.
        levels: Number of levels for each number, or one for all; their product is K.
        positions: Codes of an example if the features are flat.

    Raises:
        SettingError: There is neither one level nor one for each number of a code, or there are too many codes.

    References:
        Finite Scalar Quantization: VQ-VAE Made Simple (Mentzer et al., 2023), section 3.1 and appendix A.1 (where c is
        a tangent), https://arxiv.org/abs/2309.15505
    """

    gives: ClassVar[str] = CODES
    levels: Tensor
    stretch: Tensor
    offset: Tensor
    shift: Tensor
    steps: Tensor

    def __init__(
        self, features: Shape, latent_dim: int, *, levels: Levels = (8, 5, 5, 5), positions: Positions = POSITIONS
    ) -> None:
        every = levels * latent_dim if len(levels) == 1 else levels
        if len(every) != latent_dim:
            raise SettingError(
                "posterior.levels",
                f"must be one number, or one for each of the {latent_dim} numbers of a code; got {len(levels)}",
                hint=f"--latent-dim {len(levels)} for these levels",
            )
        if math.prod(every) > MOST_CODES:
            raise SettingError("posterior.levels", f"give {math.prod(every):,} codes; at most {MOST_CODES:,}")
        super().__init__(features, latent_dim, math.prod(every), positions)
        wide = torch.tensor(every, dtype=torch.float32)[:, None, None]  # (D, 1, 1)
        # slightly wider than the levels, so that the outermost ones are reached
        half = (wide - 1) * (1 + 1e-3) / 2
        offset = 0.5 * (wide % 2 == 0)
        steps = torch.tensor([math.prod(every[:d]) for d in range(latent_dim)])[:, None, None]
        for name, value in {
            "levels": wide, "stretch": half, "offset": offset, "shift": (offset / half).atanh(), "steps": steps
        }.items():  # fmt: skip
            self.register_buffer(name, value, persistent=False)

    def forward(self, features: Tensor) -> Quantized:
        """Features (B, *F) -> q with batch shape (B,) and event shape (D, h, w)."""
        bounded = (self.encoded(features) + self.shift).tanh() * self.stretch - self.offset
        whole: Tensor = bounded.round().detach()
        return Quantized(bounded / self._radius, whole / self._radius, self._index(whole), by_gradient=False)

    @property
    def _radius(self) -> Tensor:
        return (self.levels / 2).floor()

    def _index(self, whole: Tensor) -> Tensor:
        return ((whole + self._radius).long() * self.steps).sum(-3)

    def vectors(self, indices: Tensor) -> Tensor:
        """The codes (*N, D, h, w) of indices (*N, h, w)."""
        digits = torch.div(indices.unsqueeze(-3), self.steps, rounding_mode="floor") % self.levels.long()
        return (digits - self._radius) / self._radius

    def nearest(self, z: Tensor) -> Tensor:
        """The indices (*N, h, w) of the codes nearest to vectors (*N, D, h, w)."""
        whole = torch.minimum((z * self._radius).round(), self.levels - 1 - self._radius)
        return self._index(torch.maximum(whole, -self._radius))
