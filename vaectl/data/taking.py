"""Some examples of a split, in an order of one's own, for evaluation.

Shapes: ``N`` examples of a split, ``M`` of them taken, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from vaectl.data.base import Split
from vaectl.data.examples import Examples
from vaectl.data.own.streamed import StreamedSplit


def taken(split: Examples, positions: Tensor) -> Examples:
    """The examples at some positions of a split, without grey levels to draw from.

    Args:
        split: The split.
        positions: Positions from 0 to N - 1, which may be repeated, int64 (M,).
    """
    index = positions.cpu().numpy()
    factors = {name: values[index] for name, values in split.factors.items()}
    at = positions.to(split.labels.device)
    labels = split.labels[at]
    if isinstance(split, StreamedSplit):
        given, observed = (None if t is None else t[positions] for t in (split.given, split.observed))
        return dataclasses.replace(
            split, positions=split.positions[index], labels=labels, grey=None, given=given, observed=observed,
            factors=factors,
        )  # fmt: skip
    assert isinstance(split, Split)
    given, observed = (None if t is None else t[at] for t in (split.given, split.observed))
    return Split(split.images[at], labels, split.rows[at], factors=factors, given=given, observed=observed)


def side_by_side(splits: Sequence[Examples]) -> Split:
    """The first example of each split, as one split in memory; they have no labels, and rows 0, 1, ... ."""
    values = torch.cat([split.batch(slice(0, 1)).x for split in splits])
    return Split(values, torch.full((len(splits),), -1), torch.arange(len(splits)))
