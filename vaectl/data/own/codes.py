"""Codes of a trained model in a file: columns z0, z1, ... of a table, or an array.

Shapes: ``N`` codes, ``S`` the shape of one.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaectl.config.datasets import DataOptions, suffix_of
from vaectl.data.own.arrays import npy
from vaectl.data.own.arrays.archives import npz_members
from vaectl.data.own.arrays.members import NUMBERS, listing
from vaectl.data.own.arrays.problems import OBJECTS, check_mark, data_errors
from vaectl.data.own.arrays.stored import Stored
from vaectl.data.own.rows import PIECE_BYTES
from vaectl.data.own.source import NAMED, Names, Reading
from vaectl.data.own.tables.arrow_file import stored_file
from vaectl.data.own.tables.columns import Table
from vaectl.data.own.tables.parquet import read_parquet
from vaectl.data.own.tables.roles import LABEL_NAMES
from vaectl.data.own.tables.text import read_text_table
from vaectl.data.own.tables.text_form import head_of
from vaectl.data.own.tables.text_lines import text_file
from vaectl.errors import DataError, amount
from vaectl.system.reading import check_size

ARROW = (".parquet", ".arrow", ".feather")
FORMATS = (".npz", ".npy", ".csv", ".tsv", ".csv.gz", ".tsv.gz", *ARROW)


@dataclass(frozen=True)
class Form:
    """A form in which a file can hold the codes of a model.

    Attributes:
        name: Name of the array, and of the columns before their numbers.
        shape: S.
        size: Numbers of a codebook, from 0 to ``size - 1``; 0 for real numbers.
    """

    name: str
    shape: tuple[int, ...]
    size: int = 0

    @property
    def width(self) -> int:
        """Numbers of one code."""
        return math.prod(self.shape)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a table that hold it."""
        return tuple(f"{self.name}{index}" for index in range(self.width))

    @property
    def text(self) -> str:
        """What one code is, in words."""
        if self.size:
            return f"{' x '.join(map(str, self.shape))} whole numbers from 0 to {self.size - 1}"
        return amount(self.width, "number")


