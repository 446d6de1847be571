"""The arrays of a file that has several, before they are read.

Shapes: ``N`` examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from vaectl.data.own.arrays.stored import Stored

# kinds of numpy types that are numbers, and those that can be names of classes
NUMBERS, TEXTS = frozenset("buif"), frozenset("US")
LISTED = 20


@dataclass(frozen=True)
class Member:
    """An array of a file.

    Attributes:
        shape: Length of each axis.
        dtype: Type of its values.
        load: Opens the array, or reads it whole.
        streams: Whether ``load`` only opens it.
        problem: Why it cannot be used, as the rest of a sentence that begins with its key; empty if it can.
        unpacked: Bytes that reading it takes beside the array itself.
        damaged: Whether ``load`` raises a ValueError.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], Stored]
    streams: bool = False
    problem: str = ""
    unpacked: int = 0
    damaged: bool = False

    @property
    def whole(self) -> int:
        """Bytes of memory that reading it whole takes."""
        return math.prod(self.shape) * max(1, self.dtype.itemsize) + self.unpacked

    @property
    def opened(self) -> int:
        """Bytes of memory that it takes to have it open: no more than is unpacked at once if it streams."""
        return self.unpacked if self.streams else self.whole

    def values(self) -> np.ndarray:
        """The array, read whole.

        Raises:
            ValueError: It is damaged.
        """
        array = self.load()
        return array if isinstance(array, np.ndarray) else array[:]

    @property
    def is_numbers(self) -> bool:
        """Whether it can be read and holds numbers, at least one for each of some examples."""
        return not self.problem and self.dtype.kind in NUMBERS and len(self.shape) > 1

    @property
    def text(self) -> str:
        """Its shape and type, such as ``uint8 (60000, 28, 28)``."""
        return self.problem or ("damaged" if self.damaged else f"{self.dtype} {self.shape}")


def unusable(problem: str, shape: tuple[int, ...] = ()) -> Member:
    """A member that cannot be read, for a reason that completes a sentence which begins with its key."""

    def refuse() -> NoReturn:
        raise ValueError(problem)

    return Member(shape, np.dtype(np.uint8), refuse, problem=problem)


def damaged(reason: str) -> Member:
    """A member that is an error only if it is used."""

    def refuse() -> NoReturn:
        raise ValueError(reason)

    return Member((), np.dtype(np.uint8), refuse, damaged=True)


def listing(members: Mapping[str, Member], keys: Iterable[str] | None = None) -> str:
    """Keys with the shapes of their arrays, for messages."""
    names = sorted(members if keys is None else keys)
    more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(f"{name} ({members[name].text})" for name in names[:LISTED]) + more or "none"
