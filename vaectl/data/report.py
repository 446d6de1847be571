"""The report about a data set, made before a training, and the likelihood that fits it.

Shapes: ``N`` examples, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaectl.config.spec import SPLITS
from vaectl.data.info import DataInfo
from vaectl.data.survey import Tally

# classes that a line names
SHOWN_CLASSES = 12


@dataclass(frozen=True)
class Report:
    """What was found in a data set. Numbers are in units of the model, where a byte is k / 255.

    Attributes:
        name, shape, support: As in ``DataInfo``.
        stored: Type of a stored number: uint8 or float32.
        sizes: Examples by split.
        low, high, mean, std: Of all numbers.
        binary: Whether there are 0 and 1 and nothing else.
        constant_pixels: Pixels that are the same in every example.
        duplicates: Examples whose numbers are exactly those of an earlier one.
        test_in_train: Test examples whose numbers are exactly those of a training example.
        classes: Examples of each class by its name; empty where there are no labels.
        left_out: Examples that could not be used.
        streamed: Whether they are read as they are needed.
        likelihoods: Names of likelihoods that fit, the best first.
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
    likelihoods: tuple[str, ...]
    why: str

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        lists = {"shape": list(self.shape), "likelihoods": list(self.likelihoods)}
        return dataclasses.asdict(self) | lists | {"sizes": dict(self.sizes), "classes": dict(self.classes)}

    def rows(self) -> list[tuple[str, str]]:
        """What there is to know, as names and texts."""
        channels, height, width = self.shape
        what = f"{width} columns" if (channels, height) == (1, 1) else f"{channels} x {height} x {width}"
        sizes = ", ".join(f"{self.sizes[split]:,} {split}" for split in SPLITS)
        found = [
            ("examples", sizes + (f"; {self.left_out:,} left out" if self.left_out else "")),
            ("shape", what + (", streamed" if self.streamed else "")),
            ("values", f"{KINDS[self.support]} ({self.stored}), {self.low:.4g} to {self.high:.4g}, "
                       f"mean {self.mean:.4g}, standard deviation {self.std:.4g}"),
        ]  # fmt: skip
        if self.classes:
            largest = sorted(self.classes.items(), key=lambda item: -item[1])[:SHOWN_CLASSES]
            others = len(self.classes) - len(largest)
            counts = ", ".join(f"{name} {count:,}" for name, count in largest)
            found.append(("classes", f"{len(self.classes)}: {counts}" + (f" and {others} more" if others else "")))
        pixels = int(np.prod(self.shape))
        if self.constant_pixels:
            advice = ""
            if "gaussian" in self.likelihoods:
                advice = "; a gaussian's learned scale narrows there to its floor, for nats that say nothing"
            found.append(("constant", f"{self.constant_pixels:,} of {pixels:,} pixels are the same everywhere{advice}"))
        if self.duplicates:
            shared = f", and {self.test_in_train:,} test examples are also training examples"
            found.append(("duplicates", f"{self.duplicates:,} exact" + (shared if self.test_in_train else "")))
        found.append(("likelihood", f"{' or '.join(self.likelihoods)}: {self.why}"))
        return found


KINDS = {"binary": "binary", "bytes": "bytes", "unit": "real numbers in [0, 1]", "real": "real numbers"}


def fitting(support: str, shape: Sequence[int], *, ends: bool = False) -> tuple[tuple[str, ...], str]:
    """The likelihoods that fit such data, the best first, and why.

    Args:
        support: As in ``DataInfo``.
        shape: X.
        ends: Whether much of the data lies at 0 and 1.
    """
    if support == "binary":
        return ("bernoulli",), "a pixel is 0 or 1, and its log-probability is exact"
    if support == "bytes" and shape[0] in (1, 2):
        return (
            ("bernoulli", "discretized-logistic"),
            "bernoulli is the grey-level cross-entropy, which is no density; discretized-logistic is one of bytes",
        )
    if support == "bytes":
        return (
            ("discretized-logistic", "gaussian"),
            "discretized-logistic is a probability of bytes; bernoulli takes colours for probabilities",
        )
    if support == "unit":
        names = ("continuous-bernoulli", "gaussian")
        return (names, "values lie at both ends of [0, 1]") if ends else (names[::-1], "values lie within [0, 1]")
    return ("gaussian", "laplace"), "the values are any real numbers"


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
    """The report of what a pass over a data set found.

    Args:
        info: The description of the data set.
        tally: What its numbers are.
        digests: A digest of each example by split, uint8 (N, 16).
        labels: Class of each example by split, int64 (N,), -1 where it has none.
        stored: Type of a stored number.
        left_out: Examples that could not be used.
        streamed: Whether examples are read as they are needed.
    """
    every = np.concatenate([digests[split] for split in SPLITS])
    _, number = np.unique(np.ascontiguousarray(every).view(f"V{every.shape[1]}")[:, 0], return_inverse=True)
    tests = len(digests["test"])
    known, tested = number[: len(number) - tests], number[len(number) - tests :]
    kinds, counts = np.unique(np.concatenate([labels[split] for split in SPLITS]), return_counts=True)
    named = {
        (info.classes[kind] if 0 <= kind < len(info.classes) else str(kind)): int(count)
        for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)
        if kind != -1
    }
    low, high = tally.range
    # a bathtub: more than half of the variance that numbers at the ends alone would have
    ends = tally.std**2 > 0.5 * tally.mean * (1 - tally.mean)
    likelihoods, why = fitting(info.support, info.shape, ends=ends)
    return Report(
        info.name, info.shape, info.support, stored, dict(info.sizes), low, high, tally.mean, tally.std, tally.binary,
        tally.constant, len(number) - len(np.unique(number)), int(np.isin(tested, known).sum()),
        named, left_out, streamed, likelihoods, why,
    )  # fmt: skip
