"""Schedules, pure functions from the optimizer step (0 before the first update) to a value."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]

# four times the slope of the sigmoid ramp in the middle, relative to the whole rise
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
    """``step -> value * r(min(1, step / steps))`` with r(t) the logistic function of 12 (t - 1/2), scaled to [0, 1].

    References:
        Generating Sentences from a Continuous Space (Bowman et al., 2016), section 3.1 and figure 2,
        https://arxiv.org/abs/1511.06349
    """
    low, high = _logistic(-STEEPNESS / 2), _logistic(STEEPNESS / 2)
    return _warmup(value, steps, lambda part: (_logistic(STEEPNESS * (part - 0.5)) - low) / (high - low))


def cyclical(value: float, steps: int, cycles: int) -> Schedule:
    """``cycles`` linear rises from 0 over ``steps`` steps, each held at ``value`` as long; then constant.

    References:
        Cyclical Annealing Schedule (Fu et al., 2019), equations 6 and 7 with R = 0.5, https://arxiv.org/abs/1903.10145
    """
    rise = linear_warmup(value, steps)
    period = 2 * steps
    return lambda step: rise(step % period) if step < period * cycles else value


def _warmup(value: float, steps: int, ramp: Callable[[float], float]) -> Schedule:
    """A warm-up; ``ramp`` maps the part of its steps that is done to the part of ``value``, both in [0, 1]."""
    if steps < 1:
        return constant(value)
    return lambda step: value * ramp(step / steps) if step < steps else value


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))
