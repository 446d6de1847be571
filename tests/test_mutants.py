"""The mutation run itself: which changes it makes, what it leaves alone, and which tests it tries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.__main__ import ROOT, SOURCES, chosen
from tests.mutants.changes import Mutant, mutants_of


def lines(source: str) -> list[str]:
    """The changed lines of the mutants of a source, in order."""
    return [line[1:].strip() for mutant in mutants_of("a.py", source) for line in mutant.diff() if line[0] == "+"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a + b", ["x = (a - b)", "x = (a)", "x = (b)"]),
        ("x = a ** b", ["x = (a * b)", "x = (a)", "x = (b)"]),
        ("x -= a", ["x += a"]),
        ("x = a < b", ["x = (a <= b)", "x = (a >= b)"]),
        ("x = a and b", ["x = (a or b)"]),
        ("x = -a", ["x = (a)"]),
        ("x = not a", ["x = (a)"]),
        ("x = 2", ["x = (3)", "x = (1)"]),
        ("x = 0.5", ["x = (1.0)"]),
        ("x = True", ["x = (False)"]),
        ("x = a if b else c", ["x = (a)", "x = (c)"]),
        ("if a:\n    f = b", ["if (not a):"]),
        ("x = a.sum()", ["x = (a.mean())"]),
        ("x = a.abs()", ["x = (a)"]),
        ("x = torch.exp(a)", ["x = (a)"]),
        ("x = max(a, b)", ["x = (min(a, b))"]),
        ("a.copy_(b)", ["pass"]),
    ],
)
def test_the_operators(source: str, expected: list[str]) -> None:
    assert lines(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        'x: Annotated[float, Bounds(0, 1)] = f"{a + 1}"',
        "def f(a: int = 3, *, b: float = 0.5) -> tuple[int, 3]:\n    return a",
        "@cache(1)\ndef f(a):\n    return a",
        "def f(a):\n    if a < 1:\n        raise ValueError(a + 1)",
        "def f(a):\n    assert a > 0\n    'a text'",
        "if TYPE_CHECKING:\n    import a",
    ],
)
def test_what_is_left_alone(source: str) -> None:
    assert lines(source) == []


def test_a_mutant_names_its_line_and_its_function() -> None:
    """By the first line of the function as Python counts it: that of the decorator, 0 outside of functions."""
    mutants = mutants_of("a.py", "y = 1.5\n\n@cache\ndef f(a):\n    return -a\n")
    assert [(mutant.line, mutant.function) for mutant in mutants] == [(1, 0), (5, 3)]
    assert mutants[1].diff() == ["-    return -a", "+    return (a)"]


def test_umlauts_before_a_change_do_not_shift_it() -> None:
    assert lines("x = ('ä', a + b)")[0] == "x = ('ä', (a - b))"


def test_tests_that_run_the_function_come_fastest_first() -> None:
    """A function that a fixture runs counts for the whole file; tests that fail anyway are left out."""
    surveyed = {
        "seconds": {"t.py::slow": 9.0, "t.py::fast": 1.0, "t.py::other": 0.1, "u.py::any": 2.0, "u.py::broken": 0.2},
        "failed": ["u.py::broken"],
        "by_function": {"a.py:3": ["t.py::slow", "t.py::fast", "u.py"]},
    }
    mutant = Mutant("a.py", 5, 3, "", "")
    assert chosen(surveyed, mutant, 99) == (["t.py::fast", "u.py::any", "t.py::slow"], 12.0, 3)
    assert chosen(surveyed, mutant, 3) == (["t.py::fast", "u.py::any"], 3.0, 3)
    assert chosen(surveyed, mutant, 0) == (["t.py::fast"], 1.0, 3)
    assert chosen(surveyed, Mutant("a.py", 5, 4, "", ""), 99) == ([], 0.0, 0)


def test_every_source_and_its_tests_are_there() -> None:
    for pattern, tests in SOURCES.items():
        assert list(ROOT.glob(pattern))
        assert all((ROOT / test).exists() for test in tests)


def test_work_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    code = (
        "import time; from tests.mutants.__main__ import forked\n"
        "print(forked(lambda: 3, 60), forked(lambda: 1 / 0, 60), forked(lambda: time.sleep(60), 0.2))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "3 99 None\n"
