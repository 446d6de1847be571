"""Thousands of runs: only what is shown is read, in the order that reading everything would give."""

from __future__ import annotations

import itertools
import json
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli
from tests.support.shell import complete
from vaectl.commands.shared import summary as summary_module
from vaectl.commands.shared.summary import summary
from vaectl.errors import RunError
from vaectl.runs import catalog, records
from vaectl.runs.run import Run
from vaectl.system.files import write_numbered

OPENED: list[str] = []
WATCHED = [False]


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHED[0] and event == "open" and str(arguments[0]).endswith("run.json"):
        OPENED.append(Path(arguments[0]).parent.name)


sys.addaudithook(_note)


@contextmanager
def watching() -> Iterator[list[str]]:
    """The ids of runs whose run.json is opened in the block, in order."""
    OPENED.clear()
    WATCHED[0] = True
    try:
        yield OPENED
    finally:
        WATCHED[0] = False


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of runs whose run.json is parsed as a whole, in order."""
    ids: list[str] = []
    read = records.read_text

    def noting(path: Path, limit: int) -> str:
        ids.append(path.parent.name)
        return read(path, limit)

    monkeypatch.setattr(records, "read_text", noting)
    return ids


@pytest.fixture
def many(runs: Path) -> Path:
    """A folder of 45 runs whose figures and times are in no order, some of them damaged or written by hand."""
    folder, rng = runs.parent / "many", random.Random(0)
    good = json.loads((runs / "run1" / "run.json").read_text())
    for number in range(1, 46):
        day, path = rng.randrange(1, 29), folder / f"run{number}"
        record = {**good, "id": path.name, "started": f"2026-11-{day:02d}T10:00:00+00:00", "seconds": float(day)}
        record["validation"] = {**good["validation"], "elbo": float(-rng.randrange(20))}
        if number % 9 == 0:  # a run that has not ended
            record |= {"validation": {}, "finished": None}
            del record["seconds"]
        text = json.dumps(record, indent=4 if number % 7 == 0 else None if number % 5 == 0 else 1)
        if number % 11 == 0:  # its figures are there, and the best, but it is no record
            text = text.replace(f'"started": "2026-11-{day:02d}', '"started": "2027-01-01').replace('"argv"', '"arg"')
        path.mkdir(parents=True)
        (path / "run.json").write_text(text)
    return folder


def ids(cli: Cli, folder: Path, *arguments: object) -> list[str]:
    result = cli("--runs-dir", folder, "runs", "-q", *arguments)
    assert result.exit_code == 0, result.output
    return [line for line in result.stdout.split("\n") if line]


def by_reading_all(folder: Path, name: str, sign: int) -> list[str]:
    """Every id in the order of a figure, the best first, without it last, of equals the smaller number first."""
    rows = [summary(path) for path in catalog.listing(folder)]
    rows.sort(key=lambda row: sign * row[name] if row[name] is not None else float("inf"))
    return [row["id"] for row in rows]


def test_the_list_opens_only_the_runs_that_it_shows(cli: Cli, many: Path) -> None:
    with watching() as opened:
        shown = ids(cli, many)
    assert shown == [f"run{number}" for number in range(26, 46)]
    assert set(opened) == set(shown)


@pytest.mark.parametrize(("sort", "name", "sign"), [("elbo", "val_elbo", -1), ("time", "seconds", 1)])
@pytest.mark.parametrize("limit", [1, 20, 44])
def test_a_sorted_list_is_that_of_all_records(
    cli: Cli, many: Path, sort: str, name: str, sign: int, limit: int
) -> None:
    expected = by_reading_all(many, name, sign)
    assert ids(cli, many, "--sort", sort, "--limit", limit) == expected[:limit]
    assert ids(cli, many, "--sort", sort, "--all") == expected


@pytest.mark.parametrize(
    "arguments", [["runs", "--sort", "elbo"], ["runs", "--sort", "time"], ["runs", "latest", "-q"]]
)
def test_an_order_parses_only_what_is_shown(cli: Cli, trained: Path, parsed: list[str], arguments: list[str]) -> None:
    """In the layout that vaectl writes; of the others only the figures are looked up in the text."""
    good, folder = (trained / "run1" / "run.json").read_text(), Path("many")
    for number in range(1, 201):
        (folder / f"run{number}").mkdir(parents=True)
        (folder / f"run{number}" / "run.json").write_text(good)
    assert cli("--runs-dir", folder, *arguments).exit_code == 0
    assert 1 <= len(set(parsed)) <= 20


def test_latest_is_by_the_recorded_start(many: Path) -> None:
    """Not by number or by the time of a file; a damaged record started before all others."""

    def start(path: Path) -> str:
        try:
            return str(records.read_record(path)["started"])
        except RunError:
            return ""

    expected = [path.name for path in sorted(catalog.listing(many), key=start)][::-1]
    assert expected != sorted(expected)
    assert [catalog.find(f"latest~{back}", many).name for back in range(45)] == expected
    assert catalog.find("latest", many).name == expected[0]
    with pytest.raises(RunError, match=r"latest~45.*it holds 45"):
        catalog.find("latest~45", many)


def test_an_id_is_found_without_looking_at_the_others(many: Path) -> None:
    with watching() as opened:
        assert Run.open("43", many).id == "run43"
    assert opened == ["run43"]


def test_completion_reads_only_the_runs_that_it_describes(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All ids are offered, the newest first; a screen of them has a description."""
    monkeypatch.setattr(summary_module, "DESCRIBED", 12)
    with watching() as opened:
        offered = complete(f"vaectl --runs-dir {many} runs run")
    assert offered == [f"run{number}" for number in range(45, 0, -1)]
    assert set(opened) == set(offered[:12])
    with watching() as opened:
        assert complete(f"vaectl --runs-dir {many} eval run3") == [f"run{n}" for n in (*range(39, 29, -1), 3)]
    assert set(opened) == {f"run{n}" for n in (*range(30, 40), 3)}


