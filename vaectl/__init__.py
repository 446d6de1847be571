"""The command line, and the library, for variational autoencoders whose numbers are right.

The library behind it, imported only when a name is used (importing vaectl itself imports no torch)::

    from vaectl import load_data, train_run, resume_run, evaluate_run, compare_runs, Run  # what the commands do
    from vaectl import vae, Spec, build, fit, evaluate                                    # the parts they are made of
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaectl.config.recipes import beta_tcvae as beta_tcvae
    from vaectl.config.recipes import beta_vae as beta_vae
    from vaectl.config.recipes import capacity_vae as capacity_vae
    from vaectl.config.recipes import control_vae as control_vae
    from vaectl.config.recipes import fsq_vae as fsq_vae
    from vaectl.config.recipes import iwae as iwae
    from vaectl.config.recipes import sigma_vae as sigma_vae
    from vaectl.config.recipes import vae as vae
    from vaectl.config.recipes import vamp_vae as vamp_vae
    from vaectl.config.recipes import vq_vae as vq_vae
    from vaectl.config.spec import Spec as Spec
    from vaectl.data.loading import load_data as load_data
    from vaectl.evaluation.metrics import evaluate as evaluate
    from vaectl.model.builder import build as build
    from vaectl.plugins import load_plugins as load_plugins
    from vaectl.runs.comparison import compare_runs as compare_runs
    from vaectl.runs.evaluating import evaluate_run as evaluate_run
    from vaectl.runs.resuming import resume_run as resume_run
    from vaectl.runs.run import Run as Run
    from vaectl.runs.training import train_run as train_run
    from vaectl.training.trainer import fit as fit

__version__ = "0.1.0"

_RECIPES = (
    "beta_tcvae", "beta_vae", "capacity_vae", "control_vae", "fsq_vae", "iwae", "sigma_vae", "vae", "vamp_vae",
    "vq_vae",
)  # fmt: skip
_HOMES = dict.fromkeys(_RECIPES, "vaectl.config.recipes") | {
    "Spec": "vaectl.config.spec",
    "build": "vaectl.model.builder",
    "fit": "vaectl.training.trainer",
    "evaluate": "vaectl.evaluation.metrics",
    "Run": "vaectl.runs.run",
    "load_data": "vaectl.data.loading",
    "load_plugins": "vaectl.plugins",
    "train_run": "vaectl.runs.training",
    "resume_run": "vaectl.runs.resuming",
    "evaluate_run": "vaectl.runs.evaluating",
    "compare_runs": "vaectl.runs.comparison",
}

__all__ = [
    "Run", "Spec", "__version__", "beta_tcvae", "beta_vae", "build", "capacity_vae", "compare_runs", "control_vae",
    "evaluate", "evaluate_run", "fit", "fsq_vae", "iwae", "load_data", "load_plugins", "resume_run", "sigma_vae",
    "train_run", "vae", "vamp_vae", "vq_vae",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vaectl' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
