"""The splits of own data: those that the source has, and those held out of its training part.

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
from vaectl.data.own.packed import packed
from vaectl.data.own.rows import Rows
from vaectl.data.own.source import Source
from vaectl.data.own.streamed import StreamedSplit
from vaectl.data.survey import Survey
from vaectl.errors import DataError

# which choice of rows this is: that of the validation split is 0
TEST_STREAM = 1


@dataclass(frozen=True)
class Division:
    """Which examples are in which split.

    Attributes:
        part: Part of the source that each split is of.
        places: Place of each example among those of the part that can be used, int64 (N,) by split, ascending.
        rows: Row of each in the part, int64 (N,) by split.
        labels: int64 (N,) by split.
        kept: Places of what of the training part is no test, which training and validation share.
    """

    part: Mapping[str, str]
    places: Mapping[str, np.ndarray]
    rows: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    kept: np.ndarray


def divide(
    path: Path,
    source: Source,
    surveys: Mapping[str, Survey],
    test_fraction: float,
    validation_fraction: float,
    *,
    divided: bool = True,
) -> Division:
    """Divide what can be used, the same way whatever the run's seed; unless ``divided`` only as the source does.

    Raises:
        DataError: Nothing would be left to train on.
    """
    part = {split: split if split in surveys else "train" for split in SPLITS}
    places = {split: np.arange(len(found.good)) for split, found in surveys.items()}
    kept = places["train"]
    if not divided:
        places = {split: places.get(split, np.arange(0)) for split in SPLITS}
        return _division(part, places, source, surveys, kept)
    if "test" not in surveys:
        kept, places["test"] = held_out(len(kept), test_fraction, TEST_STREAM)
    places["train"] = kept
    if "validation" not in surveys:
        stay, held = held_out(len(kept), validation_fraction)
        places["train"], places["validation"] = kept[stay], kept[held]
    if not len(places["train"]) or not len(places["test"]):
        raise DataError(
            f"{path}: of {len(surveys['train'].good)} examples none is left to train on",
            hint="lower --test-fraction or --validation-fraction, or give it more",
        )
    return _division(part, places, source, surveys, kept)


def _division(
    part: Mapping[str, str],
    places: Mapping[str, np.ndarray],
    source: Source,
    surveys: Mapping[str, Survey],
    kept: np.ndarray,
) -> Division:
    rows = {split: surveys[part[split]].good[places[split]] for split in SPLITS}
    labels = {split: source.labels[part[split]][rows[split]] for split in SPLITS}
    return Division(part, places, rows, labels, kept)


def resident(
    division: Division, source: Source, surveys: Mapping[str, Survey], binarize: Binarize, seed: int
) -> dict[str, Split]:
    """The splits of examples that the surveys kept, binarised as ``base.split_data`` does it."""
    images = {}
    for part, found in surveys.items():
        assert found.images is not None
        images[part] = found.images
    grey = {split: images[division.part[split]].take(division.places[split], axis=0) for split in SPLITS}
    shown, fresh = grey, None
    if binarize != "none":
        random = np.random.RandomState(seed)
        own = division.part["validation"] == "validation"
        train = np.searchsorted(division.kept, division.places["train"])
        held = np.searchsorted(division.kept, division.places["validation"]) if not own else train[:0]
        drawn = binarized(images["train"].take(division.kept, axis=0), random, train, held)
        tested = binarized(grey["test"], random, np.arange(len(grey["test"])))
        if own:
            drawn[1:] = binarized(grey["validation"], random, np.arange(len(grey["validation"])))
        shown = {"train": drawn[0], "validation": drawn[1], "test": tested[0]}
        fresh = torch.from_numpy(grey["train"]) if binarize == "dynamic" else None
    return {
        split: Split(
            torch.from_numpy(shown[split]),
            torch.from_numpy(division.labels[split]),
            torch.from_numpy(division.rows[split]),
            fresh if split == "train" else None,
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
    """The splits of examples that are read as they are needed, with the draws that ``resident`` makes.

    Args:
        division: Which examples are in which split.
        source: What they are read from.
        binarize: Whether and how pixels become 0 or 1.
        seed: Seed of what is drawn once.
        progress: Called with (split, examples drawn, in all).
    """
    grey: dict[str, Rows] = {split: source.parts[division.part[split]] for split in SPLITS}
    shown = dict(grey)
    if binarize != "none":
        random = np.random.RandomState(seed)
        shared = division.part["validation"] == "train"
        everything = np.sort(np.concatenate([division.rows[split] for split in ("train", *["validation"] * shared)]))
        for split, rows in (("train", everything), ("test", division.rows["test"])):
            shown[split] = packed(grey[split], rows, random, _told(progress, split, len(rows)))
        rows = division.rows["validation"]
        shown["validation"] = shown["train"]
        if not shared:
            shown["validation"] = packed(grey["validation"], rows, random, _told(progress, "validation", len(rows)))
    return {
        split: StreamedSplit(
            shown[split],
            division.rows[split],
            torch.from_numpy(division.labels[split]),
            grey=grey[split] if binarize == "dynamic" and split == "train" else None,
        )
        for split in SPLITS
    }


def _told(progress: Callable[[str, int, int], None], split: str, total: int) -> Callable[[int], None]:
    return lambda done: progress(split, done, total)


def fingerprint(division: Division, source: Source, surveys: Mapping[str, Survey]) -> str:
    """SHA-256 of what each example holds and of its label: the same however much is held out for validation."""
    digest = hashlib.sha256()
    parts = {"train": division.kept, "test": division.places["test"]}
    if division.part["validation"] == "validation":
        parts["validation"] = division.places["validation"]
    for split, places in parts.items():
        part = division.part[split]
        rows, found = source.parts[part], surveys[part]
        digest.update(f"{rows.dtype}{(len(places), *rows.shape)}".encode())
        digest.update(np.ascontiguousarray(found.digests[places]).data)
        digest.update(np.ascontiguousarray(source.labels[part][found.good][places]).data)
    return digest.hexdigest()
