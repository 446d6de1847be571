"""Own data: a path -> Data, resident or streamed, with a data report.

Shapes: ``N`` examples.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from vaectl.config.datasets import DataOptions, located
from vaectl.config.spec import SPLITS
from vaectl.data.base import Data, Loading, drawn_text
from vaectl.data.changes import change_of
from vaectl.data.examples import Examples, edge_of
from vaectl.data.info import LARGEST_EXAMPLE, LONGEST_SIDE, DataInfo
from vaectl.data.own.division import divide, fingerprint, resident, streamed
from vaectl.data.own.joining import with_test
from vaectl.data.own.opening import opened
from vaectl.data.own.part_scales import Scales, check_scales
from vaectl.data.own.pictures.decoding import strict_pictures
from vaectl.data.own.pictures.depth import LARGEST_SIXTEEN, depth_remark
from vaectl.data.own.rows import SCALINGS, Rows
from vaectl.data.own.selected import files_of, selected, without_examples
from vaectl.data.own.source import Names, Reading, Source, check_count, refuse_bad, unlabelled
from vaectl.data.report import report_of
from vaectl.data.scale import fitted_units
from vaectl.data.survey import Survey, Tally, survey
from vaectl.errors import DataError, SettingError, amount
from vaectl.system.reading import size_text
from vaectl.system.runtime import memory

# examples larger than memory / RESIDENT_PART are streamed
RESIDENT_PART = 4


def load_own(name: str, loading: Loading, options: DataOptions) -> Data:
    """Load the data at a path.

    Raises:
        DataError: There are no usable examples, or some are bad and ``skip_bad`` is not set.
        SettingError: An option does not apply to these data.
    """
    path = Path(name)
    reading = Reading(
        options,
        change_of(options, lenient=loading.lenient),
        loading.support,
        loading.lenient,
        loading.most,
        loading.shape,
        None if loading.columns is None else Names("the model", loading.columns),
        loading.note,
        loading.progress,
    )
    with strict_pictures():
        source = opened(path, reading)
        if options.test is not None:
            source = with_test(path, source, Path(located(options.test)), reading, opened)
        if options.classes is not None:
            source, others = selected(path.name, source, options.classes)
            if others:  # files of images are left out before they are opened
                loading.note(f"{path.name}: {amount(others, 'example')} of other classes left out")
        _check_options(path, source, options, lenient=loading.lenient)
        _check_sizes(path, source)
        keep = _is_resident(path, source, options, loading)
        surveys, tally = _surveyed(path, source, keep, reading)
    for remark in () if loading.lenient else _remarks(source, tally, options):
        loading.note(f"{path.name}: {remark}")
    bad = list(source.bad)
    for part, part_survey in surveys.items():
        bad += [(source.parts[part].name(row), problem) for row, problem in sorted(part_survey.bad.items())]
    total = sum(map(len, source.parts.values())) + len(source.bad)
    if bad and not options.skip_bad:
        refuse_bad(path.name, source, sorted(bad) if source.word == "images" else bad, total)
    for part, part_survey in surveys.items():
        if not len(part_survey.good):
            raise DataError(f"{path}: no example of its {part} part can be used" + (f"; {_one(bad)}" if bad else ""))
    if bad:
        loading.note(f"{path.name}: {len(bad)} of {total} {source.word} are left out; {_one(bad)}")
    if keep:  # the survey holds the examples, and memory need not hold them twice
        parts = {part: without_examples(rows) for part, rows in source.parts.items()}
        source = dataclasses.replace(source, parts=parts)
    return _described(path, source, surveys, tally, options, loading, left_out=len(bad))


def _one(bad: list[tuple[str, str]]) -> str:
    name, problem = bad[0]
    return f"{'one is ' if len(bad) > 1 else ''}{name}: {problem}"


def _check_options(path: Path, source: Source, options: DataOptions, *, lenient: bool) -> None:
    """Refuse options that would be ignored."""
    for part, name in (("test", "test_fraction"), ("validation", "validation_fraction")):
        if part in source.parts and getattr(options, name) != getattr(DataOptions(), name):
            raise SettingError(f"data.{name}", f"is for data without a {part} split; {path.name} has one")
    for name, missing in (("drop_column", source.names is None), ("group_column", source.groups is None)):
        if getattr(options, name) is not None and missing and not lenient:
            raise SettingError(f"data.{name}", f"is for tables with named columns; {path.name} has none")


def _check_sizes(path: Path, source: Source) -> None:
    """Refuse examples that are too large for any run, and more of them than can be kept account of."""
    for rows in source.parts.values():
        if len(rows) and (math.prod(rows.shape) > LARGEST_EXAMPLE or max(rows.shape) > LONGEST_SIDE):
            raise DataError(
                f"{path}: an example of shape {rows.shape} is too large: at most {LARGEST_EXAMPLE:,} numbers, and "
                f"{LONGEST_SIDE:,} along a side",
                hint="resize images: --image-size 64",
            )
    check_count(path, source.parts.values())


def _is_resident(path: Path, source: Source, options: DataOptions, loading: Loading) -> bool:
    """Whether the examples are loaded into memory."""
    rows = source.parts["train"]
    each = rows.dtype.itemsize * int(np.prod(rows.shape))
    count = sum(map(len, source.parts.values()))
    limit = memory() // RESIDENT_PART
    if options.storage == "stream" and source.why_resident is not None:
        raise SettingError("data.storage", f"cannot be 'stream': {source.why_resident}")
    large = count * each > limit
    if options.storage == "resident" or (not large and options.storage == "auto"):
        return True
    if source.why_resident is not None:
        return True  # it is in memory already
    if options.storage == "auto":
        loading.note(
            f"{path.name}: {size_text(count * each)} are more than a quarter of memory, so examples are streamed"
        )
    return False


def _surveyed(path: Path, source: Source, keep: bool, reading: Reading) -> tuple[dict[str, Survey], Tally]:
    """Survey every part in one pass, and compare their scales.

    Raises:
        DataError: The parts are on different scales.
    """
    tally = Tally(next(iter(source.parts.values())).shape)
    scales = Scales(tally)
    total, before, surveys = sum(map(len, source.parts.values())), 0, dict[str, Survey]()
    for part, rows in source.parts.items():

        def progress(done: int, before: int = before) -> None:
            reading.progress(f"{path.name}: reading", before + done, total)

        surveys[part] = survey(rows, tally, keep=keep, progress=progress)
        scales.add(part, surveys[part])
        before += len(rows)
    strict = not reading.lenient and reading.support is None and reading.shape is None
    check_scales(path, scales.parts, reading.note, strict=strict)
    return surveys, tally


def _remarks(source: Source, tally: Tally, options: DataOptions) -> Iterator[str]:
    """Remarks on pixels that a person probably means otherwise."""
    if source.scaling.startswith(SCALINGS["sixteen"]) and not options.invert:
        remark = depth_remark(tally.range[1] * LARGEST_SIXTEEN)
        if remark is not None:
            yield remark
    if tally.grey and options.channels is None:
        yield "its colours are grey levels, with red, green and blue alike: --channels 1 makes one channel of them"


def _described(
    path: Path,
    source: Source,
    surveys: Mapping[str, Survey],
    tally: Tally,
    options: DataOptions,
    loading: Loading,
    *,
    left_out: int,
) -> Data:
    """Build the data set from the usable examples, with its description and report."""
    division = divide(
        path,
        source,
        surveys,
        options.test_fraction,
        options.validation_fraction,
        divided=loading.divided,
        by_class=loading.by_class,
        note=loading.note,
    )
    mark = fingerprint(division, source, surveys)
    if len(source.classes) == 1 and options.classes is None and not loading.lenient:
        # one class alone is no class
        source = dataclasses.replace(source, classes=())
        division = dataclasses.replace(
            division, labels={split: unlabelled(len(division.rows[split])).copy() for split in SPLITS}
        )
    rows, keep = source.parts["train"], surveys["train"].images is not None
    support = _support(rows, tally, loading.support)
    if loading.lenient and support not in ("bytes", "unit"):
        options = dataclasses.replace(options, binarize="none")
    if options.invert and support == "real":
        raise SettingError("data.invert", f"is for pixels from 0 to 1 or 255; {path.name} holds real numbers")
    if options.binarize != "none" and support not in ("bytes", "unit"):
        raise SettingError("data.binarize", f"is for grey levels; {path.name} is {support}")
    mark = fingerprint(division, source, surveys)
    digests = {split: surveys[division.part[split]].digests[division.positions[split], :8] for split in SPLITS}
    ends = surveys["train"].range(division.positions["train"])
    for part_survey in surveys.values():
        part_survey.forget()
    splits: Mapping[str, Examples]
    if keep:
        splits = resident(division, source, surveys, options.binarize, options.binarize_seed)
    else:

        def progress(split: str, done: int, total: int) -> None:
            loading.progress(f"{path.name}: drawing {split} images", done, total)

        splits = streamed(division, source, options.binarize, options.binarize_seed, progress)
    shape = rows.shape
    if support == "real" and loading.support is None:  # a model that exists has its own units
        units = fitted_units(splits["train"], options.normalize, table=shape[:2] == (1, 1))
    else:
        units = None
    if support != "real" and options.normalize not in ("auto", "none") and not loading.lenient:
        raise SettingError("data.normalize", f"is for real numbers; {path.name} is {support}, which has a scale")
    draw_note = "" if options.binarize == "none" else f", {drawn_text(options.binarize_seed)}"
    info = DataInfo(
        name=path.name,
        shape=shape,
        support=support if options.binarize == "none" else "binary",
        fingerprint=mark,
        sizes={split: len(division.rows[split]) for split in SPLITS},
        preprocessing=f"{source.scaling}{draw_note}",
        classes=source.classes,
        columns=source.columns,
        units=units,
        edge=None if support == "real" else edge_of(splits["train"]),
        range=ends if support == "real" else (0.0, 1.0),
    )
    report = report_of(
        info, tally, digests, division.labels, stored=str(rows.dtype), left_out=left_out, streamed=not keep
    )
    files = {split: names for split in SPLITS if (names := files_of(source.parts[division.part[split]])) is not None}
    return Data(splits["train"], splits["validation"], splits["test"], info, report, files)


def _support(rows: Rows, tally: Tally, model_support: str | None) -> str:
    """The support, as in ``DataInfo``: inferred from the numbers, or that of an existing model if it is wider."""
    if rows.dtype == np.uint8:
        support = "binary" if tally.binary else "bytes"
    else:
        low, high = tally.range
        support = "unit" if low >= 0 and high <= 1 else "real"
    wider = {"binary": ("bytes", "unit", "real"), "bytes": ("unit",), "unit": ("real",), "real": ()}
    return model_support if model_support is not None and model_support in wider[support] else support
