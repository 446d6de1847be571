"""A comparison as text: lines and tables, for the screen and for a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaectl.commands.shared.render import Screen, Tables, setting_text
from vaectl.runs.comparison import SPLIT, Comparison, Row, total_of
from vaectl.runs.lines import plus_minus

if TYPE_CHECKING:
    from rich.table import Table

# units whose names do not say what they are
UNITS = {"squared": "units²"}


@dataclass(frozen=True)
class Sheet:
    """A comparison as text: lines, two tables, lines, notes.

    Attributes:
        title: The names of what is compared.
        above: Lines above the tables.
        tables: Settings and metrics; the first header of a table is its title.
        units: For each table the columns that stay side by side, in order, without the first.
        below: Lines below the tables.
        notes: Further notes.
    """

    title: str
    above: list[str]
    tables: Tables
    units: list[list[list[int]]]
    below: list[str]
    notes: list[str]

    def fitted(self, screen: Screen) -> list[str | Table]:
        """The tables for a screen; one that is wider continues below itself, so that no verdict is lost."""
        count = max(len(columns) for columns, _ in self.tables)
        together = [[0, *range(1, len(columns))] for columns, _ in self.tables]
        widths = [_widths(table, len(columns)) for table, columns in zip(self.tables, together, strict=True)]
        aligned = [max(width[index] for width in widths if index < len(width)) for index in range(count)]
        if sum(aligned) <= screen.out.width:
            return [*screen.tables(self.tables)]
        pieces: list[str | Table] = []
        for table, units, width in zip(self.tables, self.units, widths, strict=True):
            columns, rows = table
            for parts, part in enumerate(_packed(units, width, screen.out.width)):
                # the title stands above the first part alone
                heads = [("", "left") if parts and index == 0 else columns[index] for index in part]
                pieces += [""] if pieces else []
                pieces += screen.tables([(heads, [[row[index] for index in part] for row in rows])])
        return pieces


def _widths(table: tuple[list[tuple[str, str]], list[list[str]]], count: int) -> list[int]:
    """Characters of each column, with the space to the next."""
    columns, rows = table
    return [2 + max(len(row[index]) for row in [[name for name, _ in columns], *rows]) for index in range(count)]


def _packed(units: list[list[int]], widths: list[int], room: int) -> list[list[int]]:
    """The columns of each part of a table, the first column in all: as many units as fit side by side."""
    parts: list[list[int]] = []
    left = 0
    for unit in units:
        # a unit that is too wide even alone is divided
        alone = widths[0] + sum(widths[index] for index in unit) <= room
        for columns in [unit] if alone else [[index] for index in unit]:
            size = sum(widths[index] for index in columns)
            if not parts or size > left:
                parts.append([0])
                left = room - widths[0]
            parts[-1] += columns
            left -= size
    return parts


def sentence(line: str) -> str:
    """A line as a sentence."""
    return f"{line[0].upper()}{line[1:]}."


def sheet(comparison: Comparison, *, everything: bool) -> Sheet:
    """The comparison as text, with the settings that differ or with all."""
    labels = comparison.labels
    values_by_path = comparison.settings if everything else comparison.differing
    names = _short_names(comparison.settings)
    heads = [(label, "right") for label in labels]
    settings = [[f"  {names[path]}", *map(setting_text, _short(values))] for path, values in values_by_path.items()]
    changes: list[tuple[str, str]] = []
    units = [[1 + index] for index in range(len(labels))]
    for label in labels[1:]:
        whose = "" if len(labels) == 2 else f"{label} "
        units.append([1 + len(labels) + len(changes), 2 + len(labels) + len(changes)])
        changes += [(f"{whose}change", "left"), ("", "left")]
        if _has_intervals(comparison):
            units.append([1 + len(labels) + len(changes)])
            changes.append((f"{whose}95 % interval", "left"))
    counts = " / ".join(map(str, comparison.n if len(set(comparison.n)) > 1 else comparison.n[:1]))
    width = max(len(_name(row)) for row in comparison.rows)
    metrics = [
        [f"  {_name(row).ljust(width)}{_label(row, comparison)}", *_cells(row), *_changes(row, comparison)]
        for row in comparison.rows
    ]
    below = [f"no verdict for {label}: {why}" for label, why in zip(labels, comparison.withheld, strict=True) if why]
    return Sheet(
        _listed(labels),
        _legend(comparison) if comparison.grouped else [],
        [
            (
                [(f"settings: {len(comparison.differing)} of {len(comparison.settings)} differ", "left"), *heads],
                settings,
            ),
            (
                [(f"metrics ({SPLIT}, {counts} {'image' if counts == '1' else 'images'})", "left"), *heads, *changes],
                metrics,
            ),
        ],
        [units[: len(labels)], units],
        below,
        comparison.notes,
    )


def _listed(names: list[str]) -> str:
    """``a``, ``a and b`` or ``a, b and c``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _legend(comparison: Comparison) -> list[str]:
    """The runs of each group, and the number of seeds over which its numbers are means and deviations."""
    lines = [
        f"{column.label}: {', '.join(run.id for run in column.runs)}  "
        f"({'seed' if len(column.seeds) == 1 else 'seeds'} {', '.join(map(str, column.seeds))})"
        for column in comparison.columns
    ]
    sizes = sorted({len(column.runs) for column in comparison.columns} - {1})
    if sizes:
        lines.append(f"mean ± standard deviation over {' or '.join(map(str, sizes))} seeds")
    if any(cell.delta_se is not None for row in comparison.rows for cell in row.cells):
        lines.append("change ± standard error over seeds and test images; a verdict if the 95 % interval excludes 0")
    return lines


