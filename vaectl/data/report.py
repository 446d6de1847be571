"""The data report: properties of a data set that matter before training, and likelihoods that fit.

Shapes: ``N`` examples, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaectl.config.spec import SPLITS
from vaectl.data.info import DataInfo
from vaectl.data.survey import Tally, in_pieces
from vaectl.data.units import Kind
from vaectl.errors import amount

# number of classes that a line names
SHOWN_CLASSES = 12
# number of columns that a line names
SHOWN_COLUMNS = 8


@dataclass(frozen=True)
class Report:
    """The properties of a data set. Values are in units of the model, where a byte is k / 255.

    Attributes:
        name, shape, support: As in ``DataInfo``.
        stored: Type of the stored numbers: uint8 or float32.
        sizes: Number of examples by split.
        low, high, mean, std: Range, mean and standard deviation of all numbers.
        binary: Whether the numbers are 0 and 1 and both occur.
        constant_pixels: Number of pixels that are the same in every example.
        duplicates: Number of examples that exactly equal an earlier one.
        test_in_train: Number of test examples that exactly equal a training example.
        classes: Number of examples by class name; empty if there are no labels.
        left_out: Number of examples that could not be used.
        streamed: Whether the examples are streamed.
        columns: Name, kind, smallest and largest number of each named column of a table; empty for other data.
        scale: How the model sees real numbers, and whether that is hard to learn; empty for other numbers.
        likelihoods: Names of the likelihoods that fit, the best first.
        why: The reason, as a sentence.
    """

    name: str
    shape: tuple[int, ...]
    support: str
    stored: str
    sizes: Mapping[str, int]
    low: float
    high: float
    mean: float
    std: float
    binary: bool
    constant_pixels: int
    duplicates: int
    test_in_train: int
    classes: Mapping[str, int]
    left_out: int
    streamed: bool
    columns: tuple[tuple[str, Kind, float, float], ...]
    scale: str
    likelihoods: tuple[str, ...]
    why: str

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        lists: dict[str, Any] = {"shape": list(self.shape), "likelihoods": list(self.likelihoods)}
        lists["columns"] = [list(column) for column in self.columns]
        return dataclasses.asdict(self) | lists | {"sizes": dict(self.sizes), "classes": dict(self.classes)}

    def rows(self) -> list[tuple[str, str]]:
        """The report as pairs of a name and a text."""
        channels, height, width = self.shape
        what = amount(width, "column") if (channels, height) == (1, 1) else f"{channels} x {height} x {width}"
        sizes = ", ".join(f"{self.sizes[split]:,} {split}" for split in SPLITS)
        lines = [
            ("examples", sizes + (f"; {self.left_out:,} left out" if self.left_out else "")),
            ("shape", what + (", streamed" if self.streamed else "")),
            ("values", f"{KINDS[self.support]} ({self.stored}), {self.low:.4g} to {self.high:.4g}, "
                       f"mean {self.mean:.4g}, standard deviation {self.std:.4g}"),
        ]  # fmt: skip
        if self.columns:
            some = ", ".join(_column_text(*column) for column in self.columns[:SHOWN_COLUMNS])
            others = len(self.columns) - SHOWN_COLUMNS
            lines.append(("columns", some + (f" and {others} more" if others > 0 else "")))
        if self.scale:
            lines.append(("scale", self.scale))
        if self.classes:
            largest = sorted(self.classes.items(), key=lambda item: -item[1])[:SHOWN_CLASSES]
            others = len(self.classes) - len(largest)
            counts = ", ".join(f"{name} {count:,}" for name, count in largest)
            lines.append(("classes", f"{len(self.classes)}: {counts}" + (f" and {others} more" if others else "")))
        pixels = int(np.prod(self.shape))
        if self.constant_pixels:
            advice = ""
            if "gaussian" in self.likelihoods:
                advice = "; there a gaussian's learned scale shrinks to its floor, which gains meaningless nats"
            lines.append(("constant", f"{self.constant_pixels:,} of {pixels:,} pixels are the same everywhere{advice}"))
        if self.duplicates:
            also = "is also a training example" if self.test_in_train == 1 else "are also training examples"
            shared = f", and {amount(self.test_in_train, 'test example')} {also}"
            lines.append(("duplicates", f"{self.duplicates:,} exact" + (shared if self.test_in_train else "")))
        lines.append(("likelihood", f"{' or '.join(self.likelihoods)}: {self.why}"))
        return lines


KINDS = {"binary": "binary", "bytes": "bytes", "unit": "real numbers in [0, 1]", "real": "real numbers"}


def fitting(support: str, shape: Sequence[int], *, ends: bool = False) -> tuple[tuple[str, ...], str]:
    """The names of the likelihoods that fit, the best first, and the reason.

    Args:
        support: As in ``DataInfo``.
        shape: X.
        ends: Whether many values are at or near 0 and 1.
    """
    if support == "binary":
        return ("bernoulli",), "a pixel is 0 or 1, and its log-probability is exact"
    if support == "bytes" and shape[0] in (1, 2):
        return (
            ("bernoulli", "discretized-logistic"),
            "bernoulli is the grey-level cross-entropy, not a density; discretized-logistic is a probability of bytes",
        )
    if support == "bytes":
        return (
            ("discretized-logistic", "gaussian"),
            "discretized-logistic is a probability of bytes; bernoulli would treat colours as probabilities",
        )
    if support == "unit":
        names = ("continuous-bernoulli", "gaussian")
        return (names, "values lie at both ends of [0, 1]") if ends else (names[::-1], "values lie inside [0, 1]")
    return ("gaussian", "laplace"), "the values are real numbers"


def _repetitions(digests: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """How many examples repeat another one, and how many test examples are in the training or validation split."""
    # half of a digest takes less memory: two of 10 million different examples share it with a chance of 3 in a million
    marks = [np.ascontiguousarray(digests[split]).view(np.uint64)[:, 0] for split in SPLITS]
    test, known = marks.pop(), np.concatenate(marks)
    known.sort()
    place = np.searchsorted(known, test)
    known_tests = known[np.minimum(place, max(0, len(known) - 1))] == test if len(known) else np.zeros(len(test), bool)
    new = np.sort(test[~known_tests])
    duplicates = sum(int((values[1:] == values[:-1]).sum()) for values in (known, new)) + int(known_tests.sum())
    return duplicates, int(known_tests.sum())


def _columns(info: DataInfo, tally: Tally) -> tuple[tuple[str, Kind, float, float], ...]:
    lows, highs = tally.low.ravel().tolist(), tally.high.ravel().tolist()
    return tuple(
        (column.name, column.kind, low, high) for column, low, high in zip(info.columns, lows, highs, strict=False)
    )


def _column_text(name: str, kind: Kind, low: float, high: float) -> str:
    """A column in a few words: ``age 18 to 90``."""
    if kind == "bool":
        return f"{name} true or false"
    return f"{name} {low:.0f} to {high:.0f}" if kind == "whole" else f"{name} {low:.4g} to {high:.4g}"


def _scale(info: DataInfo) -> str:
    """How a model sees real numbers, with a remark if nobody scales numbers that are hard to learn."""
    if info.units is None:
        return ""
    if info.hard_scale:
        return f"{info.hard_scale}, which is hard to learn without scaling: --normalize standard"
    return info.units.text


def report_of(
    info: DataInfo,
    tally: Tally,
    digests: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    *,
    stored: str,
    left_out: int = 0,
    streamed: bool = False,
) -> Report:
    """Build the report from the results of a pass over a data set.

    Args:
        info: The description of the data set.
        tally: Statistics of its numbers.
        digests: A digest of each example by split, uint8 (N, 16), or the first 8 bytes of each.
        labels: Class of each example by split, int64 (N,), -1 if it has none.
        stored: Type of the stored numbers.
        left_out: Number of examples that could not be used.
        streamed: Whether the examples are streamed.
    """
    duplicates, repeated = _repetitions(digests)
    counts = Counter[int]()
    for piece in (piece for split in SPLITS for piece in in_pieces(labels[split])):
        kinds, numbers = np.unique(piece, return_counts=True)
        counts.update(dict(zip(kinds.tolist(), numbers.tolist(), strict=True)))
    class_counts = {
        info.classes[kind] if 0 <= kind < len(info.classes) else str(kind): count
        for kind, count in sorted(counts.items())
        if kind != -1
    }
    low, high = tally.range
    # U-shaped: more than half of the variance of numbers that are only 0 and 1
    ends = tally.std**2 > 0.5 * tally.mean * (1 - tally.mean)
    likelihoods, why = fitting(info.support, info.shape, ends=ends)
    return Report(
        info.name, info.shape, info.support, stored, dict(info.sizes), low, high, tally.mean, tally.std, tally.binary,
        tally.constant, duplicates, repeated,
        class_counts, left_out, streamed, _columns(info, tally), _scale(info), likelihoods, why,
    )  # fmt: skip
