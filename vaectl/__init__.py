"""The command line, and the library, for variational autoencoders whose numbers are right.

The library behind it, imported only when a name is used (importing vaectl itself imports no torch)::

    from vaectl import Spec, build, fit, evaluate, Run
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaectl.config.spec import Spec as Spec
    from vaectl.evaluation.metrics import evaluate as evaluate
    from vaectl.model.builder import build as build
    from vaectl.runs.run import Run as Run
    from vaectl.training.trainer import fit as fit

__version__ = "0.1.0"

_HOMES = {
    "Spec": "vaectl.config.spec",
    "build": "vaectl.model.builder",
    "fit": "vaectl.training.trainer",
    "evaluate": "vaectl.evaluation.metrics",
    "Run": "vaectl.runs.run",
}

__all__ = ["Run", "Spec", "__version__", "build", "evaluate", "fit"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vaectl' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
