"""A trained run, opened for a command: its data, its model, and the place of the output."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaectl.commands.shared.render import Screen
from vaectl.config.spec import SPLITS, Part
from vaectl.errors import DataError, RunError, SettingError, UsageError, nearest
from vaectl.runs.run import CHECKPOINTS, Run
from vaectl.system.files import check_output

if TYPE_CHECKING:
    import torch

    from vaectl.data.base import Data
    from vaectl.data.info import DataInfo
    from vaectl.model.vae import VAE

DEFAULT_DATA_DIR = Path("data")


def data_directory(flag: Path | None, own: str | None = None) -> Path:
    """The data directory: the flag's, else that of VAECTL_DATA_DIR, else ``./data``.

    Args:
        flag: What ``--data-dir`` names.
        own: Name or path of own data, which the flag may name themselves instead of the folder that they are in.

    Raises:
        DataError: It is a directory that the person named, and it is not there or cannot be read.
    """
    if flag is not None and own is not None and _names_itself(flag, Path(own).name):
        return Path(os.path.abspath(flag)).parent  # noqa: PTH100 - links are not followed
    variable = os.environ.get("VAECTL_DATA_DIR")
    if flag is None and not variable:
        return DEFAULT_DATA_DIR
    name, directory = ("--data-dir", flag) if flag is not None else ("VAECTL_DATA_DIR", Path(variable or ""))
    if not os.path.isdir(directory):
        problem = "is not a directory" if os.path.exists(directory) else "does not exist"
        raise DataError(f"{name} {directory} {problem}", hint=f"to download into it: mkdir -p {directory}")
    if not os.access(directory, os.R_OK | os.X_OK):
        raise DataError(f"{name} {directory} cannot be read")
    return directory


def _names_itself(place: Path, name: str) -> bool:
    """Whether data of a name are at a place, and not within it."""
    whole = Path(os.path.abspath(place))  # noqa: PTH100 - links are not followed
    return whole.name == name and os.path.exists(whole) and not os.path.lexists(whole / name)


def load_data(
    part: Part,
    directory: Path,
    screen: Screen,
    *,
    keeps: bool = True,
    support: str | None = None,
    again: bool = False,
    divided: bool = True,
) -> Data:
    """The data set of a spec's data part, with notes, downloads and what is read shown on the screen.

    Args:
        part: The data part of a complete spec.
        directory: The data directory.
        screen: Where notes and downloads are shown.
        keeps: Whether what is downloaded or made is kept in the directory.
        support: What own data are read as, for a model that is there; None lets their values decide.
        again: Whether it was all said when the data were first read.
        divided: Whether own data are divided as for training, where they have no splits.
    """
    from vaectl.data.base import Store
    from vaectl.data.loading import load
    from vaectl.data.paths import is_path

    with reading(screen) if is_path(part.name) else screen.downloading() as progress:
        note = screen.detail if again else screen.note
        store = Store(directory, keeps, support, divided, note=note, progress=progress)
        return load(part.name, store, **part.options)


@contextmanager
def reading(screen: Screen) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for examples that are read: called with what is done to them, how many are done, and in all."""
    shown: dict[str, Callable[[int], None]] = {}
    with ExitStack() as stack:

        def tell(what: str, done: int, total: int) -> None:
            if what not in shown:
                stack.close()
                shown[what] = stack.enter_context(screen.counting(what, total))
            shown[what](done)

        yield tell


def home_of(name: str, directory: Path) -> Path:
    """Where own data are that were at the path ``name`` and whose folder is now ``directory``."""
    return directory / Path(name).name


