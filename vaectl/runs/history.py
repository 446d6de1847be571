"""The history of a run: ``metrics.jsonl``, one JSON object per epoch, appended and flushed to disk."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaectl.errors import RunError
from vaectl.system.files import open_append, replacing, writing
from vaectl.system.reading import SERIES_BYTES, parse_json, read_text

NAME = "metrics.jsonl"


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Append an epoch to the file and flush it to disk.

    Raises:
        OutputError: The file cannot be written.
    """
    with writing(path), open_append(path) as file:
        file.write(_line(row))
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The epochs of the file, empty if it is missing, and whether an incomplete last line was dropped.

    Raises:
        RunError: Another line is damaged, or the file cannot be read.
    """
    try:
        lines = read_text(path, SERIES_BYTES, errors="replace").splitlines()
    except FileNotFoundError:
        return [], False
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = parse_json(line)
            if not isinstance(row, dict):
                raise ValueError("not an object")
        except ValueError:
            if number == len(lines):
                return rows, True
            raise RunError(f"{path} is damaged in line {number}") from None
        rows.append(row)
    return rows, False


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace all epochs of the file atomically.

    Raises:
        OutputError: The file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text("".join(map(_line, rows)), encoding="utf-8")


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
