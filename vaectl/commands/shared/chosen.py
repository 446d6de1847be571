"""The examples that a person chooses: rows, a class, or a pair, of the run's data or of other data."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vaectl.commands.shared.marks import Marks
from vaectl.commands.shared.session import Session
from vaectl.config.datasets import is_path
from vaectl.config.spec import ALL, SPLITS, splits_of
from vaectl.errors import DataError, SettingError, UsageError, amount

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from vaectl.data.base import Data
    from vaectl.data.examples import Examples

# limit for the rows that --rows can name
MOST_ROWS = 1_000_000
# rows that a text lists
LISTED = 10


@dataclass(frozen=True)
class Choice:
    """What was chosen on the command line, of which at most one is not None.

    Attributes:
        rows: Rows in their order.
        label: A class, by name or number.
        pair: Two rows, or the paths of two files.
    """

    rows: tuple[int, ...] | None = None
    label: str | None = None
    pair: tuple[str, str] | None = None

    @classmethod
    def of(cls, rows: str | None, label: str | None, pair: tuple[str, str] | None = None) -> Choice:
        """The choice that ``--rows``, ``--label`` and ``--pair`` make.

        Raises:
            UsageError: Several of them were given, or one does not say what it should.
        """
        flags = [flag for flag, value in (("--rows", rows), ("--label", label), ("--pair", pair)) if value is not None]
        if len(flags) > 1:
            raise UsageError(f"{' and '.join(flags)} cannot be given together")
        if pair is not None and len({text.isdecimal() for text in pair}) > 1:
            raise UsageError(f"--pair must be two rows or two files; got '{pair[0]}' and '{pair[1]}'")
        if pair is not None and pair[0].isdecimal():
            return cls(rows=_rows("--pair", ",".join(pair)), pair=pair)
        return cls(None if rows is None else _rows("--rows", rows), label, pair)

    @property
    def flag(self) -> str:
        """The flag that was given; empty without one."""
        named = (("--pair", self.pair), ("--rows", self.rows), ("--label", self.label))
        return next((flag for flag, value in named if value is not None), "")

    @property
    def files(self) -> tuple[str, str] | None:
        """The paths of two files, or None."""
        return self.pair if self.rows is None else None


def _rows(flag: str, text: str) -> tuple[int, ...]:
    """The rows that a text such as ``3,17,0-9`` names, in its order."""
    out: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,12})(?:\s*-\s*(\d{1,12}))?\s*", part)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if first > last:
            raise UsageError(f"{flag} must be rows such as 3,17 or 0-9; got '{text:.100}'")
        if len(out) + last - first >= MOST_ROWS:
            raise UsageError(f"{flag} '{text:.100}' names more than {MOST_ROWS:,} rows")
        out += range(first, last + 1)
    return tuple(out)


@dataclass(frozen=True)
class Chosen:
    """Examples of a data set, all or those that were chosen.

    Attributes:
        choice: What was chosen.
        data: The data set.
        split: Name of the split, or ``all``.
        examples: All examples of the split (N).
        positions: Positions of the chosen ones there, int64 (M,), or None if that is all of them.
        is_default: Whether nothing was chosen, so that they are the run's own test split.
    """

    choice: Choice
    data: Data
    split: str
    examples: Examples
    positions: Tensor | None
    is_default: bool = False

    def __len__(self) -> int:
        return len(self.examples) if self.positions is None else len(self.positions)

    @property
    def in_order(self) -> bool:
        """Whether each example was chosen, so that none is left to chance."""
        return self.choice.rows is not None or self.choice.files is not None

    def taken(self) -> Examples:
        """The examples themselves (M)."""
        from vaectl.data.taking import taken

        return self.examples if self.positions is None else taken(self.examples, self.positions)

    def order(self) -> Tensor:
        """Their positions in the order in which they are shown: as chosen, or drawn from torch's random stream."""
        import torch

        if self.positions is None:
            return torch.randperm(len(self.examples))
        return self.positions if self.in_order else self.positions[torch.randperm(len(self.positions))]

    def marks(self, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
        """The columns of ``Marks.of_all`` for each (M,); ``classes`` are those of the run."""
        marks = Marks(self.data, classes).of_all(self.split)
        return marks if self.positions is None else {name: mark[self.positions.numpy()] for name, mark in marks.items()}

    @property
    def text(self) -> str:
        """Which examples they are, in words."""
        if self.choice.files is not None:
            return " and ".join(self.choice.files)
        whole, rows = _text(self.data, self.split), self.choice.rows
        if rows is not None:
            some = ", ".join(map(str, rows[:LISTED])) + (", ..." if len(rows) > LISTED else "")
            return f"row{'s' if len(rows) > 1 else ''} {some} of {whole}"
        return whole if self.choice.label is None else f"class {self.choice.label} of {whole}"


def choose(session: Session, choice: Choice, name: str | None, split: str | None = None) -> Chosen:
    """Find the examples that were chosen; without a choice all of them.

    Args:
        session: The run.
        choice: The choice.
        name: Name or path of other data; None for the run's own.
        split: Name of the split, ``all``, or None for the test split of the run's data and all of other data.

    Raises:
        UsageError: Rows or a class are not there.
        DataError: There are no examples, or the data cannot be used.
    """
    from vaectl.data.joined import joined

    if choice.files is not None:
        if name is not None or split is not None:
            raise UsageError(f"--pair of two files is instead of other data; {name or f'--split {split}'} was given")
        return _of_files(session, choice, choice.files)
    data, split = session.examples(name, split, whole=True)
    names = [each for each in splits_of(split) if len(data.split(each))]
    if not names:
        raise DataError(f"--split {split}: {data.info.name} has no {split} examples")
    examples, positions = joined(data, names), None
    if choice.rows is not None:
        if len(names) > 1:
            raise UsageError(
                f"{choice.flag}: {data.info.name} has several splits, each with rows of its own",
                hint="reconstruct takes one of them: --split test",
            )
        positions = _of_rows(choice.flag, choice.rows, examples, _text(data, split))
    elif choice.label is not None:
        positions = _of_class(choice.label, examples, data, split)
    default = name is None and split == "test" and not choice.flag
    return Chosen(choice, data, split, examples, positions, default)


def _text(data: Data, split: str) -> str:
    if split != ALL:
        return f"the {split} split of {data.info.name}"
    alone = sum(len(data.split(name)) for name in SPLITS) == 1
    return data.info.name if alone else f"all of {data.info.name}"


def _of_rows(flag: str, rows: tuple[int, ...], examples: Examples, text: str) -> Tensor:
    """The positions of the examples with these rows."""
    import numpy as np
    import torch

    known = examples.rows.cpu().numpy()
    order = np.argsort(known)
    places = np.searchsorted(known, rows, sorter=order).clip(max=len(known) - 1)
    positions = order[places]
    missing = [row for row, place in zip(rows, positions.tolist(), strict=True) if known[place] != row]
    if missing:
        gaps = "" if known.max() - known.min() < len(known) else ", with gaps"
        raise UsageError(
            f"{flag}: {text} has no row {missing[0]}; it has {amount(len(known), 'row')}, from {known.min()} to "
            f"{known.max()}{gaps}"
        )
    return torch.from_numpy(positions)


def _of_class(label: str, examples: Examples, data: Data, split: str) -> Tensor:
    """The positions of the examples of a class."""
    import torch

    from vaectl.data.selection import chosen

    labels = examples.labels.cpu().numpy()
    text, names = _text(data, split), data.info.classes
    try:
        rows, _, _ = chosen(text, [label], {split: labels}, names)
    except SettingError as error:
        raise error.named("--label") from None
    if not len(rows[split]):
        here = [names[number] for number in sorted({*labels.tolist()} - {-1})]
        others = f"; it has examples of {', '.join(here[: 2 * LISTED])}" if here else ""
        raise UsageError(f"--label {label}: {text} has no example of this class{others}")
    return torch.from_numpy(rows[split])


def _of_files(session: Session, choice: Choice, files: tuple[str, str]) -> Chosen:
    """The examples of two files, as one data set."""
    from vaectl.data.joined import joined
    from vaectl.data.taking import side_by_side

    splits = []
    for file in files:
        if not is_path(file):
            raise UsageError(f"--pair: '{file}' is neither a row nor a file")
        data, _ = session.examples(file, ALL, whole=True)
        splits.append(joined(data, SPLITS))
        if len(splits[-1]) != 1:
            raise DataError(
                f"--pair: {file} has {amount(len(splits[-1]), 'example')}; each file of a pair holds one",
                hint="for two examples of one file name it, and its rows: --pair 3 17",
            )
    both = side_by_side(splits)
    info = dataclasses.replace(data.info, name=" and ".join(files), classes=())
    pair = dataclasses.replace(
        data, train=both, validation=both.first(0), test=both.first(0), info=info, report=None, files={"train": files}
    )
    return Chosen(choice, pair, ALL, both, None)
