"""Columns of a table, and the scale of real numbers that makes them the data's own again.

Shapes: ``N`` examples, ``W`` columns, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from vaectl.system.reading import LARGEST

Kind = Literal["real", "whole", "bool"]
Method = Literal["none", "standard", "minmax", "robust"]
LONGEST_NAME = 255
# a float32 of this size has no unit digit, and an int64 holds it
MOST_WHOLE = 2.0**62
# numbers whose standard deviation is so many times larger or smaller than 1, or whose mean is so many standard
# deviations away from 0, are hard to learn as they are
UNLIKE = 10.0


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its name in the file.
        kind: What its numbers are there: ``real``, ``whole`` numbers, or ``bool`` for true and false.
    """

    name: str
    kind: Kind = "real"

    def restored(self, values: np.ndarray) -> np.ndarray:
        """Computed numbers as the file would have them (n,): whole numbers and bools are rounded, int64 and bool."""
        if self.kind == "real" or not np.isfinite(values).all() or not (np.abs(values) < MOST_WHOLE).all():
            return values
        return values >= 0.5 if self.kind == "bool" else np.rint(values).astype(np.int64)

    @property
    def is_sound(self) -> bool:
        """Whether a column read from a record can be one."""
        return isinstance(self.name, str) and len(self.name) <= LONGEST_NAME and self.kind in get_args(Kind)


@dataclass(frozen=True)
class Units:
    """Location and scale of real numbers x; a model sees ``(x - loc) / scale`` unless the method is ``none``.

    Attributes:
        method: How location and scale were fitted to the training examples: ``standard`` by mean and standard
            deviation, ``minmax`` by the smallest number and the range, ``robust`` by median and the distance of the
            quartiles. ``none`` has those of ``standard``, and the model sees the numbers as they are.
        loc, scale: One number for all values, or W of them for the columns of a table.
    """

    method: Method
    loc: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def are_applied(self) -> bool:
        """Whether the model sees scaled numbers."""
        return self.method != "none"

    @property
    def text(self) -> str:
        """What the scale is for the model, as a sentence without a full stop."""
        what = "each column is" if len(self.loc) > 1 else "all values are"
        ways = {
            "standard": "standardised for the model (mean 0, standard deviation 1)",
            "minmax": "scaled for the model to the range from 0 to 1",
            "robust": "scaled for the model by median and quartiles",
            "none": "seen by the model without scaling",
        }
        return f"{what} {ways[self.method]}" + ("; results stay in the data's units" if self.are_applied else "")

    def unlike(self, columns: Sequence[Column] = ()) -> str:
        """Why numbers of this location and scale are hard to learn without scaling; empty if they are not.

        Args:
            columns: The columns of a table, for their names.
        """
        names = [column.name for column in columns] or [str(index + 1) for index in range(len(self.loc))]
        distances = [
            max(abs(math.log10(scale)), math.log10(max(abs(loc) / scale, 1e-30)))
            for loc, scale in zip(self.loc, self.scale, strict=True)
        ]
        worst = max(range(len(distances)), key=distances.__getitem__)
        if distances[worst] <= math.log10(UNLIKE):
            return ""
        subject = f"column '{names[worst]}' has" if len(self.loc) > 1 else "the values have"
        return f"{subject} mean {self.loc[worst]:.4g} and standard deviation {self.scale[worst]:.4g}"

    def to_json(self) -> dict[str, Any]:
        """The form stored in ``run.json``."""
        return {"method": self.method, "loc": list(self.loc), "scale": list(self.scale)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Units:
        """Read the form that ``to_json`` made; ``is_sound`` checks it."""
        return cls(document["method"], tuple(document["loc"]), tuple(document["scale"]))

    def is_sound(self, shape: Sequence[int]) -> bool:
        """Whether a scale read from a record can be one for examples of a shape X."""
        return (
            self.method in get_args(Method)
            and len(self.loc) == len(self.scale)
            and len(self.loc) in (1, shape[-1] if tuple(shape[:2]) == (1, 1) else 1)
            and all(type(number) in (int, float) and abs(number) <= LARGEST for number in (*self.loc, *self.scale))
            and all(number > 0 for number in self.scale)
        )
