"""Prepare data other than a run's own as the run's own were, so that its model takes them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaectl.config.datasets import TABLES, is_given, is_path, suffix_of
from vaectl.config.spec import SPLITS, Part, Spec
from vaectl.data.location import find_directory
from vaectl.errors import DataError, SettingError
from vaectl.runs.data import demands, loading_at
from vaectl.runs.run import Run
from vaectl.training.events import Said, Tell

if TYPE_CHECKING:
    from vaectl.data.base import Data, Loading
    from vaectl.data.info import DataInfo

# images of a darker edge have a dark background, those of a lighter one a light background
DARK, LIGHT = 0.25, 0.75
# options that are refused for rows of a table
FOR_IMAGES = ("data.image_size", "data.channels", "data.grayscale")


def load_other(run: Run, name: str, data_dir: str | Path | None, tell: Tell, *, divided: bool = True) -> Data:
    """Load data other than a run's own, and bring them to the form that its model takes.

    Images are made grey or colour, resized, and inverted if their background is light and that of the run's images is
    dark, or the other way round; rows of as many numbers as an image has become images; pixels become bytes, or 0 and
    1. A sentence says what was done. Columns of a table are found by their names.

    Args:
        run: The run.
        name: A built-in data set, or a path; an image is one example.
        data_dir: The directory of built-in data sets; None for that of the environment, or the run's.
        tell: Called with ``Said`` and ``Progress`` events.
        divided: Whether data at a path that have no splits are divided as for training.

    Raises:
        DataError: They are missing or damaged, or cannot be brought to the form of the run's own.
    """
    info, spec = run.data_info, run.complete_spec()
    own, recorded = is_path(name), run.record["data_directory"]
    built_in = not (is_path(spec.data.name) or is_given(spec.data.name))
    location = find_directory(data_dir, Path(recorded) if built_in else None)
    tell(Said(f"data: {name}" if own else f"data: {name} in {location.path}", "detail"))
    columns = tuple(column.name for column in info.columns) or None
    loading = dataclasses.replace(
        loading_at(location, own, tell), **demands(info, spec.data), columns=columns, lenient=True, divided=divided
    )
    options = _options_for(spec.data, name, info)
    try:
        data = _loaded(run, spec, name, options, loading)
    except SettingError as error:
        if error.path not in FOR_IMAGES:
            raise
        # rows of a table, to which no option for images applies, may yet be as long as an image
        options |= {"image_size": None, "channels": None, "grayscale": False}
        data = _loaded(run, spec, name, options, loading)
    quiet = dataclasses.replace(loading, note=lambda sentence: None)
    if own and not info.is_table and data.info.shape == (1, 1, math.prod(info.shape)):
        options["shape"] = info.shape if info.shape[0] > 1 else info.shape[1:]
        data = _loaded(run, spec, name, options, quiet)
    _check_shape(run, name, data.info)
    inverted = own and _opposite(info, data.info)
    if inverted:
        options["invert"] = not options["invert"]
        data = _loaded(run, spec, name, options, quiet)
    if info.support in ("bytes", "binary") and data.info.support in ("unit", "bytes"):
        data = _requantised(data, info.support)
    if data.info.support != info.support:
        raise DataError(f"{name} has {data.info.support} data; {run.id} takes {info.support} data")
    if own and data.info.preprocessing != info.preprocessing:
        background = ", because their background is " + ("dark" if info.edge and info.edge > LIGHT else "light")
        tell(
            Said(
                f"{Path(name).name}: prepared for {run.id}: {data.info.preprocessing}{background if inverted else ''}",
                "note",
            )
        )
    return data


def _loaded(run: Run, spec: Spec, name: str, options: Mapping[str, Any], loading: Loading) -> Data:
    from vaectl.data.loading import load_part
    from vaectl.data.own.source import UnusableError
    from vaectl.model.builder import complete

    part = complete(dataclasses.replace(spec, data=Part(name, options))).data
    try:
        return load_part(part, loading)
    except UnusableError as error:
        raise DataError(error.message, hint="repair them, or remove them from the data") from None
    except DataError as error:
        # for own data the hint may name a flag of train
        raise DataError(error.message, hint=None if is_path(name) else error.hint) from None


def _check_shape(run: Run, name: str, info: DataInfo) -> None:
    """Raise a DataError unless examples have the shape that the run's model takes."""
    shape, expected = info.shape, run.data_info.shape
    if shape == expected:
        return
    if run.data_info.is_table or info.is_table:
        ours, theirs = (
            f"rows of {known.shape[2]} numbers" if known.is_table else f"images of shape {known.shape}"
            for known in (run.data_info, info)
        )
        raise DataError(f"{name} has {theirs}; {run.id} takes {ours}")
    raise DataError(f"{name} has images of shape {shape}; {run.id} takes {expected}")


def _opposite(info: DataInfo, other: DataInfo) -> bool:
    """Whether the background of one is dark and that of the other light."""
    if info.edge is None or other.edge is None or info.support == "real":
        return False
    ends = sorted((info.edge, other.edge))
    return ends[0] < DARK and ends[1] > LIGHT


def _requantised(data: Data, support: str) -> Data:
    """The same data as bytes, or as 0 and 1 by a threshold of one half."""
    from vaectl.data.requantised import requantised

    if data.info.support == support:
        return data
    how = "rounded to bytes" if support == "bytes" else "1 from one half on, else 0"
    info = dataclasses.replace(data.info, support=support, preprocessing=f"{data.info.preprocessing}, {how}")
    train, validation, test = (requantised(data.split(name), binary=support == "binary") for name in SPLITS)
    return dataclasses.replace(data, train=train, validation=validation, test=test, info=info)


def _options_for(data: Part, name: str, info: DataInfo) -> dict[str, Any]:
    """The options of a run's data that also apply to another data set, and those that bring it to the run's form."""
    names = ["image_size", "grayscale", "crop", "channels", "invert", "binarize", "binarize_seed"]
    own = is_path(name)
    if not own and not is_path(data.name):
        names.append("validation_fraction")
    if own:
        names += ["skip_bad", "shape", "images_key", "labels_key"]
    if own and suffix_of(name) in TABLES:
        names += ["label_column", "drop_column", "group_column"]
    options = {option: data.options[option] for option in names}
    if own and not info.is_table:
        options["image_size"] = info.shape[1:]
        if info.shape[0] in (1, 3):
            options |= {"channels": info.shape[0], "grayscale": False}
    return options
