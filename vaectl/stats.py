"""Means, standard errors and differences over examples and over seeds, without torch.

Shapes: ``J`` images, ``n`` seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean and its standard error over examples (nan for a single example)."""

    mean: float
    se: float


class Difference(NamedTuple):
    """A difference of two means, its standard error, and the ends of its 95 % confidence interval."""

    delta: float
    se: float
    low: float
    high: float


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


def on_target(kl: float, target: float) -> bool:
    """Whether a KL is within 10 %, or half a nat if that is more, of its target."""
    return abs(kl - target) <= max(0.1 * target, 0.5)


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """The mean of ``values - baseline`` over the same examples, with its standard error.

    Raises:
        ValueError: The lengths differ.
    """
    return mean_and_se([value - base for value, base in zip(values, baseline, strict=True)])


def difference_over_seeds(
    values: Sequence[float], baseline: Sequence[float], images: Sequence[float] = ()
) -> Difference:
    """The difference between two settings, each trained with several seeds and evaluated on the same images.

    The difference of the means over seeds, ``delta``, has two sources of error. The first is the choice of seeds, with
    Welch's ``SE_seeds^2 = s_1^2/n_1 + s_2^2/n_2`` and ``nu`` degrees of freedom after Satterthwaite. The second is the
    choice of test images, with ``SE_images = s_d / sqrt(J)``, where ``d_j`` is the difference of the two settings' mean
    values of image j. Then ::

        SE^2     = SE_seeds^2 + SE_images^2
        interval = delta +- sqrt((t(nu) SE_seeds)^2 + (t(J-1) SE_images)^2),    t at 97.5 %

    Each source has its own critical value. A single t with Satterthwaite's degrees of freedom over all three variances
    is too narrow for a few seeds, because the many images dominate and hide how poorly two seeds determine a spread.
    The interaction of image and seed is part of both sources, so the interval is slightly too wide rather than too
    narrow. Equal seeds of the two settings are not paired.

    Args:
        values: The mean of each run of one setting, at least two, in any unit.
        baseline: The same for the setting it is compared with.
        images: ``d_j``, (J,), in the same unit; empty for a quantity without values per image.

    Raises:
        ValueError: A setting has fewer than two runs, or there is a single image.

    References:
        The generalization of 'Student's' problem when several different population variances are involved
            (Welch, 1947), https://doi.org/10.1093/biomet/34.1-2.28
        An approximate distribution of estimates of variance components (Satterthwaite, 1946),
            https://doi.org/10.2307/3002019
        Construction of confidence limits about effect measures: a general approach (Zou and Donner, 2008): margins of
            a sum add in quadrature, https://doi.org/10.1002/sim.3095
    """
    if min(len(values), len(baseline)) < 2 or len(images) == 1:
        raise ValueError("a spread needs at least two values")
    mean, se = mean_and_se(values)
    other, other_se = mean_and_se(baseline)
    seeds = math.hypot(se, other_se)
    margin = 0.0
    if seeds > 0:
        # computed from shares, because the square of a small variance underflows to 0
        share = (se / seeds) ** 2
        freedom = 1 / (share**2 / (len(values) - 1) + (1 - share) ** 2 / (len(baseline) - 1))
        margin = _critical(freedom) * seeds
    pictures = mean_and_se(images).se if images else 0.0
    if images:
        margin = math.hypot(margin, _critical(len(images) - 1) * pictures)
    delta = mean - other
    return Difference(delta, math.hypot(seeds, pictures), delta - margin, delta + margin)


def _critical(freedom: float) -> float:
    """The 97.5 % quantile of Student's t."""
    # imported here, so that the plain table needs neither scipy nor numpy
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
