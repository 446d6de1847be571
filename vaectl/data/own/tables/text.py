"""Tables of text, ``.csv`` and ``.tsv``, read a block at a time, so that memory holds numbers, not texts.

numpy parses a block whose cells are all numbers; any other block is read cell by cell, which names what is wrong.

Shapes: ``B`` rows of a block, ``W`` columns of numbers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vaectl.data.own.source import Reading
from vaectl.data.own.tables.columns import Labels, LineNumbers, Numbers, Table
from vaectl.data.own.tables.roles import Roles, roles_of, text_error
from vaectl.data.own.tables.text_form import BOOLS, MISSING, Head, head_of
from vaectl.data.own.tables.text_lines import TextFile, inspected, lines_of, text_file
from vaectl.system.text import from_cell

# rows in which columns of text are looked for
SAMPLED = 1000


def read_text_table(path: Path, reading: Reading) -> Table:
    """Read a table of text, which may be packed.

    Raises:
        DataError: The file is not a table of numbers, or would take too much memory.
        SettingError: A column that an option names does not exist, or the label column does not hold classes.
    """
    file = text_file(path)
    lines, size = inspected(file)
    head = head_of(file, reading)
    roles = roles_of(
        path, head.names, reading, lambda index: _is_real(file, head, index), lambda index: _counts(file, head, index)
    )
    return _Gatherer(file, head, roles, lines, size).table(reading)


def _cells(file: TextFile, head: Head, index: int) -> Iterator[list[str]]:
    """The cells of one column, block by block."""
    with lines_of(file, head.lines, blanks=head.blanks) as lines:
        while block := lines.block():
            cells = _column(block, head.delimiter, index, len(head.names))
            yield (
                cells
                if cells is not None
                else [row[index] for _, row in lines.rows(block, head.delimiter) if len(row) > index]
            )


def _is_real(file: TextFile, head: Head, index: int) -> bool:
    """Whether all cells of a column are numbers or missing, and some are not whole."""
    real = False
    for cells in _cells(file, head, index):
        for cell in set(cells):
            number = head.form.number(cell)
            if number is None and not _is_missing(cell):
                return False
            real = real or (number is not None and math.isfinite(number) and number != int(number))
    return real


def _counts(file: TextFile, head: Head, index: int) -> bool:
    """Whether each cell of a column is the number above plus 1."""
    last: float | None = None
    for cells in _cells(file, head, index):
        for cell in cells:
            number = head.form.number(cell)
            if number is None or (last is not None and number != last + 1):
                return False
            last = number
    return last is not None


def _column(lines: Sequence[str], delimiter: str, index: int, width: int) -> list[str] | None:
    """The cells of one column, or None if the lines are not simply ``width`` cells each without quotes."""
    if any(line.count(delimiter) != width - 1 or '"' in line or line.isspace() for line in lines):
        return None
    if 2 * index < width:
        return [line.split(delimiter, index + 1)[index].strip() for line in lines]
    return [line.rsplit(delimiter, width - index)[index - width].strip() for line in lines]


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in MISSING


@dataclass
class _Gatherer:
    """Gathers the rows of a table.

    Attributes:
        file: The file.
        head: How it begins.
        roles: The roles of its columns.
        lines, size: Lines and bytes of the table.
    """

    file: TextFile
    head: Head
    roles: Roles
    lines: int
    size: int
    labels: Labels = field(default_factory=Labels)
    groups: Labels = field(default_factory=Labels)
    line_numbers: LineNumbers = field(default_factory=LineNumbers)
    bad: list[tuple[str, str]] = field(default_factory=list)
    percents: dict[int, str] = field(default_factory=dict)
    seen: int = 0

    def __post_init__(self) -> None:
        names = self.head.names
        self.columns = list(self.roles.numbers)
        # a row of numbers has a character and a delimiter for each cell at least
        self.numbers = Numbers(self.size // (2 * len(names)) + 1, len(self.columns))
        self.step = max(1, (self.lines - self.head.lines) // SAMPLED)
        # rows of the sample, and for each column how many cells of it are there, and are texts; and the first text
        self.cells, self.texts = (np.zeros(len(names), np.int64) for _ in range(2))
        self.first = dict[int, str]()

    def table(self, reading: Reading) -> Table:
        """Read the file.

        Raises:
            DataError: It has no rows, or a column of text.
        """
        head, roles, path = self.head, self.roles, self.file.path
        with lines_of(self.file, head.lines, blanks=head.blanks) as lines:
            while block := lines.block():
                if not self._add_numbers(block, lines.count - len(block) + 1):
                    self._add_rows(lines.rows(block, head.delimiter))
                    self._refuse_texts(self.lines // self.step + 1)
        self._refuse_texts(0)
        for column, cell in self.percents.items():
            name, number = head.names[column], head.form.number(cell)
            reading.note(f"{path.name}: column '{name}' is in percent: {cell.strip()} is read as {number:g}")
        return Table(
            head.names,
            [head.names[index] for index in self.columns],
            self.numbers,
            self.line_numbers,
            None if roles.label is None else self.labels.kinds(path, head.names[roles.label]),
            self.labels.codes(),
            None if roles.group is None else self.groups.hashes(),
            self.bad,
            frozenset(head.names[index] for index in self.columns if index in head.form.bools),
            head.named,
        )

    def _add_numbers(self, lines: list[str], first: int) -> bool:
        """Add a block of lines that are nothing but numbers, labels and groups; False if they are not."""
        head, texts = self.head, list[list[str]]()
        for index in self.roles.texts or (0,):
            column = _column(lines, head.delimiter, index, len(head.names))
            if column is None or not self.columns:
                return False
            texts.append(column)
        if self.roles.texts and any(_is_missing(cell) for column in texts for cell in column):
            return False
        block = self._block(lines)
        if block is None or block.shape != (len(lines), len(self.columns)) or not np.isfinite(block).all():
            return False
        self.numbers.add(block)
        self.line_numbers.add(np.arange(first, first + len(lines)))
        for labels, column in zip(self._labels(), texts, strict=False):
            labels.add(map(from_cell, column))
        sampled = len(range(-self.seen % self.step, len(lines), self.step))
        self.cells, self.seen = self.cells + sampled, self.seen + len(lines)
        return True

    def _block(self, lines: list[str]) -> np.ndarray | None:
        """The numbers of a block of lines as numpy reads them, float64 (B, W), or None if it does not."""
        form, width = self.head.form, len(self.head.names)
        if form.comma:
            if any("." in line for line in lines):
                return None
            lines = [line.replace(",", ".") for line in lines]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                block: np.ndarray = np.loadtxt(
                    lines, delimiter=self.head.delimiter, comments=None, ndmin=2, encoding=None,
                    usecols=None if self.columns == [*range(width)] else self.columns,
                    converters=dict.fromkeys(form.bools.intersection(self.columns), _bool) or None,
                )  # fmt: skip
        except (ValueError, Warning):
            return None
        return block

    def _labels(self) -> list[Labels]:
        """Where the texts of ``roles.texts`` go."""
        pairs = ((self.roles.label, self.labels), (self.roles.group, self.groups))
        return [labels for index, labels in pairs if index is not None]

    def _add_rows(self, rows: Iterator[tuple[int, list[str]]]) -> None:
        """Add rows cell by cell, and note what is wrong with those that cannot be used."""
        good, values, texts = list[int](), list[list[float]](), list[list[str]]()
        for line, row in rows:
            if self.seen % self.step == 0:
                self._sample(row)
            self.seen += 1
            numbers = self._numbers(row)
            if isinstance(numbers, str):
                self.bad.append((f"row {line}", numbers))
                continue
            values.append(numbers)
            good.append(line)
            texts.append([row[index].strip() for index in self.roles.texts])
        self.numbers.add(np.array(values, np.float64).reshape(len(values), len(self.columns)))
        self.line_numbers.add(np.array(good, np.int64))
        if texts:
            for labels, column in zip(self._labels(), zip(*texts, strict=True), strict=True):
                labels.add(map(from_cell, column))

    def _numbers(self, row: Sequence[str]) -> list[float] | str:
        """The numbers of a row, or its problem."""
        names, form = self.head.names, self.head.form
        if len(row) != len(names):
            return f"has {len(row)} cells, not {len(names)}"
        values = form.plain([row[index] for index in self.columns])
        if values is None:
            values = []
            for index in self.columns:
                value = form.value(row[index], index)
                if value is None:
                    return _cell_problem(names[index], row[index])
                if "%" in row[index]:
                    self.percents.setdefault(index, row[index])
                values.append(value)
        for index, value in zip(self.columns, values, strict=True):
            if not math.isfinite(value):
                return f"column '{names[index]}' is not finite"
        for index in self.roles.texts:
            if _is_missing(row[index]):
                return f"column '{names[index]}' is empty"
        return values

    def _sample(self, row: Sequence[str]) -> None:
        """Count the cells and the texts of a row of the sample."""
        for index in self.columns:
            if index < len(row):
                cell = row[index].strip()
                self.cells[index] += 1
                if self.head.form.value(cell, index) is None and not _is_missing(cell):
                    self.texts[index] += 1
                    self.first.setdefault(index, cell)

    def _refuse_texts(self, least: int) -> None:
        """Raise a DataError if most of a column's cells in the sample, and of ``least`` cells, are texts."""
        for index in self.columns:
            if 2 * self.texts[index] > max(least, self.cells[index]):
                raise text_error(self.file.path, self.head.names[index], self.first[index])


def _bool(cell: str) -> float:
    """The number of a cell of true or false; numpy takes a ValueError for others."""
    if (value := BOOLS.get(cell.strip().lower())) is None:
        raise ValueError(cell)
    return value


def _cell_problem(name: str, cell: str) -> str:
    return f"column '{name}' is empty" if _is_missing(cell) else f"column '{name}' holds '{cell.strip():.30}'"