@dataclass(frozen=True)
class Codes:
    """The codes of a file.

    Attributes:
        source: The file or flag, for errors.
        form: Their form.
        values: Their numbers (N, ...), S or flattened.
        row: The name of a code by its place.
    """

    source: str
    form: Form
    values: Stored
    row: Callable[[int], str] = lambda place: f"row {place}"

    def __len__(self) -> int:
        return len(self.values)

    def parts(self, size: int) -> Iterator[np.ndarray]:
        """The codes in order, ``size`` at a time: float32, or int64 of a codebook (n, *S).

        Raises:
            DataError: A number is not finite, or none of the codebook.
        """
        for start in range(0, len(self), size):
            stored = self.values[start : start + size].reshape(-1, self.form.width)
            with np.errstate(over="ignore", invalid="ignore"):  # which are told below
                numbers = stored.astype(np.float32)
                bad = ~np.isfinite(numbers)
                if self.form.size:
                    bad |= (stored < 0) | (stored >= self.form.size) | (stored != np.rint(stored))
            if bad.any():
                row, column = (int(place[0]) for place in np.nonzero(bad))
                raise DataError(self._problem(start + row, column, stored[row, column]))
            yield (stored.astype(np.int64) if self.form.size else numbers).reshape(-1, *self.form.shape)

    def _problem(self, place: int, column: int, value: np.generic) -> str:
        where = f"{self.source}: {self.row(place)}: {self.form.name}{column} is {value:.10g}"
        limit = f"a whole number from 0 to {self.form.size - 1}" if self.form.size else "a finite number of 32 bits"
        return f"{where}; it must be {limit}"

    def checked(self) -> Codes:
        """The codes themselves, after all of them were read once; errors as those of ``parts``."""
        for _ in self.parts(max(1, PIECE_BYTES // (4 * self.form.width))):
            pass
        return self


def read_codes(path: Path, forms: Sequence[Form], owner: str) -> Codes:
    """Open the codes in a file.

    Args:
        path: A table or an array.
        forms: The forms that the model takes; the first that the file has is read.
        owner: Whose codes they must be, for errors.

    Raises:
        DataError: The file is missing, damaged or of an unknown format, or holds other numbers.
    """
    suffix = suffix_of(path.name)
    if not os.path.isfile(path):  # which is False for a name that is too long, where Path raises
        there = "is not a regular file" if os.path.exists(path) else "does not exist"
        problem = "is a folder" if os.path.isdir(path) else there
        raise DataError(f"{path} {problem}", hint="name a file of codes, such as vaectl embed writes")
    if suffix not in FORMATS:
        raise DataError(f"{path}: unknown format '{suffix}'", hint=f"codes are read from {', '.join(FORMATS)}")
    codes = _of_array(path, suffix, forms, owner) if suffix in (".npy", ".npz") else _of_table(path, forms, owner)
    if not len(codes):
        raise DataError(f"{path} has no rows")
    return codes.checked()


def _of_array(path: Path, suffix: str, forms: Sequence[Form], owner: str) -> Codes:
    with data_errors(path):
        check_mark(path, suffix)
        if suffix == ".npy":
            try:
                return _fitting(path, "", npy.mapped(path), forms, owner)
            except npy.ObjectsError:
                raise DataError(f"{path} {OBJECTS}", hint="save it as an array of numbers") from None
        with npz_members(path) as members:
            key = next((form.name for form in forms if form.name in members), None)
            if key is None and len(members) == 1:
                (key,) = members
            if key is None:
                names = " nor ".join(f"'{form.name}'" for form in forms)
                raise DataError(f"{path} has no array {names}", hint=f"its arrays: {listing(members)}")
            member = members[key]
            if member.problem:
                raise DataError(f"{path}: array '{key:.100}' {member.problem}")
            check_size(f"array '{key:.100}' of {path}", member.opened, "save it as .npy, which can be streamed")
            return _fitting(path, key, member.load(), [form for form in forms if form.name == key] or forms, owner)


def _fitting(path: Path, key: str, array: Stored, forms: Sequence[Form], owner: str) -> Codes:
    """The codes of an array in the form whose shape it has."""
    subject = f"{path}: array '{key:.100}'" if key else str(path)
    for form in forms:
        whole = not form.size or array.dtype.kind in "iu" or len(forms) == 1
        if whole and array.shape[1:] in (form.shape, (form.width,)) and array.dtype.kind in NUMBERS:
            return Codes(str(path), form, array)
    shapes = " or ".join(str(("N", *form.shape)).replace("'", "") for form in forms)
    raise DataError(f"{subject} is {array.dtype} {array.shape}; the codes of {owner} are {shapes}")


def _of_table(path: Path, forms: Sequence[Form], owner: str) -> Codes:
    # columns that may be labels are of no use here, also if some of their cells are empty
    reading = Reading(DataOptions(drop_column=LABEL_NAMES), support="real", lenient=True)
    names = _columns_of(path, reading)
    if names is None:
        table = _table(path, reading)
        form = next((form for form in forms if form.width == len(table.names)), None)
        if form is None:
            known = " or ".join(form.text for form in forms)
            raise DataError(f"{path} has {amount(len(table.names), 'column')}; a code of {owner} is {known}")
    else:
        form = next((form for form in forms if f"{form.name}0" in names), forms[0])
        surplus = [name for name in names if re.fullmatch(rf"{form.name}\d+", name) and name not in form.columns]
        if surplus:
            raise DataError(
                f"{path} has a column '{surplus[0]:.100}'; the codes of {owner} end with '{form.columns[-1]}'"
            )
        wanted = Names(f"the codes of {owner}", form.columns)
        table = _table(path, Reading(reading.options, support="real", lenient=True, names=wanted))
    if table.bad:
        some = "; ".join(f"{row}: {problem}" for row, problem in table.bad[:NAMED])
        more = f", and {len(table.bad) - NAMED} more" if len(table.bad) > NAMED else ""
        raise DataError(f"{path}: {amount(len(table.bad), 'row')} cannot be used: {some}{more}")
    lines = table.line_numbers
    return Codes(str(path), form, table.numbers.values, lambda place: f"row {lines[place]}")


def _table(path: Path, reading: Reading) -> Table:
    return (read_parquet if suffix_of(path.name) in ARROW else read_text_table)(path, reading)


def _columns_of(path: Path, reading: Reading) -> Sequence[str] | None:
    """The names of a table's columns; None if the file does not name them."""
    if suffix_of(path.name) in ARROW:
        with stored_file(path) as stored:
            names: list[str] = list(stored.schema.names)
            return names
    head = head_of(text_file(path), reading)
    return head.names if head.named else None
