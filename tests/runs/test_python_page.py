"""docs/python.md: what it shows works, one block after the other."""

from __future__ import annotations

from tests.conftest import REPOSITORY, Cli
from tests.support.pages import Reader, blocks
from vaectl.runs.run import Run


def test_the_page_runs_from_top_to_bottom(cli: Cli) -> None:
    page = REPOSITORY / "docs" / "python.md"
    assert len(blocks(page)) >= 6
    Reader(cli).read(page, runs_code=True)
    assert [Run.open(name).status for name in ("run1", "run2", "run3")] == ["completed"] * 3
    assert Run.open("run1").record["config"]["training"]["epochs"] == 4
