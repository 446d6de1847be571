"""Structured arrays: records of named fields, which are the columns of a table.

Shapes: ``N`` records, ``W`` fields of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaectl.data.own.arrays.members import NUMBERS
from vaectl.data.own.arrays.stored import Stored, Viewed
from vaectl.data.own.source import Names, Reading
from vaectl.data.own.tables.roles import roles_of
from vaectl.data.units import Column, Kind
from vaectl.errors import DataError, SettingError

KINDS: dict[str, Kind] = {"b": "bool", "i": "whole", "u": "whole", "f": "real"}


@dataclass(frozen=True)
class Records:
    """Arrays of records as a table.

    Attributes:
        numbers: The fields of numbers by part (N, W).
        labels: The field of labels by part (N,); empty if there is none.
        columns: The columns.
        names: Their names.
        groups: Group of each record by part, int64 (N,), or None.
    """

    numbers: dict[str, Stored]
    labels: dict[str, np.ndarray]
    columns: tuple[Column, ...]
    names: Names
    groups: dict[str, np.ndarray] | None


def records_of(path: Path, arrays: Mapping[str, Stored], reading: Reading) -> Records:
    """Read arrays of records as a table.

    Raises:
        DataError: A field holds something else than a number for each record.
        SettingError: An option names no field.
    """
    train = arrays["train"]
    dtype, names = train.dtype, list(train.dtype.names or ())
    for part, array in arrays.items():
        if array.dtype != dtype or len(array.shape) != 1:
            raise DataError(
                f"{path}: the {part} array holds records {array.dtype} {array.shape}, not like those of train",
                hint="save the fields as a plain array: "
                "numpy.lib.recfunctions.structured_to_unstructured(array.ravel())",
            )
    if reading.options.shape is not None and not reading.lenient:
        raise SettingError("data.shape", f"is for plain arrays; {path.name} holds records of fields")
    roles = roles_of(path, names, reading, lambda index: _is_real(train, names[index]), lambda index: False)
    fields = [names[index] for index in roles.numbers]
    for name in fields:
        if dtype[name].kind not in NUMBERS:
            raise DataError(
                f"{path}: the field '{name}' holds {dtype[name]}, not one number per record",
                hint=f"leave it out: --drop-column {name}; or if it is the label: --label-column {name}",
            )
    if not fields:
        raise DataError(f"{path} has no field of numbers")
    common = np.result_type(*(dtype[name] for name in fields))

    def numbers(part: np.ndarray) -> np.ndarray:
        return np.stack([part[name] for name in fields], axis=1).astype(common)

    return Records(
        {part: Viewed(array, (len(array), len(fields)), common, numbers) for part, array in arrays.items()},
        {} if roles.label is None else {part: array[:][names[roles.label]] for part, array in arrays.items()},
        tuple(Column(name, KINDS[dtype[name].kind]) for name in fields),
        Names(path.name, tuple(fields), tuple(names)),
        None if roles.group is None else _groups(arrays, names[roles.group]),
    )


def _is_real(array: Stored, field: str) -> bool:
    """Whether a field holds real numbers of which some are not whole."""
    values = array[:][field]
    return values.dtype.kind == "f" and bool((values != np.rint(values)).any())


def _groups(arrays: Mapping[str, Stored], field: str) -> dict[str, np.ndarray]:
    """Numbers for the values of a field, alike in all parts."""
    values = {part: array[:][field] for part, array in arrays.items()}
    kinds = np.unique(np.concatenate([*values.values()]))
    return {part: np.searchsorted(kinds, its).astype(np.int64) for part, its in values.items()}
