"""Schedules: pure functions from the optimizer step (0 before the first update) to a value."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]

# how sharply the sigmoid ramp turns: its slope in the middle is a quarter of this, relative to the whole rise
STEEPNESS = 12.0


def constant(value: float) -> Schedule:
    """``step -> value``."""
    return lambda step: value


def linear_warmup(value: float, steps: int) -> Schedule:
    """``step -> value * min(1, step / steps)``: from 0 at step 0 to ``value`` at step ``steps`` and after.

    References:
        Ladder Variational Autoencoders (Sønderby et al., 2016), section 2.3, https://arxiv.org/abs/1602.02282
    """
    return _warmup(value, steps, lambda part: part)


def cosine_warmup(value: float, steps: int) -> Schedule:
    """``step -> value * (1 - cos(pi * min(1, step / steps))) / 2``: flat at both ends."""
    return _warmup(value, steps, lambda part: (1 - math.cos(math.pi * part)) / 2)


def sigmoid_warmup(value: float, steps: int) -> Schedule:
    """``step -> value * r(min(1, step / steps))`` with r the logistic function of ``12 (part - 1/2)``, set to [0, 1].

    References:
        Generating Sentences from a Continuous Space (Bowman et al., 2016), section 3.1 and figure 2,
        https://arxiv.org/abs/1511.06349
    """
    low, high = _logistic(-STEEPNESS / 2), _logistic(STEEPNESS / 2)
    return _warmup(value, steps, lambda part: (_logistic(STEEPNESS * (part - 0.5)) - low) / (high - low))


def cyclical(value: float, steps: int, cycles: int) -> Schedule:
    """``cycles`` times a linear rise from 0 over ``steps`` steps and as many steps at ``value``; there ever after.

    References:
        Cyclical Annealing Schedule (Fu et al., 2019), equations 6 and 7 with R = 0.5, https://arxiv.org/abs/1903.10145
    """
    rise = linear_warmup(value, steps)
    period = 2 * steps
    return lambda step: rise(step % period) if step < period * cycles else value


def _warmup(value: float, steps: int, ramp: Callable[[float], float]) -> Schedule:
    """``ramp`` takes the part of the warm-up that is done to the part of ``value`` that is reached."""
    if steps < 1:
        return constant(value)
    return lambda step: value * ramp(step / steps) if step < steps else value


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))
