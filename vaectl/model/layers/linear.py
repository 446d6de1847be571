"""The fully connected layer, through the fastest matrix products that torch has on the CPU.

Shapes: ``*N`` leading dimensions, ``B`` their product, ``I`` inputs, ``O`` outputs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# weights below this size do not repay a call of oneDNN
LEAST_WEIGHTS = 2**14


@functools.cache
def onednn() -> Callable[[Tensor, Tensor, Tensor | None], Tensor] | None:
    """``(x, weight, bias) -> x weight^T + bias`` in true fp32 through oneDNN, or None if torch lacks it.

    The operator is private to torch, so one call checks that it exists and computes correctly. On Linux torch sends
    fp32 products to MKL, which reaches half of oneDNN's speed on processors not made by Intel.
    """

    def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return y

    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    x, weight, bias = torch.eye(3, device="cpu"), torch.ones(2, 3, device="cpu"), torch.ones(2, device="cpu")
    try:
        correct = product(x, weight, bias).tolist() == [[2.0, 2.0]] * 3
    except (AttributeError, RuntimeError):
        return None
    return product if correct else None


class _Product(torch.autograd.Function):
    """``x weight^T + bias`` and its gradients, five products through oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        product = onednn()
        assert product is not None
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        rows, g = x.flatten(0, -2), g.flatten(0, -2)  # (B, I), (B, O)
        if torch.is_grad_enabled():  # the gradients will be differentiated again
            return (g @ weight).view(x.shape), g.t() @ rows, g.sum(0)
        product = onednn()
        assert product is not None
        for_x = product(g, weight.t(), None).view(x.shape) if ctx.needs_input_grad[0] else None
        return for_x, product(g.t(), rows.t(), None), g.sum(0)


class Linear(nn.Linear):
    """``y = x W^T + b``: torch's layer with its parameters, its initial weights and, to rounding, its results.

    Args:
        in_features: I.
        out_features: O.

    References:
        oneDNN's inner product, https://uxlfoundation.github.io/oneDNN/dev_guide_inner_product.html
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        # checked before the first step: a recorded step must not read values of tensors
        onednn()

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (*N, I) -> (*N, O)."""
        if self._through_onednn(x):
            y: Tensor = _Product.apply(x, self.weight, self.bias)
            return y
        return F.linear(x, self.weight, self.bias)

    def _through_onednn(self, x: Tensor) -> bool:
        return (
            # a graph that leaves this process, such as an ONNX file, takes torch's own operator
            not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
            and not torch.compiler.is_compiling()
            and x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and x.dim() > 1
            and x.numel() > 0
            and self.weight.numel() >= LEAST_WEIGHTS
            and not torch.is_autocast_enabled("cpu")
            and onednn() is not None
        )
