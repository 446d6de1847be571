"""The splits of own data: those of the source, and those held out from its training part.

Shapes: ``N`` examples of a split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vaectl.config.spec import SPLITS
from vaectl.config.values import Binarize
from vaectl.data.base import Split, binarized, held_out
from vaectl.data.own.holding import common_classes, held_out_groups, held_out_with_classes, rare_text
from vaectl.data.own.packed import packed
from vaectl.data.own.rows import Rows
from vaectl.data.own.source import Source
from vaectl.data.own.streamed import StreamedSplit
from vaectl.data.survey import Survey, in_pieces
from vaectl.errors import DataError, amount

# random stream of the test split; the validation split uses stream 0
TEST_STREAM = 1


@dataclass(frozen=True)
class Division:
    """The assignment of examples to splits.

    Attributes:
        part: The part of the source from which each split is taken.
        positions: Position of each example among the usable ones of the part, int64 (N,) by split, ascending.
        rows: Row of each example in the part, int64 (N,) by split.
        labels: int64 (N,) by split.
        shared: Positions in the training part that are not test examples; training and validation share them.
    """

    part: Mapping[str, str]
    positions: Mapping[str, np.ndarray]
    rows: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    shared: np.ndarray


def divide(
    path: Path,
    source: Source,
    surveys: Mapping[str, Survey],
    test_fraction: float,
    validation_fraction: float,
    *,
    divided: bool = True,
    by_class: bool = True,
    note: Callable[[str], None] = lambda sentence: None,
) -> Division:
    """Divide the usable examples into splits, in the same way for every seed.

    Groups stay whole. Without groups the division is random, or by class if the test split would lack a class of three
    examples or more. Without ``divided`` only the splits of the source itself are used.

    Raises:
        DataError: No training or test examples would be left.
    """
    part = {split: split if split in surveys else "train" for split in SPLITS}
    positions = {split: np.arange(len(part_survey.good)) for split, part_survey in surveys.items()}
    shared = positions["train"]
    if not divided:
        positions = {split: positions.get(split, np.arange(0)) for split in SPLITS}
        return _division(part, positions, source, surveys, shared)
    hold = _Holding(source, surveys["train"].good, by_class=by_class)
    if "test" not in surveys:
        stay, positions["test"] = hold.out("test", shared, test_fraction, TEST_STREAM, reserve=2)
        shared = shared[stay]
    positions["train"] = shared
    if "validation" not in surveys:
        stay, validation = hold.out("validation", shared, validation_fraction, 0, reserve=1)
        positions["train"], positions["validation"] = shared[stay], shared[validation]
    if hold.by_class:
        note(
            f"{path.name}: examples for {' and '.join(hold.by_class)} are taken class by class, because a random "
            "choice left out a class"
        )
    if not len(positions["train"]) or not len(positions["test"]):
        raise DataError(
            f"{path}: none of its {len(surveys['train'].good)} examples is left to train on",
            hint="lower --test-fraction or --validation-fraction, or add examples",
        )
    division = _division(part, positions, source, surveys, shared)
    if (remark := rare_text(division.labels, source.classes)) is not None:
        note(f"{path.name}: {remark}")
    _note_shared_groups(path, source, division, note)
    return division


class _Holding:
    """Holds out examples of the training part, and keeps account of how.

    Args:
        source: The source.
        rows: Rows of the usable examples of its training part, int64 (N,).
        by_class: Whether examples may be held out by class.
    """

    def __init__(self, source: Source, rows: np.ndarray, *, by_class: bool) -> None:
        self._labels = source.labels["train"][rows]
        self._groups = None if source.groups is None else source.groups["train"][rows]
        self._common = common_classes(self._labels) if by_class else self._labels[:0]
        self.by_class: list[str] = []

    def out(
        self, split: str, positions: np.ndarray, fraction: float, stream: int, *, reserve: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Hold out some of the usable examples at ``positions``: indices among them to keep and to hold out."""
        if self._groups is not None:
            return held_out_groups(self._groups[positions], fraction, stream)
        if split == "validation" and not self.by_class:
            # a run's fingerprint does not cover the choice, so that of before must stay the same
            return held_out(len(positions), fraction, stream)
        labels = self._labels[positions]
        stay, held, by_class = held_out_with_classes(labels, fraction, stream, self._common, reserve=reserve)
        self.by_class += [split] * by_class
        return stay, held


def _note_shared_groups(path: Path, source: Source, division: Division, note: Callable[[str], None]) -> None:
    """Remark on groups that are in the training split and in another that the source itself has."""
    if source.groups is None:
        return
    groups = {split: np.unique(source.groups[division.part[split]][division.rows[split]]) for split in SPLITS}
    for split in ("validation", "test"):
        if count := len(np.intersect1d(groups["train"], groups[split])):
            note(f"{path.name}: {amount(count, 'group')} of the {split} split also in the training split")


