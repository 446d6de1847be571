"""The scales of the parts of a data set, compared before training, because they may differ.

Shapes: ``N`` examples of a part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaectl.data.survey import Survey, Tally
from vaectl.errors import DataError

# parts whose numbers differ by more than this factor in every measure of their spread are on different scales
REFUSED, REMARKED = 10.0, 3.0
# a part of fewer examples tells nothing, and one of fewer than the second number gives no more than a remark
FEWEST, FEWEST_REFUSED = 2, 10


@dataclass(frozen=True)
class Scale:
    """The scale of the numbers of a part, in units of the model.

    Attributes:
        low, high: Smallest and largest number.
        mean, std: Mean and standard deviation of all numbers.
        usual: The median of the examples' ranges, which a few large numbers do not change.
        count: Number of examples.
    """

    low: float
    high: float
    mean: float
    std: float
    usual: float
    count: int

    @property
    def text(self) -> str:
        """The scale for messages."""
        return f"{self.low:.4g} to {self.high:.4g}, mean {self.mean:.4g}, standard deviation {self.std:.4g}"


class Scales:
    """Takes the scale of each part from the running statistics of all, after each part.

    Args:
        tally: The statistics.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally, self._before = tally, (0, 0.0, 0.0)
        self.parts: dict[str, Scale] = {}

    def add(self, part: str, survey: Survey) -> None:
        """Take the scale of the part that the statistics were updated with last."""
        now = self._tally.count, self._tally.total, self._tally.squares
        count, total, squares = (after - before for after, before in zip(now, self._before, strict=True))
        self._before = now
        if len(survey.good) < FEWEST:
            return
        mean = total / count
        low, high = float(survey.ranges[:, 0].min()), float(survey.ranges[:, 1].max())
        usual = float(np.median(survey.ranges[:, 1] - survey.ranges[:, 0]))
        std = math.sqrt(max(0.0, squares / count - mean**2))
        self.parts[part] = Scale(low, high, mean, std, usual, len(survey.good))


def check_scales(path: Path, parts: Mapping[str, Scale], note: Callable[[str], None], *, strict: bool = True) -> None:
    """Compare each part with the training part.

    Args:
        path: The data, for messages.
        parts: The scale of each part.
        note: Called with a remark on parts that may be on different scales.
        strict: Whether different scales are an error; for data that a model was trained on they are a remark.

    Raises:
        DataError: A part is on another scale, by a factor of ten or more.
    """
    train = parts.get("train")
    if train is None:
        return
    for part, scale in parts.items():
        if part == "train":
            continue
        ratio = _ratio(train, scale)
        both = f"train goes from {train.text}; {part} from {scale.text}"
        if strict and ratio > REFUSED and min(train.count, scale.count) >= FEWEST_REFUSED:
            raise DataError(
                f"{path.name}: its parts are on different scales: {both}",
                hint="bring both to the same scale, such as bytes or [0, 1], and save them again",
            )
        apart = abs(train.mean - scale.mean) > REMARKED * max(train.std, scale.std) > 0
        signs = any(one.low >= 0 and other.low <= -one.high / 2 < 0 for one, other in ((train, scale), (scale, train)))
        if ratio > REMARKED or apart or signs:
            note(f"{path.name}: are its parts on the same scale? {both}")


def _ratio(one: Scale, other: Scale) -> float:
    """The least of the factors between the measures of spread, all in the same direction; 1 if they do not agree."""
    pairs = [(one.std, other.std), (one.high - one.low, other.high - other.low), (one.usual, other.usual)]
    if any(first <= 0 or second <= 0 for first, second in pairs):
        return 1.0
    ratios = [second / first for first, second in pairs]
    return max(1.0, min(ratios), min(1 / ratio for ratio in ratios))
