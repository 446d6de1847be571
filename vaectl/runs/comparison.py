"""A comparison of runs as data: differing settings, metrics with paired differences, and verdicts.

It reads only run records, so that the text ``compare`` needs no torch. A column is a run or a group of runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaectl.errors import UsageError, amount
from vaectl.runs.evaluating import evaluate_run, kept_evaluation
from vaectl.runs.run import Run
from vaectl.stats import paired_difference

SPLIT, CHECKPOINT = "test", "best"
SEED = "training.seed"


@dataclass(frozen=True)
class Metric:
    """A metric that is compared.

    Attributes:
        name: Name of the metric in an evaluation.
        unit: nats, bits, bits/dim, squared (units of the data), codes or count.
        direction: 1 if higher is better, -1 if lower is better, 0 if neither.
        digits: Number of decimals to show.
        samples: K of an importance-weighted bound.
        source: Name of the per-example values whose mean is the metric up to a constant; None if there are none.
        scale: Factor for the per-example values.
    """

    name: str
    unit: str
    direction: int
    digits: int = 2
    samples: int | None = None
    source: str | None = None
    scale: float = 1.0

    def word(self, delta: float, *, beyond: bool) -> str:
        """The verdict on a difference that is or is not ``beyond`` its error."""
        if not beyond:
            return "≈"
        return "better" if delta * self.direction > 0 else "worse"

    def of(self, evaluation: Mapping[str, Any]) -> float | None:
        """The value of the metric in an evaluation."""
        value: float | None
        value = evaluation["metrics"].get(self.name) if self.samples is None else evaluation["importance"]["bound"]
        return value

    def examples(self, values: Mapping[str, list[float]]) -> list[float]:
        """The value for each example, up to a constant; empty if there are none."""
        numbers = values.get(self.source, []) if self.source else []
        return numbers if self.scale == 1 else [self.scale * value for value in numbers]


METRICS = (
    Metric("elbo", "nats", 1, source="elbo"),
    Metric("recon", "nats", -1, source="recon"),
    Metric("kl", "nats", 0, source="kl"),
    Metric("active_units", "count", 1, digits=0),
)
# metrics that only some evaluations have: older ones lack RATE and MSE; OF_CODES are for discrete latents
RATE = Metric("rate_bits", "bits", 0, 1, source="kl", scale=1 / math.log(2))
MSE = Metric("mse", "squared", -1, 5, source="mse")
OF_CODES = (Metric("codes_used", "count", 1, digits=0), Metric("perplexity", "codes", 0, 1))


@dataclass(frozen=True)
class Column:
    """A column of a comparison: one run, or the runs of one setting."""

    label: str
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> list[int]:
        """The training seed of each run."""
        return [run.spec.training.seed for run in self.runs]


@dataclass(frozen=True)
class Cell:
    """One metric in one column.

    Attributes:
        value: Mean over examples, for a group the mean over its runs; None if a run has no value.
        sd: Standard deviation over the runs of a group; None for a single run.
        delta: Difference from the baseline; None for the baseline itself and for runs with a different measure.
        delta_se: Standard error of the difference; None if unknown.
        interval: Ends of the 95 % interval for the difference of a group; otherwise None.
        verdict: better, worse, ≈ (a difference smaller than its error), or None if there is no verdict.
    """

    value: float | None
    sd: float | None = None
    delta: float | None = None
    delta_se: float | None = None
    interval: tuple[float, float] | None = None
    verdict: str | None = None


@dataclass(frozen=True)
class Row:
    """One metric in all columns, the baseline first."""

    metric: Metric
    cells: Sequence[Cell]

    @property
    def values(self) -> list[float | None]:
        """The value in each column."""
        return [cell.value for cell in self.cells]


@dataclass(frozen=True)
class Comparison:
    """Runs, or groups of runs, side by side.

    Attributes:
        columns: The columns, the baseline first.
        grouped: Whether a column is a group of runs with one setting.
        settings: Every setting by path, with its value in each column.
        n: Number of test examples in each run's evaluation.
        unlike: The reason why each column cannot be compared with the baseline, or None.
        withheld: The reason why each column has no verdict, or None.
        notes: Further notes on the numbers.
        rows: The metrics.
    """

    columns: Sequence[Column]
    grouped: bool
    settings: dict[str, list[Any]]
    n: list[int]
    unlike: list[str | None]
    withheld: list[str | None]
    notes: list[str]
    rows: list[Row]

    @property
    def runs(self) -> list[Run]:
        """All runs, column by column."""
        return [run for column in self.columns for run in column.runs]

    @property
    def labels(self) -> list[str]:
        """The name of each column."""
        return [column.label for column in self.columns]

    @property
    def differing(self) -> dict[str, list[Any]]:
        """The settings that are not the same in all columns."""
        return {path: values for path, values in self.settings.items() if any(v != values[0] for v in values)}

    @property
    def reasons(self) -> list[str]:
        """The reasons why columns have no verdict."""
        return list(dict.fromkeys(reason for reason in self.withheld if reason))

    @property
    def comparable(self) -> bool:
        """Whether any column may be called better or worse than the baseline."""
        return None in self.withheld[1:]

    def to_json(self) -> dict[str, Any]:
        """The document that ``compare --json`` prints; a metric's lists have one entry per column."""
        document: dict[str, Any] = {
            "baseline": self.labels[0],
            "runs": [run.id for run in self.runs],
            "split": SPLIT,
            "n": self.n,
            "comparable": self.comparable,
            "reasons": self.reasons,
            "withheld": self.withheld,
            "notes": self.notes,
            "config_diff": self.differing,
            "metrics": [self._metric_json(row) for row in self.rows],
        }
        return document | {"groups": self._groups_json()} if self.grouped else document

    def _metric_json(self, row: Row) -> dict[str, Any]:
        document: dict[str, Any] = {
            "name": row.metric.name,
            "unit": row.metric.unit,
            "direction": {1: "higher", -1: "lower", 0: None}[row.metric.direction],
            "values": row.values,
            "delta": [cell.delta for cell in row.cells],
            "delta_se": [cell.delta_se for cell in row.cells],
            "verdict": [cell.verdict for cell in row.cells],
        }
        if row.metric.samples is not None:
            document["samples"] = row.metric.samples
        if self.grouped:
            document["interval"] = [None if cell.interval is None else list(cell.interval) for cell in row.cells]
        return document

    def _groups_json(self) -> list[dict[str, Any]]:
        return [
            {
                "label": column.label,
                "runs": [run.id for run in column.runs],
                "seeds": column.seeds,
                "n": len(column.runs),
                "metrics": {
                    row.metric.name: {"mean": cell.value, "sd": cell.sd, "n": len(column.runs)}
                    for row in self.rows
                    for cell in [row.cells[index]]
                },
            }
            for index, column in enumerate(self.columns)
        ]


