"""Lines about a training, for screen and log: a row for each epoch, and sentences in between.

Torch is imported only once there is an event.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vaectl.config.spec import Spec
from vaectl.system.reading import has_numbers

if TYPE_CHECKING:
    from vaectl.runs.events import RunEnded
    from vaectl.training.trainer import Epoch

# name, width and rank; if there is little room, columns of the highest rank are dropped first, those of rank 0 never
COLUMNS = (
    ("epoch", 7, 0),
    ("elbo", 10, 1),
    ("recon", 10, 3),
    ("kl", 8, 4),
    ("beta", 6, 5),
    ("val elbo", 10, 0),
    ("active", 8, 6),
    ("time", 8, 7),
)
BEST_WIDTH = 2


class Lines:
    """Writes the lines of one training.

    Args:
        spec: The run's spec.
        epochs: Total number of epochs, which may change.
    """

    def __init__(self, spec: Spec, epochs: int) -> None:
        self.epochs = epochs
        self._spec = spec

    def header(self, width: int | None = None) -> str:
        """The names of the columns that fit into ``width`` characters; None for all."""
        return _join({name: name for name, _, _ in COLUMNS}, width)

    def row(self, event: Epoch, width: int | None = None) -> str:
        """Write an epoch's row of at most ``width`` characters; a star marks the best weights so far."""
        validation = event.validation
        cells = {
            "epoch": f"{event.epoch}/{self.epochs}",
            "elbo": compact(event.elbo, "elbo"),
            "recon": compact(event.recon, "recon"),
            "kl": compact(event.kl, "kl"),
            "beta": compact(event.beta, "beta"),
            "val elbo": compact(validation["elbo"], "val elbo") if validation else "-",
            "active": activity(validation, self._spec.latent_dim) if validation else "-",
            "time": duration(event.seconds),
        }
        return _join(cells, width) + (" *" if event.improved and validation else "")

    def terms(self, event: Epoch) -> str:
        """The objective's own terms of an epoch in nats, by name; empty if it has none."""
        terms = "   ".join(f"{name} {value:.2f}" for name, value in event.terms.items())
        return f"  {terms}" if terms else ""

    def sentence(self, event: object) -> str:
        """A sentence on what happened between two epochs; empty for other events."""
        from vaectl.training.trainer import PriorBegan, RolledBack

        if isinstance(event, RolledBack):
            return (
                f"{event.problem}: back to the beginning of epoch {event.epoch} with --lr {event.lr:.3g} "
                f"(rollback {event.rollbacks} of {self._spec.training.max_rollbacks})"
            )
        if isinstance(event, PriorBegan):
            return (
                f"from epoch {event.epoch + 1} on only the {self._spec.prior.name} prior is trained, on the latents of "
                f"epoch {event.best_epoch}"
            )
        return ""


def conclusion(event: RunEnded) -> list[str]:
    """Lines on a run that reached its end: how it ended and its best epoch, and the evaluation of its best weights."""
    run, validation = event.run, event.run.record["validation"]
    if event.reason == "nothing left":
        sentence = f"{run.id} has nothing left to resume"
    else:
        why = f" (stopped by --patience after epoch {event.epoch})" if event.reason == "patience" else ""
        sentence = f"{run.id} completed in {duration(event.document['seconds'])}{why}"
    elbo = f", validation elbo {validation['elbo']:.2f} nats" if has_numbers(validation, "elbo") else ""
    metrics = event.document["metrics"]
    se = plus_minus(metrics["elbo_se"]) if has_numbers(metrics, "elbo_se") else ""
    return [
        f"{sentence}: best epoch {run.record['best_epoch']}{elbo}",
        f"  test elbo {metrics['elbo']:.2f}{se} nats, {event.document['measure']}   recon {metrics['recon']:.2f}   "
        f"kl {metrics['kl']:.2f}   {'codes' if 'codes_used' in metrics else 'active'} "
        f"{activity(metrics, run.spec.latent_dim)}",
    ]


def _join(cells: Mapping[str, str], width: int | None) -> str:
    columns = list(COLUMNS)
    while width is not None and sum(column[1] for column in columns) > width - BEST_WIDTH:
        if not any(order for _, _, order in columns):
            break
        columns.remove(max(columns, key=lambda column: column[2]))
    # a cell that is too wide still has a space before it
    return "".join(f" {cells[name]}".rjust(column_width) for name, column_width, _ in columns)


def compact(value: float, column: str) -> str:
    """A number with as many digits as fit into its column after a space."""
    (width,) = [width for name, width, _ in COLUMNS if name == column]
    texts = [f"{value:.2f}", f"{value:.0f}", f"{value:.3g}".replace("e+0", "e").replace("e+", "e")]
    return next((text for text in texts if len(text) < width), texts[-1])


def activity(metrics: Mapping[str, Any], latent_dim: int) -> str:
    """The used part of the latent space: active dimensions, or used codes, of all."""
    if "codes_used" in metrics:
        return f"{metrics['codes_used']}/{metrics['codes']}"
    return f"{metrics['active_units']}/{latent_dim}"


def plus_minus(se: float, places: int = 2) -> str:
    """`` ± 0.21``, or nothing for a single example, which has no standard error."""
    return f" ± {se:.{places}f}" if math.isfinite(se) else ""


def duration(seconds: float) -> str:
    """``3.1s``, ``1m32s`` or ``2h05m``."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"
