"""Texts that others wrote, in names of folders, files, classes and settings: shown as text, never obeyed."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Cli
from vaectl import Run, load_data
from vaectl.commands.compare.report import write
from vaectl.commands.compare.sheet import Sheet
from vaectl.commands.shared import render
from vaectl.commands.shared.render import Screen, print_error
from vaectl.errors import VaectlError
from vaectl.output import arrays, plots
from vaectl.system.text import as_cell, from_cell, harmless

# a text, and how it is shown
TEXTS = {
    "\x1b[2J\x1b]0;title\x07": r"\x1b[2J\x1b]0;title\x07",
    "a\nerror: b\rc": r"a\nerror: b\rc",
    "\x9b31m\x7f\x00": r"\x9b31m\x7f\x00",
    "\u202egnp.exe\u2066": r"\u202egnp.exe\u2066",
    "\u2028\u2029\ufeff\u200b": r"\u2028\u2029\ufeff\u200b",
    "half \udc80": r"half \udc80",
    "[red]x[/nope] :smile: \\[b]": "[red]x[/nope] :smile: \\[b]",
    "$x_$ \\frac": "$x_$ \\frac",
    "Grüße 写真 \u3000 \u0646\u200c\u0645": "Grüße 写真 \u3000 \u0646\u200c\u0645",
}


class Terminal(io.StringIO):
    """A stream that is taken for a terminal."""

    def isatty(self) -> bool:
        return True


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, progress: str = "bar") -> Iterator[tuple[Screen, Terminal, Terminal]]:
    """A screen on a terminal, with its streams."""
    out, err = Terminal(), Terminal()
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "200")):
        monkeypatch.setenv(name, value)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        yield Screen(False, True, False, progress), out, err


# the codes that rich itself sends: colours, the cursor and lines
OWN = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[lh]|[0-9]*A|2K|1A)|\r|\n")


@pytest.mark.parametrize("text", TEXTS)
def test_whatever_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Lines, tables, results, errors and bars show the text escaped, and take nothing of it for markup."""
    expected = TEXTS[text]
    assert harmless(text) == expected
    with terminal(monkeypatch) as (screen, out, err):
        screen.note(f"<{text}>")
        screen.warn(f"<{text}>")
        screen.detail(f"<{text}>")
        print_error(VaectlError(f"<{text}>", hint=f"<{text}>"), as_json=False)
        with screen.counting(f"<{text}>", 10) as count:
            count(3)
        with screen.downloading() as load:
            load(f"<{text}>", 3, 10)
        table = screen.table([(f"<{text}>", "left"), ("b", "left")], [[f"<{text}>", "1"]])
        screen.result(None, short="", text=[f"<{text}>", table])
    for stream, times in ((err, 7), (out, 3)):
        shown = OWN.sub("", stream.getvalue())
        assert shown.count(f"<{expected}>") >= times, shown
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202e\u2066\u2028\u2029\ufeff\u200b]", shown)


