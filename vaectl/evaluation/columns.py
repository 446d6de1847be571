"""How much of each column of a table the reconstructions explain.

Shapes: ``B`` batch, ``W`` columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaectl.data.batch import Batch


class Explained:
    """Running sums for R2 by column: one minus the mean squared error over the variance of the examples.

    Sums are in float64 and of differences from the first example, because columns may lie far from 0.

    Args:
        first: The first example (1, 1, W).
    """

    def __init__(self, first: Tensor) -> None:
        self._origin = first.flatten().double()
        # observed values, their sum, the sum of their squares, and the sum of squared errors (4, W)
        self.sums = torch.zeros(4, len(self._origin), dtype=torch.float64)

    def add(self, batch: Batch, mean: Tensor) -> None:
        """Add examples and their reconstructions (B, 1, 1, W)."""
        values, means = (t.flatten(1).cpu().double() for t in (batch.x, mean))
        observed = None if batch.observed is None else batch.observed.flatten(1).cpu()
        distance, error = values - self._origin.cpu(), (means - values).square()
        for row, part in enumerate((torch.ones_like(values), distance, distance.square(), error)):
            self.sums[row] += (part if observed is None else torch.where(observed, part, 0.0)).sum(0)

    def r2(self) -> list[float]:
        """R2 of each column (W); nan for a column that is constant or never observed."""
        count, total, squares, errors = self.sums
        spread = squares - total.square() / count.clamp(min=1)
        # what is left of a constant column is rounding
        varies = spread > squares.abs() * 1e-12
        return torch.where(varies, 1 - errors / spread.clamp(min=1e-300), math.nan).tolist()
