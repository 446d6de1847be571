"""A run in one line, for the list of runs and for tab completion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from vaectl.errors import RunError
from vaectl.runs.catalog import listing
from vaectl.runs.records import glance, read_record
from vaectl.runs.run import Run
from vaectl.system.reading import has_numbers, is_number

FIGURES = (
    "dataset",
    "model",
    "latent_dim",
    "beta",
    "best_epoch",
    "epochs",
    "val_elbo",
    "test_elbo",
    "seconds",
    "started",
)
# number of ids that completion describes: more do not fit a screen, and each is read for it
DESCRIBED = 50


def summaries(runs_dir: Path, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Ids that begin with ``prefix``, newest first, for tab completion; the first of them have a description."""
    paths = [path for path in reversed(listing(runs_dir)) if path.name.startswith(prefix)]
    for place, path in enumerate(paths):
        yield path.name, _description(path) if place < DESCRIBED else ""


def _description(path: Path) -> str:
    row = summary(path)
    elbo = "" if row["val_elbo"] is None else f", val elbo {row['val_elbo']:.2f}"
    return f"{row['status']}, {row['dataset']}, {row['model']}, z={row['latent_dim']}{elbo}"


def glanced(path: Path) -> dict[str, float | None]:
    """The figures by which the list is sorted, without reading the whole run; those of a damaged run may be wrong."""
    return _figures(glance(path, ("validation", "seconds", "started", "finished")))


def summary(path: Path) -> dict[str, Any]:
    """A run's row in the list; a run with a damaged run.json has the status damaged."""
    row: dict[str, Any] = dict.fromkeys(FIGURES)
    try:
        run = Run(path, read_record(path))
        flat = run.spec.flat()
    except RunError:
        return {"id": path.name, "status": "damaged", **row}
    record = run.record
    return {
        "id": path.name,
        "status": run.status,
        "dataset": flat["data.name"].rpartition("/")[2],  # for own data the last part of the path
        "model": flat["model"],
        "latent_dim": flat["latent_dim"],
        "beta": flat.get("objective.beta"),
        "best_epoch": record["best_epoch"],
        "epochs": flat["training.epochs"] + flat["training.prior_epochs"],
        "test_elbo": _elbo(record["metrics"]),
        **_figures(record),
        "started": record["started"],
    }


def _figures(record: Mapping[str, Any]) -> dict[str, float | None]:
    return {"val_elbo": _elbo(record.get("validation")), "seconds": _seconds(record)}


def _elbo(metrics: Any) -> float | None:
    value: Any = metrics.get("elbo") if isinstance(metrics, Mapping) else None
    return float(value) if is_number(value) and not isinstance(value, bool) else None


def _seconds(record: Mapping[str, Any]) -> float | None:
    if has_numbers(record, "seconds"):
        return float(record["seconds"])
    # a run from before seconds were recorded
    try:
        ended = datetime.fromisoformat(record["finished"])
        return (ended - datetime.fromisoformat(record["started"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None
