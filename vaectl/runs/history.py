"""The histories of a run, one JSON object per line: ``metrics.jsonl`` by epoch, ``steps.jsonl`` by step."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaectl.errors import RunError
from vaectl.system.files import open_append, replacing, writing
from vaectl.system.reading import SERIES_BYTES, has_numbers, parse_json, read_text

NAME = "metrics.jsonl"
STEPS = "steps.jsonl"


def append(path: Path, row: Mapping[str, Any], *, lasting: bool = True) -> None:
    """Append a row to the file.

    Args:
        path: The file.
        row: The row.
        lasting: Whether to wait until it is on the disk, so that it outlasts a power cut.

    Raises:
        OutputError: The file cannot be written.
    """
    with writing(path), open_append(path) as file:
        file.write(_line(row))
        if lasting:
            file.flush()
            os.fsync(file.fileno())


def read(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The rows of the file, empty if it is missing, and whether an incomplete last line was dropped.

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
    """Replace all rows of the file atomically.

    Raises:
        OutputError: The file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text("".join(map(_line, rows)), encoding="utf-8")


def rewind(path: Path, step: int) -> None:
    """Drop the rows after an optimizer step, and lines that are damaged; a missing file stays missing.

    Raises:
        OutputError: The file cannot be read or written.
    """
    if not path.exists():
        return
    with (
        writing(path),
        path.open(encoding="utf-8", errors="replace") as lines,
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        file.writelines(line for line in lines if _is_until(line, step))


def _is_until(line: str, step: int) -> bool:
    try:
        row = parse_json(line)
    except ValueError:
        return False
    return isinstance(row, dict) and has_numbers(row, "step") and row["step"] <= step


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
