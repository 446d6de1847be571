"""The parts of the result of ``vaectl score``, as JSON and as columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vaectl.commands.score import text
from vaectl.commands.score.threshold import Threshold

if TYPE_CHECKING:
    import numpy as np

    from vaectl.runs.scoring import Scored


def columns_of(scored: Scored) -> dict[str, np.ndarray]:
    """``score_NAME`` and ``p_NAME``: not the bare name, because ``eval --per-example`` calls the bound itself elbo."""
    return {f"score_{name}": values for name, values in scored.values.items()} | {
        f"p_{name}": values for name, values in scored.p.items()
    }


def threshold_of(limit: Threshold, flagged: np.ndarray) -> dict[str, Any]:
    """A threshold as JSON, with the number of flagged examples and for a rate that expected of normal ones."""
    expected = None if limit.fpr is None else limit.fpr * len(flagged)
    return {
        "fpr": limit.fpr, "score": limit.score, "rule": str(limit), "flagged": int(flagged.sum()), "expected": expected,
    }  # fmt: skip


def example_of(
    place: int,
    rank: int,
    values: np.ndarray,
    p: np.ndarray | None,
    flagged: np.ndarray,
    marks: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """One of the most unusual examples as JSON: its marks, score, p-value and flag."""
    own = {name: column[place].item() for name, column in marks.items()}
    return {
        "rank": rank, **own, "score": float(values[place]), "p": None if p is None else float(p[place]),
        "flagged": bool(flagged[place]),
    }  # fmt: skip


def title_of(
    place: int, rank: int, name: str, values: np.ndarray, p: np.ndarray | None, marks: Mapping[str, np.ndarray]
) -> str:
    """The title of an example's map."""
    where = str(marks["file"][place]) if "file" in marks else f"row {marks['row'][place]}"
    which = f" of {marks['split'][place]}" if "split" in marks and "file" not in marks else ""
    chance = "" if p is None else f", p = {text.p_text(float(p[place]))}"
    return f"{rank}. {text.shortened(where)}{which}: {name} {text.number(float(values[place]))}{chance}"
