"""Load a run's data again and check that they are unchanged, or prepare other data the same way."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaectl.config.datasets import dataset_names, is_given, is_path
from vaectl.config.spec import SPLITS, Part
from vaectl.data.location import DEFAULT, Location, find_directory, moved, place_to_train
from vaectl.errors import DataError, RunError
from vaectl.runs.run import Run
from vaectl.training.events import Progress, Said, Tell

if TYPE_CHECKING:
    from vaectl.data.base import Data, Loading
    from vaectl.data.info import DataInfo


def data_of(run: Run, data: Data | None, data_dir: str | Path | None, tell: Tell) -> Data:
    """Check that ``data`` are what the run was trained on, or load those if ``data`` is None.

    Args:
        run: The run.
        data: The run's data as an object, or None.
        data_dir: The directory where they are now; None for the recorded one.
        tell: Called with ``Said`` and ``Progress`` events while they are loaded.

    Raises:
        DataError: They are missing, cannot be loaded again, or are not what the run was trained on.
    """
    if data is None:
        return load_recorded(run, data_dir, tell)
    hint = "pass the data that it was trained on, prepared in the same way"
    _check_same(run, data.info, data.info.name, hint)
    for name in ("shape", "support", "preprocessing", "sizes"):
        now, before = getattr(data.info, name), getattr(run.data_info, name)
        if now != before:
            raise DataError(
                f"{data.info.name} has {name} {now}; {run.id} was trained on data with {name} {before}", hint=hint
            )
    return _in_units_of(run, data)


def load_recorded(run: Run, data_dir: str | Path | None, tell: Tell) -> Data:
    """Load the data that a run was trained on.

    Args:
        run: The run.
        data_dir: The directory where they are now; None for the recorded one.
        tell: Called with ``Said`` and ``Progress`` events.

    Raises:
        DataError: They are missing, have changed since, or were passed from Python.
    """
    from vaectl.data.own.source import UnusableError

    info, spec = run.data_info, run.complete_spec()
    own, recorded = is_path(spec.data.name), run.record["data_directory"]
    if is_given(spec.data.name):
        raise DataError(
            f"{run.id} was trained on {info.name}, a Data object passed from Python, which no command can load",
            hint="pass it from Python: vaectl.evaluate_run(run, data) or vaectl.resume_run(run, data)",
        )
    if not own and info.name not in dataset_names():
        raise RunError(f"{run.path / 'run.json'} is damaged: unknown data set '{info.name}'")
    if own and (Path(spec.data.name).name != info.name or not re.fullmatch("[0-9a-f]{64}", info.fingerprint)):
        raise RunError(
            f"{run.path / 'run.json'} is damaged: its data are called '{info.name}' and lie in '{spec.data.name}'",
            hint="what is there is not read, because nothing says that it is data",
        )
    location = find_directory(data_dir, Path(recorded), own=spec.data.name if own else None)
    directory = location.path
    tell(Said(f"data: {info.name} in {directory}", "detail"))
    part = moved(spec.data, directory) if own else Part(info.name, spec.data.options)
    if own and not os.path.lexists(part.name):
        problem = f"it is not in {directory}" if location.chosen else f"{part.name} no longer exists"
        raise DataError(
            f"{run.id} was trained on {info.name}, but {problem}",
            hint="name the folder where it is now with --data-dir",
        )
    try:
        # all notes on own data were shown in training; they are the kind of numbers that they were then
        loading = loading_at(location, own, tell, kind="detail" if own else "note")
        most = None if not own or spec.data.options["skip_bad"] else 2 * sum(info.sizes.values()) + 1000
        needs = demands(info, spec.data) if own else {}
        data = load_alike(part, dataclasses.replace(loading, most=most, **needs), info.fingerprint)
    except UnusableError as error:
        hint = f"all were usable when {run.id} was trained: restore the original files"
        raise DataError(error.message, hint=hint) from None
    except DataError as error:
        if location.said != DEFAULT or os.path.isdir(recorded):
            raise
        hint = f"{run.id} was trained on data in {recorded}, which no longer exists: name their folder with --data-dir"
        raise DataError(error.message, hint=hint) from None
    _check_same(run, data.info, f"{info.name} in {directory}", "name the folder of the original data with --data-dir")
    return _in_units_of(run, data)


def _in_units_of(run: Run, data: Data) -> Data:
    """The run's data with the scale that was fitted when it began, which is part of its model."""
    return dataclasses.replace(data, info=dataclasses.replace(data.info, units=run.data_info.units))


def load_alike(part: Part, loading: Loading, fingerprint: str) -> Data:
    """Load own data, divided as they were in training: earlier versions did not look at their classes.

    Args:
        part: The data part of a spec.
        loading: How to load it.
        fingerprint: The fingerprint in training; the result may have another one.
    """
    from vaectl.data.loading import load_part

    data = load_part(part, loading)
    if data.info.fingerprint != fingerprint and is_path(part.name) and bool((data.test.labels >= 0).any()):
        earlier = load_part(part, dataclasses.replace(loading, by_class=False))
        if earlier.info.fingerprint == fingerprint:
            return earlier
    return data


def load_named(part: Part, data_dir: str | Path | None, tell: Tell) -> Data:
    """Load the data set that a spec names, to train on it.

    Raises:
        SettingError: An option does not fit the data.
        UsageError, DataError: As ``data.location.place_to_train``; or the data are missing, damaged or cannot be read.
    """
    from vaectl.data.loading import load_part

    return load_part(part, loading_at(place_to_train(part.name, data_dir), is_path(part.name), tell))


def loading_at(location: Location, own: bool, tell: Tell, kind: Any = "note") -> Loading:
    """The directory and the callbacks with which a source loads its data."""
    from vaectl.data.base import Loading

    unit: Any = "examples" if own else "bytes"
    return Loading(
        location.path,
        location.may_write,
        note=lambda sentence: tell(Said(sentence, kind)),
        progress=lambda what, done, total: tell(Progress(what, done, total, unit)),
    )


def demands(info: DataInfo, part: Part) -> dict[str, Any]:
    """What a model that was trained on such data demands of data that are loaded for it, for ``Loading``."""
    return {"support": info.support if part.options["binarize"] == "none" else None, "shape": info.shape}


def _check_same(run: Run, info: DataInfo, name: str, hint: str) -> None:
    """Raise a DataError unless the data are what a run was trained on."""
    recorded = run.data_info
    if info.fingerprint != recorded.fingerprint:
        raise DataError(
            f"{name} is not what {run.id} was trained on: its fingerprint is "
            f"{info.fingerprint[:12]}, not {recorded.fingerprint[:12]}{_difference(info, recorded)}",
            hint=hint,
        )


def _difference(info: DataInfo, recorded: DataInfo) -> str:
    """Describe a difference between data with the same name, as the end of a sentence; empty if there is none."""
    for name, now, before in (
        ("shape", info.shape, recorded.shape),
        ("number of examples", sum(info.sizes.values()), sum(recorded.sizes.values())),
        *((f"number of {split} examples", info.sizes[split], recorded.sizes[split]) for split in SPLITS),
        ("number of classes", len(info.classes), len(recorded.classes)),
        ("classes", ", ".join(info.classes[:5]), ", ".join(recorded.classes[:5])),
    ):
        if now != before:
            return f", and its {name} {now}, not {before}"
    return ""
