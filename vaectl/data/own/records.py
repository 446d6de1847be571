"""Structured arrays: records of named fields, which are the columns of a table.

Shapes: ``N`` records, ``W`` fields of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vaectl.data.own.members import NUMBERS
from vaectl.data.own.roles import roles_of
from vaectl.data.own.source import Reading
from vaectl.data.own.stored import Stored, Viewed
from vaectl.data.units import Column, Kind
from vaectl.errors import DataError, SettingError

KINDS: dict[str, Kind] = {"b": "bool", "i": "whole", "u": "whole", "f": "real"}


def columns_of_records(
    path: Path, images: Mapping[str, Stored], labels: Mapping[str, np.ndarray], reading: Reading
) -> tuple[dict[str, Stored], Mapping[str, np.ndarray], tuple[Column, ...]]:
    """Read arrays of records as tables: arrays of numbers (N, W) and labels by part, and the columns.

    Raises:
        DataError: A field holds something else than a number for each record.
        SettingError: An option names no field.
    """
    dtype = images["train"].dtype
    names = list(dtype.names or ())
    for part, array in images.items():
        if array.dtype != dtype or len(array.shape) != 1:
            raise DataError(
                f"{path}: the {part} array holds records {array.dtype} {array.shape}, not like those of train",
                hint="save the fields as a plain array: "
                "numpy.lib.recfunctions.structured_to_unstructured(array.ravel())",
            )
    for option in ("shape", "group_column"):
        if getattr(reading.options, option) is not None and not reading.lenient:
            raise SettingError(f"data.{option}", f"is for tables and plain arrays; {path.name} holds records of fields")

    def is_real(index: int) -> bool:
        values = np.asarray(images["train"][:][names[index]])
        return values.dtype.kind == "f" and bool((values != np.rint(values)).any())

    roles = roles_of(path, names, reading, is_real, lambda index: False)
    label, fields = roles.label, [names[index] for index in roles.numbers]
    for name in fields:
        if dtype[name].kind not in NUMBERS:
            raise DataError(
                f"{path}: the field '{name}' holds {dtype[name]}, not one number per record",
                hint=f"leave it out: array[[name for name in array.dtype.names if name != '{name}']]; or if it is the "
                f"label: --label-column {name}",
            )
    if not fields:
        raise DataError(f"{path} has no field of numbers")
    common = np.result_type(*(dtype[name] for name in fields))

    def numbers(part: np.ndarray) -> np.ndarray:
        return np.stack([part[name] for name in fields], axis=1).astype(common)

    tables: dict[str, Stored] = {
        part: Viewed(array, (len(array), len(fields)), common, numbers) for part, array in images.items()
    }
    if label is not None:
        labels = {part: np.asarray(array[:][names[label]]) for part, array in images.items()}
    return tables, labels, tuple(Column(name, KINDS[dtype[name].kind]) for name in fields)
