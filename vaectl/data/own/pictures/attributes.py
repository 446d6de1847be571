"""Labels and factors of images, from the columns of a table beside them.

Shapes: ``N`` images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vaectl.data.own.source import Reading, classes_of, unlabelled
from vaectl.data.own.tables.roles import label_index
from vaectl.errors import SettingError

SHOWN = 10


def attributes_of(
    path: Path,
    columns: Mapping[str, Mapping[str, np.ndarray]],
    counts: Mapping[str, int],
    reading: Reading,
    classes: Mapping[str, Sequence[str]] | None = None,
    *,
    alone: bool = False,
) -> tuple[dict[str, np.ndarray], tuple[str, ...], dict[str, dict[str, np.ndarray]]]:
    """Find the label among columns; those of numbers are factors, and others are left out, which is said.

    Args:
        path: The file or folder, for messages.
        columns: Values by column and part (N,): whole numbers, real ones (nan if missing), or text (empty if missing).
        counts: Number of images by part.
        reading: How to read the source.
        classes: Names of the classes 0, 1, ... by column, if the file has them.
        alone: Whether a single column is the label, whatever its name.

    Returns:
        Labels by part, names of the classes, and factors by part and name.

    Raises:
        SettingError: The label column does not exist, or does not hold classes.
    """
    names = list(columns)
    label = label_index(path, names, reading)
    if label is None and classes:
        label = names.index(next(iter(classes)))
        reading.note(f"{path.name}: column '{names[label]}' is the label")
    if label is None and alone and len(names) == 1 and all(map(_are_classes, columns[names[0]].values())):
        label = 0
        reading.note(f"{path.name}: column '{names[0]}' is the label")
    labels, kinds = {part: unlabelled(count) for part, count in counts.items()}, tuple[str, ...]()
    if label is not None:
        column = columns[names[label]]
        if (known := (classes or {}).get(names[label])) is not None and all(map(_is_whole, column.values())):
            labels, kinds = _numbered(column, len(known)), tuple(known)
        elif all(map(_are_classes, column.values())):
            labels, kinds = _kinds(column)
        elif reading.demands_label:
            raise SettingError("data.label_column", f"names the column '{names[label]}', which holds real numbers")
        else:
            reading.note(f"{path.name}: column '{names[label]}' holds real numbers, so it is not used as the label")
            label = None
    factors: dict[str, dict[str, np.ndarray]] = {part: {} for part in counts}
    others = []
    for index, name in enumerate(names):
        if index == label:
            continue
        if all(_is_complete(values) for values in columns[name].values()):
            for part, values in columns[name].items():
                factors[part][name] = values
        else:
            others.append(name)
    if any(factors.values()):
        reading.note(f"{path.name}: attributes kept: {_listed(list(next(iter(factors.values()))))}")
    if others:
        reading.note(f"{path.name}: columns of text or with gaps ignored: {_listed(others)}")
    return labels, kinds, factors


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _is_whole(values: np.ndarray) -> bool:
    return values.dtype.kind in "iu"


def _is_complete(values: np.ndarray) -> bool:
    """Whether values are numbers, and none is missing."""
    return values.dtype.kind in "iu" or (values.dtype.kind == "f" and bool(np.isfinite(values).all()))


def _are_classes(values: np.ndarray) -> bool:
    if values.dtype.kind != "f":
        return True
    numbers = values[~np.isnan(values)]
    return bool((numbers == np.rint(numbers)).all())


def _numbered(column: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Labels that are numbers of named classes; others are none."""
    return {part: np.where((values >= 0) & (values < count), values, -1) for part, values in column.items()}


def _kinds(column: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels and class names of values of which some may be missing."""
    present = {part: values != "" if values.dtype.kind == "U" else values == values for part, values in column.items()}
    texts = any(values.dtype.kind == "U" for values in column.values())
    values = {part: part_values[present[part]] for part, part_values in column.items()}
    numbers, classes = classes_of({part: v if texts else v.astype(np.int64) for part, v in values.items()})
    labels = {part: unlabelled(len(part_values)).copy() for part, part_values in column.items()}
    for part, part_numbers in numbers.items():
        labels[part][present[part]] = part_numbers
    return labels, classes
