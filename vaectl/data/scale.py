"""Fitting location and scale of real numbers to training examples, in float64 and in one pass.

Shapes: ``N`` examples, ``W`` columns, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import math

import numpy as np

from vaectl.config.values import Normalize
from vaectl.data.examples import Examples
from vaectl.data.units import Method, Units

# examples that are read at once, and most numbers
AT_ONCE, NUMBERS_AT_ONCE = 1000, 1 << 22
# most examples and numbers from which median and quartiles are computed, chosen at random
SOME_EXAMPLES, SOME_NUMBERS = 100_000, 1 << 24
QUARTILES = (0.25, 0.5, 0.75)


def fitted_units(train: Examples, normalize: Normalize, *, table: bool) -> Units:
    """Fit the scale of real numbers to training examples.

    Args:
        train: The training examples.
        normalize: The setting; ``auto`` standardises the columns of a table, and images whose numbers are far from
            mean 0 and standard deviation 1.
        table: Whether examples are rows of a table, of which each column has its own scale.
    """
    if normalize == "robust":
        return _robust(train, table=table)
    moments = _Moments(math.prod(train.shape) if table else 1)
    for stored in train.stored(at_once(train)):
        moments.add(stored.reshape(-1, moments.width).astype(np.float64))
    if normalize == "minmax":
        return _units("minmax", moments.low, moments.high - moments.low)
    units = _units("standard", moments.mean, np.sqrt(moments.squares / max(1, moments.count)))
    if normalize == "none" or (normalize == "auto" and not table and not units.unlike()):
        return Units("none", units.loc, units.scale)
    return units


def at_once(train: Examples) -> int:
    """How many examples to read at once."""
    return max(1, min(AT_ONCE, NUMBERS_AT_ONCE // math.prod(train.shape)))


class _Moments:
    """Running count, mean, sum of squared deviations and ends of columns.

    References:
        Updating Formulae and a Pairwise Algorithm for Computing Sample Variances (Chan et al., 1979), equation 2.1
    """

    def __init__(self, width: int) -> None:
        self.width, self.count = width, 0
        self.mean, self.squares = np.zeros(width), np.zeros(width)
        self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)

    def add(self, block: np.ndarray) -> None:
        """Add rows, float64 (B, W)."""
        count, mean = len(block), block.mean(0)
        total, step = self.count + count, mean - self.mean
        self.squares += np.square(block - mean).sum(0) + np.square(step) * (self.count * count / total)
        self.mean += step * (count / total)
        self.low, self.high = np.minimum(self.low, block.min(0)), np.maximum(self.high, block.max(0))
        self.count = total


def _robust(train: Examples, *, table: bool) -> Units:
    """Median and distance of the quartiles, of a random choice of the examples if there are many."""
    import torch

    width = math.prod(train.shape)
    count = max(1, min(len(train), SOME_EXAMPLES, SOME_NUMBERS // width))
    rows = np.sort(np.random.RandomState(0).permutation(len(train))[:count])
    parts = [
        train.batch(torch.from_numpy(part)).x.cpu().numpy().reshape(len(part), -1)
        for part in np.split(rows, range(at_once(train), count, at_once(train)))
    ]
    numbers = np.concatenate(parts).astype(np.float64)
    low, median, high = np.quantile(numbers if table else numbers.reshape(-1, 1), QUARTILES, axis=0)
    # a column of which more than half is one value has no distance of quartiles, yet may vary
    spread = np.where(high > low, high - low, (numbers if table else numbers.reshape(-1, 1)).std(0))
    return _units("robust", median, spread)


def _units(method: Method, loc: np.ndarray, scale: np.ndarray) -> Units:
    """A scale in which constant values keep theirs, so that nothing is divided by 0."""
    # the deviation of a constant column is rounding
    real = scale > np.abs(loc) * np.finfo(np.float32).eps
    return Units(method, tuple(loc.tolist()), tuple(np.where(real & (scale > 0), scale, 1.0).tolist()))
