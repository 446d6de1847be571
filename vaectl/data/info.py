"""The JSON-able description of a data set that a model needs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vaectl.config.spec import SPLITS
from vaectl.data.units import Column, Units
from vaectl.errors import DataError
from vaectl.system.reading import LARGEST

STRINGS = ("name", "support", "fingerprint", "preprocessing")
# limits for the number of class names and the characters of one; more names are not treated as classes
MOST_CLASSES, LONGEST_CLASS = 1000, 255
MOST_GIVEN = 2**16
# bytes that are kept of an example beside its numbers: digest, range, label, and its row in several orders
ACCOUNT_BYTES = 64
# limits for the numbers of one example, and for its channels, height and width
LARGEST_EXAMPLE, LONGEST_SIDE = 2**26, 2**16


@dataclass(frozen=True)
class DataInfo:
    """The description of the data that a model needs and a run records.

    Attributes:
        name: Name of the source.
        shape: Shape X of one example.
        support: ``binary`` ({0, 1}), ``bytes`` (k / 255), ``unit`` (any real number in [0, 1]) or ``real``.
        fingerprint: SHA-256 of the training and test arrays, images and labels; independent of the validation fraction.
        sizes: Number of examples by split.
        preprocessing: Description of the processing of a stored example before evaluation.
        classes: Names of the labels 0, 1, ... ; empty if they have no names.
        range: Smallest and largest training value of ``real`` data, shown as black and white in pictures.
        given: Numbers C of each example that a model is conditioned on; 0 without.
        missing: Whether values may be missing.
        columns: The columns of a table; empty if they have no names, and for images.
        units: The scale on which a model sees real numbers, or None if it sees them as they are.
        edge: Mean of the outermost pixels of training images in [0, 1], which tells a light from a dark background;
            None for other data, and if it is unknown.
    """

    name: str
    shape: tuple[int, ...]
    support: str
    fingerprint: str
    sizes: Mapping[str, int]
    preprocessing: str
    classes: tuple[str, ...] = ()
    range: tuple[float, float] = (0.0, 1.0)
    given: int = 0
    missing: bool = False
    columns: tuple[Column, ...] = ()
    units: Units | None = None
    edge: float | None = None

    @property
    def is_table(self) -> bool:
        """Whether an example is a row of a table."""
        return self.shape[:2] == (1, 1)

    @property
    def column_names(self) -> list[str]:
        """The names of a table's columns, or x0, x1, ... if they have none."""
        return [column.name for column in self.columns] or [f"x{index}" for index in range(self.shape[2])]

    @property
    def hard_scale(self) -> str:
        """Why these real numbers are hard to learn as the model sees them; empty if they are not."""
        return "" if self.units is None or self.units.are_applied else self.units.unlike(self.columns)

    def to_json(self) -> dict[str, Any]:
        """The form stored in ``run.json``."""
        lists = {"shape": list(self.shape), "classes": list(self.classes), "range": list(self.range)}
        columns = [[column.name, column.kind] for column in self.columns]
        units = None if self.units is None else self.units.to_json()
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return plain | lists | {"sizes": dict(self.sizes), "columns": columns, "units": units}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> DataInfo:
        """Read a description that ``to_json`` wrote.

        Raises:
            DataError: A field is missing, unknown or of a wrong type.
        """
        try:
            shape = tuple(document["shape"])
            # older records have neither class names nor a range
            classes, ends = tuple(document.get("classes", ())), tuple(document.get("range", (0.0, 1.0)))
            columns = tuple(Column(*column) for column in document.get("columns", ()))
            units = None if document.get("units") is None else Units.from_json(document["units"])
            info = cls(
                **{**document, "shape": shape, "classes": classes, "range": ends, "columns": columns, "units": units}
            )
            sound = (
                all(isinstance(size, int) and 0 < size <= LONGEST_SIDE for size in shape)
                and len(shape) == 3
                and math.prod(shape) <= LARGEST_EXAMPLE
                and all(isinstance(info.sizes[split], int) and 0 <= info.sizes[split] < 2**40 for split in SPLITS)
                and all(isinstance(document[name], str) for name in STRINGS)
                and len(classes) <= MOST_CLASSES
                and all(isinstance(name, str) and len(name) <= LONGEST_CLASS for name in classes)
                and len(ends) == 2
                and all(isinstance(end, int | float) and abs(end) <= LARGEST for end in ends)
                and ends[0] <= ends[1]
                and type(info.given) is int
                and 0 <= info.given <= MOST_GIVEN
                and type(info.missing) is bool
                and len(columns) in (0, shape[2])
                and all(column.is_sound for column in columns)
                and (units is None or units.is_sound(shape))
                and (info.edge is None or (type(info.edge) in (int, float) and 0 <= info.edge <= 1))
            )
        except (KeyError, TypeError):
            sound = False
        if not sound:
            raise DataError("the description of the data set is damaged")
        return info