def test_completion_looks_where_the_environment_says(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAECTL_RUNS_DIR", str(many))
    assert complete("vaectl runs run9") == ["run9"]


@pytest.mark.parametrize(
    "text",
    ["", "{", '{\n "schema": ', '{\n "schema": 1,\n "started": [[', "[]", "\xff"],
)
def test_a_glance_at_a_damaged_record_finds_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    assert "started" not in records.glance(tmp_path, ("started",))


def test_a_glance_reads_no_other_file(tmp_path: Path) -> None:
    """A link, a pipe or a folder in place of run.json is left alone; a link within the run is followed."""
    (tmp_path / "run").mkdir()
    assert records.glance(tmp_path / "run", ("started",)) == {}
    (tmp_path / "outside.json").write_text('{\n "schema": 1,\n "started": "2026"\n}')
    (tmp_path / "run" / "run.json").symlink_to(tmp_path / "outside.json")
    assert records.glance(tmp_path / "run", ("started",)) == {}


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run" + "9" * 252, "run" + "9" * 40, "run1000000000", "run٣"])
def test_a_number_beyond_those_of_ids_is_a_name(cli: Cli, tmp_path: Path, name: str) -> None:
    """It blocks no new run, and is listed after the numbered ones."""
    for folder in (name, "run7"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "run.json").touch()
    assert catalog.allocate(tmp_path, None).name == "run8"
    assert [path.name for path in catalog.listing(tmp_path)] == ["run7", name]
    assert catalog.find(name, tmp_path).name == name
    for reference in (name.removeprefix("run"), f"latest~{'9' * 252}", f"latest~{'9' * 9}"):
        with pytest.raises(RunError, match="no run"):
            catalog.find(reference, tmp_path)


def test_the_last_number_is_followed_by_others(tmp_path: Path) -> None:
    """Past the numbers that are counted the next free name is taken, and no call waits for ever."""
    (tmp_path / "run999999999").mkdir()
    assert [catalog.allocate(tmp_path, None).name for _ in range(3)] == [f"run{10**9 + n}" for n in range(3)]


def test_a_numbered_file_beyond_the_numbers_blocks_none(tmp_path: Path) -> None:
    for name in ("9" * 251 + ".png", "٣.png", "0002.png"):
        (tmp_path / name).touch()
    assert write_numbered(tmp_path, ".png", lambda path: path.touch()).name == "0003.png"
    (tmp_path / "999999999.png").touch()
    names = [write_numbered(tmp_path, ".png", lambda path: path.touch()).name for _ in range(2)]
    assert names == ["1000000000.png", "1000000001.png"]


def test_ranked_reads_no_more_than_it_must() -> None:
    """A guess that was too large puts its item back; of equals the last comes first."""
    paths = [Path(name) for name in "abcde"]
    keys = {"a": 1, "b": 5, "c": 0, "d": 5, "e": 3}
    guesses = {**keys, "c": 9}
    seen: list[str] = []

    def read(path: Path) -> str:
        seen.append(path.name)
        return path.name

    order = catalog.ranked(paths, lambda path: guesses[path.name], read, keys.__getitem__)
    assert list(itertools.islice(order, 3)) == ["d", "b", "e"]
    assert seen == ["c", "d", "b", "e"]
    assert list(order) == ["a", "c"]