@pytest.mark.parametrize("text", TEXTS)
def test_whatever_is_shown_in_a_pipe(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Progress as lines, too."""
    monkeypatch.setattr(render, "HEARTBEAT_SECONDS", 0)
    out, err = io.StringIO(), io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        screen = Screen(False, False, False, "plain")
        with screen.counting(f"<{text}>", 10) as count:
            count(3)
        with screen.downloading() as load:
            load(f"<{text}>", 3, 10)
        screen.result(None, short="", text=[f"<{text}>"])
    assert err.getvalue() == f"<{TEXTS[text]}>: 3/10\ndownloading <{TEXTS[text]}> (0.0 MB)\n"
    assert out.getvalue() == f"<{TEXTS[text]}>\n"


FOLDER = "\x1b[31m[red]$x_$`|=1\tb"


@pytest.fixture
def images(isolated: Path) -> Path:
    """A folder of images whose name, classes and files are hostile."""
    folder = isolated / FOLDER
    random = np.random.default_rng(0)
    for name in ("=cmd|' C'!A0", "_$x_$", "\x1b]0;t\x07"):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(random.integers(256, size=(8, 8), dtype=np.uint8)).save(folder / name / f"+{number}@.png")
    return folder


def test_a_folder_whose_names_are_hostile(
    cli: Cli, images: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through every command: nothing of them reaches the screen, the log, a table or a figure unescaped."""
    small = ("--hidden-dims", 8, "--latent-dim", 2, "--epochs", 1, "--likelihood", "continuous-bernoulli")
    monkeypatch.setenv("VAECTL_PROGRESS", "plain")
    monkeypatch.setattr(render, "HEARTBEAT_SECONDS", 0)
    lines = [("train", "--dataset", images, *small, "-v", "--name", name) for name in ("a", "b")]
    lines += [("eval", "a", "-v"), ("runs",), ("runs", "a"), ("compare", "a", "b"), ("compare", "a", "b", "-o", "r.md")]
    lines += [("compare", "a", "b", "-o", f"r{suffix}") for suffix in (".html", ".png")]
    lines += [("plot-latent", "a", "-o", f"p{suffix}") for suffix in (".svg", ".png", ".pdf")]
    lines += [("embed", "a", "--split", "all", "-o", "codes.csv"), ("train", "--dataset", f"{images}x", "--dry-run")]
    for line in lines:
        result = cli(*line)
        assert result.exit_code == ("--dry-run" in line), (line, result.output)
        assert "\x1b" not in result.output, line
        assert "\x07" not in result.output, line
    assert len({row.count("\t") for row in cli("runs").stdout.splitlines()}) == 1
    assert "\\x1b[31m[red]$x_$`|=1\\tb" in cli("runs").stdout
    log = (isolated / "runs" / "a" / "train.log").read_text()
    assert "\x1b" not in log
    assert log.startswith("a  \\x1b[31m[red]$x_$`|=1\\tb ")
    svg = (isolated / "p.svg").read_text()
    assert "\x1b" not in svg
    with (isolated / "codes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["class"] for row in rows} == {"'=cmd|' C'!A0", "_$x_$", "\x1b]0;t\x07"}
    assert all(row["file"][0] not in "=+-@\t\r" for row in rows)
    assert any(row["z0"].startswith("-") for row in rows), "numbers are left alone"


# --- reports ----------------------------------------------------------------------------------------------------------

MARKUP = (
    "![x](http://evil.example/a.png)", "[x](javascript:alert)", "<script>alert(1)</script>", "<img src=x onerror=y>",
    "a|b", "`code` *b* _i_ ~~s~~", "# head", "- item", "http://evil.example www.evil.example", "$x_$", "&lt;b&gt;",
    "back\\slash", "line\n| a | b |\n\n# next", "\x1b[2J\u202e",
)  # fmt: skip


def report(texts: tuple[str, ...], path: Path) -> str:
    """A report with texts in each of its places."""
    table = ([(texts[0], "left"), *((text, "right") for text in texts[1:])], [list(texts)])
    write(path, None, Sheet(" and ".join(texts), list(texts), [table, table], [], list(texts), list(texts)), [])  # type: ignore[arg-type]
    return path.read_text(encoding="utf-8")


def test_markdown_shows_texts_and_obeys_none(isolated: Path) -> None:
    """What is not escaped makes no link, picture, heading, code, cell or HTML."""
    text = report(MARKUP, isolated / "r.md")
    bare = re.sub(r"\\[\\`*_\[\]|~$#.:+-]", "", text)
    for line in bare.splitlines():
        content = line.removeprefix("# ").removeprefix("- ")
        assert not re.search(r"[`*\[\]<>$#~]|://|www\.|^\s*[-+] |&(?!amp;|lt;|gt;)", content), line
    rows = [line for line in bare.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {len(MARKUP) + 1}
    assert len(rows) == 2 * 3
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_html_shows_texts_and_obeys_none(isolated: Path) -> None:
    text = report(MARKUP, isolated / "r.html")
    tags: list[str] = []
    seen: list[str] = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            tags.append(tag)

        def handle_data(self, data: str) -> None:
            seen.append(data)

    Reader().feed(text)
    page = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div"}
    assert set(tags) == page | {"table", "thead", "tbody", "tr", "th", "td"}
    assert all(harmless(markup) in seen for markup in MARKUP)


def test_markdown_of_ordinary_texts_is_unchanged(isolated: Path) -> None:
    ordinary = ("-104.95", "+37.68 ± 0.25", "hidden_dims", "0.5", "↑ nats", "run-1_a.b", "512,256", "95 % interval")
    text = report(ordinary, isolated / "r.md")
    assert "| " + " | ".join(ordinary) + " |" in text


# --- tables for spreadsheets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cell"),
    [("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"), ("+1+1", "'+1+1"), ("-2+3", "'-2+3"), ("@SUM(A1)", "'@SUM(A1)"),
     ("\t=1", "'\t=1"), ("\r=1", "'\r=1"), ("\n=1", "'\n=1"), ("\uff1d1", "'\uff1d1"), ("'=1", "''=1"),
     ("''+a", "'''+a"),
     ("-1", "-1"), ("+2.5e3", "+2.5e3"), ("'", "'"), ("'a", "'a"), ("a=b", "a=b"), ("", ""), ("-", "'-")],
)  # fmt: skip
def test_a_cell_is_no_formula_and_reads_as_it_was(text: str, cell: str) -> None:
    assert as_cell(text) == cell
    assert from_cell(cell) == text


def test_a_csv_that_was_written_is_read_the_same(isolated: Path) -> None:
    """Classes and names of columns, with the numbers beside them."""
    classes = ["=a", "+b", "-c", "@d", "'=e", "plain", "-7"] * 2
    numbers = np.linspace(-1, 1, len(classes))
    rows = {"=x": numbers, "label": np.array(classes)}
    arrays.save([rows], len(classes), isolated / "t.csv")
    lines = (isolated / "t.csv").read_text().splitlines()
    assert lines[0] == "'=x,label"
    assert lines[1] == "-1,'=a"
    arrays.save([{"=x": numbers, "label": np.array(classes)}], len(classes), isolated / "t.parquet")
    one, other = (load_data(str(isolated / f"t{suffix}")) for suffix in (".csv", ".parquet"))
    assert one.info.classes == other.info.classes
    assert set(one.info.classes or ()) == set(classes)
    assert one.train.batch(slice(0, 3)).x.equal(other.train.batch(slice(0, 3)).x)


# --- figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*TEXTS, "$$", "$\\frac{$", "_hidden", "\\$x$", "a$b"])
def test_a_figure_shows_a_name_as_it_is(text: str) -> None:
    """Neither typeset as mathematics nor left out of a legend; and an SVG stays readable."""
    points, labels = np.zeros((2, 2)), np.array([0, 1])
    figure = plots.scatter(points, labels, ("a", "b"), text, (text, "other"))
    title = figure.axes[0].get_title(loc="left")
    shown = "".join(letter if ord(letter) < 0x530 else "?" for letter in harmless(text))  # as far as the font goes
    assert title.replace("\\$", "$").strip() == shown.strip()
    assert len(figure.legends[0].get_texts()) == 2
    assert b"\x1b" not in plots.encode(figure, ".svg")


def test_a_foreign_run_is_listed_in_one_line(cli: Cli, runs: Path) -> None:
    """Whatever its status, its model and its folder are called."""
    record = json.loads((runs / "run1" / "run.json").read_text())
    shutil.copytree(runs / "run1", runs / "\x1b[2J\tx\ny")
    (runs / "run1" / "run.json").write_text(json.dumps({**record, "status": "a\tb\nc\x1b[2J", "started": "\x9b2J"}))
    text = cli("runs").stdout
    assert len(text.splitlines()) == 4
    assert {line.count("\t") for line in text.splitlines()} == {10}
    assert not re.search(r"[\x1b\x9b]", text)
    assert Run.open("run1").status.startswith("a\t")
