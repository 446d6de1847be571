"""The runs in a directory: allocating new ids, and resolving references such as ``latest`` or ``42``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vaectl.errors import RunError, UsageError, VaectlError, nearest
from vaectl.runs.records import read_record

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


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
        while True:
            path = runs_dir / (name or f"run{_highest(runs_dir) + 1}")
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
    numbers = (re.fullmatch(r"run(\d+)", path.name) for path in runs_dir.iterdir())
    return max((int(match[1]) for match in numbers if match), default=0)


def listing(runs_dir: Path) -> list[Path]:
    """The run folders of a directory: ``run<N>`` by number, then others by name; empty if the directory is missing.

    Raises:
        RunError: The directory cannot be read.
    """

    def order(path: Path) -> tuple[int, str]:
        match = re.fullmatch(r"run(\d+)", path.name)
        return (int(match[1]) if match else 1 << 62, path.name)

    try:
        return sorted((path for path in runs_dir.iterdir() if (path / "run.json").is_file()), key=order)
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
    runs = listing(runs_dir)
    match = re.fullmatch(r"latest(?:~(\d{1,6}))?", reference)
    if match:
        by_start = sorted(runs, key=_started)
        back = int(match[1] or 0)
        if back < len(by_start):
            return by_start[-1 - back]
        raise RunError(
            f"no run '{reference}' in {folder_text(runs_dir)}: it holds {len(runs)}", hint="list them with: vaectl runs"
        )
    name = f"run{int(reference)}" if re.fullmatch(r"\d{1,18}", reference) else reference
    for path in runs:
        if path.name == name:
            return path
    near = nearest(name, [path.name for path in runs])
    hint = f"{near} list them with: vaectl runs" if near else "list them with: vaectl runs"
    raise RunError(
        f"no run '{reference}' in {folder_text(runs_dir)}", hint=hint if runs else "train one with: vaectl train"
    )


def _started(path: Path) -> str:
    # precise to the second; sorting is stable, so of two runs in one second the higher number is the later
    try:
        return str(read_record(path)["started"])
    except VaectlError:
        return ""