def _division(
    part: Mapping[str, str],
    positions: Mapping[str, np.ndarray],
    source: Source,
    surveys: Mapping[str, Survey],
    shared: np.ndarray,
) -> Division:
    rows = {split: surveys[part[split]].rows(positions[split]) for split in SPLITS}
    labels = {split: source.labels[part[split]][rows[split]] for split in SPLITS}
    return Division(part, positions, rows, labels, shared)


def resident(
    division: Division, source: Source, surveys: Mapping[str, Survey], binarize: Binarize, seed: int
) -> dict[str, Split]:
    """Build resident splits from the images in the surveys, binarised as in ``base.split_data``."""
    images = {}
    for part, part_survey in surveys.items():
        assert part_survey.images is not None
        images[part] = part_survey.images
    grey = {split: images[division.part[split]].take(division.positions[split], axis=0) for split in SPLITS}
    pixels, fresh = grey, None
    if binarize != "none":
        random = np.random.RandomState(seed)
        own = division.part["validation"] == "validation"
        train = np.searchsorted(division.shared, division.positions["train"])
        validation = np.searchsorted(division.shared, division.positions["validation"]) if not own else train[:0]
        draws = binarized(images["train"].take(division.shared, axis=0), random, train, validation)
        tested = binarized(grey["test"], random, np.arange(len(grey["test"])))
        if own:
            draws[1:] = binarized(grey["validation"], random, np.arange(len(grey["validation"])))
        pixels = {"train": draws[0], "validation": draws[1], "test": tested[0]}
        fresh = torch.from_numpy(grey["train"]) if binarize == "dynamic" else None
    return {
        split: Split(
            torch.from_numpy(pixels[split]),
            torch.from_numpy(division.labels[split]),
            torch.from_numpy(division.rows[split]),
            fresh if split == "train" else None,
            _factors(source, division, split),
        )
        for split in SPLITS
    }


def streamed(
    division: Division,
    source: Source,
    binarize: Binarize,
    seed: int,
    progress: Callable[[str, int, int], None] = lambda split, done, total: None,
) -> dict[str, StreamedSplit]:
    """Build streamed splits with the same binary draws as ``resident``.

    Args:
        division: The assignment of examples to splits.
        source: The source of the examples.
        binarize: Whether and how pixels become 0 or 1.
        seed: Seed of the images that are drawn once.
        progress: Called with (split, examples drawn, total).
    """
    grey: dict[str, Rows] = {split: source.parts[division.part[split]] for split in SPLITS}
    pixels = dict(grey)
    if binarize != "none":
        random = np.random.RandomState(seed)
        shared = division.part["validation"] == "train"
        everything = np.sort(np.concatenate([division.rows[split] for split in ("train", *["validation"] * shared)]))
        for split, rows in (("train", everything), ("test", division.rows["test"])):
            pixels[split] = packed(grey[split], rows, random, _told(progress, split, len(rows)))
        rows = division.rows["validation"]
        pixels["validation"] = pixels["train"]
        if not shared:
            pixels["validation"] = packed(grey["validation"], rows, random, _told(progress, "validation", len(rows)))
    return {
        split: StreamedSplit(
            pixels[split],
            division.rows[split],
            torch.from_numpy(division.labels[split]),
            grey=grey[split] if binarize == "dynamic" and split == "train" else None,
            factors=_factors(source, division, split),
        )
        for split in SPLITS
    }


def _factors(source: Source, division: Division, split: str) -> dict[str, np.ndarray]:
    """The known factors of a split's examples."""
    factors = source.factors.get(division.part[split], {})
    return {name: values[division.rows[split]] for name, values in factors.items()}


def _told(progress: Callable[[str, int, int], None], split: str, total: int) -> Callable[[int], None]:
    return lambda done: progress(split, done, total)


def fingerprint(division: Division, source: Source, surveys: Mapping[str, Survey]) -> str:
    """SHA-256 of the content and the label of every example; it does not depend on the validation fraction."""
    digest = hashlib.sha256()
    parts = {"train": division.shared, "test": division.positions["test"]}
    if division.part["validation"] == "validation":
        parts["validation"] = division.positions["validation"]
    for split, positions in parts.items():
        part = division.part[split]
        rows, part_survey = source.parts[part], surveys[part]
        digest.update(f"{rows.dtype}{(len(positions), *rows.shape)}".encode())
        for piece in in_pieces(positions):
            digest.update(part_survey.digests[piece].data)
        for piece in in_pieces(positions):
            digest.update(source.labels[part][part_survey.rows(piece)].data)
    return digest.hexdigest()
