"""Several splits of a data set as one, in order.

Shapes: ``N`` examples of all splits, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from vaectl.data.base import Data, Split
from vaectl.data.examples import Examples
from vaectl.data.own.rows import BadExampleError, Rows
from vaectl.data.own.streamed import StreamedSplit


@dataclass(frozen=True)
class ChainedRows:
    """The rows of several sources, one after the other.

    Attributes:
        parts: The sources, with examples of one shape and type.
    """

    parts: tuple[Rows, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """X."""
        return self.parts[0].shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers that ``read`` returns."""
        return self.parts[0].dtype

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def name(self, row: int) -> str:
        """The example's name in its own source."""
        part, start = self._part(row)
        return self.parts[part].name(row - start)

    def read(self, index: np.ndarray) -> np.ndarray:
        """Read examples as ``Rows.read`` does."""
        out = np.empty((len(index), *self.shape), self.dtype)
        ends = np.cumsum([len(part) for part in self.parts])
        numbers = np.searchsorted(ends, index, side="right")
        for number in np.unique(numbers).tolist():
            mine, start = numbers == number, int(ends[number]) - len(self.parts[number])
            try:
                out[mine] = self.parts[number].read(index[mine] - start)
            except BadExampleError as error:
                raise BadExampleError(error.row + start, error.problem) from None
        return out

    def _part(self, row: int) -> tuple[int, int]:
        start = 0
        for number, part in enumerate(self.parts):
            if row < start + len(part):
                return number, start
            start += len(part)
        raise IndexError(row)


def joined(data: Data, names: Sequence[str]) -> Examples:
    """The examples of some splits, one after the other, for evaluation: without grey levels to draw from.

    Args:
        data: The data set; its splits are all in memory or all streamed.
        names: Names of the splits.
    """
    splits = [data.split(name) for name in names if len(data.split(name))] or [data.split(names[0])]
    if len(splits) == 1:
        return splits[0]
    labels, factors = torch.cat([split.labels for split in splits]), _factors(splits)
    if all(isinstance(split, Split) for split in splits):
        held = cast(list[Split], splits)
        return Split(
            torch.cat([split.images for split in held]),
            labels,
            torch.cat([split.rows for split in held]),
            factors=factors,
            given=_cat([split.given for split in held]),
            observed=_cat([split.observed for split in held]),
        )
    streams = cast(list[StreamedSplit], splits)
    starts = np.cumsum([0, *(len(split.source) for split in streams)])
    positions = [split.positions + start for split, start in zip(streams, starts[:-1], strict=True)]
    return StreamedSplit(
        ChainedRows(tuple(split.source for split in streams)),
        np.concatenate(positions),
        labels,
        given=_cat([split.given for split in streams]),
        observed=_cat([split.observed for split in streams]),
    )


def _factors(splits: Sequence[Examples]) -> Mapping[str, np.ndarray]:
    """The factors that all splits have."""
    first, *others = (split.factors for split in splits)
    names = [name for name in first if all(name in factors for factors in others)]
    return {name: np.concatenate([split.factors[name] for split in splits]) for name in names}


def _cat(tensors: Sequence[Tensor | None]) -> Tensor | None:
    parts = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(parts) if len(parts) == len(tensors) else None
