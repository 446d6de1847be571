"""Packages that not every installation has: one line says what needs which, and what to install."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import Cli

# the content of the package, None for no package, and what the error and its hint say
INSTALLATIONS: dict[str, tuple[str | None, str, str]] = {
    "missing": (None, "needs the package pyarrow", "pip install pyarrow"),
    "too new": (
        "raise ImportError('pyarrow requires NumPy 2.0 or newer, found 1.26.0')",
        "needs the package pyarrow, which cannot be imported: pyarrow requires NumPy 2.0 or newer, found 1.26.0",
        "pip install --upgrade numpy pyarrow",
    ),
    "without one that it needs": (
        "import package_that_nobody_has",
        "needs the package pyarrow, which cannot be imported: No module named 'package_that_nobody_has'",
        "pip install --upgrade numpy pyarrow",
    ),
}


@pytest.fixture
def installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, str]:
    """Another pyarrow than the one that is installed."""
    content, problem, hint = INSTALLATIONS[request.param]
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    if content is None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    else:
        (tmp_path / "packages" / "pyarrow").mkdir(parents=True)
        (tmp_path / "packages" / "pyarrow" / "__init__.py").write_text(content)
        monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    return problem, hint


@pytest.mark.parametrize("installed", INSTALLATIONS, indirect=True)
@pytest.mark.parametrize(
    "line",
    [
        ("embed", "run1", "-o", "x.parquet"),
        ("eval", "run1", "--per-example", "x.parquet"),
        ("train", "--dataset", "table.parquet"),
    ],
    ids=" ".join,
)
def test_a_package_that_cannot_be_imported_is_one_line(
    cli: Cli, runs: Path, installed: tuple[str, str], line: tuple[str, ...]
) -> None:
    """Before anything is computed, and with nothing left behind."""
    Path("table.parquet").write_bytes(b"PAR1")
    before = sorted(Path().rglob("*"))
    result = cli(*line)
    problem, hint = installed
    assert result.exit_code == 1
    error, advice = result.stderr.splitlines()
    assert error == f"error: a .parquet file {problem}"
    assert advice.startswith("hint: ")
    assert hint in advice
    assert sorted(Path().rglob("*")) == before