class Session:
    """A run opened for use: its record at once, its model and data when asked for.

    Args:
        run: The run.
        screen: Where downloads and notes are shown.
        device: Name of the device to compute on.
        data_dir: The data directory, or None for the recorded one.
    """

    def __init__(self, run: Run, screen: Screen, device: str = "auto", data_dir: Path | None = None) -> None:
        from vaectl.data.paths import is_path
        from vaectl.system.runtime import resolve_device

        if data_dir is not None:
            own = run.spec.data.name
            data_dir = data_directory(data_dir, own if is_path(own) else None)
        self.run, self.screen = run, screen
        self.device: torch.device = resolve_device(device)
        self._data_dir = data_dir
        self._models: dict[str, VAE] = {}
        self._data: dict[tuple[str | None, bool], Data] = {}
        # where the run's own data were found
        self.directory = Path(run.record["data_directory"])

    def model(self, checkpoint: str = "best") -> VAE:
        """The model with the weights of a checkpoint, on the device."""
        check_choice("--checkpoint", checkpoint, CHECKPOINTS)
        if checkpoint not in self._models:
            self._models[checkpoint] = self.run.load_model(checkpoint, self.device)
            self.screen.detail(f"model: {checkpoint} weights of {self.run.path} on {self.device}")
        return self._models[checkpoint]

    def is_other_path(self, name: str | None) -> bool:
        """Whether a name is the path of own data that are not the run's."""
        from vaectl.data.paths import is_path, located

        return name is not None and is_path(name) and located(name) != self.run.complete_spec().data.name

    def data(self, name: str | None = None, *, divided: bool = True) -> Data:
        """The run's data set, which must be the one it was trained on, or another of the same shape.

        Args:
            name: Name or path of another; None for the run's own.
            divided: Whether those at another path are divided as for training, where they have no splits.

        Raises:
            DataError: It is missing, has changed since, or does not fit the model.
        """
        if (name, divided) not in self._data:
            self._data[name, divided] = self._load(name, divided=divided)
        return self._data[name, divided]

    def _load(self, name: str | None, *, divided: bool) -> Data:
        from vaectl.data.loading import SOURCES
        from vaectl.data.own.source import UnusableError
        from vaectl.data.paths import is_path

        info, spec = self.run.data_info, self.run.complete_spec()
        own = is_path(spec.data.name)
        if name is not None:
            if not is_path(name):
                check_choice("--dataset", name, SOURCES, other="a path")
            if self.is_other_path(name) or not (is_path(name) or name == spec.data.name):
                return self._other(name, divided=divided)
        if not own and info.name not in SOURCES:
            raise RunError(f"{self.run.path / 'run.json'} is damaged: there is no data set '{info.name}'")
        recorded = self.run.record["data_directory"]
        # what a record says is not what the person asked for: data are read there, and nothing is written
        asked = self._data_dir is not None or (bool(os.environ.get("VAECTL_DATA_DIR")) and not own)
        usual = not own and (
            not os.path.isdir(recorded) or os.path.realpath(recorded) == os.path.realpath(DEFAULT_DATA_DIR)
        )
        named = asked or usual
        directory = data_directory(self._data_dir) if named else Path(recorded)
        self.screen.detail(f"data: {info.name} in {directory}")
        part = Part(str(home_of(spec.data.name, directory)) if own else info.name, spec.data.options)
        if own and not os.path.lexists(part.name):
            place = f"it is not in {directory}" if asked else f"{part.name} is gone"
            raise DataError(
                f"{self.run.id} was trained on {info.name}, and {place}",
                hint="name the folder that it is in now with --data-dir",
            )
        try:
            # of own data the values decide, as they did when it was trained
            found = load_data(part, directory, self.screen, keeps=named, again=own)
        except UnusableError as error:
            hint = f"all could be used when {self.run.id} was trained: bring them back to what they were"
            raise DataError(error.message, hint=hint) from None
        except DataError as error:
            if own or asked or os.path.isdir(recorded):
                raise
            gone = f"{self.run.id} was trained on data in {recorded}, which is gone"
            raise DataError(error.message, hint=f"{gone}: name their folder now with --data-dir") from None
        if found.info.fingerprint != info.fingerprint:
            raise DataError(
                f"{info.name} in {directory} is not what {self.run.id} was trained on: its fingerprint is "
                f"{found.info.fingerprint[:12]}, not {info.fingerprint[:12]}{_difference(found.info, info)}",
                hint="name the folder of the original data with --data-dir",
            )
        self.directory = directory
        return found

    def _other(self, name: str, *, divided: bool) -> Data:
        """Another data set than the run's, prepared as its is: of the same shape and kind."""
        from vaectl.data.own.source import UnusableError
        from vaectl.data.paths import is_path
        from vaectl.model.builder import complete

        info, spec = self.run.data_info, self.run.complete_spec()
        kept = ["image_size", "grayscale", "binarize", "binarize_seed"]
        own = is_path(name)
        if not own and not is_path(spec.data.name):
            kept.append("validation_fraction")
        if own:
            kept.append("skip_bad")
        if own and Path(name).suffix.lower() in (".csv", ".parquet"):
            kept.append("label_column")
        options = {option: spec.data.options[option] for option in kept}
        directory = data_directory(self._data_dir)
        if self._data_dir is None and not os.environ.get("VAECTL_DATA_DIR") and not is_path(spec.data.name):
            recorded = Path(self.run.record["data_directory"])
            directory = recorded if recorded.is_dir() else directory
        keeps = (
            self._data_dir is not None
            or bool(os.environ.get("VAECTL_DATA_DIR"))
            or (os.path.realpath(directory) == os.path.realpath(DEFAULT_DATA_DIR))
        )
        self.screen.detail(f"data: {name}" if own else f"data: {name} in {directory}")

        def loaded() -> Data:
            part = complete(dataclasses.replace(spec, data=Part(name, options))).data
            support = info.support if options["binarize"] == "none" else None
            try:
                return load_data(part, directory, self.screen, keeps=keeps, support=support, divided=divided)
            except UnusableError as error:
                raise DataError(error.message, hint="mend them, or take them out of the data") from None
            except DataError as error:
                # of own data the hint may name a flag of train
                raise DataError(error.message, hint=None if own else error.hint) from None

        try:
            found = loaded()
        except SettingError as error:
            if error.path not in ("data.grayscale", "data.binarize", "data.label_column"):
                raise
            # what is grey, or binary, already need not be made so, and codes need no labels
            without: dict[str, dict[str, Any]] = {
                "data.grayscale": {"grayscale": False},
                "data.binarize": {"binarize": "none", "binarize_seed": 0},
                "data.label_column": {"label_column": None},
            }
            options |= without[error.path]
            found = loaded()
        if found.info.shape != info.shape:
            raise DataError(
                f"--dataset {name} has examples of shape {found.info.shape}; {self.run.id} takes {info.shape}",
                hint=None if 1 in info.shape[1:] else "a run that is trained with --image-size resizes others, too",
            )
        if found.info.support != info.support:
            raise DataError(f"--dataset {name} is {found.info.support}; {self.run.id} takes {info.support} data")
        return found


