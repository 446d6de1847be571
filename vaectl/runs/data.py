"""The data of a run, found again and checked, and other data prepared in the same way."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaectl.config.datasets import dataset_names, is_given, is_path
from vaectl.config.spec import SPLITS, Part
from vaectl.data.location import DEFAULT, Location, find_directory, home_of, place_to_train
from vaectl.errors import DataError, RunError
from vaectl.runs.run import Run
from vaectl.training.events import Progress, Said, Tell

if TYPE_CHECKING:
    from vaectl.data.base import Data, Store
    from vaectl.data.info import DataInfo


def data_of(run: Run, data: Data | None, data_dir: str | Path | None, tell: Tell) -> Data:
    """Check that data are the run's, or load those if there are none.

    Args:
        run: The run.
        data: Its data as objects, or None.
        data_dir: The directory that they are in now; None takes the recorded one.
        tell: Told ``Said`` and ``Progress`` while they are loaded.

    Raises:
        DataError: They are missing, cannot be loaded again, or are not those that the run was trained on.
    """
    if data is None:
        return load_recorded(run, data_dir, tell)
    hint = "give the data that it was trained on, prepared in the same way"
    _check_same(run, data.info, data.info.name, hint)
    for name in ("shape", "support", "preprocessing", "sizes"):
        now, before = getattr(data.info, name), getattr(run.data_info, name)
        if now != before:
            raise DataError(f"the {name} of {data.info.name} is {now}; {run.id} was trained on {before}", hint=hint)
    return data


def load_recorded(run: Run, data_dir: str | Path | None, tell: Tell) -> Data:
    """Load the data that a run was trained on.

    Args:
        run: The run.
        data_dir: The directory that they are in now; None takes the recorded one.
        tell: Told ``Said`` and ``Progress``.

    Raises:
        DataError: They are missing, have changed since, or were objects of a Python program.
    """
    from vaectl.data.loading import load_part
    from vaectl.data.own.source import UnusableError

    info, spec = run.data_info, run.complete_spec()
    own, recorded = is_path(spec.data.name), run.record["data_directory"]
    if is_given(spec.data.name):
        raise DataError(
            f"{run.id} was trained on {info.name}, a Data object that a Python program gave; no command can load it",
            hint="give it from Python: vaectl.evaluate_run(run, data) or vaectl.resume_run(run, data)",
        )
    if not own and info.name not in dataset_names():
        raise RunError(f"{run.path / 'run.json'} is damaged: there is no data set '{info.name}'")
    location = find_directory(data_dir, Path(recorded), own=spec.data.name if own else None)
    directory = location.path
    tell(Said(f"data: {info.name} in {directory}", "detail"))
    part = Part(str(home_of(spec.data.name, directory)) if own else info.name, spec.data.options)
    if own and not os.path.lexists(part.name):
        where = f"it is not in {directory}" if location.chosen else f"{part.name} is gone"
        raise DataError(
            f"{run.id} was trained on {info.name}, and {where}",
            hint="name the folder that it is in now with --data-dir",
        )
    try:
        # of own data the values decide what they are, as they did when the run was trained; and all was said then
        data = load_part(part, _store(location, own, tell, kind="detail" if own else "note"))
    except UnusableError as error:
        hint = f"all could be used when {run.id} was trained: bring them back to what they were"
        raise DataError(error.message, hint=hint) from None
    except DataError as error:
        if location.said != DEFAULT or os.path.isdir(recorded):
            raise
        gone = f"{run.id} was trained on data in {recorded}, which is gone"
        raise DataError(error.message, hint=f"{gone}: name their folder now with --data-dir") from None
    _check_same(run, data.info, f"{info.name} in {directory}", "name the folder of the original data with --data-dir")
    return data


def load_other(run: Run, name: str, data_dir: str | Path | None, tell: Tell, *, divided: bool = True) -> Data:
    """Load another data set than a run's, prepared as its own are: of the same shape and kind.

    Args:
        run: The run.
        name: A built-in data set, or a path.
        data_dir: The directory of built-in data sets; None takes that of the environment, or the run's.
        tell: Told ``Said`` and ``Progress``.
        divided: Whether data of a path that have no splits are divided as for training.

    Raises:
        DataError: They are missing or damaged, or do not fit the run's model.
    """
    from vaectl.data.loading import load_part
    from vaectl.data.own.source import UnusableError
    from vaectl.model.builder import complete

    info, spec = run.data_info, run.complete_spec()
    own, recorded = is_path(name), run.record["data_directory"]
    built_in = not (is_path(spec.data.name) or is_given(spec.data.name))
    location = find_directory(data_dir, Path(recorded) if built_in else None)
    tell(Said(f"data: {name}" if own else f"data: {name} in {location.path}", "detail"))
    part = complete(dataclasses.replace(spec, data=Part(name, _options_for(spec.data, name)))).data
    support = info.support if spec.data.options["binarize"] == "none" else None
    store = dataclasses.replace(_store(location, own, tell), support=support, lenient=True, divided=divided)
    try:
        data = load_part(part, store)
    except UnusableError as error:
        raise DataError(error.message, hint="mend them, or take them out of the data") from None
    except DataError as error:
        # of own data the hint may name a flag of train
        raise DataError(error.message, hint=None if own else error.hint) from None
    if data.info.shape != info.shape:
        raise DataError(
            f"--dataset {name} has examples of shape {data.info.shape}; {run.id} takes {info.shape}",
            hint=None if 1 in info.shape[1:] else "a run that is trained with --image-size resizes others, too",
        )
    if data.info.support != info.support:
        raise DataError(f"--dataset {name} is {data.info.support}; {run.id} takes {info.support} data")
    return data


def load_named(part: Part, data_dir: str | Path | None, tell: Tell) -> Data:
    """Load the data set of a spec that is to be trained.

    Raises:
        SettingError: An option does not go with the data.
        UsageError, DataError: As ``data.location.place_to_train``; or the data are missing, damaged or cannot be read.
    """
    from vaectl.data.loading import load_part

    return load_part(part, _store(place_to_train(part.name, data_dir), is_path(part.name), tell))


def _store(location: Location, own: bool, tell: Tell, kind: Any = "note") -> Store:
    """Where a source finds its files, and tells of its notes and of its progress."""
    from vaectl.data.base import Store

    unit: Any = "examples" if own else "bytes"
    return Store(
        location.path,
        location.may_write,
        note=lambda sentence: tell(Said(sentence, kind)),
        progress=lambda what, done, total: tell(Progress(what, done, total, unit)),
    )


def _options_for(data: Part, name: str) -> dict[str, Any]:
    """Those options of a run's data that prepare another data set as they prepared its own."""
    names = ["image_size", "grayscale", "binarize", "binarize_seed"]
    own = is_path(name)
    if not own and not is_path(data.name):
        names.append("validation_fraction")
    if own:
        names.append("skip_bad")
    if own and Path(name).suffix.lower() in (".csv", ".parquet"):
        names.append("label_column")
    return {option: data.options[option] for option in names}


def _check_same(run: Run, info: DataInfo, name: str, hint: str) -> None:
    """Refuse data that are not those that a run was trained on."""
    recorded = run.data_info
    if info.fingerprint != recorded.fingerprint:
        raise DataError(
            f"{name} is not what {run.id} was trained on: its fingerprint is "
            f"{info.fingerprint[:12]}, not {recorded.fingerprint[:12]}{_difference(info, recorded)}",
            hint=hint,
        )


def _difference(info: DataInfo, recorded: DataInfo) -> str:
    """What differs between two descriptions of data of one name, as the end of a sentence; empty where none tells."""
    for what, now, before in (
        ("shape", info.shape, recorded.shape),
        ("number of examples", sum(info.sizes.values()), sum(recorded.sizes.values())),
        *((f"number of {split} examples", info.sizes[split], recorded.sizes[split]) for split in SPLITS),
        ("number of classes", len(info.classes), len(recorded.classes)),
        ("classes", ", ".join(info.classes[:5]), ", ".join(recorded.classes[:5])),
    ):
        if now != before:
            return f", and its {what} {now}, not {before}"
    return ""
