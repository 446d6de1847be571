"""Conformal p-values: scores compared with those of normal examples.

Shapes: ``N`` scored examples, ``n`` calibration examples.
"""

from __future__ import annotations

import math

import numpy as np

from vaectl.errors import DataError


def p_values(scores: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    """``(1 + #{calibration scores >= s}) / (n + 1)`` for each score s, float64 (N,).

    For a normal example, exchangeable with the calibration examples, P(p <= a) is at most a for every a, and equal to
    it for a multiple of 1 / (n + 1) if no scores are equal.

    Args:
        scores: Scores (N,), higher is more unusual.
        calibration: Scores (n,) of examples that neither trained the model nor are among those scored.

    References:
        Algorithmic Learning in a Random World (Vovk, Gammerman and Shafer, 2005);
        Testing for Outliers with Conformal p-values (Bates et al., 2023), equation 2,
        https://arxiv.org/abs/2104.08279
    """
    below = np.searchsorted(np.sort(calibration), scores, side="left")
    p: np.ndarray = (1 + len(calibration) - below) / (len(calibration) + 1)
    return p


def least_rows(rate: float) -> int:
    """The smallest number of calibration examples with which a p-value can be as low as a false positive rate."""
    # 1 / 0.05 is 20 and not one more for its rounding
    return max(1, math.ceil(round(1 / rate, 9)) - 1)


def check_rows(rate: float, rows: int, where: str) -> None:
    """Raise a DataError if no p-value can be as low as a rate.

    Args:
        rate: The false positive rate, above 0.
        rows: Number of calibration examples.
        where: What they are, such as ``the validation split of run1``.
    """
    if rows < least_rows(rate):
        raise DataError(
            f"--threshold fpr={rate:g} takes at least {least_rows(rate):,} calibration examples; {where} has {rows:,}",
            hint=f"the lowest rate that they allow is {math.ceil(1e4 / (rows + 1)) / 1e4:g}" if rows else None,
        )
