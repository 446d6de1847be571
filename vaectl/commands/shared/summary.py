"""A run in one line, for the list of runs and for tab completion."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from vaectl.errors import RunError
from vaectl.runs.catalog import listing
from vaectl.runs.records import read_record
from vaectl.runs.run import Run
from vaectl.system.reading import has_numbers

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


def summaries(runs_dir: Path) -> Iterator[tuple[str, str]]:
    """Each run's id and a short description, newest first, for tab completion."""
    for path in reversed(listing(runs_dir)):
        row = summary(path)
        elbo = "" if row["val_elbo"] is None else f", val elbo {row['val_elbo']:.2f}"
        yield path.name, f"{row['status']}, {row['dataset']}, {row['model']}, z={row['latent_dim']}{elbo}"


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
        "val_elbo": _number(record["validation"].get("elbo")),
        "test_elbo": _number(record["metrics"].get("elbo")),
        "seconds": _seconds(record),
        "started": record["started"],
    }


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _seconds(record: dict[str, Any]) -> float | None:
    if has_numbers(record, "seconds"):
        return float(record["seconds"])
    # a run from before seconds were recorded
    try:
        ended = datetime.fromisoformat(record["finished"])
        return (ended - datetime.fromisoformat(record["started"])).total_seconds()
    except (TypeError, ValueError):
        return None
