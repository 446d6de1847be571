"""Marks of tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def some(cases: Sequence[Any], every: int) -> list[Any]:
    """The cases of a test, of which all but every so-many-th are slow: they are for ``just slow``."""
    return [
        case if place % every == 0 else pytest.param(case, marks=pytest.mark.slow) for place, case in enumerate(cases)
    ]
