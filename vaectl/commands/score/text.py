"""What ``vaectl score`` prints: the most unusual examples, and how well known anomalies are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vaectl.errors import amount

# characters of a file's name, of which the end is kept
LONGEST_NAME = 48


def example_rows(examples: Sequence[Mapping[str, Any]]) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Columns and rows of the table of the most unusual examples, without what none of them has."""
    first = examples[0]
    named = "class" in first and any(row["class"] for row in examples)
    labelled = "class" not in first and any(row["label"] != -1 for row in examples)
    parts: list[tuple[str, str, Callable[[Mapping[str, Any]], str], bool]] = [
        ("rank", "right", lambda row: str(row["rank"]), True),
        ("split", "left", lambda row: row["split"], "split" in first),
        ("row", "right", lambda row: str(row["row"]), True),
        ("score", "right", lambda row: number(row["score"]), True),
        ("p-value", "right", lambda row: p_text(row["p"]), first["p"] is not None),
        ("", "left", lambda row: "flagged" if row["flagged"] else "", any(row["flagged"] for row in examples)),
        ("file", "left", lambda row: shortened(row["file"]), "file" in first),
        ("class", "left", lambda row: shortened(row["class"]), named),
        ("label", "left", lambda row: str(row["label"]), labelled),
    ]
    columns = [(name, side) for name, side, _, there in parts if there]
    return columns, [[cell(row) for *_, cell, there in parts if there] for row in examples]


def number(value: float) -> str:
    """A score."""
    return f"{value:.2f}" if abs(value) < 1e7 else f"{value:.4g}"


def p_text(p: float) -> str:
    """A p-value."""
    return f"{p:.4f}" if p >= 1e-3 else f"{p:.1e}"


def shortened(name: str) -> str:
    """A name, or the end of a long one."""
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"


def detection_rows(detection: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """Rows of the table of AUROC and average precision by score."""

    def interval(row: Mapping[str, float], name: str) -> str:
        return f"{row[name]:.3f}  ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"

    return [[name, interval(row, "auroc"), interval(row, "average_precision")] for name, row in detection.items()]


def mean_rows(scores: Mapping[str, Mapping[str, float | None]]) -> list[list[str]]:
    """Rows of the table of mean scores, with those of the calibration examples."""

    def cell(value: float | None) -> str:
        return "" if value is None else number(value)

    return [[name, cell(row["mean"]), cell(row["normal_mean"])] for name, row in scores.items()]


def summary(document: Mapping[str, Any]) -> str:
    """How many examples are flagged, and how many of normal ones would be."""
    threshold, calibration = document["threshold"], document["calibration"]
    if threshold is None:
        return ""
    flagged = f"{threshold['flagged']:,} of {amount(document['n'], 'example')} flagged, {threshold['rule']}"
    if threshold["expected"] is not None:
        flagged += f"; of normal ones at most {threshold['expected']:,.1f} would be, on average"
    return flagged + (f" ({calibration['n']:,} {calibration['split']} examples)" if calibration else "")