def _difference(found: DataInfo, recorded: DataInfo) -> str:
    """What differs between two descriptions of data of one name, as the end of a sentence; empty where none tells."""
    for what, now, before in (
        ("shape", found.shape, recorded.shape),
        ("number of examples", sum(found.sizes.values()), sum(recorded.sizes.values())),
        *((f"number of {split} examples", found.sizes[split], recorded.sizes[split]) for split in SPLITS),
        ("number of classes", len(found.classes), len(recorded.classes)),
        ("classes", ", ".join(found.classes[:5]), ", ".join(recorded.classes[:5])),
    ):
        if now != before:
            return f", and its {what} {now}, not {before}"
    return ""


def check_choice(flag: str, value: str, allowed: Collection[str], *, other: str = "") -> None:
    """Raise a UsageError unless ``value`` is one of ``allowed``, beside which ``other`` is said to be."""
    if value not in allowed:
        names = ", ".join(allowed) + (f", or {other}" if other else "")
        raise UsageError(f"{flag} must be one of {names}; got '{value}'", hint=nearest(value, allowed))


def check_destination(asked: Path | None, formats: Collection[str], *, force: bool) -> str:
    """Refuse a bad ``-o`` before any work is done.

    Returns:
        The suffix to write: that of the path, or the first of ``formats`` where none was asked for.

    Raises:
        UsageError, OutputError: As ``files.check_output``.
    """
    if asked is None:
        if force:
            raise UsageError("--force without -o has nothing to overwrite")
        return next(iter(formats))
    check_output(asked, formats, force=force)
    return asked.suffix.lower()


def deliver(asked: Path | None, run: Run, folder: str, suffix: str, write: Callable[[Path], None]) -> Path:
    """Write what a command made to the path asked for, or to the next free one in the run's folder; return the path."""
    if asked is None:
        return run.add_file(folder, suffix, write)
    write(asked)
    return asked
