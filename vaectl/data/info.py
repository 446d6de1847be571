"""The description of a data set: all that a model must know of it, JSON-able."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vaectl.errors import DataError
from vaectl.spec import SPLITS

STRINGS = ("name", "support", "fingerprint", "preprocessing")


@dataclass(frozen=True)
class DataInfo:
    """What a model needs to know of its data, and what a run records of it.

    Attributes:
        name: Name of the source.
        shape: Shape X of one example.
        support: ``binary`` ({0, 1}), ``bytes`` (k / 255), ``unit`` (any real number in [0, 1]) or ``real``.
        fingerprint: SHA-256 of the training and test arrays, images and labels; the same however much is held out.
        sizes: Examples by split.
        preprocessing: What is done to a stored example before it is evaluated.
    """

    name: str
    shape: tuple[int, ...]
    support: str
    fingerprint: str
    sizes: Mapping[str, int]
    preprocessing: str

    def to_json(self) -> dict[str, Any]:
        """The form that ``run.json`` holds."""
        return dataclasses.asdict(self) | {"shape": list(self.shape), "sizes": dict(self.sizes)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> DataInfo:
        """The description that ``to_json`` wrote.

        Raises:
            DataError: A field is missing, unknown or of a wrong type.
        """
        try:
            shape = tuple(document["shape"])
            info = cls(**{**document, "shape": shape})
            sound = (
                all(isinstance(size, int) and 0 < size <= 2**16 for size in shape)
                and len(shape) == 3
                and math.prod(shape) <= 2**26
                and all(isinstance(info.sizes[split], int) and 0 <= info.sizes[split] < 2**40 for split in SPLITS)
                and all(isinstance(document[name], str) for name in STRINGS)
            )
        except (KeyError, TypeError):
            sound = False
        if not sound:
            raise DataError("the description of the data set is damaged")
        return info
