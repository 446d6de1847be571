"""run.json: its required fields, and safe reading."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vaectl.errors import RunError
from vaectl.system.reading import RECORD_BYTES, is_number, parse_json, path_within, read_text

SCHEMA = 1
# limit for the characters of a string; the longest is a path
LONGEST_TEXT = 4096
MOST_PLUGINS = 100

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
