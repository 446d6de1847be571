"""A part of a split's examples that is spread evenly over it.

Shapes: ``N`` examples of the split.
"""

from __future__ import annotations

import dataclasses
from typing import cast

import torch
from torch import Tensor

from vaectl.data.base import Split
from vaectl.data.examples import Examples
from vaectl.data.own.streamed import StreamedSplit


def thinned(examples: Examples, most: int) -> Examples:
    """At most ``most`` examples in order, spread evenly because neighbours are often alike, to compute with.

    Args:
        examples: The examples, in memory or streamed.
        most: Most examples.
    """
    count = len(examples)
    if count <= most:
        return examples
    index = torch.arange(most) * count // most
    factors = {name: values[index.numpy()] for name, values in examples.factors.items()}
    labels, given = examples.labels[index.to(examples.labels.device)], _rows(examples.given, index)
    if isinstance(examples, Split):
        return Split(
            examples.images[index.to(examples.device)],
            labels,
            examples.rows[index.to(examples.device)],
            factors=factors,
            given=given,
            observed=_rows(examples.observed, index),
        )
    stream = cast(StreamedSplit, examples)
    return dataclasses.replace(
        stream,
        positions=stream.positions[index.numpy()],
        labels=labels,
        factors=factors,
        grey=None,
        given=given,
        observed=_rows(stream.observed, index),
    )


def _rows(values: Tensor | None, index: Tensor) -> Tensor | None:
    return None if values is None else values[index.to(values.device)]
