"""The runs in a directory: allocating new ids, and resolving references such as ``latest`` or ``42``."""

from __future__ import annotations

import os
import re
import shlex
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from vaectl.errors import RunError, UsageError, VaectlError, nearest
from vaectl.runs.records import glance, read_record
from vaectl.system.files import NUMBER

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NUMBERED = re.compile(f"run({NUMBER})")

Item = TypeVar("Item")


def runs_directory(runs_dir: str | Path | None = None) -> Path:
    """The folder of all runs: ``runs_dir`` if it is set, else ``VAECTL_RUNS_DIR``, else ``./runs``."""
    return Path(runs_dir if runs_dir is not None else os.environ.get("VAECTL_RUNS_DIR") or "runs")


def check_name(name: str, runs_dir: Path) -> None:
    """Check the id of a new run before any work is done for it.

    Raises:
        UsageError: The id is invalid.
        RunError: A run with this id exists.
    """
    if not NAME.fullmatch(name) or name == "latest" or name.isdecimal():
        raise UsageError(
            f"--name {name!r} is not a valid run id",
            hint="use at most 64 letters, digits, '.', '_' and '-', starting with a letter or digit; "
            "not 'latest' and not a bare number",
        )
    if os.path.exists(runs_dir / name):
        raise _taken(name, runs_dir)


def allocate(runs_dir: Path, name: str | None) -> Path:
    """Create the folder of a new run by an atomic mkdir, under ``name`` or the next ``run<N>``.

    Raises:
        RunError: The name is taken, or the folder cannot be created.
    """
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        number = 0
        while True:
            # past the last one tried: a folder may have its name in capitals, or a number beyond those that are counted
            number = max(number, _highest(runs_dir)) + 1
            path = runs_dir / (name or f"run{number}")
            try:
                path.mkdir()
            except FileExistsError:
                if name is not None:
                    raise _taken(name, runs_dir) from None
                continue
            return path
    except OSError as error:
        raise RunError(f"cannot create a run in {folder_text(runs_dir)}: {error.strerror}") from None


def _taken(name: str, runs_dir: Path) -> RunError:
    return RunError(f"run '{name}' exists in {folder_text(runs_dir)}", hint="choose another --name")


def _highest(runs_dir: Path) -> int:
    return max((int(match[1]) for path in runs_dir.iterdir() if (match := NUMBERED.fullmatch(path.name))), default=0)


def listing(runs_dir: Path) -> list[Path]:
    """The run folders of a directory: ``run<N>`` by number, then others by name; empty if the directory is missing.

    Raises:
        RunError: The directory cannot be read.
    """

    def order(name: str) -> tuple[int, str]:
        match = NUMBERED.fullmatch(name)
        return (int(match[1]) if match else 1 << 62, name)

    try:
        with os.scandir(runs_dir) as entries:
            names = [entry.name for entry in entries if os.path.isfile(f"{entry.path}/run.json")]
        return [runs_dir / name for name in sorted(names, key=order)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"cannot read the runs in {folder_text(runs_dir)}: {error.strerror}") from None


def folder_text(folder: Path) -> str:
    """The text of a folder for messages, such as ``./runs`` for a relative path."""
    return str(folder) if folder.is_absolute() or str(folder).startswith(".") else f"./{folder}"


def find(reference: str | Path, runs_dir: Path) -> Path:
    """The folder of the run that a reference names, as in ``Run.open``.

    Raises:
        RunError: There is no such run.
    """
    if isinstance(reference, Path) or os.sep in reference or reference in (".", ".."):
        path = Path(reference)
        if os.path.isfile(path / "run.json"):
            return path.resolve()
        raise RunError(f"no run at '{reference}'", hint="a path must name the folder of a run, which has a run.json")
    if match := re.fullmatch(f"latest(?:~({NUMBER}))?", reference):
        return _latest(reference, int(match[1] or 0), runs_dir)
    name = f"run{int(reference)}" if re.fullmatch(NUMBER, reference) else reference
    with suppress(OSError):
        # its name as it is written: the file system may take capitals for small letters
        if any(path.name == name for path in runs_dir.iterdir()) and os.path.isfile(runs_dir / name / "run.json"):
            return runs_dir / name
    runs = listing(runs_dir)
    near = nearest(name, [path.name for path in runs])
    hint = f"{near} {_list_with(runs_dir)}" if near else _list_with(runs_dir)
    raise RunError(
        f"no run '{reference}' in {folder_text(runs_dir)}", hint=hint if runs else "train one with: vaectl train"
    )


def _list_with(runs_dir: Path) -> str:
    """The command that lists the runs of a directory."""
    place = "" if runs_dir == runs_directory() else f"--runs-dir {shlex.quote(str(runs_dir))} "
    return f"list them with: vaectl {place}runs"


def _latest(reference: str, back: int, runs_dir: Path) -> Path:
    """The run that started last, or the one so many runs before it."""
    runs = listing(runs_dir)
    # of two runs that started in one second the later is the one with the higher number
    newest_first = ranked(runs, _glanced_start, lambda path: (path, _start(path)), lambda pair: pair[1])
    for path, _ in islice(newest_first, back, back + 1):
        return path
    raise RunError(f"no run '{reference}' in {folder_text(runs_dir)}: it holds {len(runs)}", hint=_list_with(runs_dir))


def ranked(
    paths: Sequence[Path], guess: Callable[[Path], Any], read: Callable[[Path], Item], key: Callable[[Item], Any]
) -> Iterator[Item]:
    """Read runs in the order of a key, the largest first, and read no run before it is reached.

    Of runs with the same key the last one comes first.

    Args:
        paths: The folders of the runs.
        guess: The key of a run, or a larger one, found without reading the run.
        read: Reads a run.
        key: The key of a run that was read.
    """
    queue: list[tuple[Any, int, Item | None]] = sorted((guess(path), place, None) for place, path in enumerate(paths))
    while queue:
        _, place, item = queue.pop()
        if item is None:
            item = read(paths[place])
            insort(queue, (key(item), place, item))
        else:
            yield item


def _glanced_start(path: Path) -> str:
    started = glance(path, ("started",)).get("started")
    return started if isinstance(started, str) else ""


def _start(path: Path) -> str:
    try:
        return str(read_record(path)["started"])
    except VaectlError:
        return ""
