"""The source that every opener of own data returns, whatever the format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vaectl.config.datasets import DataOptions
from vaectl.data.changes import Change
from vaectl.data.info import ACCOUNT_BYTES, LONGEST_CLASS, MOST_CLASSES
from vaectl.data.own.rows import Rows
from vaectl.data.units import Column
from vaectl.errors import DataError, SettingError
from vaectl.system.reading import check_size

# number of bad examples listed in an error
NAMED = 10


class UnusableError(DataError):
    """Some examples cannot be used, and ``skip_bad`` is not set."""


@dataclass(frozen=True)
class Names:
    """The names of a table's columns.

    Attributes:
        source: The training examples or the model that have them, in words.
        numbers: Those of the columns of numbers, in the order in which they are read.
        every: Those of all columns in the order of the file; empty if it is not known.
    """

    source: str
    numbers: tuple[str, ...]
    every: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """How to read a source.

    Attributes:
        options: The options of the data.
        change: The change applied to each image, or None.
        support: The support that an existing model needs, or None.
        lenient: Whether a missing column of labels is passed over.
        most: How many images a folder can have at most, or None.
        shape: Shape (C, H, W) of an example that an existing model needs, or None.
        names: The columns that a table must have, those of the training examples or of a model; None if any will do.
        note: Called with a sentence for the user.
        progress: Called with (task, done, total).
    """

    options: DataOptions = field(default_factory=DataOptions)
    change: Change | None = None
    support: str | None = None
    lenient: bool = False
    most: int | None = None
    shape: tuple[int, ...] | None = None
    names: Names | None = None
    note: Callable[[str], None] = lambda sentence: None
    progress: Callable[[str, int, int], None] = lambda what, done, total: None

    @property
    def label_column(self) -> str | None:
        """The column of a table that holds the labels, or None for the usual names."""
        return self.options.label_column

    @property
    def passes_over(self) -> bool:
        """Whether columns that options name may be missing: in a file to apply a model to, or of test examples."""
        return self.lenient or self.names is not None

    @property
    def demands_label(self) -> bool:
        """Whether the column of labels must be there and hold classes."""
        return self.label_column is not None and not self.passes_over


@dataclass(frozen=True)
class Source:
    """Examples by part: ``train``, and ``validation`` and ``test`` if the source has its own.

    Attributes:
        parts: The examples.
        labels: Class of each example, int64 (N,), -1 if it has none.
        scaling: Description of the scaling of stored numbers and of the change to images.
        classes: Names of the labels 0, 1, ... ; empty if they have no names.
        bad: Name and problem of each example that is already known to be unusable.
        sizes_differ: Whether some of these are images of a different size.
        why_resident: The reason why examples cannot be streamed, or None if they can.
        word: Plural noun for the examples in messages.
        columns: The columns of a table, or empty.
        names: The names of a table's columns, also if its rows are images; None for other sources.
        factors: Known factors or attributes of the examples by part and name (N,): whole or real numbers.
        groups: Group of each example by part, int64 (N,); examples of a group stay in one split. None without groups.
    """

    parts: Mapping[str, Rows]
    labels: Mapping[str, np.ndarray]
    scaling: str
    classes: tuple[str, ...] = ()
    bad: Sequence[tuple[str, str]] = field(default_factory=tuple)
    sizes_differ: bool = False
    why_resident: str | None = None
    word: str = "images"
    columns: tuple[Column, ...] = ()
    names: Names | None = None
    factors: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    groups: Mapping[str, np.ndarray] | None = None


def check_count(path: Path, parts: Iterable[Sized]) -> None:
    """Refuse more examples than can be kept account of, see ``reading.check_size``.

    Args:
        path: The source.
        parts: The examples of each part.
    """
    count = sum(map(len, parts))
    check_size(f"the account of the {count:,} examples of {path}", count * ACCOUNT_BYTES)


def refuse_options(reading: Reading, reasons: Mapping[str, str]) -> None:
    """Raise a SettingError for an option that is set and would be ignored; a lenient reading passes over it.

    Args:
        reading: How the source is read.
        reasons: What each option is for and what the source is, as the rest of a sentence, by option.
    """
    for name, reason in reasons.items():
        if getattr(reading.options, name) is not None and not reading.lenient:
            raise SettingError(f"data.{name}", reason)


def refuse_bad(name: str, source: Source, bad: Sequence[tuple[str, str]], total: int) -> None:
    """Raise an UnusableError that names the unusable examples.

    Args:
        name: Name of the data set.
        source: The source.
        bad: Name and problem of each unusable example.
        total: Number of all examples.
    """
    more = f", and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    listing = "; ".join(f"{example}: {problem}" for example, problem in bad[:NAMED])
    # what is wrong with most is no exception to be skipped
    hints = ["go on without them: --skip-bad"] if 2 * len(bad) <= total else []
    if source.sizes_differ:
        hints.insert(0, "resize all to one size: --image-size 64,64")
    hint = "; or ".join(hints) or "most of them are bad: look at what the first ones have in common"
    raise UnusableError(f"{name}: {len(bad)} of {total} {source.word} cannot be used: {listing}{more}", hint=hint)


def classes_of(values: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Class indices and class names, from labels by part that are whole numbers or strings.

    If some whole numbers are negative, all become names, because -1 means that there is no label.
    """
    everything = np.concatenate([*values.values()]) if values else np.zeros(0, np.int64)
    if everything.dtype.kind in "biu" and not (everything < 0).any():
        return {part: labels.astype(np.int64) for part, labels in values.items()}, ()
    names = np.unique(everything)
    labels = {part: np.searchsorted(names, part_labels).astype(np.int64) for part, part_labels in values.items()}
    return labels, named(names.tolist())


def named(names: Iterable[str]) -> tuple[str, ...]:
    """Class names as they are stored; empty if there are too many to be classes."""
    short_names = tuple(str(name).encode("utf-8", "replace").decode()[:LONGEST_CLASS] for name in names)
    return short_names if len(short_names) <= MOST_CLASSES else ()


def unlabelled(count: int) -> np.ndarray:
    """Labels for ``count`` examples without a class, all -1; they take no memory and cannot be written to."""
    return np.broadcast_to(np.int64(-1), count)
