"""A trained run, opened for a command: its data, its model, and the path of the output."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaectl.commands.shared.listening import Shown
from vaectl.commands.shared.render import Screen
from vaectl.config.datasets import dataset_names, is_path, located
from vaectl.config.spec import ALL
from vaectl.data.location import find_directory
from vaectl.errors import OutputError, UsageError, check_choice
from vaectl.runs.data import load_recorded
from vaectl.runs.evaluating import evaluate_into, kept_evaluation
from vaectl.runs.preparing import load_other
from vaectl.runs.run import CHECKPOINTS, Run
from vaectl.system.files import beside, check_output, write_output
from vaectl.system.incoming import received

if TYPE_CHECKING:
    import torch

    from vaectl.data.base import Data
    from vaectl.model.vae import VAE

# stands for what is piped in
STANDARD_INPUT = "-"


class Session:
    """A run opened for use; its model and data are loaded when they are needed.

    Args:
        run: The run.
        screen: The screen that shows downloads and notes.
        device: Name of the device to compute on.
        data_dir: The data directory, or None for the recorded one.
    """

    def __init__(self, run: Run, screen: Screen, device: str = "auto", data_dir: Path | None = None) -> None:
        from vaectl.system.runtime import resolve_device

        for sentence in run.check_plugins():
            screen.warn(sentence)
        if data_dir is not None:
            own = run.spec.data.name
            data_dir = find_directory(data_dir, own=own if is_path(own) else None).path
        self.run, self.screen = run, screen
        self.device: torch.device = resolve_device(device)
        self._data_dir = data_dir
        self._models: dict[str, VAE] = {}
        self._data: dict[tuple[str | None, bool], Data] = {}

    def model(self, checkpoint: str = "best") -> VAE:
        """The model with the weights of a checkpoint, on the device."""
        check_choice("--checkpoint", checkpoint, CHECKPOINTS)
        if checkpoint not in self._models:
            self._models[checkpoint] = self.run.load_model(checkpoint, self.device)
            self.screen.detail(f"model: {checkpoint} weights of {self.run.path} on {self.device}")
        return self._models[checkpoint]

    def is_other_path(self, name: str | None) -> bool:
        """Whether a name is the path of own data other than the run's."""
        return name is not None and is_path(name) and self._is_other(located(name))

    def data(self, name: str | None = None, *, divided: bool = True) -> Data:
        """The run's data set, which must be the one it was trained on, or another of the same shape.

        Args:
            name: Name or path of another data set; None for the run's own.
            divided: Whether data at another path are divided as for training if they have no splits.

        Raises:
            DataError: It is missing, has changed since, or does not fit the model.
        """
        if (name, divided) not in self._data:
            with Shown(self.screen) as listener:
                if name is not None and self.is_other(name):
                    data = load_other(self.run, name, self._data_dir, listener.on, divided=divided)
                else:
                    data = load_recorded(self.run, self._data_dir, listener.on)
            self._data[name, divided] = data
        return self._data[name, divided]

    def examples(self, name: str | None, split: str | None, *, whole: bool = False) -> tuple[Data, str]:
        """Data to use the model on, and the split: by default all of another path, and the test split of the run's own.

        Args:
            name: Name or path of another data set, or - for standard input; None for the run's own.
            split: Name of the split, ``all``, or None for the default.
            whole: Whether any path stands for all its examples in their order, also that of the run's own data.

        Raises:
            DataError, UsageError: As ``data`` and ``is_other``.
        """
        if name == STANDARD_INPUT:
            folder = tempfile.mkdtemp(prefix="vaectl-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)  # it is read for as long as the command runs
            name = str(received(sys.stdin.buffer, Path(folder)))
        if name is not None and whole and not is_path(name):
            check_choice("PATH", name, dataset_names(), other="a path")
        if name is not None and whole and is_path(name) and split in (None, ALL):
            with Shown(self.screen) as listener:
                return load_other(self.run, name, self._data_dir, listener.on, divided=False), ALL
        other = self.is_other(name) and self.is_other_path(name)
        split = split or (ALL if other else "test")
        return self.data(name, divided=not (other and split == ALL)), split

    def evaluation(self, split: str, checkpoint: str) -> dict[str, Any]:
        """The run's evaluation of a split and checkpoint, made and kept now if there is none."""
        evaluation = kept_evaluation(self.run, split, checkpoint)
        if evaluation is None:
            model, data = self.model(checkpoint), self.data()
            with Shown(self.screen) as listener:
                evaluation, _ = evaluate_into(self.run, model, data, split, checkpoint, 0, listener.on)
        return evaluation

    def is_other(self, name: str | None) -> bool:
        """Whether a name or path is that of other data than the run's.

        Raises:
            UsageError: It is neither a path nor a data set.
        """
        if name is None:
            return False
        if not is_path(name):
            check_choice("--dataset", name, dataset_names(), other="a path")
            return self._is_other(name)
        return self.is_other_path(name)

    def _is_other(self, name: str) -> bool:
        """Whether a name is not that of the run's data; the whole of data of which it has some classes is other."""
        part = self.run.complete_spec().data
        return name != part.name or part.options["classes"] is not None


def check_destination(
    output: Path | None, formats: Collection[str], *, force: bool, run: Run | None = None, folder: str = ""
) -> str:
    """Check ``-o``, or without it the folder in the run, before any work is done.

    Args:
        output: The path, or None.
        formats: The suffixes that are allowed.
        force: Whether the path may be overwritten.
        run: The run that the output goes to without a path.
        folder: The folder in it.

    Returns:
        The suffix to write: that of the path, or the first of ``formats`` without a path.

    Raises:
        UsageError, OutputError: As ``files.check_output``.
    """
    if output is None:
        if force:
            raise UsageError("--force without -o has nothing to overwrite")
        if run is not None:
            _check_folder(run, folder)
        return next(iter(formats))
    check_output(output, formats, force=force)
    return output.suffix.lower()


def _check_folder(run: Run, name: str) -> None:
    folder = run.file(name)
    try:
        with beside((folder if folder.is_dir() else run.path) / "probe"):
            pass
    except OSError as error:
        problem = f"{folder} cannot be written: {error.strerror}"
        raise OutputError(problem, hint="name another place with -o") from None


def deliver(
    output: Path | None, run: Run, folder: str, suffix: str, write: Callable[[Path], None], *, force: bool
) -> Path:
    """Write a command's output to a path, or to the next free one in the run's folder; return the path."""
    if output is None:
        return run.add_file(folder, suffix, write)
    write_output(output, write, force=force)
    return output
