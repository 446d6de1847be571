"""What a path of a person's own data comes to once it is opened, whatever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vaectl.data.changes import Change
from vaectl.data.info import LONGEST_CLASS, MOST_CLASSES
from vaectl.data.own.rows import Rows
from vaectl.errors import DataError

# bad examples that an error names
NAMED = 10


class UnusableError(DataError):
    """Some examples cannot be used, and nobody asked to go on without them."""


@dataclass(frozen=True)
class Asked:
    """How a source is to be read.

    Attributes:
        change: What is done to each image, or None.
        label_column: The column of a table that holds the labels, or None for the usual names.
        support: That of the data which a model is there for, or None.
        lenient: Whether a column of labels that is not there is passed over.
        note: Called with a sentence that the person should read.
        progress: Called with (what, done, in all).
    """

    change: Change | None = None
    label_column: str | None = None
    support: str | None = None
    lenient: bool = False
    note: Callable[[str], None] = lambda sentence: None
    progress: Callable[[str, int, int], None] = lambda what, done, total: None

    @property
    def demands_label(self) -> bool:
        """Whether the column of labels must be there and hold classes."""
        return self.label_column is not None and not self.lenient


@dataclass(frozen=True)
class Source:
    """Examples by part: ``train``, and ``validation`` and ``test`` where the source has them apart.

    Attributes:
        parts: The examples.
        labels: Class of each, int64 (N,), -1 where it has none.
        scaling: What is done to a stored number, and to an image.
        classes: Names of the labels 0, 1, ... ; empty where they have none.
        bad: Examples that are known to be unusable: name and what is the matter.
        sizes_differ: Whether images of other sizes are among those.
        held: Why they cannot be read as they are needed, or None where they can.
        word: What a person calls examples.
    """

    parts: Mapping[str, Rows]
    labels: Mapping[str, np.ndarray]
    scaling: str
    classes: tuple[str, ...] = ()
    bad: Sequence[tuple[str, str]] = field(default_factory=tuple)
    sizes_differ: bool = False
    held: str | None = None
    word: str = "images"


def refuse_bad(name: str, source: Source, bad: Sequence[tuple[str, str]], total: int) -> None:
    """Raise an UnusableError that names what cannot be used.

    Args:
        name: Name of the data set.
        source: The source.
        bad: Name of each example, and what is the matter with it.
        total: Examples in all.
    """
    more = f", and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    listed = "; ".join(f"{example}: {problem}" for example, problem in bad[:NAMED])
    hint = "go on without them: --skip-bad"
    if source.sizes_differ:
        hint = f"bring all to one size: --image-size 64,64; or {hint}"
    raise UnusableError(f"{name}: {len(bad)} of {total} {source.word} cannot be used: {listed}{more}", hint=hint)


def classes_of(values: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels and the names of their classes, from labels by part that are whole numbers or texts.

    Whole numbers of which some are negative become names, too, because a label of -1 is none.
    """
    everything = np.concatenate([*values.values()]) if values else np.zeros(0, np.int64)
    if everything.dtype.kind in "biu" and not (everything < 0).any():
        return {part: labels.astype(np.int64) for part, labels in values.items()}, ()
    names = np.unique(everything)
    labels = {part: np.searchsorted(names, found).astype(np.int64) for part, found in values.items()}
    return labels, named(names.tolist())


def named(names: Iterable[str]) -> tuple[str, ...]:
    """Names of classes as they are kept: none where they are too many to be classes."""
    kept = tuple(str(name).encode("utf-8", "replace").decode()[:LONGEST_CLASS] for name in names)
    return kept if len(kept) <= MOST_CLASSES else ()


def unlabelled(count: int) -> np.ndarray:
    """The labels of examples that have none."""
    return np.full(count, -1, np.int64)
