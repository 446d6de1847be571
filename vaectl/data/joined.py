"""Several splits of a data set as one, in order.

Shapes: ``N`` examples of all splits, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from vaectl.data.base import Data, Split
from vaectl.data.examples import Examples
from vaectl.data.own.joining import ChainedRows
from vaectl.data.own.streamed import StreamedSplit


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
        factors=factors,
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
