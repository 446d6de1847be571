"""Comparison of settings over several seeds: runs that differ only in the seed form a group.

Shapes: ``J`` test images, ``n`` seeds of a group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from vaectl.errors import UsageError
from vaectl.runs.comparison import (
    CHECKPOINT,
    SEED,
    SPLIT,
    Cell,
    Column,
    Comparison,
    Metric,
    Row,
    evaluation,
    may_rank,
    metrics_of,
    notes_on,
    same_but_seed,
    settings_of,
    unlike,
)
from vaectl.runs.run import Run
from vaectl.stats import Difference, difference_over_seeds, mean_and_se


def by_setting(runs: Sequence[Run]) -> list[Column]:
    """Group runs by setting, in the order of first appearance; a label is the first run's id and the count."""
    groups: list[list[Run]] = []
    for run in runs:
        mine = same_but_seed(run)
        same = next((group for group in groups if same_but_seed(group[0]) == mine), None)
        if same is None:
            groups.append([run])
        else:
            same.append(run)
    return [Column(f"{group[0].id} ×{len(group)}", tuple(group)) for group in groups]


def seed_groups(runs: Sequence[Run]) -> list[Column]:
    """Group runs by setting, as ``by_setting``; the runs of a group must have different seeds.

    Raises:
        UsageError: Two runs have the same settings and the same seed, which would count that seed twice.
    """
    groups = by_setting(runs)
    for group in groups:
        for index, seed in enumerate(group.seeds):
            if seed in group.seeds[:index]:
                twin = group.runs[group.seeds.index(seed)]
                raise UsageError(
                    f"--group: {twin.id} and {group.runs[index].id} have the same settings and the same seed, {seed}; "
                    "a spread over seeds would count that seed twice",
                    hint=f"leave {group.runs[index].id} out",
                )
    return groups


def compare_groups(groups: Sequence[Column]) -> Comparison:
    """Compare groups of runs with the first; each run must have an evaluation of its best weights on the test split.

    A value is the mean over a group's runs with their standard deviation. A difference has the error of
    ``stats.difference_over_seeds``, and a verdict if its 95 % interval excludes 0. There is no verdict with fewer than
    two seeds, because a single run does not show the spread over seeds.
    """
    runs = [run for group in groups for run in group.runs]
    evaluations = [[evaluation(run) for run in group.runs] for group in groups]
    flat = [item for group in evaluations for item in group]
    examples = [[run.per_example(SPLIT, CHECKPOINT) for run in group.runs] for group in groups]
    per_run = dict(zip((run.id for run in runs), unlike(runs, flat), strict=True))
    each = [next((per_run[run.id] for run in group.runs if per_run[run.id]), None) for group in groups]
    different = [each[0] or why for why in each]
    withheld = [why or few for why, few in zip(different, _too_few(groups), strict=True)]
    rows = []
    for metric in metrics_of(runs, flat):
        values = [[metric.of(item) for item in group] for group in evaluations]
        images = [_image_means([metric.examples(run) for run in group]) for group in examples]
        spreads = [_spread(group) for group in values]
        cells = [Cell(*spreads[0])]
        for index in range(1, len(groups)):
            ranked = different[index] is None and may_rank(metric, groups[index].runs[0], groups[0].runs[0])
            (value, sd), (base, _) = spreads[index], spreads[0]
            delta = None if different[index] or value is None or base is None else value - base
            cell = Cell(value, sd, delta)
            if ranked and withheld[index] is None:
                difference = _difference(metric, values[index], values[0], images[index], images[0])
                if difference is not None:
                    interval, verdict = (difference.low, difference.high), _verdict(metric, difference)
                    cell = Cell(value, sd, delta, difference.se, interval, verdict)
            cells.append(cell)
        rows.append(Row(metric, cells))
    settings = settings_of(groups, without=(SEED,))
    counts = [item["n"] for item in flat]
    return Comparison(groups, True, settings, counts, different, withheld, notes_on(runs, flat), rows)


def _too_few(groups: Sequence[Column]) -> list[str | None]:
    """The reason why each group has no verdict, or None; a single group has nothing to be compared with."""
    base = groups[0]
    if len(groups) == 1:
        return ["the runs differ only in the seed: there is no second setting to compare with"]
    reasons: list[str | None] = [None]
    for group in groups[1:]:
        single = next((each for each in (base, group) if len(each.runs) < 2), None)
        reasons.append(
            None
            if single is None
            else f"{single.runs[0].id} is the only run of its setting, and a spread over seeds needs two"
        )
    return reasons


def _spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and standard deviation; both None if a value is missing, the deviation None for a single value."""
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return None, None
    mean, se = mean_and_se(numbers)
    return mean, se * math.sqrt(len(numbers)) if len(numbers) > 1 else None


def _image_means(runs: Sequence[Sequence[float]]) -> list[float]:
    """The mean over runs of each image's value, (n, J) -> (J,); empty if the runs do not have the same images."""
    if len({len(run) for run in runs}) > 1:
        return []
    return [math.fsum(image) / len(image) for image in zip(*runs, strict=True)]


def _difference(
    metric: Metric,
    values: Sequence[float | None],
    baseline: Sequence[float | None],
    images: Sequence[float],
    base_images: Sequence[float],
) -> Difference | None:
    """The difference with both sources of error, or None if one of them is unknown."""
    ours, theirs = ([value for value in group if value is not None] for group in (values, baseline))
    if len(ours) < len(values) or len(theirs) < len(baseline):
        return None
    # without values per image one source of error is unknown, and equal counts do not mean that there is no spread
    if metric.source is None:
        return None
    if len(images) != len(base_images) or len(images) < 2:
        return None
    return difference_over_seeds(ours, theirs, [a - b for a, b in zip(images, base_images, strict=True)])


def _verdict(metric: Metric, difference: Difference) -> str | None:
    if metric.direction == 0 or not math.isfinite(difference.se):
        return None
    return metric.word(difference.delta, beyond=not difference.low <= 0 <= difference.high)
