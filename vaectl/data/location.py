"""The directory of data: named by a flag, the environment or a run's record."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vaectl.config.datasets import is_path, located
from vaectl.config.spec import Part
from vaectl.errors import DataError, UsageError

DEFAULT_DATA_DIR = Path("data")
FLAG, VARIABLE, RECORD, DEFAULT = "--data-dir", "VAECTL_DATA_DIR", "run.json", "default"


@dataclass(frozen=True)
class Location:
    """A directory of data.

    Attributes:
        path: The directory.
        may_write: Whether data that are downloaded or made may be kept there: nobody asked for that in a directory that
            only a run's record names.
        said: Who names it: ``FLAG``, ``VARIABLE``, ``RECORD`` or ``DEFAULT``.
    """

    path: Path
    may_write: bool
    said: str

    @property
    def chosen(self) -> bool:
        """Whether the person chose it, by the flag or in the environment."""
        return self.said in (FLAG, VARIABLE)


def locate(
    flag: Path | None,
    variable: str | None,
    recorded: Path | None = None,
    *,
    own: bool = False,
    is_directory: Callable[[Path], bool] = os.path.isdir,
) -> Location:
    """Decide which directory data are in: the flag's, else the environment's, else the recorded one, else ``./data``.

    Args:
        flag: The directory that ``--data-dir`` names, or None.
        variable: The value of ``VAECTL_DATA_DIR``, which is about built-in data sets; None or empty names nothing.
        recorded: The directory that a run's record names, or None. One that is gone is passed over for a built-in data
            set, which may be found or made elsewhere.
        own: Whether the data are the user's own, which are only where they are.
        is_directory: Tells whether a directory is there.
    """
    if flag is not None:
        return Location(flag, True, FLAG)
    if variable and not own:
        return Location(Path(variable), True, VARIABLE)
    if recorded is not None and own:
        return Location(recorded, False, RECORD)
    usual = os.path.realpath(DEFAULT_DATA_DIR)
    if recorded is not None and is_directory(recorded) and os.path.realpath(recorded) != usual:
        return Location(recorded, False, RECORD)
    return Location(DEFAULT_DATA_DIR, True, DEFAULT)


def find_directory(flag: str | Path | None, recorded: Path | None = None, *, own: str | None = None) -> Location:
    """Locate data with the environment of this process, and check a directory that the person chose.

    Args:
        flag: The value of ``--data-dir``, or None.
        recorded: The directory that a run's record names, or None.
        own: Name or path of own data, which the flag may name themselves instead of the folder that they are in.

    Raises:
        DataError: The directory does not exist or cannot be read.
    """
    named = None if flag is None else Path(flag)
    if named is not None and own is not None and _names_itself(named, Path(own).name):
        return Location(Path(os.path.abspath(named)).parent, True, FLAG)  # noqa: PTH100 - links are not followed
    location = locate(named, os.environ.get(VARIABLE), recorded, own=own is not None)
    if location.chosen:
        _check(location)
    return location


def place_to_train(name: str, flag: str | Path | None) -> Location:
    """Locate a data set to train on, by its name or path.

    Raises:
        UsageError: The flag is given beside a path.
        DataError: The directory does not exist or cannot be read.
    """
    if not is_path(name):
        return find_directory(flag)
    if flag is not None:
        raise UsageError("--data-dir is for built-in data sets; --dataset names a path of its own")
    return Location(Path(located(name)).parent, True, DEFAULT)


def home_of(name: str, directory: Path) -> Path:
    """The path of own data that were at the path ``name`` and whose folder is now ``directory``."""
    return directory / Path(name).name


def moved(part: Part, directory: Path) -> Part:
    """The data part of a spec for own data whose folder is now ``directory``; test examples beside them moved along."""
    home, options = home_of(part.name, directory), dict(part.options)
    if (test := options.get("test")) is not None:
        beside = home.parent / os.path.relpath(test, Path(part.name).parent)
        options["test"] = os.path.abspath(beside) if os.path.exists(beside) else test  # noqa: PTH100
    return Part(str(home), options)


def _check(location: Location) -> None:
    """Refuse a directory that is not there or cannot be read."""
    name, directory = location.said, location.path
    if not os.path.isdir(directory):
        if os.path.exists(directory):
            raise DataError(
                f"{name} {directory} is a file; it is the directory of data sets",
                hint=f"name data of your own with --dataset {directory}",
            )
        raise DataError(f"{name} {directory} does not exist", hint=f"to download into it: mkdir -p {directory}")
    if not os.access(directory, os.R_OK | os.X_OK):
        raise DataError(f"{name} {directory} cannot be read")


def _names_itself(place: Path, name: str) -> bool:
    """Whether data of a name are at a place, and not within it."""
    whole = Path(os.path.abspath(place))  # noqa: PTH100 - links are not followed
    return whole.name == name and os.path.exists(whole) and not os.path.lexists(whole / name)
