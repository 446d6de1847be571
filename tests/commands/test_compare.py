"""``vaectl compare`` on screens of any width, and its reports as pages."""

from __future__ import annotations

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli
from tests.support.runs import replica
from vaectl.runs.run import Run

VERDICT = re.compile(r"better|worse|≈")
# a number, with what follows it up to the next cell
CELL = re.compile(r"[+-]?\d[\d.,/]*(?: ± \d[\d.]*| to [+-]?\d[\d.]*)?")


def three(folder: Path) -> list[str]:
    return ["run1", "run2", replica(folder, "run1", "a-third-run", 0.5, seed=0, batch_size=64)]


def four_groups(folder: Path) -> list[str]:
    """Four settings of two seeds each, as one command names them."""
    names = [
        replica(folder, "run1", f"setting{size}-{seed}", 0.1 * seed + size / 100, seed=seed, batch_size=size)
        for size in (16, 32, 64, 256)
        for seed in (0, 1)
    ]
    return [*names, "--group"]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("runs_of", [three, four_groups])
def test_no_width_loses_a_verdict(
    cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch, runs_of: Any, width: int
) -> None:
    """Everything that a wide screen shows is shown by a narrow one, each number and interval whole."""
    names = runs_of(runs)
    wide = cli("compare", *names)
    assert wide.exit_code == 0, wide.output
    monkeypatch.setenv("COLUMNS", str(width))
    narrow = cli("compare", *names)
    tables = narrow.stdout[narrow.stdout.index("settings:") :]
    expected = wide.stdout[wide.stdout.index("settings:") :]
    assert all(len(line) <= width for line in tables.splitlines())
    assert len(VERDICT.findall(tables)) == len(VERDICT.findall(expected)) > 3
    assert set(CELL.findall(tables)) == set(CELL.findall(expected))
    for label in [line.split(":")[0] for line in wide.stdout.splitlines() if line.startswith("setting")][1:-1]:
        assert f"{label} change" in tables
    assert "too narrow" not in narrow.stderr
    assert not any(line != line.rstrip() for line in tables.splitlines())


def test_a_verdict_stands_beside_its_change(cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = cli("compare", *three(runs)).stdout.splitlines()
    head = next(number for number, line in enumerate(lines) if "a-third-run change" in line)
    [elbo] = [line for line in lines[head:] if line.startswith("  elbo")]
    assert elbo.split()[-1] == "better"
    assert "+0.50" in elbo


@pytest.mark.parametrize(("count", "flags"), [(300, ["--group"]), (101, ["--group"]), (21, []), (300, []), (1, [])])
def test_runs_are_counted_before_they_are_opened(
    cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch, count: int, flags: list[str]
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(Run, "open", lambda *arguments: opened.append(arguments))
    result = cli("compare", *(f"run{n}" for n in range(count)), *flags)
    assert result.exit_code == 2
    assert f"got {count}" in result.stderr
    assert not opened


def test_the_limits_are_in_the_help(cli: Cli) -> None:
    text = " ".join(cli("compare", "--help").stdout.replace("│", " ").split())
    assert "2 to 20 runs" in text
    assert "up to 100" in text


def test_runs_are_listed_as_a_person_would(cli: Cli, runs: Path) -> None:
    cli("compare", *three(runs), "-o", "a.md")
    assert Path("a.md").read_text().startswith("# run1, run2 and a-third-run\n")


def test_the_unit_of_the_squared_error(cli: Cli, runs: Path) -> None:
    text = cli("compare", "run1", "run2").stdout
    assert re.search(r"mse +↓ units²", text)
    document = json.loads(cli("compare", "run1", "run2", "--json").stdout)
    assert {metric["unit"] for metric in document["metrics"] if metric["name"] == "mse"} == {"squared"}


class Page(HTMLParser):
    """The tags of a page with their attributes, and its headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self._open: list[str] = []
        self.tables_in_a_box = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables_in_a_box += self._open[-1] == "div"
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, "tags are nested"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("h1", "h2"):
            self.headings.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_page_has_tables_headings_and_figures_and_loads_nothing(cli: Cli, runs: Path) -> None:
    shutil.copytree(runs / "run1", runs / "run3")
    result = cli("compare", "run1", "run2", "run3", "-o", "a.html")
    assert result.exit_code == 0, result.output
    text = Path("a.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.headings[:3] == ["run1, run2 and run3", "Settings", "Metrics"]
    assert page.headings[3:] == [
        "Training", "Rate and distortion", "Test images and their reconstructions", "Samples with seed 0",
        "Latents on shared axes, from the 1st to the 99th percentile of all",
    ]  # fmt: skip
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.of("meta")
    assert page.tables_in_a_box == 2
    assert len(page.of("th")) > 20
    assert "overflow-x: auto" in text
    assert "prefers-color-scheme: dark" in text
    images = page.of("img")
    assert [image["alt"] for image in images] == page.headings[3:]
    assert all(str(image["src"]).startswith("data:image/svg+xml;base64,") for image in images)
    assert not page.of("link")
    assert not page.of("script")
    assert "url(" not in text
    svg = base64.b64decode(str(images[0]["src"]).partition(",")[2]).decode()
    assert "prefers-color-scheme:dark" in svg


def test_a_page_of_seeds_says_what_its_bands_are(cli: Cli, runs: Path) -> None:
    for source in ("run1", "run2"):
        # pictures are of a group's first run, whose weights know their settings
        replica(runs, source, f"{source}-again", 0.1, seed=1, batch_size=128)
    names = ["run1", "run1-again", "run2", "run2-again", "--group"]
    result = cli("compare", *names, "-o", "a.html")
    assert result.exit_code == 0, result.output
    headings = Page(Path("a.html").read_text(encoding="utf-8")).headings
    assert "Training: mean over seeds, and the range from the lowest to the highest" in headings
    assert headings[0] == "run1 ×2 and run2 ×2"
