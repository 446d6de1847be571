"""Holding out examples: at random, with every class where chance would leave one out, or whole groups.

Shapes: ``N`` examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from vaectl.data.base import held_out

# a class of fewer examples cannot be in three splits
FEWEST = 3
NAMED = 5


def held_out_with_classes(
    labels: np.ndarray, fraction: float, stream: int, common: np.ndarray, *, reserve: int
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Hold out examples at random, or by class if chance leaves a class out and there is room for each.

    Data whose random division has every class are divided as if they had no labels.

    Args:
        labels: Class of each example, int64 (N,), -1 if it has none.
        fraction: Fraction to hold out.
        stream: Number of the random stream, as in ``held_out``.
        common: Classes that are to be on both sides, ascending.
        reserve: Examples of each of them to keep, if the division is by class.

    Returns:
        The rows to keep and the rows to hold out, ascending, and whether the division is by class.
    """
    kept, held = held_out(len(labels), fraction, stream)
    both = np.isin(common, labels[held]) & np.isin(common, labels[kept])
    if both.all() or not len(held) or len(held) < len(common):
        return kept, held, False
    strata, members = np.unique(labels, return_inverse=True)
    counts = np.bincount(members)
    least = np.isin(strata, common).astype(np.int64)
    most = np.maximum(least, counts - reserve * least)
    quotas = _quotas(len(held) * counts / len(labels), least, np.minimum(counts, most), len(held))
    random, chosen = np.random.RandomState(stream), list[np.ndarray]()
    for stratum, quota in enumerate(quotas.tolist()):
        chosen.append(random.permutation(np.flatnonzero(members == stratum))[:quota])
    held = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), held), held, True


def _quotas(ideal: np.ndarray, least: np.ndarray, most: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers near ideal ones, within limits, that come to a total if the limits allow it."""
    quotas = np.clip(np.floor(ideal).astype(np.int64), least, most)
    while (missing := total - int(quotas.sum())) != 0:
        able = quotas < most if missing > 0 else quotas > least
        if not able.any():
            break
        need = np.where(able, (ideal - quotas) * np.sign(missing), -np.inf)
        quotas[int(np.argmax(need))] += np.sign(missing)
    return quotas


def held_out_groups(groups: np.ndarray, fraction: float, stream: int) -> tuple[np.ndarray, np.ndarray]:
    """Hold out whole groups, in random order, so that the examples come as near to the fraction as they can in it.

    Args:
        groups: Group of each example, int64 (N,).
        fraction: Fraction to hold out; at least one group if it is above 0 and there are two.
        stream: Number of the random stream, as in ``held_out``.

    Returns:
        The rows to keep and the rows to hold out, ascending.
    """
    _, members = np.unique(groups, return_inverse=True)
    counts, target = np.bincount(members), len(groups) * fraction
    chosen, size = np.zeros(len(counts), bool), 0
    for group in np.random.RandomState(stream).permutation(len(counts)).tolist():
        larger = size + int(counts[group])
        if abs(larger - target) < abs(size - target) and not chosen.sum() + 1 == len(counts):
            chosen[group], size = True, larger
    if fraction > 0 and not chosen.any() and len(counts) > 1:
        chosen[int(np.argmin(counts))] = True
    return np.flatnonzero(~chosen[members]), np.flatnonzero(chosen[members])


def common_classes(labels: np.ndarray) -> np.ndarray:
    """The classes that have an example for each of three splits, ascending."""
    kinds, counts = np.unique(labels[labels >= 0], return_counts=True)
    return kinds[counts >= FEWEST] if len(kinds) > 1 else kinds[:0]


def note_rare(
    name: str, labels: Mapping[str, np.ndarray], classes: tuple[str, ...], note: Callable[[str], None]
) -> None:
    """Remark on classes that a split lacks or has one example of.

    Args:
        name: Name of the data.
        labels: Class of each example by split, int64 (N,).
        classes: Names of the classes, or empty.
        note: Called with a sentence for the user.
    """
    kinds = np.unique(np.concatenate([*labels.values()]))
    kinds = kinds[kinds >= 0]
    if len(kinds) < 2:
        return
    for split, its in labels.items():
        if not len(its):
            continue
        present, numbers = np.unique(its, return_counts=True)
        table = dict(zip(present.tolist(), numbers.tolist(), strict=True))
        counts = np.array([table.get(kind, 0) for kind in kinds.tolist()])
        for count, text in ((0, "no example"), (1, "one example only")):
            rare = [
                classes[kind] if 0 <= kind < len(classes) else str(kind) for kind in kinds[counts == count].tolist()
            ]
            if rare:
                more = f" and {len(rare) - NAMED} more" if len(rare) > NAMED else ""
                plural = "class" if len(rare) == 1 else "each of classes"
                note(f"{name}: the {split} split has {text} of {plural} {', '.join(rare[:NAMED])}{more}")
