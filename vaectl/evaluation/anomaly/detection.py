"""AUROC and average precision of scores where labels are known, with bootstrap intervals.

Shapes: ``N`` examples, ``R`` resamples, ``G`` different scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vaectl.errors import DataError
from vaectl.stats import CONFIDENCE

RESAMPLES = 1000
# counts of resampled examples that are in memory at once
COUNTS_AT_ONCE = 2_000_000


class Interval(NamedTuple):
    """An estimate and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Detection:
    """The quality of a score: 1 is perfect; ``auroc`` of chance is 0.5, ``average_precision`` of chance ``share``.

    Attributes:
        auroc: Area under the receiver operating characteristic.
        average_precision: Mean precision at each anomaly.
        share: Part of the examples that are anomalies.
    """

    auroc: Interval
    average_precision: Interval
    share: float

    def to_json(self) -> dict[str, float]:
        """Both values with their ``_low`` and ``_high``, and the share."""
        out: dict[str, float] = {}
        for name, interval in (("auroc", self.auroc), ("average_precision", self.average_precision)):
            out |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        return out | {"share": self.share}


def detection(scores: np.ndarray, anomalous: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> Detection:
    """AUROC and average precision of scores, with percentile intervals over bootstrap resamples of the examples.

    Anomalies and normal examples are resampled apart, so that their numbers stay.

    Args:
        scores: Scores (N,), higher is more unusual; infinite ones may be among them.
        anomalous: Whether each example is an anomaly, bool (N,).
        resamples: Number of resamples R.
        seed: Seed of the resamples.

    Raises:
        DataError: There are no anomalies, or nothing else.

    References:
        An Introduction to the Bootstrap (Efron and Tibshirani, 1993), chapter 13;
        The meaning and use of the area under a receiver operating characteristic (ROC) curve (Hanley and McNeil,
        1982), https://doi.org/10.1148/radiology.143.1.7063747
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    if not anomalous.any() or anomalous.all():
        raise DataError("AUROC takes both anomalies and normal examples")
    # both depend on the order of the scores alone, which may be infinite
    _, ranks = np.unique(scores, return_inverse=True)
    order = np.argsort(ranks, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(ranks[order]) > 0])  # (G,)
    random = np.random.default_rng(seed)
    parts = []
    at_once = max(1, COUNTS_AT_ONCE // len(scores))
    for start in range(0, resamples, at_once):
        counts = [
            _counts(random, group[order], starts, min(at_once, resamples - start)) for group in (anomalous, ~anomalous)
        ]
        parts.append(_areas(*counts))
    areas, precisions = np.concatenate(parts, axis=1)
    return Detection(
        _interval(float(roc_auc_score(anomalous, ranks)), areas),
        _interval(float(average_precision_score(anomalous, ranks)), precisions),
        float(anomalous.mean()),
    )


def _counts(random: np.random.Generator, members: np.ndarray, starts: np.ndarray, resamples: int) -> np.ndarray:
    """How often each of the different scores occurs in resamples of a group's examples, ascending, (R, G)."""
    size = int(members.sum())
    chosen = random.integers(size, size=(resamples, size))
    place = np.searchsorted(starts, np.flatnonzero(members), side="right") - 1  # the score of each member
    flat = place[chosen] + np.arange(resamples)[:, None] * len(starts)
    return np.bincount(flat.ravel(), minlength=resamples * len(starts)).reshape(resamples, len(starts))


def _areas(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """AUROC and average precision (2, R) for counts of both kinds by score, ascending, (R, G) each."""
    below = negatives.cumsum(1) - negatives
    pairs = positives.sum(1) * negatives.sum(1)
    auroc = (positives * (below + negatives / 2)).sum(1) / pairs
    hits = positives[:, ::-1].cumsum(1)
    flagged = hits + negatives[:, ::-1].cumsum(1)
    precision = hits / np.maximum(flagged, 1)
    average = (positives[:, ::-1] * precision).sum(1) / positives.sum(1)
    return np.stack((auroc, average))


def _interval(value: float, resampled: np.ndarray) -> Interval:
    low, high = np.quantile(resampled, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)).tolist()
    return Interval(value, low, high)
