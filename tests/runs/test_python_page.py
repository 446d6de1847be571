"""docs/python.md: what it shows works, one block after the other."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.conftest import REPOSITORY, Cli
from vaectl.runs.run import Run

BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_runs_from_top_to_bottom(cli: Cli, isolated: Path) -> None:
    blocks = BLOCK.findall((REPOSITORY / "docs" / "python.md").read_text())
    assert len(blocks) >= 6
    names: dict[str, object] = {}
    for language, text in blocks:
        if language == "sh":
            for line in text.splitlines():
                result = cli(*shlex.split(line)[1:])
                assert result.exit_code == 0, result.output
        else:
            exec(compile(text, "docs/python.md", "exec"), names)
    assert [Run.open(name).status for name in ("run1", "run2", "run3")] == ["completed"] * 3
    assert Run.open("run1").record["config"]["training"]["epochs"] == 4
