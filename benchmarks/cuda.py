"""On a CUDA GPU: an epoch of an eager loop beside vaectl's, the data resident in both, and 20 epochs of vaectl.

The ratio of 20 epochs is to one eager epoch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import torch

from benchmarks import epoch
from benchmarks.loops import eager, vaectl
from benchmarks.tables import AbsentError, Rows, Work
from vaectl.data.base import Data

LOOPS: Mapping[str, Callable[[Data], Work]] = {
    "eager": eager,
    "vaectl": vaectl,
    "vaectl bf16": partial(vaectl, settings={"precision": "bf16"}),
    "vaectl, 20 epochs": partial(vaectl, settings={"epochs": 20}),
    "vaectl bf16, 20 epochs": partial(vaectl, settings={"epochs": 20, "precision": "bf16"}),
}


def measure(data: Data, rounds: int) -> Rows:
    """As ``epoch.measure``.

    Raises:
        AbsentError: There is no such GPU.
    """
    if not torch.cuda.is_available():
        raise AbsentError("torch sees no CUDA device")
    return epoch.measure(dataclasses.replace(data, train=data.train.to(torch.device("cuda"))), rounds, LOOPS)
