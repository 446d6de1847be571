"""The streams: the result on stdout, all else on stderr, in characters that they can show."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from vaectl.errors import UsageError, VaectlError, amount
from vaectl.system.files import finite
from vaectl.system.text import harmless

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# tables before they are drawn: columns as (header, left or right), and rows of cells
Tables = list[tuple[list[tuple[str, str]], list[list[str]]]]

PROGRESS = ("auto", "bar", "plain", "none")
HEARTBEAT_SECONDS = 60
SPARKS = "▁▂▃▄▅▆▇█"
ASCII = {
    "↑": "^",
    "↓": "v",
    "±": "+/-",
    "×": "x",
    "²": "^2",
    "≈": "~",
    "≥": ">=",
    "·": "|",
    "−": "-",
    "…": "...",
    "━": "-",
    "█": "#",
} | dict(zip(SPARKS[:-1], "_.-=+*#", strict=True))


def showable(text: str, encoding: str) -> str:
    """The harmless text, with its tabs, in characters that an encoding has or their ASCII look-alikes."""
    text = "\t".join(map(harmless, text.split("\t")))
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        text = "".join(ASCII.get(character, character) for character in text)
        return text.encode(encoding, errors="replace").decode(encoding)
    return text


def animates(stream: TextIO) -> bool:
    """Whether a bar may move on the stream: it is a terminal that knows cursor codes, whatever FORCE_COLOR says."""
    return stream.isatty() and os.environ.get("TERM", "") != "dumb"


# least width of a column in which text is folded
LEAST_TEXT = 16


class Screen:
    """The two streams under one command's output flags.

    Args:
        quiet: Only the id, path or number on stdout; on stderr only warnings and errors.
        verbose: More on stderr.
        as_json: One JSON document on stdout instead of text.
        progress: auto, bar, plain or none.

    Raises:
        UsageError: The flags contradict each other, or the progress is unknown.
    """

    def __init__(self, quiet: bool, verbose: bool, as_json: bool, progress: str) -> None:
        if progress not in PROGRESS:
            raise UsageError(f"--progress must be one of {', '.join(PROGRESS)}; got '{progress}'")
        if quiet and (verbose or as_json):
            raise UsageError(f"--quiet and {'--verbose' if verbose else '--json'} cannot be given together")
        self.quiet, self.verbose, self.as_json = quiet, verbose, as_json
        self.out, self.err = _console(sys.stdout), _console(sys.stderr)
        if progress == "auto":
            progress = "none" if quiet else "bar"
        self.progress = "plain" if progress == "bar" and not animates(sys.stderr) else progress

    def note(self, text: str, style: str = "") -> None:
        """Print a line on stderr, unless quiet."""
        if not self.quiet:
            _line(self.err, text, style)

    def detail(self, text: str) -> None:
        """Print a line on stderr if verbose."""
        if self.verbose:
            _line(self.err, text, "dim")

    def warn(self, text: str) -> None:
        """Print a warning on stderr, even if quiet."""
        _line(self.err, f"warning: {text}", "yellow")

    def result(self, document: Any, *, short: str, text: str | Table | Sequence[str | Table]) -> None:
        """Print the result on stdout: the document with --json, the short form with --quiet, else the text."""
        if self.as_json:
            print_json(document)
        elif self.quiet:
            _line(self.out, short)
        else:
            from rich.table import Table

            for piece in [text] if isinstance(text, str | Table) else text:
                if isinstance(piece, Table) and self.out.file.isatty():
                    self.out.print(piece)
                elif isinstance(piece, Table):
                    with self.out.capture() as capture:
                        self.out.print(piece)
                    # a table is as wide as its widest row, and blanks would wrap where the text is read
                    self.out.file.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())
                elif self.out.file.isatty():
                    _line(self.out, piece)
                else:
                    # not through rich, which turns tabs into spaces
                    self.out.file.write(showable(piece, self.out.encoding) + "\n")

    def tables(self, tables: Tables) -> list[Table]:
        """Plain tables for stdout, whose columns are aligned with each other.

        If the terminal is too narrow, a last column of texts is folded; if that is not enough, the last columns are
        left out, with a note, and the last one that remains is folded.
        """
        from rich.table import Table
        from rich.text import Text

        encoding = self.out.encoding
        count = max(len(columns) for columns, _ in tables)
        cells = [row for columns, rows in tables for row in [[name for name, _ in columns], *rows]]
        widths = [max(len(row[index]) for row in cells if index < len(row)) for index in range(count)]
        visible = count
        while visible > 2 and sum(widths[:visible]) + 2 * visible > self.out.width:
            texts = all(columns[visible - 1][1] == "left" for columns, _ in tables if len(columns) >= visible)
            if texts and LEAST_TEXT <= self.out.width - sum(widths[: visible - 1]) - 2 * visible < widths[visible - 1]:
                break
            visible -= 1
        if visible < count:
            self.note(f"the terminal is too narrow for {amount(count - visible, 'more column')}")
        fits = sum(widths[:visible]) + 2 * visible <= self.out.width
        # all but the last keep their width if there is room for some of the last
        room = visible > 2 and self.out.width - sum(widths[: visible - 1]) - 2 * visible >= LEAST_TEXT
        grids = []
        for columns, rows in tables:
            grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
            for index, (header, justify) in enumerate(columns[:visible]):
                grid.add_column(
                    Text(showable(header, encoding)),
                    justify="right" if justify == "right" else "left",
                    overflow="fold",
                    no_wrap=fits or (room and index < visible - 1),
                    min_width=widths[index] if fits or (room and index < visible - 1) else None,
                )
            for row in rows:
                grid.add_row(*(Text(showable(cell, encoding)) for cell in row[:visible]))
            grids.append(grid)
        return grids

    def table(self, columns: list[tuple[str, str]], rows: list[list[str]]) -> Table:
        """A plain table for stdout with columns (header, left or right)."""
        return self.tables([(columns, rows)])[0]

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A transient bar, or a line each minute, over ``total`` examples; yields a function to call with the count."""
        if self.progress == "bar":
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            count = TextColumn("{task.completed}/{task.total}")
            # what is counted may be in a folder whose name holds markup
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), count, TimeRemainingColumn())
            with Progress(*columns, console=self.err, transient=True) as bar:
                task = bar.add_task(showable(what, self.err.encoding), total=total or None)
                yield lambda done: bar.update(task, completed=done)
            return
        beat = Heartbeat()

        def tell(done: int) -> None:
            if self.progress == "plain" and beat.due():
                self.note(f"{what}: {done}/{total}")

        yield tell

    @contextmanager
    def downloading(self) -> Iterator[Callable[[str, int, int], None]]:
        """A bar for downloads, shown once one begins; yields a function of name, bytes done and bytes in total."""
        if self.progress != "bar":
            seen: set[str] = set()

            def tell(what: str, done: int, total: int) -> None:
                if what not in seen:
                    seen.add(what)
                    self.note(f"downloading {what}" + (f" ({total / 1e6:.1f} MB)" if total else ""))

            yield tell
            return
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn())
        bar = Progress(*columns, console=self.err, transient=True)
        tasks: dict[str, Any] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                bar.start()
                tasks[what] = bar.add_task(f"downloading {showable(what, self.err.encoding)}", total=total or None)
            bar.update(tasks[what], completed=done)

        try:
            yield advance
        finally:
            bar.stop()


