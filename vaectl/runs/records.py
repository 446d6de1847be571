"""run.json: its required fields, and safe reading."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vaectl.errors import RunError
from vaectl.system.reading import RECORD_BYTES, is_number, parse_json, path_within, read_text

SCHEMA = 1
# limit for the characters of a string; the longest is a path
LONGEST_TEXT = 4096
MOST_PLUGINS = 100
# the first characters of every run.json that vaectl writes, with one space before the name of a field
LAYOUT = '{\n "schema": '
DECODER = json.JSONDecoder()

# required fields of run.json with their types; type(None) stands for null
FIELDS: dict[str, tuple[type, ...]] = {
    "schema": (int,),
    "id": (str,),
    "status": (str,),
    "argv": (list,),
    "config": (dict,),
    "sources": (dict,),
    "dataset": (dict,),
    "data_directory": (str,),
    "versions": (dict,),
    "git_commit": (str, type(None)),
    "device": (str,),
    "parameters": (int,),
    "started": (str,),
    "finished": (str, type(None)),
    "best_epoch": (int, type(None)),
    "validation": (dict,),
    "metrics": (dict,),
    "evaluations": (list,),
}


def read_record(path: Path) -> dict[str, Any]:
    """The content of a run folder's ``run.json``.

    Raises:
        RunError: The file is missing or damaged, or was written by a newer vaectl.
    """
    file = path_within(path, "run.json")
    try:
        record = parse_json(read_text(file, RECORD_BYTES))
    except OSError as error:
        raise RunError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise RunError(f"{file} is damaged: {error}") from None
    if not isinstance(record, dict):
        raise RunError(f"{file} is damaged: it is not an object")
    schema = record.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise RunError(f"{file} has schema {schema}; this vaectl reads up to {SCHEMA}", hint="upgrade vaectl")
    for name, kinds in FIELDS.items():
        value = record.get(name, ...)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise RunError(f"{file} is damaged: field '{name}' {'is missing' if value is ... else 'has a wrong type'}")
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            raise RunError(f"{file} is damaged: field '{name}' has {len(value):,} characters")
    if not _is_plugins(record.get("plugins", [])):
        raise RunError(f"{file} is damaged: field 'plugins' must list names and SHA-256 digests of plug-ins")
    return record


def glance(folder: Path, names: Sequence[str]) -> Mapping[str, Any]:
    """Some fields of a run's ``run.json``, unchecked, for the order of thousands of runs.

    In the layout that vaectl writes they are found in the text, and the rest is not parsed. A field that is missing or
    damaged is left out.

    Args:
        folder: The run's folder.
        names: Names of the fields.
    """
    text = _written_text(folder)
    if not text.startswith(LAYOUT):
        try:
            return read_record(folder)
        except RunError:
            return {}
    fields: dict[str, Any] = {}
    for name in names:
        # a string in JSON holds no line break, and a field of an inner table is indented further
        _, mark, rest = text.partition(f'\n "{name}": ')
        if mark:
            with suppress(ValueError, RecursionError):
                fields[name] = DECODER.raw_decode(rest)[0]
    return fields


def _written_text(folder: Path) -> str:
    """The text of a run.json that is an ordinary file of readable size; empty for any other."""
    try:
        handle = os.open(f"{folder}/run.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb", buffering=0) as file:
            status = os.fstat(handle)
            small = stat.S_ISREG(status.st_mode) and status.st_size <= RECORD_BYTES
            return file.read().decode() if small else ""
    except (OSError, ValueError):
        return ""


def _is_plugins(value: Any) -> bool:
    """Whether a value is what a record may keep of the plug-ins that its run needs; records without have none."""
    return (
        isinstance(value, list)
        and len(value) <= MOST_PLUGINS
        and all(isinstance(item, dict) and {"name", "sha256"} <= item.keys() for item in value)
        and all(isinstance(text, str) and len(text) <= LONGEST_TEXT for item in value for text in item.values())
        and all(re.fullmatch("[0-9a-f]{64}", item["sha256"]) for item in value)
    )


def is_evaluation(item: Any) -> bool:
    """Whether an entry of ``evaluations`` has all fields that its readers use, with the right types."""
    kinds = {
        "split": str,
        "checkpoint": str,
        "n": int,
        "seed": int,
        "measure": str,
        "metrics": dict,
        "kl_per_dim": list,
    }
    if not isinstance(item, dict) or not all(isinstance(item.get(key), kind) for key, kind in kinds.items()):
        return False
    metrics = item["metrics"].items()
    return (
        {"elbo", "recon", "kl"} <= item["metrics"].keys()
        and all(number is None or is_number(number) for _, number in metrics)
        and isinstance(item["metrics"].get("active_units", item["metrics"].get("codes_used")), int)
        and all(is_number(number) for number in item["kl_per_dim"])
    )