def compare_runs(runs: Iterable[Run | str | Path], runs_dir: str | Path | None = None) -> Comparison:
    """Compare runs with the first of them, as ``vaectl compare`` does, evaluating those that were not evaluated yet.

    Args:
        runs: Two or more runs, or references as for ``Run.open``; the first is the baseline.
        runs_dir: The folder of all runs; None for ``VAECTL_RUNS_DIR``, else ``runs``.

    Raises:
        UsageError: There are fewer than two runs.
        RunError, DataError: As ``evaluate_run``.
    """
    opened = [run if isinstance(run, Run) else Run.open(run, runs_dir) for run in runs]
    if len(opened) < 2:
        raise UsageError(f"a comparison takes two runs or more; got {len(opened)}")
    for run in opened:
        if kept_evaluation(run, SPLIT, CHECKPOINT) is None:
            evaluate_run(run, split=SPLIT, checkpoint=CHECKPOINT)
    return compare(opened)


def compare(runs: Sequence[Run]) -> Comparison:
    """Compare evaluated runs with the first; each must have an evaluation of its best weights on the test split.

    A difference is the mean of the paired per-example differences. Its standard error covers the choice of test images
    but not of the training seed, so runs that differ only in the seed get no verdict.
    """
    evaluations = [evaluation(run) for run in runs]
    examples = [run.per_example(SPLIT, CHECKPOINT) for run in runs]
    different = unlike(runs, evaluations)
    withheld = [why or alone for why, alone in zip(different, _seeds_alone(runs), strict=True)]
    rows = []
    for metric in metrics_of(runs, evaluations):
        values = [metric.of(item) for item in evaluations]
        paired = [metric.examples(numbers) for numbers in examples]
        cells = [Cell(values[0])]
        for index in range(1, len(runs)):
            ranked = different[index] is None and may_rank(metric, runs[index], runs[0])
            value, base = values[index], values[0]
            delta = None if different[index] or value is None or base is None else value - base
            se = None
            if delta is not None and ranked and paired[index] and len(paired[index]) == len(paired[0]):
                delta, se = paired_difference(paired[index], paired[0])
            verdict = _verdict(metric, delta, se) if ranked and withheld[index] is None else None
            cells.append(Cell(value, delta=delta, delta_se=se, verdict=verdict))
        rows.append(Row(metric, cells))
    columns = [Column(run.id, (run,)) for run in runs]
    notes = [SEEDS_NOTE, *notes_on(runs, evaluations)]
    counts = [item["n"] for item in evaluations]
    return Comparison(columns, False, settings_of(columns), counts, different, withheld, notes, rows)


