"""Timing in interleaved rounds, and the tables that come of it.

A row holds ``seconds`` of each round, ``median``, ``min`` and ``max``, and whatever else its work told (a mean over the
rounds); or ``absent`` and why.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

Row = dict[str, Any]
Rows = dict[str, Row]
# done once, it may tell of itself by name: ``loss``, or ``seconds`` where it knows better how long it took
Work = Callable[[], Mapping[str, float]]
# is told whether it is the warm-up, and gives the work; setting up is not timed
SetUp = Callable[[bool], Work]


class AbsentError(Exception):
    """What is to be measured is not here; the message says why."""


def synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def interleave(rounds: int, set_ups: Mapping[str, SetUp]) -> Rows:
    """Each piece of work once in every round, after a round that warms up and does not count."""
    rows: Rows = {name: {"seconds": []} for name in set_ups}
    told: dict[str, list[Mapping[str, float]]] = {name: [] for name in set_ups}
    for number in range(rounds + 1):
        for name, set_up in set_ups.items():
            if "absent" in rows[name]:
                continue
            try:
                work = set_up(number == 0)
                synchronize()
                started = time.perf_counter()
                result = work()
                synchronize()
            except AbsentError as reason:
                rows[name] = {"absent": str(reason)}
                continue
            took = time.perf_counter() - started
            if number > 0:
                rows[name]["seconds"].append(round(result.get("seconds", took), 5))
                told[name].append(result)
    for name, row in rows.items():
        if "absent" in row:
            continue
        row |= {"median": statistics.median(row["seconds"]), "min": min(row["seconds"]), "max": max(row["seconds"])}
        for key in told[name][0].keys() - {"seconds"}:
            row[key] = round(statistics.fmean(result[key] for result in told[name]), 4)
    return rows


def ratio(rows: Rows, name: str, to: str | None) -> float | None:
    """Median over the rounds of the ratio within a round; None where either is absent."""
    if to is None or any("seconds" not in rows.get(key, {}) for key in (name, to)):
        return None
    pairs = zip(rows[name]["seconds"], rows[to]["seconds"], strict=True)
    return round(statistics.median(a / b for a, b in pairs), 4)


def fastest(rows: Rows, names: Iterable[str]) -> str | None:
    """The name of the row with the smallest median among those that are there."""
    there = [name for name in names if "median" in rows.get(name, {})]
    return min(there, key=lambda name: rows[name]["median"], default=None)


def number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def spread(row: Row, digits: int = 3) -> list[str]:
    """The cells of a row's median, smallest and largest time."""
    return [number(row[key], digits) for key in ("median", "min", "max")]


def show(title: str, headings: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Print a table; the first column is its rows' names, and what is absent says so in its second."""
    cells = [[title, *headings], *([*line] for line in lines)]
    columns = 1 + len(headings)
    widths = [max(len(line[column]) for line in cells if len(line) == columns) for column in range(columns)]
    widths[0] = max(len(line[0]) for line in cells)
    print()
    for line in cells:
        rest = (text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=False))
        print(line[0].ljust(widths[0]), *(rest if len(line) == columns else line[1:]), sep="  ")
    sys.stdout.flush()


def absent(name: str, row: Row) -> list[str]:
    return [name, f"absent: {row['absent']}"]
