"""Lists of thousands of runs: fresh processes that show some of them, find the latest, or complete an id."""

from __future__ import annotations

import datetime
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import python
from benchmarks.startup import VAECTL
from benchmarks.tables import Rows, absent, interleave, show, spread

RUNS = 5_000
TRAIN = ["train", "-q", "--dataset", "digits", "--epochs", "1", "--hidden-dims", "8", "--name", "one"]
LISTS = ("runs", "runs --sort elbo", "runs --sort time", "runs latest")


def measure(rounds: int) -> Rows:
    """Seconds of each command in a folder of ``RUNS`` runs."""
    with _folder() as folder:
        return interleave(rounds, {name: lambda _, work=work: work for name, work in _works(folder).items()})


def _works(folder: Path) -> dict[str, Callable[[], dict[str, float]]]:
    def start(*arguments: str, **environment: str) -> Callable[[], dict[str, float]]:
        def work() -> dict[str, float]:
            python(["-c", VAECTL, *arguments], environment)
            return {}

        return work

    words = f"vaectl --runs-dir {folder} runs run"
    completion = {"_VAECTL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    lists = {line: start("--runs-dir", str(folder), *line.split()) for line in LISTS}
    return {**lists, "completion of an id": start(**completion)}


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder with the record of a small run under ``RUNS`` ids, with other figures and times."""
    with tempfile.TemporaryDirectory() as place:
        folder, rng = Path(place), random.Random(0)
        python(["-c", VAECTL, "--runs-dir", folder, *TRAIN])
        record = json.loads((folder / "one" / "run.json").read_text())
        began = datetime.datetime.fromisoformat(record["started"])
        for number in range(1, RUNS + 1):
            path = folder / f"run{number}"
            path.mkdir()
            started = (began + datetime.timedelta(seconds=rng.randrange(10**6))).isoformat()
            figures = {"validation": record["validation"] | {"elbo": -200 * rng.random()}, "seconds": number / 10}
            text = json.dumps(record | {"id": path.name, "started": started} | figures, indent=1)
            (path / "run.json").write_text(f"{text}\n")
        yield folder


def report(rows: Rows) -> None:
    lines = [absent(name, row) if "absent" in row else [name, *spread(row)] for name, row in rows.items()]
    show(f"{RUNS:,} runs", ["median s", "min", "max"], lines)
