"""Tables as text, ``.csv``, read a block at a time, so that memory holds numbers, not texts.

numpy parses a block whose cells are all numbers; any other block is read cell by cell, which names what is wrong.

Shapes: ``B`` rows of a block, ``W`` columns of numbers.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vaectl.data.own.columns import MOST_COLUMNS, STREAM_INSTEAD, Labels, Numbers, Table, label_index, no_numbers
from vaectl.data.own.source import Reading
from vaectl.errors import DataError
from vaectl.system.reading import check_size, open_regular, size_text
from vaectl.system.text import from_cell

MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "-"))
DELIMITERS = (",", ";", "\t")
# bytes and characters that are read at once, and the longest line: 256 characters for each of the most columns
BLOCK, LONGEST_LINE = 1 << 19, 1 << 24
# rows in which columns of text are looked for
SAMPLED = 1000


def read_csv(path: Path, reading: Reading) -> Table:
    """Read a ``.csv`` file.

    Raises:
        DataError: The file is not a table of numbers, or would take too much memory.
        SettingError: The label column does not exist, or does not hold classes.
    """
    try:
        check_size(f"the table {path}", path.stat().st_size, STREAM_INSTEAD)
        lines = _inspected(path)
        head = _head(path)
        _note_names(path, head, reading)
        label = label_index(path, head.names, reading)
        if label is not None and not reading.demands_label and _is_real(path, head, label):
            reading.note(
                f"{path.name}: column '{head.names[label]}' holds real numbers, so it is not used as the label"
            )
            label = None
        return _Gatherer(path, head, label, lines).table()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None


@dataclass(frozen=True)
class Head:
    """How a table begins: its delimiter, the names of its columns, and the lines before its first row of numbers."""

    delimiter: str
    names: Sequence[str]
    lines: int


def _note_names(path: Path, head: Head, reading: Reading) -> None:
    """Note that the columns of a table have no names, and refuse two of the same name."""
    width = len(head.names)
    if not head.lines:
        reading.note(f"{path.name}: the first line holds numbers, so the columns are called 1 to {width}")
    elif width < 2000 and (duplicate := next((name for name, n in Counter(head.names).items() if n > 1), None)):
        raise DataError(f"{path} has two columns called '{duplicate}'")


def _inspected(path: Path) -> int:
    """The number of lines of a file of text.

    Raises:
        DataError: It is not UTF-8, or holds a zero byte.
    """
    decoder, done, feeds, returns, zero = codecs.getincrementaldecoder("utf-8")(), 0, 0, 0, False
    with open_regular(path) as file:
        while True:
            block = file.read(BLOCK)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                position = done - pending + error.start
                raise DataError(f"{path} is not UTF-8 text: {error.reason} at byte {position}") from None
            if not block:
                break
            zero, done = zero or b"\0" in block, done + len(block)
            feeds, returns = feeds + block.count(b"\n"), returns + block.count(b"\r")
    if zero:
        raise DataError(f"{path} is not a text table: it holds a zero byte")
    return max(feeds, returns) + 1


class _Lines:
    """The lines of a file with their ends, and how many were read."""

    def __init__(self, path: Path, text: io.TextIOWrapper) -> None:
        self._path, self._text, self.count = path, text, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(LONGEST_LINE + 1)
        if not line:
            raise StopIteration
        self.count += 1
        if len(line) > LONGEST_LINE:
            raise DataError(f"{self._path}, line {self.count}: it is longer than {size_text(LONGEST_LINE)}")
        return line

    def block(self) -> list[str]:
        """The next lines, about ``BLOCK`` characters; none at the end."""
        lines, size = list[str](), 0
        for line in self:
            lines.append(line)
            size += len(line)
            if size >= BLOCK:
                break
        return lines

    def rows(self, lines: Sequence[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
        """The cells and the line of each row of a block, and of what follows as long as a quote is open."""
        before = self.count - len(lines)
        reader = csv.reader(itertools.chain(lines, self), delimiter=delimiter)
        try:
            while reader.line_num < len(lines) and (row := next(reader, None)) is not None:
                if row:
                    yield before + reader.line_num, row
        except csv.Error as error:
            raise DataError(f"{self._path}, line {before + reader.line_num}: {error}") from None


@contextmanager
def _opened(path: Path, skip: int = 0) -> Iterator[_Lines]:
    """The lines of a file after the first ``skip``."""
    with open_regular(path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        lines = _Lines(path, text)
        for _ in range(skip):
            next(lines, None)
        yield lines


def _head(path: Path) -> Head:
    with _opened(path) as lines:
        first = next((line.lstrip() for line in lines if line.strip()), None)
    if first is None:
        raise DataError(f"{path} has no rows")
    delimiter = max(DELIMITERS, key=first.count)
    with _opened(path) as lines:
        (number, cells), (_, below) = _next_row(lines, delimiter), _next_row(lines, delimiter)
    width = len(cells)
    if width > MOST_COLUMNS:
        raise DataError(f"{path} has {width:,} columns; at most {MOST_COLUMNS:,}")
    if _is_header(cells, below):
        return Head(delimiter, [from_cell(name.strip()) or str(index + 1) for index, name in enumerate(cells)], number)
    return Head(delimiter, [str(index + 1) for index in range(width)], 0)


def _next_row(lines: _Lines, delimiter: str) -> tuple[int, list[str]]:
    """The line and the cells of the next row that has some; no cells at the end."""
    for line in lines:
        if (row := next(lines.rows([line], delimiter), None)) is not None:
            return row
    return lines.count, []


def _is_header(first: Sequence[str], below: Sequence[str]) -> bool:
    """Whether the first line names the columns: no cell is a number, or a text is above a number."""
    texts = [index for index, cell in enumerate(first) if _number(cell) is None and cell.strip().lower() not in MISSING]
    return len(texts) == len(first) or any(index < len(below) and _number(below[index]) is not None for index in texts)


def _is_real(path: Path, head: Head, label: int) -> bool:
    """Whether all cells of a column are numbers or missing, and some are not whole."""
    width, found_real = len(head.names), False
    with _opened(path, head.lines) as lines:
        while block := lines.block():
            cells = _column(block, head.delimiter, label, width)
            if cells is None:
                cells = [row[label] for _, row in lines.rows(block, head.delimiter) if len(row) > label]
            for cell in set(cells):
                number = _number(cell)
                if number is None and cell.strip().lower() not in MISSING:
                    return False
                found_real = found_real or (number is not None and math.isfinite(number) and number != int(number))
    return found_real


def _column(lines: Sequence[str], delimiter: str, index: int, width: int) -> list[str] | None:
    """The cells of one column, or None if the lines are not simply ``width`` cells each without quotes."""
    if any(line.count(delimiter) != width - 1 or '"' in line or line.isspace() for line in lines):
        return None
    if 2 * index < width:
        return [line.split(delimiter, index + 1)[index].strip() for line in lines]
    return [line.rsplit(delimiter, width - index)[index - width].strip() for line in lines]


@dataclass
class _Gatherer:
    """Gathers the rows of a table.

    Attributes:
        path: The file.
        head: How it begins.
        label: Index of the column of labels, or None.
        lines: Lines of the file.
    """

    path: Path
    head: Head
    label: int | None
    lines: int
    labels: Labels = field(default_factory=Labels)
    line_numbers: list[np.ndarray] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)
    seen: int = 0

    def __post_init__(self) -> None:
        self.columns = [index for index in range(len(self.head.names)) if index != self.label]
        # a row of numbers has a character and a delimiter for each cell at least
        most = self.path.stat().st_size // (2 * len(self.head.names)) + 1
        self.numbers = Numbers(most, len(self.columns))
        self.step = max(1, (self.lines - self.head.lines) // SAMPLED)
        # rows of the sample, and for each column how many cells of it are there, and are texts; and the first text
        self.sampled = 0
        self.cells, self.texts = (np.zeros(len(self.head.names), np.int64) for _ in range(2))
        self.first = dict[int, str]()

    def table(self) -> Table:
        """Read the file.

        Raises:
            DataError: It has no rows, or a column of text.
        """
        with _opened(self.path, self.head.lines) as lines:
            while block := lines.block():
                if not self._add_numbers(block, lines.count - len(block) + 1):
                    self._add_rows(lines.rows(block, self.head.delimiter))
                    self._refuse_texts(self.lines // self.step + 1)
        self._refuse_texts(0)
        names = [self.head.names[index] for index in self.columns]
        line_numbers = np.concatenate([np.zeros(0, np.int64), *self.line_numbers])
        labels = None if self.label is None else self.labels.kinds(self.path, self.head.names[self.label])
        return Table(names, self.numbers, labels, self.labels.codes(), line_numbers, self.bad)

    def _add_numbers(self, lines: list[str], first: int) -> bool:
        """Add a block of lines that are nothing but numbers, and a label; False if they are not."""
        labels = _column(lines, self.head.delimiter, self.label or 0, len(self.head.names))
        if labels is None or not self.columns:
            return False
        if self.label is not None and any(label.lower() in MISSING for label in labels):
            return False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                block = np.loadtxt(
                    lines, delimiter=self.head.delimiter, comments=None, ndmin=2,
                    usecols=None if self.label is None else self.columns,
                )  # fmt: skip
        except (ValueError, Warning):
            return False
        if block.shape != (len(lines), len(self.columns)) or not np.isfinite(block).all():
            return False
        self.numbers.add(block)
        self.line_numbers.append(np.arange(first, first + len(lines)))
        if self.label is not None:
            self.labels.add(map(from_cell, labels))
        sampled = len(range(-self.seen % self.step, len(lines), self.step))
        self.cells, self.seen = self.cells + sampled, self.seen + len(lines)
        return True

    def _add_rows(self, rows: Iterator[tuple[int, list[str]]]) -> None:
        """Add rows cell by cell, and note what is wrong with those that cannot be used."""
        good, values, labels = list[int](), list[list[float]](), list[str]()
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
            if self.label is not None:
                labels.append(row[self.label].strip())
        self.numbers.add(np.array(values, np.float64).reshape(len(values), len(self.columns)))
        self.line_numbers.append(np.array(good, np.int64))
        if labels:
            self.labels.add(map(from_cell, labels))

    def _numbers(self, row: Sequence[str]) -> list[float] | str:
        """The numbers of a row, or its problem."""
        names = self.head.names
        if len(row) != len(names):
            return f"has {len(row)} cells, not {len(names)}"
        try:
            values = [float(row[index]) for index in self.columns]
        except ValueError:
            return next(_cell_problem(names[p], row[p]) for p in self.columns if _number(row[p]) is None)
        for index, value in zip(self.columns, values, strict=True):
            if not math.isfinite(value):
                return f"column '{names[index]}' is not finite"
        if self.label is not None and row[self.label].strip().lower() in MISSING:
            return f"column '{names[self.label]}' is empty"
        return values

    def _sample(self, row: Sequence[str]) -> None:
        """Count the cells and the texts of a row of the sample."""
        for index in self.columns:
            if index < len(row):
                cell = row[index].strip()
                self.cells[index] += 1
                if _number(cell) is None and cell.lower() not in MISSING:
                    self.texts[index] += 1
                    self.first.setdefault(index, cell)

    def _refuse_texts(self, least: int) -> None:
        """Raise a DataError if most of a column's cells in the sample, and of ``least`` cells, are texts."""
        for index in self.columns:
            if 2 * self.texts[index] > max(least, self.cells[index]):
                raise no_numbers(self.path, self.head.names[index], f"text, such as '{self.first[index]:.40}'")


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _cell_problem(name: str, cell: str) -> str:
    missing = cell.strip().lower() in MISSING
    return f"column '{name}' is empty" if missing else f"column '{name}' holds '{cell.strip():.30}'"
