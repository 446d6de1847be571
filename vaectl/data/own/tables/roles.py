"""What each column of a table is for: a number, the label, the group, or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from vaectl.data.own.source import Reading
from vaectl.errors import DataError, SettingError, amount, nearest

LABEL_NAMES = ("label", "class", "target", "y")
# what pandas calls a column without a name, and its own row numbers in .parquet
UNNAMED = "Unnamed: 0"
INDEX_NAMES = re.compile(r"Unnamed: \d+|(__index_level_\d+__)")
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ]\d{1,2}:\d{2}.*)?|\d{1,2}:\d{2}(:\d{2}.*)?")
LIST = re.compile(r"\[.*\]|[-+.\deE]+([ ,;]+[-+.\deE]+)+")
QUANTITY = re.compile(r"[-+]?[\d.,]+\s*[^\W\d_]{1,6}|[$€£¥]\s*[-+]?[\d.,]+")


@dataclass(frozen=True)
class Roles:
    """The role of each column, by its index in the file.

    Attributes:
        numbers: The columns of numbers, in the order in which they are read.
        label, group: The columns of labels and of groups, or None.
    """

    numbers: Sequence[int]
    label: int | None = None
    group: int | None = None

    @property
    def texts(self) -> tuple[int, ...]:
        """The columns of labels and of groups."""
        return tuple(index for index in (self.label, self.group) if index is not None)


def roles_of(
    path: Path,
    names: Sequence[str],
    reading: Reading,
    is_real: Callable[[int], bool],
    counts_rows: Callable[[int], bool],
    *,
    beside: bool = False,
) -> Roles:
    """Give each column its role, by the options and by names; notes tell what was decided.

    Args:
        path: The table.
        names: The names of all columns.
        reading: How to read it.
        is_real: Whether a column holds real numbers of which some are not whole.
        counts_rows: Whether each number of a column is the one above plus 1.
        beside: Whether the examples are lists in one of the columns, beside which other columns are of no use.

    Raises:
        SettingError: An option names a column that does not exist, or that has another role already.
        DataError: The columns are not those of the training examples or of the model.
    """
    dropped = {_index(path, "drop_column", name, names, reading) for name in reading.options.drop_column or ()}
    group = _index(path, "group_column", reading.options.group_column, names, reading)
    for index, name in enumerate(names):
        match = INDEX_NAMES.fullmatch(name)
        if match is None or index in dropped or index == group or name == reading.label_column:
            continue
        counts = counts_rows(index)
        if counts or match[1]:
            dropped.add(index)
            why = "only counts the rows" if counts else "is the index of pandas"
            reading.note(f"{path.name}: column '{name}' {why} and is left out")
        elif not index and reading.names is None:
            reading.note(f"{path.name}: if column '{name}' holds the numbers of rows: --drop-column '{name}'")
    label = label_index(path, names, reading, dropped | {group})
    if label is not None and not reading.demands_label and is_real(label):
        reading.note(f"{path.name}: column '{names[label]}' holds real numbers, so it is not used as the label")
        label = None
    for option, column in (("group_column", group), ("label_column", label)):
        if column is not None and column in dropped:
            raise SettingError(f"data.{option}", f"names '{names[column]}', which --drop-column leaves out")
    rest = [index for index in range(len(names)) if index not in dropped and index not in (label, group)]
    return Roles(rest if beside else _needed(path, names, rest, reading), label, group)


def plain_numbers(path: Path, names: Sequence[str], reading: Reading) -> Sequence[int]:
    """The columns of numbers of a table that keeps labels and groups elsewhere; errors as ``roles_of``."""
    dropped = {_index(path, "drop_column", name, names, reading) for name in reading.options.drop_column or ()}
    return _needed(path, names, [index for index in range(len(names)) if index not in dropped], reading)


def _index(path: Path, option: str, name: str | None, names: Sequence[str], reading: Reading) -> int | None:
    """The index of a column that an option names; None if it names none, or a lenient reading lacks it."""
    if name is None or (name not in names and reading.passes_over):
        return None
    if name not in names:
        some = ", ".join(names[:20])
        raise SettingError(
            f"data.{option}",
            f"names no column of {path.name}: '{name:.100}'",
            hint=nearest(name, names) or f"its columns: {some}",
        )
    return list(names).index(name)


def label_index(path: Path, names: Sequence[str], reading: Reading, others: Collection[int | None] = ()) -> int | None:
    """The column that holds the labels, or None; ``others`` have another role."""
    if reading.label_column is not None:
        index = _index(path, "label_column", reading.label_column, names, reading)
        if index is not None or not reading.passes_over:
            return index
    candidates = [index for index, name in enumerate(names) if name.lower() in LABEL_NAMES and index not in others]
    candidates.sort(key=lambda index: LABEL_NAMES.index(names[index].lower()))
    if candidates:
        reading.note(f"{path.name}: column '{names[candidates[0]]}' is the label")
    return candidates[0] if candidates else None


def _needed(path: Path, names: Sequence[str], rest: list[int], reading: Reading) -> list[int]:
    """The columns of numbers in the order in which they are needed; a DataError if they are others."""
    if reading.names is None:
        return rest
    needed, here = reading.names.numbers, {names[index]: index for index in rest}
    missing = [name for name in needed if name not in here]
    surplus = [name for name in here if name not in set(needed)]
    if missing or (surplus and not reading.lenient):
        text = "; ".join(
            f"{verb} {amount(len(some), 'column')} {', '.join(repr(name) for name in some[:5])}"
            + (", ..." if len(some) > 5 else "")
            for verb, some in (("it lacks", missing), ("it has besides", surplus))
            if some
        )
        raise DataError(
            f"{path} does not have the columns of {reading.names.source}: {text}",
            hint="leave columns out with --drop-column" if surplus and not missing else None,
        )
    if surplus:
        some = ", ".join(surplus[:5]) + (", ..." if len(surplus) > 5 else "")
        reading.note(f"{path.name}: {amount(len(surplus), 'column')} left out, which were not trained on: {some}")
    return [here[name] for name in needed]


def no_numbers(path: Path, name: str, what: str, *, label: bool = True) -> DataError:
    """The error for a column that holds something else than numbers.

    Args:
        path: The table.
        name: The column.
        what: What it holds.
        label: Whether it may be the label.
    """
    quoted = f"'{name}'" if re.search(r"\W", name) else name
    hint = f"leave it out: --drop-column {quoted}"
    if label:
        hint = f"if it is the label: --label-column {quoted}; else {hint}"
    return DataError(f"{path}: column '{name}' holds {what}, not numbers", hint=hint)


def text_error(path: Path, name: str, cell: str) -> DataError:
    """The error for a column of a text table that holds texts such as ``cell``, by what they look like."""
    such = f"such as '{cell:.40}'"
    if DATE.fullmatch(cell):
        return no_numbers(path, name, f"dates, {such}", label=False)
    if LIST.fullmatch(cell):
        error = no_numbers(path, name, f"lists of numbers, {such}", label=False)
        error.hint = f"save each number in a column of its own, or lists as .parquet; or {error.hint}"
        return error
    if QUANTITY.fullmatch(cell):
        error = no_numbers(path, name, f"numbers with a unit, {such}", label=True)
        error.hint = f"remove the unit; {error.hint}"
        return error
    return no_numbers(path, name, f"text, {such}")
