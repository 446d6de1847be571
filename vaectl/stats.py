"""Means, standard errors and paired differences of per-example values, in plain Python so that tables need no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Estimate(NamedTuple):
    """A mean and its standard error over examples (nan for a single example)."""

    mean: float
    se: float


def mean_and_se(values: Sequence[float]) -> Estimate:
    """The mean of ``values`` and ``s / sqrt(n)`` with the unbiased standard deviation s.

    Raises:
        ValueError: There are no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("the mean of no values")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, math.nan)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return Estimate(mean, math.sqrt(variance / n))


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """The mean of ``values - baseline`` over the same examples, with its standard error.

    Raises:
        ValueError: The two are not of one length.
    """
    return mean_and_se([value - base for value, base in zip(values, baseline, strict=True)])
