"""What the commands that use a trained run share: its data, its model, and where its output goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from vaectl.commands._render import Screen
from vaectl.errors import DataError, RunError, UsageError, nearest
from vaectl.files import check_output
from vaectl.runs import CHECKPOINTS, Run
from vaectl.spec import Part

if TYPE_CHECKING:
    import torch

    from vaectl.data import Data
    from vaectl.vae import VAE

DEFAULT_DATA_DIR = Path("data")


def data_directory(flag: Path | None) -> Path:
    """The data directory: the flag's, else that of VAECTL_DATA_DIR, else ``./data``.

    Raises:
        DataError: It is a directory that the person named, and it is not there or cannot be read.
    """
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


def load_data(part: Part, directory: Path, screen: Screen, *, keeps: bool = True) -> Data:
    """The data set of a spec's data part, with notes and downloads shown on the screen.

    Args:
        part: The data part of a complete spec.
        directory: The data directory.
        screen: Where notes and downloads are shown.
        keeps: Whether what is downloaded or made is kept in the directory.
    """
    from vaectl import data

    with screen.downloading() as progress:
        store = data.Store(directory, keeps, note=screen.note, progress=progress)
        return data.load(part.name, store, **part.options)


class Session:
    """A run opened for use: its record at once, its model and data when asked for.

    Args:
        run: The run.
        screen: Where downloads and notes are shown.
        device: Name of the device to compute on.
        data_dir: The data directory, or None for the recorded one.
    """

    def __init__(self, run: Run, screen: Screen, device: str = "auto", data_dir: Path | None = None) -> None:
        from vaectl.runtime import resolve_device

        if data_dir is not None:
            data_directory(data_dir)
        self.run, self.screen = run, screen
        self.device: torch.device = resolve_device(device)
        self._data_dir = data_dir
        self._models: dict[str, VAE] = {}
        self._data: dict[str | None, Data] = {}
        # where the run's own data were found
        self.directory = Path(run.record["data_directory"])

    def model(self, checkpoint: str = "best") -> VAE:
        """The model with the weights of a checkpoint, on the device."""
        check_choice("--checkpoint", checkpoint, CHECKPOINTS)
        if checkpoint not in self._models:
            self._models[checkpoint] = self.run.load_model(checkpoint, self.device)
            self.screen.detail(f"model: {checkpoint} weights of {self.run.path} on {self.device}")
        return self._models[checkpoint]

    def data(self, name: str | None = None) -> Data:
        """The run's data set, which must be the one it was trained on, or another of the same shape.

        Raises:
            DataError: It is missing, has changed since, or does not fit the model.
        """
        if name not in self._data:
            self._data[name] = self._load(name)
        return self._data[name]

    def _load(self, name: str | None) -> Data:
        from vaectl.data import SOURCES

        info, spec = self.run.data_info, self.run.complete_spec()
        if name is not None:
            check_choice("--dataset", name, SOURCES)
        elif info.name not in SOURCES:
            raise RunError(f"{self.run.path / 'run.json'} is damaged: there is no data set '{info.name}'")
        recorded = self.run.record["data_directory"]
        # what a record says is not what the person asked for: data are read there, and nothing is written
        asked = self._data_dir is not None or bool(os.environ.get("VAECTL_DATA_DIR"))
        usual = not os.path.isdir(recorded) or os.path.realpath(recorded) == os.path.realpath(DEFAULT_DATA_DIR)
        named = asked or usual
        directory = data_directory(self._data_dir) if named else Path(recorded)
        self.screen.detail(f"data: {name or info.name} in {directory}")
        part = Part(name or info.name, spec.data.options)
        try:
            found = load_data(part, directory, self.screen, keeps=named)
        except DataError as error:
            if asked or os.path.isdir(recorded) or name not in (None, info.name):
                raise
            gone = f"{self.run.id} was trained on data in {recorded}, which is gone"
            raise DataError(error.message, hint=f"{gone}: name their folder now with --data-dir") from None
        if name not in (None, info.name):
            if (found.info.shape, found.info.support) != (info.shape, info.support):
                raise DataError(
                    f"--dataset {name} has examples of shape {found.info.shape}; {self.run.id} takes {info.shape}"
                )
        elif found.info.fingerprint != info.fingerprint:
            raise DataError(
                f"{info.name} in {directory} is not what {self.run.id} was trained on: its fingerprint is "
                f"{found.info.fingerprint[:12]}, not {info.fingerprint[:12]}",
                hint="name the folder of the original data with --data-dir",
            )
        else:
            self.directory = directory
        return found


def check_choice(flag: str, value: str, allowed: Collection[str]) -> None:
    """Raise a UsageError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise UsageError(f"{flag} must be one of {', '.join(allowed)}; got '{value}'", hint=nearest(value, allowed))


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
