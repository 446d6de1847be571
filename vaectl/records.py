"""run.json: what it must hold, and reading it with suspicion."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaectl.errors import RunError

SCHEMA = 1

# what run.json must hold, by type; None stands for null
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
        RunError: It is missing or damaged, or a newer vaectl wrote it.
    """
    file = path / "run.json"
    try:
        record = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_constant, parse_float=_finite)
    except OSError as error:
        raise RunError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{file} is damaged: {error}") from None
    if not isinstance(record, dict):
        raise RunError(f"{file} is damaged: it holds no object")
    schema = record.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise RunError(f"{file} has schema {schema}; this vaectl reads up to {SCHEMA}", hint="upgrade vaectl")
    for name, kinds in FIELDS.items():
        value = record.get(name, ...)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise RunError(f"{file} is damaged: field '{name}' is {'missing' if value is ... else 'of a wrong type'}")
    return record


def has_numbers(table: Any, *keys: str) -> bool:
    """Whether something is a table with a finite number under each key."""
    values = [table.get(key) for key in keys] if isinstance(table, Mapping) else [None]
    # a comparison, which an integer too large for a float survives
    return all(isinstance(value, int | float) and abs(value) < 1e300 for value in values)


def is_evaluation(item: Any) -> bool:
    """Whether an entry of ``evaluations`` has all that its readers use, of the right types."""
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
        and all(number is None or isinstance(number, int | float) for _, number in metrics)
        and isinstance(item["metrics"].get("active_units"), int)
        and all(isinstance(number, int | float) for number in item["kl_per_dim"])
    )


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON has")
