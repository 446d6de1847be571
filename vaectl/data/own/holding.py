"""Holding out examples: at random, by class where chance would leave one out, or in groups.

Shapes: ``N`` examples.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    quotas: np.ndarray = np.clip(np.floor(ideal).astype(np.int64), least, most)
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
        if abs(larger - target) < abs(size - target) and chosen.sum() + 1 < len(counts):
            chosen[group], size = True, larger
    if fraction > 0 and not chosen.any() and len(counts) > 1:
        chosen[int(np.argmin(counts))] = True
    return np.flatnonzero(~chosen[members]), np.flatnonzero(chosen[members])


def common_classes(labels: np.ndarray) -> np.ndarray:
    """The classes that have an example for each of three splits, ascending."""
    kinds, counts = np.unique(labels[labels >= 0], return_counts=True)
    return kinds[counts >= FEWEST] if len(kinds) > 1 else kinds[:0]


def rare_text(labels: Mapping[str, np.ndarray], classes: tuple[str, ...]) -> str | None:
    """A remark on classes that a split lacks or has one example of; None if there are none.

    Args:
        labels: Class of each example by split, int64 (N,), -1 if it has none.
        classes: Names of the classes, or empty.
    """
    kinds = np.unique(np.concatenate([*labels.values()]))
    kinds, texts = kinds[kinds >= 0], list[str]()
    for split, its in labels.items():
        # a split without any label lacks no class in particular
        if not (its >= 0).any() or len(kinds) < 2:
            continue
        counts = (np.searchsorted(np.sort(its), kinds + 1) - np.searchsorted(np.sort(its), kinds)).tolist()
        for count, amount in ((0, "no example"), (1, "one example")):
            few = [kind for kind, its_count in zip(kinds.tolist(), counts, strict=True) if its_count == count]
            if few:
                names = [classes[kind] if kind < len(classes) else str(kind) for kind in few[:NAMED]]
                more = f" and {len(few) - NAMED} more" if len(few) > NAMED else ""
                texts.append(f"{split} has {amount} of {', '.join(names)}{more}")
    return f"classes with few examples: {'; '.join(texts)}" if texts else None
