"""Columns of a table, and the scale of real numbers: how a model's numbers become the data's own, and back.

Shapes: ``N`` examples, ``W`` columns, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from vaectl.system.reading import LARGEST

Kind = Literal["real", "whole", "bool"]
Method = Literal["standard", "minmax", "robust"]
LONGEST_NAME = 255


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its name in the file.
        kind: What its numbers are there: ``real``, ``whole`` numbers, or ``bool`` for true and false.
    """

    name: str
    kind: Kind = "real"

    @property
    def is_sound(self) -> bool:
        """Whether a column read from a record can be one."""
        return isinstance(self.name, str) and len(self.name) <= LONGEST_NAME and self.kind in get_args(Kind)


@dataclass(frozen=True)
class Units:
    """The scale on which a model sees real numbers x: ``(x - loc) / scale``.

    Attributes:
        method: How location and scale were fitted to the training examples: ``standard`` by mean and standard
            deviation, ``minmax`` to [0, 1] by smallest and largest number, ``robust`` by median and the distance of the
            quartiles.
        loc, scale: Location and scale, one number for all values, or W of them for the columns of a table.
    """

    method: Method
    loc: tuple[float, ...]
    scale: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """The form stored in ``run.json``."""
        return {"method": self.method, "loc": list(self.loc), "scale": list(self.scale)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Units:
        """Read the form that ``to_json`` made; ``is_sound`` checks it."""
        return cls(document["method"], tuple(document["loc"]), tuple(document["scale"]))

    def is_sound(self, shape: Sequence[int]) -> bool:
        """Whether a scale read from a record can be one for examples of a shape X."""
        numbers = (*self.loc, *self.scale)
        return (
            self.method in get_args(Method)
            and len(self.loc) == len(self.scale)
            and len(self.loc) in (1, shape[-1] if tuple(shape[:2]) == (1, 1) else 1)
            and all(type(number) in (int, float) and abs(number) <= LARGEST for number in numbers)
            and all(math.isfinite(number) and number > 0 for number in self.scale)
        )
