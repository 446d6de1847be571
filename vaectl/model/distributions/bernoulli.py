"""The Bernoulli distribution by its logits, with a log-probability that is fast on the CPU.

Shapes: ``*N`` draw and batch dimensions, ``X`` data shape.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli


class _LogProb(torch.autograd.Function):
    """``x l - log(1 + e^l)`` and its gradients ``x - s(l)`` and ``l``, s the logistic function."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor) -> Tensor:
        s = logits.sigmoid()
        ctx.save_for_backward(logits, value, s)
        # log(1 + e^l) = max(l, 0) - log max(s, 1 - s); the latter is at least 1/2, so only rounding is lost
        log = torch.maximum(s, 1 - s).log_()
        return log.sub_(torch.addcmul(logits.clamp(min=0), logits, value, value=-1))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
        logits, value, s = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient will be differentiated again
            s = logits.sigmoid()
        for_logits, for_value = ctx.needs_input_grad
        return (
            (g * (value - s)).sum_to_size(logits.shape) if for_logits else None,
            (g * logits).sum_to_size(value.shape) if for_value else None,
        )


def bernoulli_log_prob(logits: Tensor, value: Tensor) -> Tensor:
    """``log p(x) = x log s(l) + (1 - x) log s(-l)`` of each pixel, in nats (*N, *X).

    On the CPU in fp32 it is computed from ``sigmoid`` and ``log``, to the same precision as torch's cross-entropy with
    logits, which is used everywhere else: that needs ``log1p``, which takes twelve times as long as ``log``.

    Args:
        logits: l, any finite numbers (*N, *X).
        value: x in [0, 1], broadcastable to the logits.
    """
    if logits.device.type == "cpu" and logits.dtype == value.dtype == torch.float32:
        if value.dim() > logits.dim():
            logits, value = torch.broadcast_tensors(logits, value)  # type: ignore[no-untyped-call]
        log_prob: Tensor = _LogProb.apply(logits, value)
        return log_prob
    logits, value = torch.broadcast_tensors(logits, value)  # type: ignore[no-untyped-call]
    return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")


class LogitBernoulli(Bernoulli):
    """torch's Bernoulli without validation of arguments, with ``bernoulli_log_prob``.

    Args:
        logits: l, any finite numbers (*N, *X).
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits=logits, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-probability, or for grey values the negative cross-entropy (*N, *X)."""
        return bernoulli_log_prob(self.logits, value)
