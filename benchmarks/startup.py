"""Start-up: fresh processes in turn, beside a bare Typer app; and the way of ``vaectl train`` to its first step."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.processes import Source, measured, python
from benchmarks.tables import Rows, absent, interleave, number, ratio, show, spread

BARE = """
import sys, typer, rich
app = typer.Typer()
@app.command()
def run(name: str, number: int = 1) -> None: ...
sys.argv[0] = "bare"
app()
"""
VAECTL = "import sys; sys.argv[0] = 'vaectl'; from vaectl.__main__ import main; main()"
COMPLETIONS = {
    "bare": {"_BARE_COMPLETE": "complete_bash", "COMP_WORDS": "bare --nu", "COMP_CWORD": "1"},
    "vaectl": {"_VAECTL_COMPLETE": "complete_bash", "COMP_WORDS": "vaectl train --la", "COMP_CWORD": "2"},
}
PER_ROUND = 5


def measure(source: Source, rounds: int) -> Rows:
    """Seconds of each program, ``PER_ROUND`` starts for each round asked for."""

    def start(*arguments: str, completion: str = "") -> Callable[[], dict[str, float]]:
        def work() -> dict[str, float]:
            python(arguments, COMPLETIONS[completion] if completion else {})
            return {}

        return work

    def first_step() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as runs:
            return measured("step", *source.train(Path(runs)))

    works = {
        "bare typer --help": start("-c", BARE, "--help"),
        "vaectl --help": start("-c", VAECTL, "--help"),
        "bare typer completion": start("-c", BARE, completion="bare"),
        "vaectl completion": start("-c", VAECTL, completion="vaectl"),
        "import torch": start("-c", "import torch"),
        "train, torch imported to first step": first_step,
    }
    rows = interleave(rounds * PER_ROUND, {name: lambda _, work=work: work for name, work in works.items()})
    for name in ("--help", "completion"):
        if "absent" not in rows[f"vaectl {name}"]:
            rows[f"vaectl {name}"]["x_bare"] = ratio(rows, f"vaectl {name}", f"bare typer {name}")
    return rows


def report(rows: Rows) -> None:
    lines = [
        absent(name, row) if "absent" in row else [name, *spread(row), number(row.get("x_bare"))]
        for name, row in rows.items()
    ]
    show("start", ["median s", "min", "max", "x bare"], lines)
