"""Sources that together are one data set: a file for each split, and the pieces of one split.

Shapes: ``N`` examples, ``B`` of them read at once, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from vaectl.data.own.rows import SCALINGS, ArrayRows, BadExampleError, Encoding, Rows
from vaectl.data.own.source import Reading, Source, named
from vaectl.data.units import Column, Kind
from vaectl.errors import DataError, SettingError

Opener = Callable[[Path, Reading], Source]
# encodings of which a later one also holds the numbers of those before it
KINDS: tuple[Kind, ...] = ("real", "whole", "bool")
WIDER: tuple[Encoding, ...] = ("binary", "bytes", "numbers")


@dataclass(frozen=True)
class ChainedRows:
    """The examples of several sources, one after another.

    Attributes:
        pieces: Their examples, of one shape and type.
    """

    pieces: tuple[Rows, ...]

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(map(len, self.pieces))]

    @property
    def shape(self) -> tuple[int, ...]:
        """X."""
        return self.pieces[0].shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers that ``read`` returns."""
        return self.pieces[0].dtype

    def __len__(self) -> int:
        return self._starts[-1]

    def name(self, row: int) -> str:
        """Name of an example in its own source."""
        piece = bisect_right(self._starts, row) - 1
        return self.pieces[piece].name(row - self._starts[piece])

    def emptied(self) -> ChainedRows:
        """The same rows without any example, which tell only what examples are like."""
        return ChainedRows(tuple(rows.emptied() if isinstance(rows, ArrayRows) else rows for rows in self.pieces[:1]))

    def read(self, index: np.ndarray) -> np.ndarray:
        """Read examples as ``Rows.read`` does."""
        out = np.empty((len(index), *self.shape), self.dtype)
        place = np.searchsorted(self._starts, index, side="right") - 1
        for piece in np.unique(place).tolist():
            start = self._starts[piece]
            try:
                out[place == piece] = self.pieces[piece].read(index[place == piece] - start)
            except BadExampleError as error:
                raise BadExampleError(error.row + start, error.problem) from None
        return out


def with_test(path: Path, source: Source, test: Path, reading: Reading, opened: Opener) -> Source:
    """Join examples and test examples that lie elsewhere.

    Args:
        path: Where the examples are.
        source: The examples.
        test: Where the test examples are.
        reading: How to read both.
        opened: Opens the source at a path.

    Raises:
        SettingError: There are test examples already.
        DataError: The test examples cannot be read, or are not like the examples.
    """
    if "test" in source.parts:
        raise SettingError("data.test", f"is for data without a test split; {path.name} has one")
    others = opened(test, following(reading, source))
    if [*others.parts] != ["train"]:
        raise DataError(
            f"{test} has splits of its own: {', '.join(others.parts)}", hint="name what holds the test split"
        )
    train, test_part = alike([(path.name, source), (test.name, others)], reading)
    return joined({"train": train, "test": test_part})


def following(reading: Reading, first: Source) -> Reading:
    """How to read a source that belongs to another one: with its columns, if that is a table."""
    return reading if first.names is None else dataclasses.replace(reading, names=first.names)


def alike(sources: Sequence[tuple[str, Source]], reading: Reading) -> list[Source]:
    """Bring sources that belong together to one encoding of numbers, one list of classes and kinds of columns.

    Args:
        sources: The sources, with the name that each has in messages.
        reading: How they are read.

    Raises:
        DataError: Their examples have different shapes, or numbers of different meaning.
    """
    names = [name for name, _ in sources]
    shapes = [source.parts["train"].shape for _, source in sources]
    for name, shape in zip(names, shapes, strict=True):
        if shape != shapes[0]:
            raise DataError(f"{name} has examples of shape {shape}, and {names[0]} of shape {shapes[0]}")
    encoding = _widest([rows.encoding for _, source in sources for rows in _arrays(source)])
    encoded = [_encoded(source, encoding) for _, source in sources]
    # what comes after a comma is a change, which images of another size may not need
    meanings = [source.scaling.split(",")[0] for source in encoded]
    if len({*meanings}) > 1:
        text = "; ".join(f"{name}: {meaning}" for name, meaning in zip(names, meanings, strict=True))
        raise DataError(f"the numbers of files that belong together differ in their meaning: {text}")
    classes, labels = _common_classes(encoded)
    empty = [all((values < 0).all() for values in own.values()) for own in labels]
    if not all(empty):
        for name in (name for name, without in zip(names, empty, strict=True) if without):
            reading.note(f"{name} has no labels")
    columns = _common_columns([source.columns for source in encoded])
    scaling = max((source.scaling for source in encoded), key=len)
    return [
        dataclasses.replace(
            source,
            parts={part: _called(rows, name) for part, rows in source.parts.items()},
            labels=own,
            scaling=scaling,
            classes=classes,
            columns=columns,
            bad=[(f"{name}, {row}", problem) for row, problem in source.bad],
        )
        for name, source, own in zip(names, encoded, labels, strict=True)
    ]