class Heartbeat:
    """A timer that is due once a minute."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether a minute has passed since the last time it was due."""
        if time.monotonic() - self._last < HEARTBEAT_SECONDS:
            return False
        self._last = time.monotonic()
        return True


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    # without a terminal rich takes 80 columns, and would fold a table that a script reads
    width = None if stream.isatty() or os.environ.get("COLUMNS", "").isdecimal() else 10_000
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def _line(console: Console, text: str, style: str = "") -> None:
    from rich.text import Text

    console.print(Text(showable(text, console.encoding), style=style))


def print_json(document: Any) -> None:
    """Print exactly one JSON document on stdout, without NaN and without colour."""
    sys.stdout.write(json.dumps(finite(document), indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_error(error: VaectlError, *, as_json: bool) -> None:
    """Print ``error: ...`` and ``hint: ...`` on stderr, and with ``as_json`` the error as the document on stdout."""
    from rich.text import Text

    console = _console(sys.stderr)
    for name, text, style in (("error", error.message, "bold red"), ("hint", error.hint, "cyan")):
        if text:
            line = Text(f"{name}: ", style=style) + Text(showable(text, console.encoding), style="not bold")
            console.print(line)
    if as_json:
        print_json({"error": {"code": error.code, "message": error.message, "hint": error.hint}})


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """The course of a series in at most ``width`` bars, from its lowest value to its highest."""
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return ""
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    low, high = min(values), max(values)
    if high == low:
        return SPARKS[0] * len(values)
    return "".join(SPARKS[round((value - low) / (high - low) * (len(SPARKS) - 1))] for value in values)


def setting_text(value: Any) -> str:
    """A setting's value as a person would type it."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
