"""The history of a run: ``metrics.jsonl``, one JSON object an epoch, appended and flushed to disk."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaectl.errors import OutputError, RunError
from vaectl.files import replacing

NAME = "metrics.jsonl"


def append(folder: Path, row: Mapping[str, Any]) -> None:
    """Append an epoch and flush it to disk.

    Raises:
        OutputError: It cannot be written.
    """
    path = folder / NAME
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None


def read(folder: Path) -> tuple[list[dict[str, Any]], bool]:
    """The epochs, and whether a torn last line was left out.

    Raises:
        RunError: Another line is damaged.
    """
    path = folder / NAME
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return [], False
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("no object")
        except (ValueError, RecursionError):
            if number == len(lines):
                return rows, True
            raise RunError(f"{path} is damaged in line {number}") from None
        rows.append(row)
    return rows, False


def write(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace all epochs, whole or not at all.

    Raises:
        OutputError: They cannot be written.
    """
    with replacing(folder / NAME) as temporary:
        temporary.write_text("".join(map(_line, rows)), encoding="utf-8")


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
