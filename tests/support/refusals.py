"""Command lines that must be refused, folders that must stay as they are, and records that are altered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import Cli

Record = dict[str, Any]


def snapshot(folder: Path, *, folders: bool = True) -> dict[str, str]:
    """Every file, and folder if asked for, below ``folder``, hidden or not, with a digest of its content."""
    paths = [path for path in sorted(folder.rglob("*")) if folders or path.is_file()]
    return {
        str(path.relative_to(folder)): "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def refuse(
    cli: Cli, arguments: Sequence[object], code: int, names: Sequence[str], hint: str | None = None, *, kind: str = ""
) -> None:
    """Assert that a command line is refused as the contract says, in text and under --json, and changes no file.

    Args:
        cli: The command line.
        arguments: What is given to it.
        code: The exit code due.
        names: What the ``error:`` line must name.
        hint: What the hint must name, or None where none is due; unknown options may name it in the error itself.
        kind: The error's code in the JSON document; '' for any.
    """
    here = Path.cwd()
    before = snapshot(here)
    text = cli(*arguments)
    assert text.exit_code == code, text.output
    assert "Traceback" not in text.output
    assert text.stdout == ""
    lines = text.stderr.splitlines()
    (error,) = [line for line in lines if line.startswith("error: ")]
    assert "internal error" not in error
    for name in names:
        assert name in error, error
    hints = [line for line in lines if line.startswith("hint: ")]
    assert len(hints) <= 1
    if hint is not None:
        assert hint in " ".join([*hints, error] if "option" in error or "command" in error else hints), text.stderr
    result = cli(*arguments, "--json")
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    document = json.loads(result.stdout)
    assert document.keys() == {"error"}
    assert document["error"].keys() == {"code", "message", "hint"}
    for name in names:
        assert name in document["error"]["message"]
    assert f"error: {document['error']['message']}" == error
    assert [f"hint: {document['error']['hint']}"] == hints if document["error"]["hint"] else not hints
    if kind:
        assert document["error"]["code"] == kind
    assert snapshot(here) == before


def put(path: str, value: Any) -> Callable[[Record], None]:
    """A change of one value, by its dotted path."""

    def change(record: Record) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            record = record[parent]
        record[last] = value

    return change


def drop(path: str) -> Callable[[Record], None]:
    def change(record: Record) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            record = record[parent]
        del record[last]

    return change


def alter(file: Path, change: Callable[[Record], None]) -> None:
    record = json.loads(file.read_text(encoding="utf-8"))
    change(record)
    # Python writes an infinite number as a word that JSON lacks; a number that overflows is valid JSON
    file.write_text(json.dumps(record).replace("Infinity", "1e999"), encoding="utf-8")
