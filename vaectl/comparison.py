"""A comparison of runs as data: differing settings, metrics with paired differences, and whether they may be ranked.

It reads only run records, so that the text ``compare`` needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vaectl.runs import Run
from vaectl.stats import paired_difference

SPLIT, CHECKPOINT = "test", "best"


@dataclass(frozen=True)
class Metric:
    """What is compared: its name in an evaluation, unit, and direction (1 higher is better, -1 lower, 0 neither)."""

    name: str
    unit: str
    direction: int


METRICS = (
    Metric("elbo", "nats", 1),
    Metric("recon", "nats", -1),
    Metric("kl", "nats", 0),
    Metric("active_units", "count", 1),
)


@dataclass(frozen=True)
class Row:
    """One metric over all runs; each list has one entry a run, and the first run is the baseline.

    Attributes:
        metric: What it is.
        values: Means over examples; None where the run has none.
        delta: Differences from the baseline; None for the baseline itself and where runs measure different things.
        delta_se: Standard errors of the paired per-example differences; None where there are no per-example values.
        verdict: better, worse, ≈ (within two standard errors), or None where no verdict is due.
    """

    metric: Metric
    values: list[float | None]
    delta: list[float | None]
    delta_se: list[float | None]
    verdict: list[str | None]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: The runs, the baseline first.
        settings: Every setting by path, with its value in each run.
        n: Test examples that the metrics are means over, in each run.
        reasons: Why the metrics may not be ranked; empty where they may.
        rows: The metrics.
    """

    runs: Sequence[Run]
    settings: dict[str, list[Any]]
    n: list[int]
    reasons: list[str]
    rows: list[Row]

    @property
    def differing(self) -> dict[str, list[Any]]:
        """The settings that are not the same in all runs."""
        return {path: values for path, values in self.settings.items() if any(v != values[0] for v in values)}

    def to_json(self) -> dict[str, Any]:
        """The document that ``compare --json`` prints; lists have one entry a run, in the order of ``runs``."""
        return {
            "baseline": self.runs[0].id,
            "runs": [run.id for run in self.runs],
            "split": SPLIT,
            "n": self.n,
            "comparable": not self.reasons,
            "reasons": self.reasons,
            "config_diff": self.differing,
            "metrics": [
                {
                    "name": row.metric.name,
                    "unit": row.metric.unit,
                    "direction": {1: "higher", -1: "lower", 0: None}[row.metric.direction],
                    "values": row.values,
                    "delta": row.delta,
                    "delta_se": row.delta_se,
                    "verdict": row.verdict,
                }
                for row in self.rows
            ],
        }


def compare(runs: Sequence[Run]) -> Comparison:
    """Compare evaluated runs with the first; each must keep an evaluation of its best weights on the test split."""
    flats = [run.spec.flat() for run in runs]
    paths = list(dict.fromkeys(path for flat in flats for path in flat))
    settings = {path: [flat.get(path) for flat in flats] for path in paths}
    evaluations = [run.evaluation(SPLIT, CHECKPOINT) or {"n": 0, "metrics": {}} for run in runs]
    counts = [evaluation["n"] for evaluation in evaluations]
    reasons = _reasons(runs, counts)
    per_example = [run.per_example(SPLIT, CHECKPOINT) for run in runs]
    same_latents = len({flat["latent_dim"] for flat in flats}) == 1
    rows = [
        _row(
            metric,
            evaluations,
            per_example,
            comparable=not reasons,
            ranked=not reasons and (metric.name != "active_units" or same_latents),
        )
        for metric in METRICS
    ]
    return Comparison(runs, settings, counts, reasons, rows)


def _row(
    metric: Metric,
    evaluations: Sequence[dict[str, Any]],
    per_example: Sequence[dict[str, list[float]]],
    *,
    comparable: bool,
    ranked: bool,
) -> Row:
    values = [evaluation["metrics"].get(metric.name) for evaluation in evaluations]
    row = Row(metric, values, [None], [None], [None])
    for value, examples in zip(values[1:], per_example[1:], strict=True):
        delta = None if not comparable or value is None or values[0] is None else value - values[0]
        ours, theirs = examples.get(metric.name), per_example[0].get(metric.name)
        se = None
        if ranked and ours and theirs and len(ours) == len(theirs):
            delta, se = paired_difference(ours, theirs)
        row.delta.append(delta)
        row.delta_se.append(se)
        row.verdict.append(_verdict(metric, delta, se) if ranked else None)
    return row


def _verdict(metric: Metric, delta: float | None, se: float | None) -> str | None:
    counted = metric.unit == "count"
    if delta is None or metric.direction == 0 or (se is None and not counted):
        return None
    if se is not None and not math.isfinite(se):
        return None
    if abs(delta) <= (0 if counted else 2 * (se or 0.0)):
        return "≈"
    return "better" if delta * metric.direction > 0 else "worse"


def _reasons(runs: Sequence[Run], counts: Sequence[int]) -> list[str]:
    """Why figures of the runs do not measure the same thing."""
    base, reasons = runs[0], []
    what = {
        "fingerprint": "were trained on different data",
        "preprocessing": "prepare their data differently",
        "support": "take their data for different kinds of numbers",
    }
    for run, count in zip(runs[1:], counts[1:], strict=True):
        for field, problem in what.items():
            if run.record["dataset"].get(field) != base.record["dataset"].get(field):
                reasons.append(f"{base.id} and {run.id} {problem}")
                break
        if run.spec.likelihood != base.spec.likelihood:
            reasons.append(
                f"{base.id} has likelihood {base.spec.likelihood.name} and {run.id} {run.spec.likelihood.name}: "
                "their nats have different base measures"
            )
        if count != counts[0]:
            reasons.append(f"{base.id} was evaluated on {counts[0]} test examples and {run.id} on {count}")
    return reasons
