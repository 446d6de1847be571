"""A person's own data: a path -> Data, resident or streamed, with a report of what was found.

Shapes: ``N`` examples.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from vaectl.data.archives import open_npy, open_npz, open_safetensors
from vaectl.data.base import Binarize, Data, Raw, Store, drawn_text, held_out, split_data
from vaectl.data.changes import change_of
from vaectl.data.decoding import strict_pictures
from vaectl.data.folder import open_folder
from vaectl.data.info import DataInfo
from vaectl.data.packed import packed
from vaectl.data.report import report_of
from vaectl.data.rows import Rows
from vaectl.data.source import Asked, Source, refuse_bad
from vaectl.data.streamed import StreamedSplit
from vaectl.data.survey import Survey, Tally, survey
from vaectl.data.tables import open_table
from vaectl.errors import DataError, SettingError
from vaectl.reading import size_text
from vaectl.runtime import memory
from vaectl.spec import SPLITS

Storage = Literal["auto", "resident", "stream"]

OPENERS: dict[str, Callable[[Path, Asked], Source]] = {
    ".npy": open_npy,
    ".npz": open_npz,
    ".safetensors": open_safetensors,
    ".csv": open_table,
    ".parquet": open_table,
}
# the part of this machine's memory above which examples are not held
RESIDENT_PART = 4
# which choice of rows is which: that of the validation split is 0
TEST_STREAM = 1
TEST_FRACTION, VALIDATION_FRACTION = 0.1, 1 / 12


@dataclass(frozen=True)
class Options:
    """What is asked of own data; see ``data.load``."""

    validation_fraction: float = VALIDATION_FRACTION
    test_fraction: float = TEST_FRACTION
    binarize: Binarize = "none"
    binarize_seed: int = 0
    image_size: tuple[int, ...] | None = None
    grayscale: bool = False
    skip_bad: bool = False
    storage: Storage = "auto"
    label_column: str | None = None


def load_own(name: str, store: Store, options: Options) -> Data:
    """The data at a path.

    Raises:
        DataError: Nothing usable is there, or some of it is bad and ``skip_bad`` was not asked for.
        SettingError: An option does not go with such data.
    """
    path = Path(name)
    asked = Asked(
        change_of(options.image_size, options.grayscale),
        options.label_column,
        store.support,
        store.note,
        store.progress,
    )
    with strict_pictures():
        source = _opened(path, asked)
        _check_options(path, source, options)
        keep = _keeps(path, source, options, store)
        surveys, tally = _surveyed(path, source, keep, asked)
    bad = list(source.bad)
    for part, found in surveys.items():
        bad += [(source.parts[part].name(row), problem) for row, problem in sorted(found.bad.items())]
    total = sum(map(len, source.parts.values())) + len(source.bad)
    if bad and not options.skip_bad:
        refuse_bad(path.name, source, sorted(bad) if source.word == "images" else bad, total)
    for part, found in surveys.items():
        if not len(found.good):
            raise DataError(f"{path}: of its {part} part nothing can be used" + (f"; {_one(bad)}" if bad else ""))
    if bad:
        store.note(f"{path.name}: {len(bad)} of {total} {source.word} are left out; {_one(bad)}")
    return _divided(path, source, surveys, tally, options, store, left_out=len(bad))


def _one(bad: list[tuple[str, str]]) -> str:
    name, problem = bad[0]
    return f"{'one' if len(bad) > 1 else 'it'} is {name}, which {problem}" if len(bad) > 1 else f"{name} {problem}"


def _opened(path: Path, asked: Asked) -> Source:
    if not os.path.lexists(path):
        raise DataError(
            f"there is no {path}", hint="name a folder of images or a file, or a built-in data set such as mnist"
        )
    if os.path.isdir(path):
        if asked.label_column is not None:
            raise SettingError("data.label_column", f"is for tables; the labels of {path.name} are its folders")
        return open_folder(path, asked)
    if path.suffix.lower() not in OPENERS:
        raise DataError(
            f"{path}: unknown format '{path.suffix}'", hint=f"a folder of images, or a file: {', '.join(OPENERS)}"
        )
    if not os.path.isfile(path):
        raise DataError(f"cannot read {path}: it is no regular file")
    return OPENERS[path.suffix.lower()](path, asked)


def _check_options(path: Path, source: Source, options: Options) -> None:
    """Refuse what would be ignored."""
    for part, name in (("test", "test_fraction"), ("validation", "validation_fraction")):
        if part in source.parts and getattr(options, name) != getattr(Options(), name):
            raise SettingError(f"data.{name}", f"is for data without a {part} set; {path.name} has one")


def _keeps(path: Path, source: Source, options: Options, store: Store) -> bool:
    """Whether the examples are held in memory."""
    rows = source.parts["train"]
    each = rows.dtype.itemsize * int(np.prod(rows.shape))
    count = sum(map(len, source.parts.values()))
    limit = memory() // RESIDENT_PART
    if options.storage == "stream" and source.held is not None:
        raise SettingError("data.storage", f"cannot be stream: {source.held}")
    large = count * each > limit
    if options.storage == "resident" or (not large and options.storage == "auto"):
        return True
    if source.held is not None:
        return True  # it is in memory already
    if options.storage == "auto":
        store.note(
            f"{path.name}: {size_text(count * each)} are more than a quarter of memory, so examples are streamed"
        )
    return False


def _surveyed(path: Path, source: Source, keep: bool, asked: Asked) -> tuple[dict[str, Survey], Tally]:
    """One pass over every part."""
    tally = Tally(next(iter(source.parts.values())).shape)
    total, before, surveys = sum(map(len, source.parts.values())), 0, dict[str, Survey]()
    for part, rows in source.parts.items():

        def progress(done: int, before: int = before) -> None:
            asked.progress(f"{path.name}: reading", before + done, total)

        surveys[part] = survey(rows, tally, keep=keep, progress=progress)
        before += len(rows)
    return surveys, tally


def _divided(
    path: Path,
    source: Source,
    surveys: Mapping[str, Survey],
    tally: Tally,
    options: Options,
    store: Store,
    *,
    left_out: int,
) -> Data:
    """The splits of what can be used: those of the source, and what is held out of its training part."""
    # split -> its part, and places among what of the part can be used
    chosen = {part: (part, np.arange(len(found.good))) for part, found in surveys.items()}
    count = len(surveys["train"].good)
    if "test" not in chosen:
        stay, held = held_out(count, options.test_fraction, TEST_STREAM)
        chosen["train"], chosen["test"] = ("train", stay), ("train", held)
    everything = chosen["train"][1]
    if "validation" not in chosen:
        stay, held = held_out(len(everything), options.validation_fraction)
        chosen["train"], chosen["validation"] = ("train", everything[stay]), ("train", everything[held])
    if not len(chosen["train"][1]) or not len(chosen["test"][1]):
        raise DataError(
            f"{path}: of {count} examples none is left to train on",
            hint="lower --test-fraction or --validation-fraction, or give it more",
        )
    labels = {split: source.labels[part][surveys[part].good][places] for split, (part, places) in chosen.items()}
    digests = {split: surveys[part].digests[places] for split, (part, places) in chosen.items()}
    ranges = surveys["train"].ranges[chosen["train"][1]]
    low, high = float(ranges[:, 0].min()), float(ranges[:, 1].max())
    rows = source.parts["train"]
    support = _support(rows, tally, store.support)
    if options.binarize != "none" and support not in ("bytes", "unit"):
        raise SettingError("data.binarize", f"is for grey levels; {path.name} is {support}")
    keep = surveys["train"].images is not None
    places = {split: surveys[part].good[places] for split, (part, places) in chosen.items()}
    data_range = (low, high) if support == "real" else (0.0, 1.0)
    fingerprint = _fingerprint(source, surveys, chosen, everything)
    if keep:
        images = {}
        for part, found in surveys.items():
            assert found.images is not None
            images[part] = found.images
        train, train_labels = images["train"], source.labels["train"][surveys["train"].good]
        test = images["test"] if "test" in images else train[chosen["test"][1]]
        before = everything if "test" not in surveys else slice(None)
        raw = Raw(
            train[before], train_labels[before], test, labels["test"],
            validation_images=images.get("validation"),
            validation_labels=labels["validation"] if "validation" in images else None,
            support=support, scaling=source.scaling, fingerprint=fingerprint, classes=source.classes, range=data_range,
            rows={"train": surveys["train"].good[before], "test": places["test"], "validation": places["validation"]},
        )  # fmt: skip
        data = split_data(path.name, raw, options.validation_fraction, options.binarize, options.binarize_seed)
    else:
        sources, scaling = dict(source.parts), source.scaling
        if options.binarize != "none":
            # in the order in which ``split_data`` draws
            random = np.random.RandomState(options.binarize_seed)
            drawn = {"train": surveys["train"].good[everything], "test": places["test"]}
            if "validation" in surveys:
                drawn["validation"] = places["validation"]
            binary = {}
            for split, rows_drawn in drawn.items():

                def progress(done: int, total: int = len(rows_drawn), split: str = split) -> None:
                    store.progress(f"{path.name}: drawing {split} images", done, total)

                binary[split] = packed(source.parts[chosen[split][0]], rows_drawn, random, progress)
            binary.setdefault("validation", binary["train"])
            sources, scaling = dict(binary), f"{scaling}, {drawn_text(options.binarize_seed)}"
            support = "binary"
        splits = {
            split: StreamedSplit(
                sources[split if options.binarize != "none" else part],
                places[split],
                torch.from_numpy(labels[split]),
                grey=source.parts[part] if options.binarize == "dynamic" and split == "train" else None,
            )
            for split, (part, _) in chosen.items()
        }
        sizes = {split: len(splits[split]) for split in SPLITS}
        info = DataInfo(
            path.name, rows.shape, support, fingerprint, sizes, scaling, source.classes, data_range
        )  # fmt: skip
        data = Data(splits["train"], splits["validation"], splits["test"], info)
    report = report_of(data.info, tally, digests, labels, stored=str(rows.dtype), left_out=left_out, streamed=not keep)
    return Data(data.train, data.validation, data.test, data.info, report)


def _support(rows: Rows, tally: Tally, wanted: str | None) -> str:
    """What the numbers are: as in ``DataInfo``, told by them unless a model is there that takes no other."""
    if rows.dtype == np.uint8:
        found = "binary" if tally.binary else "bytes"
    else:
        low, high = tally.range
        found = "unit" if low >= 0 and high <= 1 else "real"
    wider = {"binary": ("bytes", "unit", "real"), "bytes": ("unit",), "unit": ("real",), "real": ()}
    return wanted if wanted is not None and wanted in wider[found] else found


def _fingerprint(
    source: Source,
    surveys: Mapping[str, Survey],
    chosen: Mapping[str, tuple[str, np.ndarray]],
    everything: np.ndarray,
) -> str:
    """SHA-256 of what each example holds and of its label: the same however much is held out for validation."""
    digest = hashlib.sha256()
    parts = {"train": ("train", everything), "test": chosen["test"]}
    if "validation" in surveys:
        parts["validation"] = chosen["validation"]
    for part, places in parts.values():
        rows, found = source.parts[part], surveys[part]
        digest.update(f"{rows.dtype}{(len(places), *rows.shape)}".encode())
        digest.update(np.ascontiguousarray(found.digests[places]).data)
        digest.update(np.ascontiguousarray(source.labels[part][found.good][places]).data)
    return digest.hexdigest()
