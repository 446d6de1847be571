"""How a table of text is written: its delimiter, the names of its columns, its form of numbers."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vaectl.data.own.source import Reading
from vaectl.data.own.tables.columns import MOST_COLUMNS
from vaectl.data.own.tables.roles import UNNAMED
from vaectl.data.own.tables.text_lines import Lines, TextFile, lines_of
from vaectl.errors import DataError, amount
from vaectl.system.text import from_cell

MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "-"))
BOOLS = {"false": 0.0, "true": 1.0}
DELIMITERS = (",", ";", "\t", "|")
# lines and rows from which the form of a table is told, and cells that are looked at
FIRST_LINES, FIRST_ROWS, FIRST_CELLS = 20, 1000, 200_000
# 1,000 and 1,234.5; 1.234,5 and 1.234.567; 0,12
THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?")
EUROPEAN = re.compile(r"[-+]?\d{1,3}(\.\d{3})+(,\d*)?")
COMMA = re.compile(r"[-+]?(\d+,\d*|,\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Form:
    """The form of the numbers of a table.

    Attributes:
        comma: Whether a comma is the decimal sign.
        bools: The columns of true and false.
    """

    comma: bool = False
    bools: frozenset[int] = frozenset()

    def number(self, cell: str) -> float | None:
        """The number in a cell: ``1.5``, ``1,000``, ``12 %`` or, with a decimal comma, ``1.000,5``; None for others."""
        text = cell.strip()
        if text.endswith("%"):
            text = text[:-1].rstrip()
        if self.comma:
            if "." in text and not EUROPEAN.fullmatch(text):
                return None
            text = text.replace(".", "").replace(",", ".")
        elif "," in text:
            if not THOUSANDS.fullmatch(text):
                return None
            text = text.replace(",", "")
        try:
            return float(text)
        except ValueError:
            return None

    def plain(self, cells: Sequence[str]) -> list[float] | None:
        """The numbers in the cells of a row, if all are written as Python writes them and nothing else is expected."""
        try:
            return None if self.comma or self.bools else [*map(float, cells)]
        except ValueError:
            return None

    def value(self, cell: str, column: int) -> float | None:
        """The number that stands for a cell of a column: true and false are 1 and 0 where all cells are those."""
        return BOOLS.get(cell.strip().lower()) if column in self.bools else self.number(cell)


@dataclass(frozen=True)
class Head:
    """How a table begins.

    Attributes:
        delimiter: What parts its cells.
        names: The names of its columns.
        lines: Lines before its first row of numbers.
        named: Whether the file names its columns.
        blanks: Whether blanks part its cells, which ``Lines`` turns into tabs.
        form: The form of its numbers.
    """

    delimiter: str
    names: Sequence[str]
    lines: int
    named: bool
    blanks: bool = False
    form: Form = field(default_factory=Form)


def head_of(file: TextFile, reading: Reading) -> Head:
    """Read how a table begins; notes tell what is not plain.

    Raises:
        DataError: It has no rows, too many columns, or two of the same name.
    """
    name, (skip, comments, first) = file.path.name, _beginning(file)
    if not first:
        raise DataError(f"{file.path} has no rows")
    tabs = ".tsv" in file.path.name.lower() or (file.member or "").lower().endswith(".tsv")
    delimiter = "\t" if tabs and "\t" in first[0] else _delimiter(first)
    blanks = delimiter == " "
    if blanks:
        delimiter = "\t"
        reading.note(f"{name}: its cells are parted by blanks")
    with lines_of(file, skip, blanks=blanks) as lines:
        (number, cells), (_, below) = _next_row(lines, delimiter), _next_row(lines, delimiter)
    if len(cells) > MOST_COLUMNS:
        raise DataError(f"{file.path} has {len(cells):,} columns; at most {MOST_COLUMNS:,}")
    header: list[str] | None = None
    if _is_header(cells, below):
        # R leaves out the name of the column of row names
        header = ["", *cells] if len(below) == len(cells) + 1 and any(map(_is_value, below[1:])) else cells
    elif comments and len(commented := _commented(comments[-1], delimiter, blanks=blanks)) == len(cells) > 1:
        header, number, comments = commented, skip, comments[:-1]
    if comments:
        reading.note(f"{name}: {amount(len(comments), 'line')} before the table that begin with # are left out")
    names = [str(index + 1) for index in range(len(cells))]
    if header is not None:
        names = [from_cell(text.strip()) or (str(index + 1) if index else UNNAMED) for index, text in enumerate(header)]
    head = Head(delimiter, names, number if header is not None else skip, header is not None, blanks)
    head = _renamed(file, head, reading)
    return Head(delimiter, head.names, head.lines, head.named, blanks, _form(file, head, reading))


def _renamed(file: TextFile, head: Head, reading: Reading) -> Head:
    """A head with the names of the training examples, if either file has none; refuses two columns of one name."""
    name, width, names = file.path.name, len(head.names), head.names
    every = () if reading.names is None else reading.names.every or reading.names.numbers
    unnamed = all(text == str(index + 1) for index, text in enumerate(every))
    if len(every) == width and unnamed == head.named and every != tuple(names):
        assert reading.names is not None
        which = "it has no names of columns" if unnamed is False else f"{reading.names.source} has no names of columns"
        reading.note(f"{name}: {which}, so columns are matched by their order")
        names = every
    elif not head.named:
        reading.note(f"{name}: the first line holds numbers, so the columns are called 1 to {width}")
    elif width < 2000 and (duplicate := next((text for text, n in Counter(names).items() if n > 1), None)):
        raise DataError(f"{file.path} has two columns called '{duplicate}'")
    return Head(head.delimiter, names, head.lines, head.named, head.blanks)


def _beginning(file: TextFile) -> tuple[int, list[str], list[str]]:
    """How many lines come before the table, the comments among them, and the first lines of the table."""
    skip, comments = 0, list[str]()
    with lines_of(file) as lines:
        for line in lines:
            text = line.strip()
            if not text.startswith("#") and not re.fullmatch("sep=.", text):
                if text:
                    first = [line, *itertools.islice(lines, FIRST_LINES)]
                    return skip, comments, [part for part in first if part.strip()]
            elif text.startswith("#"):
                comments.append(text)
            skip = lines.count
    if comments:  # a table whose every line begins with # has none
        raise DataError(f"{file.path} has no rows: all its lines begin with #")
    return skip, comments, []


def _commented(comment: str, delimiter: str, *, blanks: bool) -> list[str]:
    """The cells of a comment, which may be the names of the columns, as numpy writes them."""
    text = comment.lstrip("#").strip() if comment.startswith("# ") or comment[1:2].isalnum() else comment
    return text.split() if blanks else [cell.strip().strip('"') for cell in text.split(delimiter)]


def _delimiter(lines: Sequence[str]) -> str:
    """The delimiter of a table: what its first line has most, unless another parts all lines and commas are decimal."""
    first = lines[0].lstrip(" ")
    usual = max(DELIMITERS, key=first.count)
    if usual == "," and first.count(","):
        for other in DELIMITERS[1:]:
            counts = {line.count(other) for line in lines}
            cells = [cell.strip().strip('"') for line in lines[1:] or lines for cell in line.split(other)]
            commas = [cell for cell in cells if "," in cell]
            if len(counts) == 1 and counts != {0} and commas and all(map(COMMA.fullmatch, commas)):
                return other
    if not first.count(usual):
        widths = {len(line.split()) for line in lines[1:]}
        ours = len(first.split())
        # the names of columns in a table of one column may have blanks, and the last of the first lines may be cut
        if ours > 1 and (not widths or widths <= {ours, ours + 1}):
            return " "
    return usual


def _next_row(lines: Lines, delimiter: str) -> tuple[int, list[str]]:
    """The line and the cells of the next row that has some; no cells at the end."""
    for line in lines:
        if (row := next(lines.rows([line], delimiter), None)) is not None:
            return row
    return lines.count, []


def _is_header(first: Sequence[str], below: Sequence[str]) -> bool:
    """Whether the first line names the columns: no cell is a number, or a text is above a number."""
    texts = [index for index, cell in enumerate(first) if not _is_value(cell) and cell.strip().lower() not in MISSING]
    return len(texts) == len(first) or any(index < len(below) and _is_value(below[index]) for index in texts)


def _is_value(cell: str) -> bool:
    """Whether a cell holds a number in any form, or true or false."""
    return any(form.number(cell) is not None for form in (Form(), Form(comma=True))) or cell.strip().lower() in BOOLS


def _form(file: TextFile, head: Head, reading: Reading) -> Form:
    """The form of the numbers of a table, by its first rows."""
    plain = Form()
    commas, bools, others = list[str](), set[int](), set[int]()
    for row in _first_rows(file, head):
        for column, cell in enumerate(row):
            text = cell.strip()
            if text.lower() in BOOLS:
                bools.add(column)
            elif text.lower() not in MISSING:
                others.add(column)
                if "," in text and (COMMA.fullmatch(text) or EUROPEAN.fullmatch(text)):
                    commas.append(text)
    ambiguous = all(plain.number(text) is not None for text in commas)
    comma = bool(commas) and (not ambiguous or head.delimiter == ";")
    if comma:
        reading.note(f"{file.path.name}: a comma is read as the decimal sign: {commas[0]} is {_decimal(commas[0])}")
    elif commas:
        reading.note(f"{file.path.name}: a comma is read as a sign of thousands: {commas[0]} is {_thousand(commas[0])}")
    return Form(comma, frozenset(bools - others))


def _decimal(text: str) -> str:
    return f"{Form(comma=True).number(text):g}"


def _thousand(text: str) -> str:
    return f"{Form().number(text):.0f}"


def _first_rows(file: TextFile, head: Head) -> Iterator[list[str]]:
    rows = min(FIRST_ROWS, FIRST_CELLS // len(head.names) + FIRST_LINES)
    with lines_of(file, head.lines, blanks=head.blanks) as lines:
        for _ in range(rows):
            _, row = _next_row(lines, head.delimiter)
            if not row:
                return
            yield row