def joined(sources: Mapping[str, Source]) -> Source:
    """One source of which each part comes from a source of its own, all of them ``alike``.

    That of the training part may bring a validation part, too.
    """
    everything = list(sources.values())

    def by_part(name: str) -> dict[str, Any]:
        fields = [(part, getattr(source, name) or {}) for part, source in sources.items()]
        return {
            (part if own == "train" else own): value for part, own_parts in fields for own, value in own_parts.items()
        }

    return dataclasses.replace(
        sources["train"],
        parts=by_part("parts"),
        labels=by_part("labels"),
        factors=by_part("factors"),
        groups=by_part("groups") or None,
        bad=[problem for source in everything for problem in source.bad],
        sizes_differ=any(source.sizes_differ for source in everything),
        why_resident=next((source.why_resident for source in everything if source.why_resident), None),
    )


def chained(sources: Sequence[Source]) -> Source:
    """One source of the training parts of several, one after another, all of them ``alike``."""
    if len(sources) == 1:
        return sources[0]
    first = sources[0]
    factors = [source.factors.get("train", {}) for source in sources]
    common = [name for name in factors[0] if all(name in some for some in factors)]
    groups = [source.groups["train"] for source in sources if source.groups is not None]
    return dataclasses.replace(
        first,
        parts={"train": ChainedRows(tuple(source.parts["train"] for source in sources))},
        labels={"train": np.concatenate([source.labels["train"] for source in sources])},
        factors={"train": {name: np.concatenate([some[name] for some in factors]) for name in common}},
        groups={"train": np.concatenate(groups)} if len(groups) == len(sources) else None,
        bad=[problem for source in sources for problem in source.bad],
        sizes_differ=any(source.sizes_differ for source in sources),
        why_resident=next((source.why_resident for source in sources if source.why_resident), None),
    )


def _arrays(source: Source) -> list[ArrayRows]:
    return [rows for rows in source.parts.values() if isinstance(rows, ArrayRows)]


def _widest(encodings: Sequence[Encoding]) -> Encoding | None:
    """The encoding that holds all numbers; None if they have the same one already, or none holds all."""
    if len({*encodings}) < 2 or not {*encodings} <= {*WIDER}:
        return None
    return max(encodings, key=WIDER.index)


def _encoded(source: Source, encoding: Encoding | None) -> Source:
    """A source of arrays in another encoding; unchanged if there is none."""
    arrays = _arrays(source)
    if encoding is None or not arrays:
        return source
    scaling = source.scaling.replace(SCALINGS[arrays[0].encoding], SCALINGS[encoding], 1)
    parts = {
        part: dataclasses.replace(rows, encoding=encoding) if isinstance(rows, ArrayRows) else rows
        for part, rows in source.parts.items()
    }
    return dataclasses.replace(source, parts=parts, scaling=scaling)


def _called(rows: Rows, name: str) -> Rows:
    """Rows of an array that are called by their file in messages, too."""
    return dataclasses.replace(rows, word=f"{name}, {rows.word}") if isinstance(rows, ArrayRows) else rows


def _common_classes(sources: Sequence[Source]) -> tuple[tuple[str, ...], list[Mapping[str, np.ndarray]]]:
    """The names of the classes of all sources, and the labels of each by part; without names if none has some."""
    if not any(source.classes for source in sources):
        return (), [source.labels for source in sources]
    own = [_class_names(source) for source in sources]
    every = tuple(dict.fromkeys(text for names in own for text in names.values()))
    number = {text: index for index, text in enumerate(every)}
    labels = list[Mapping[str, np.ndarray]]()
    for source, names in zip(sources, own, strict=True):
        # the last entry stands for -1, no label
        table = np.full(max([-1, *names]) + 2, -1, np.int64)
        for index, text in names.items():
            table[index] = number[text]
        labels.append({part: table[values] for part, values in source.labels.items()})
    return named(every), labels


def _class_names(source: Source) -> dict[int, str]:
    """The names of a source's labels; whole numbers without names are called by themselves."""
    if source.classes:
        return dict(enumerate(source.classes))
    every = np.unique(np.concatenate([*source.labels.values()]))
    return {int(label): str(label) for label in every[every >= 0]}


def _common_columns(columns: Sequence[tuple[Column, ...]]) -> tuple[Column, ...]:
    """The columns of several tables, of which some may hold whole numbers where others do not; empty without names."""
    if not all(columns):
        return ()
    return tuple(
        Column(same[0].name, next((kind for kind in KINDS if any(column.kind == kind for column in same)), "real"))
        for same in zip(*columns, strict=True)
    )
