"""Schedules: pure functions from the optimizer step (0 before the first update) to a value."""

from __future__ import annotations

from collections.abc import Callable

Schedule = Callable[[int], float]


def constant(value: float) -> Schedule:
    """``step -> value``."""
    return lambda step: value


def linear_warmup(value: float, steps: int) -> Schedule:
    """``step -> value * min(1, step / steps)``: from 0 at step 0 to ``value`` at step ``steps`` and after.

    References:
        Ladder Variational Autoencoders (Sønderby et al., 2016), section 2.3, https://arxiv.org/abs/1602.02282
    """
    if steps < 1:
        return constant(value)
    return lambda step: value * min(1.0, step / steps)
