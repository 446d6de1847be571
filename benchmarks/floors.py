"""The floor: nothing but the matrix products of a work, of the same shapes, through each backend there is.

Shapes: ``B`` batch; a layer is a pair (inputs, outputs).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.loops import BATCH, DECODER, ENCODER, device_of
from benchmarks.tables import AbsentError, Work
from vaectl.data.base import Data


@dataclass(frozen=True)
class Backend:
    """One way to multiply: ``product(a, b)`` is ``a @ b``, of tensors of ``dtype``."""

    dtype: torch.dtype
    product: Callable[[Tensor, Tensor], Tensor]


def onednn(a: Tensor, b: Tensor) -> Tensor:
    if not torch.backends.mkldnn.is_available():
        raise AbsentError("torch is built without oneDNN")
    return torch.ops.mkldnn._linear_pointwise(a, b.T, None, "none", [], "")


# fp32 products of torch.mm go through the BLAS that torch is built with, MKL on x86; those of bf16 through oneDNN
FP32: Mapping[str, Backend] = {
    "products torch.mm": Backend(torch.float32, torch.mm),
    "products oneDNN": Backend(torch.float32, onednn),
}
BF16: Mapping[str, Backend] = {"products bf16": Backend(torch.bfloat16, torch.mm)}


def training(data: Data, backend: Backend) -> Work:
    """The products of an epoch's forward and backward passes."""
    make = {"dtype": backend.dtype, "device": device_of(data)}
    shapes = [*itertools.pairwise(ENCODER), *itertools.pairwise(DECODER)]
    layers = [
        (torch.randn(BATCH, a, **make), torch.randn(b, a, **make), torch.randn(BATCH, b, **make)) for a, b in shapes
    ]

    @torch.no_grad()
    def epoch() -> dict[str, float]:
        for start in range(0, len(data.train), BATCH):
            size = min(BATCH, len(data.train) - start)
            for number, (x, weight, gradient) in enumerate(layers):
                backend.product(x[:size], weight.T)
                backend.product(gradient[:size].T, x[:size])
                if number > 0:  # nobody needs the gradient of the data
                    backend.product(gradient[:size], weight)
        return {}

    return epoch


def forward(sizes: tuple[int, ...], rows: int, at_once: int, backend: Backend) -> Work:
    """The products of ``rows`` examples through a network of these layers, some at a time."""
    layers = [
        (torch.randn(at_once, a, dtype=backend.dtype), torch.randn(b, a, dtype=backend.dtype))
        for a, b in itertools.pairwise(sizes)
    ]

    @torch.no_grad()
    def work() -> dict[str, float]:
        for start in range(0, rows, at_once):
            for x, weight in layers:
                backend.product(x[: rows - start], weight.T)
        return {}

    return work