def _has_intervals(comparison: Comparison) -> bool:
    return any(cell.interval is not None for row in comparison.rows for cell in row.cells)


def _name(row: Row) -> str:
    if row.metric.samples is not None:
        return f"bound K={row.metric.samples}"
    names = {
        "active_units": "active", "mutual_information": "information ≥", "rate_bits": "rate", "codes_used": "codes used"
    }  # fmt: skip
    return names.get(row.metric.name, row.metric.name)


def _label(row: Row, comparison: Comparison) -> str:
    arrow = {1: " ↑", -1: " ↓", 0: "  "}[row.metric.direction]
    if row.metric.unit == "count":
        sizes = [
            "-" if size is None else str(size) for size in (total_of(row.metric, c.runs[0]) for c in comparison.columns)
        ]
        return f"{arrow} of {sizes[0] if len(set(sizes)) == 1 else '/'.join(sizes)}"
    return f"{arrow} {UNITS.get(row.metric.unit, row.metric.unit)}"


def _cells(row: Row) -> list[str]:
    texts = []
    for cell in row.cells:
        value, sd = cell.value, cell.sd
        # the mean of a count over seeds is not a whole number
        digits = 2 if isinstance(value, float) and row.metric.unit == "count" else row.metric.digits
        texts.append("-" if value is None else f"{value:.{digits}f}" + ("" if sd is None else plus_minus(sd, digits)))
    return texts


def _changes(row: Row, comparison: Comparison) -> list[str]:
    texts: list[str] = []
    for cell in row.cells[1:]:
        delta, se, ends = cell.delta, cell.delta_se, cell.interval
        digits = 2 if isinstance(delta, float) and row.metric.unit == "count" else row.metric.digits
        text = "-" if delta is None else f"{delta:+.{digits}f}"
        texts += [text + ("" if se is None else plus_minus(se, digits)), cell.verdict or ""]
        if _has_intervals(comparison):
            texts.append("" if ends is None else f"{ends[0]:+.{digits}f} to {ends[1]:+.{digits}f}")
    return texts


def _short(values: list[Any]) -> list[Any]:
    """Shorten paths to their last part if that still tells them apart: long ones leave no room for numbers."""
    last = [Path(value).name if isinstance(value, str) and "/" in value else value for value in values]
    return last if len(set(map(str, last))) == len(set(map(str, values))) else values


def _short_names(settings: dict[str, Any]) -> dict[str, str]:
    """Each path's last word if no other path ends in it, else the path."""
    last = {path: path.rpartition(".")[2] for path in settings}
    counts = list(last.values())
    return {path: name if counts.count(name) == 1 else path for path, name in last.items()}
