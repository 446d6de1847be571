"""The choice of classes by name or number.

Shapes: ``N`` examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vaectl.errors import SettingError, nearest

# number of classes that an error lists
LISTED = 20


def chosen(
    name: str, selection: Sequence[str], labels: Mapping[str, np.ndarray], classes: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], tuple[str, ...]]:
    """Find the examples of some classes.

    Args:
        name: Name of the data set.
        selection: Names of classes, or their numbers.
        labels: Class of each example by part, int64 (N,), -1 if it has none.
        classes: Names of the labels 0, 1, ... ; empty if they have no names.

    Returns:
        By part the rows to keep and their labels, and the names of the classes that are left. Labels with names are
        numbered anew; others keep their numbers.

    Raises:
        SettingError: A class is unknown, or there are none.
    """
    present = np.unique(np.concatenate([*labels.values()]))
    known = classes or tuple(str(label) for label in present.tolist() if label >= 0)
    if not known:
        raise SettingError("data.classes", f"is for data with labels; {name} has none")
    numbers = {text: int(text) for text in known} if not classes else {}
    if classes:
        # a class may be called 3, and then 3 does not mean the fourth
        numbers = {str(number): number for number in range(len(classes))}
        numbers |= {text: number for number, text in enumerate(classes)}
    for text in selection:
        if text not in numbers:
            listing = ", ".join(known[:LISTED]) + (f" and {len(known) - LISTED} more" if len(known) > LISTED else "")
            raise SettingError(
                "data.classes", f"names {text!r:.100}, which is no class of {name}; its classes: {listing}",
                hint=nearest(text, known),
            )  # fmt: skip
    numbers_left = sorted({numbers[text] for text in selection})
    rows = {part: np.flatnonzero(np.isin(part_labels, numbers_left)) for part, part_labels in labels.items()}
    labels_left = {part: labels[part][part_rows] for part, part_rows in rows.items()}
    if classes:
        labels_left = {part: np.searchsorted(numbers_left, values) for part, values in labels_left.items()}
    return rows, labels_left, tuple(classes[number] for number in numbers_left) if classes else ()