def evaluation(run: Run) -> dict[str, Any]:
    """The evaluation used to compare a run; an empty one if it has none."""
    return run.evaluation(SPLIT, CHECKPOINT) or {"n": 0, "seed": 0, "metrics": {}}


def settings_of(columns: Sequence[Column], *, without: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Every setting by path, with its value in the first run of each column."""
    flats = [column.runs[0].spec.flat() for column in columns]
    paths = dict.fromkeys(path for flat in flats for path in flat if path not in without)
    return {path: [flat.get(path) for flat in flats] for path in paths}


def metrics_of(runs: Sequence[Run], evaluations: Sequence[Mapping[str, Any]]) -> list[Metric]:
    """The metrics to show for these runs, in order: the usual ones, and optional ones that every run has."""
    elbo, recon, kl, active = METRICS
    metrics = [elbo]
    bounds = [_bound(item) for item in evaluations]
    if bounds[0] is not None and all(bound == bounds[0] for bound in bounds):
        metrics.append(Metric("importance_bound", "nats", 1, samples=bounds[0][0], source="importance_bound"))
    if _all_have("bits_per_dim", evaluations):
        # an affine function of the ELBO with the same constant for all runs with one measure
        size = _dimensions(runs[0])
        scale = -1 / (size * math.log(2)) if size else 1.0
        metrics.append(Metric("bits_per_dim", "bits/dim", -1, 4, source="elbo" if size else None, scale=scale))
    metrics += [recon, kl]
    metrics += [metric for metric in (RATE, MSE) if _all_have(metric.name, evaluations)]
    if _all_have("mutual_information", evaluations):
        metrics.append(Metric("mutual_information", "nats", 0))
    coded = [item["metrics"].get("codes_used") is not None for item in evaluations]
    return [*metrics, *([] if all(coded) and coded else [active]), *(OF_CODES if any(coded) else [])]


def may_rank(metric: Metric, run: Run, base: Run) -> bool:
    """Whether a metric may be ranked between two runs with one measure; counts need equal totals (2 of 2, 2 of 20)."""
    return metric.unit != "count" or total_of(metric, run) == total_of(metric, base)


def total_of(metric: Metric, run: Run) -> Any:
    """The largest possible value of a count; None if the metric does not apply to the run."""
    counts = evaluation(run)["metrics"]
    if metric.name == "codes_used":
        return counts.get("codes")
    return run.spec.latent_dim if "codes" not in counts else None


def same_but_seed(run: Run) -> dict[str, Any]:
    """All settings but the seed, and the data: equal for runs of one setting."""
    data = {key: run.record["dataset"].get(key) for key in DATA}
    return {path: value for path, value in run.spec.flat().items() if path != SEED} | data


SEEDS_NOTE = "± is over test examples, not over training seeds; --group compares settings over several seeds"

# fields of the data's record that must be equal, and the problem if they are not
DATA = {
    "fingerprint": "were trained on different data",
    "preprocessing": "prepare their data differently",
    "support": "treat their data as different kinds of numbers",
}


def unlike(runs: Sequence[Run], evaluations: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """The reason why each run cannot be compared with the first, or None if it can."""
    return [_unlike(runs[0], evaluations[0], run, item) for run, item in zip(runs, evaluations, strict=True)]


def _unlike(base: Run, first: Mapping[str, Any], run: Run, other: Mapping[str, Any]) -> str | None:
    for name, problem in DATA.items():
        if run.record["dataset"].get(name) != base.record["dataset"].get(name):
            return f"{base.id} and {run.id} {problem}"
    ours, theirs = first.get("measure"), other.get("measure")
    if ours != theirs:
        return f"{base.id} measures a {ours} and {run.id} a {theirs}: nats with different measures cannot be ranked"
    if other["n"] != first["n"]:
        return f"{base.id} was evaluated on {amount(first['n'], 'test example')} and {run.id} on {other['n']}"
    return None


def notes_on(runs: Sequence[Run], evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Notes on differences between evaluations that may still be ranked."""
    notes = []
    if len({item["seed"] for item in evaluations}) > 1:
        seeds = ", ".join(f"{run.id} {item['seed']}" for run, item in zip(runs, evaluations, strict=True))
        notes.append(f"evaluated with different seeds, so their noise differs: {seeds}")
    bounds = [_bound(item) for item in evaluations]
    if any(bounds) and len(set(bounds)) > 1:
        samples = ", ".join(
            f"{run.id} {f'K={bound[0]}' if bound else 'none'}" for run, bound in zip(runs, bounds, strict=True)
        )
        notes.append(f"no row for the importance-weighted bound, whose K and seed must be the same: {samples}")
    return notes


def _seeds_alone(runs: Sequence[Run]) -> list[str | None]:
    base, reasons = runs[0], []
    for run in runs:
        alone = run.spec.training.seed != base.spec.training.seed and same_but_seed(run) == same_but_seed(base)
        reasons.append(
            f"{base.id} and {run.id} differ only in the seed, which the standard error does not cover; "
            "--group compares settings over several seeds"
            if alone
            else None
        )
    return reasons


def _verdict(metric: Metric, delta: float | None, se: float | None) -> str | None:
    counted = metric.unit == "count"
    if delta is None or metric.direction == 0 or (se is None and not counted):
        return None
    if se is not None and not math.isfinite(se):
        return None
    return metric.word(delta, beyond=abs(delta) > (0 if counted else 2 * (se or 0.0)))


def _bound(evaluation: Mapping[str, Any]) -> tuple[int, int] | None:
    """K and seed of the importance-weighted bound in an evaluation."""
    importance = evaluation.get("importance")
    if not isinstance(importance, Mapping) or not isinstance(importance.get("samples"), int):
        return None
    return (importance["samples"], evaluation["seed"]) if isinstance(importance.get("bound"), int | float) else None


def _all_have(name: str, evaluations: Sequence[Mapping[str, Any]]) -> bool:
    return all(item["metrics"].get(name) is not None for item in evaluations)


def _dimensions(run: Run) -> int:
    """The number of values in an example; 0 if the record does not say."""
    shape = run.record["dataset"].get("shape")
    return math.prod(shape) if isinstance(shape, list) and all(isinstance(size, int) for size in shape) else 0
