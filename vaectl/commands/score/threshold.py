"""``--threshold``: a false positive rate, or a score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vaectl.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

FORMS = "fpr=0.01, a false positive rate between 0 and 1, or a number that the score must exceed"


@dataclass(frozen=True)
class Threshold:
    """Where an example is flagged: at a p-value up to ``fpr``, or at a score above ``score``; the other is None."""

    fpr: float | None = None
    score: float | None = None

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """Read what was typed.

        Raises:
            UsageError: It is neither a rate nor a number.
        """
        name, sign, number = text.replace(" ", "").rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        is_rate = bool(sign)
        if not math.isfinite(value) or (is_rate and (name.lower() != "fpr" or not 0 < value < 1)):
            raise UsageError(f"--threshold takes {FORMS}; got '{text}'")
        return cls(fpr=value) if is_rate else cls(score=value)

    def flags(self, scores: np.ndarray, p: np.ndarray | None) -> np.ndarray:
        """Whether each example is flagged, bool (N,), by its score and, for a rate, its p-value."""
        if self.fpr is not None:
            assert p is not None
            return p <= self.fpr
        return scores > self.score

    def __str__(self) -> str:
        return f"p <= {self.fpr:g}" if self.fpr is not None else f"score > {self.score:g}"
