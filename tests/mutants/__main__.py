"""Mutation run: small changes of the mathematics, one at a time, each of which some test must notice.

``just mutants --sample 50 --seed 0``. A mutant is one change of one place in ``SOURCES``, made in a temporary copy of
the package and its tests. Only tests that run the changed function are tried, the fastest first, until one fails. A
mutant that no test notices is a survivor: it is printed with its line, and stands for a missing test unless the change
makes no difference.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.mutants.changes import Mutant, mutants_of

ROOT = Path(__file__).parents[2]


def _model(*names: str) -> list[str]:
    return [f"tests/model/test_{name}.py" for name in names]


# what is mutated, and the tests of the same room to which its formulas belong; the contracts, which run every part in
# every way, take too long here
SOURCES = {
    "vaectl/stats.py": ["tests/evaluation/test_selftest.py", "tests/runs/test_grouping.py",
                        "tests/runs/test_comparison.py"],
    "vaectl/evaluation/*.py": ["tests/evaluation", "tests/training/test_trainer.py", "tests/output/test_pictures.py",
                               *_model("priors", "quantizers")],
    "vaectl/evaluation/anomaly/*.py": ["tests/evaluation/test_anomaly.py"],
    "vaectl/model/likelihoods.py": _model("likelihoods", "numerics"),
    "vaectl/model/distributions/*.py": _model("bernoulli", "code_priors", "doors", "likelihoods", "numerics"),
    "vaectl/model/objectives/*.py": _model("objectives", "quantizers", "total_correlation"),
    "vaectl/model/posteriors/*.py": _model("numerics", "quantizers"),
    "vaectl/training/optimizer.py": ["tests/training/test_optimizer.py", "tests/training/test_trainer.py"],
}  # fmt: skip


@dataclass
class Runs:
    """The functions that each test runs, noted while the tests of a room run once; a plug-in of pytest.

    A function that a shared fixture runs counts for every test of the file.
    """

    root: str
    seconds: dict[str, float] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    by_function: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _names: dict[Any, str] = field(default_factory=dict)
    _phase: str = ""

    def _trace(self, frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        if code not in self._names:
            inside = code.co_filename.startswith(self.root)
            self._names[code] = f"{code.co_filename.removeprefix(self.root)}:{code.co_firstlineno}" if inside else ""
        if name := self._names[code]:
            self.by_function[name].add(self._phase)

    def pytest_runtest_setup(self, item: Any) -> None:
        self._begin(item.nodeid.partition("::")[0])

    def pytest_runtest_call(self, item: Any) -> None:
        self._begin(item.nodeid)

    def _begin(self, phase: str) -> None:
        self._phase = phase
        sys.settrace(self._trace)

    def pytest_runtest_logreport(self, report: Any) -> None:
        sys.settrace(None)
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if not report.passed:
            self.failed.add(report.nodeid)

    def to_json(self) -> dict[str, Any]:
        functions = {name: sorted(phases) for name, phases in self.by_function.items()}
        for name, phases in self.by_function.items():
            # what is outside of functions counts for every test that runs one of the file
            top = f"{name.partition(':')[0]}:0"
            functions[top] = sorted({*functions.get(top, ()), *phases})
        return {"seconds": self.seconds, "failed": sorted(self.failed), "by_function": functions}


def forked(work: Callable[[], int], limit: float) -> int | None:
    """The exit code of some work in a process of its own, in which torch is already imported; None beyond the limit."""
    child = os.fork()
    if child == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        code = 99
        try:
            code = int(work())
        finally:
            os._exit(code)
    ends, status = time.monotonic() + limit, None
    try:
        while status is None and time.monotonic() < ends:
            time.sleep(0.02)
            ended, raw = os.waitpid(child, os.WNOHANG)
            status = os.waitstatus_to_exitcode(raw) if ended else None
    finally:
        # also if this process is told to end
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if status is None:
            os.waitpid(child, 0)
    return status


def pytest_in(folder: Path, arguments: Sequence[str], plugins: Sequence[object] = ()) -> int:
    """Run pytest on a copy of the tests with the copy of the package."""
    import pytest

    os.chdir(folder)
    os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    sys.path.insert(0, str(folder))
    # two mutants of one second and one size would share their bytecode; the survey writes that of all other files
    sys.dont_write_bytecode = not plugins
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "vaectl")]:
        del sys.modules[name]
    return int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *arguments], plugins))


def survey(folder: Path, tests: Sequence[str], limit: float) -> dict[str, Any]:
    """What ``Runs`` notes of some tests, without those that fail on the package as it is."""
    result = folder / "survey.json"

    def work() -> int:
        plugin = Runs(f"{folder}/")
        code = pytest_in(folder, ["--maxfail=1000", *tests], [plugin])
        result.write_text(json.dumps(plugin.to_json()))
        return code

    if forked(work, limit) is None or not result.exists():
        raise SystemExit(f"the tests took more than {limit:.0f} s: {' '.join(tests)}")
    document: dict[str, Any] = json.loads(result.read_text())
    return document


def chosen(surveyed: Mapping[str, Any], mutant: Mutant, budget: float) -> tuple[list[str], float, int]:
    """The tests that run the mutant's function, the fastest first, as many as a time allows but at least one.

    Returns:
        The tests, the seconds that they took on the package as it is, and the number of tests that run the function.
    """
    phases = set(surveyed["by_function"].get(f"{mutant.file}:{mutant.function}", ()))
    seconds, failed = surveyed["seconds"], set(surveyed["failed"])
    tests = [test for test in seconds if phases & {test, test.partition("::")[0]} and test not in failed]
    total, picked = 0.0, []
    for test in sorted(tests, key=lambda test: float(seconds[test])):
        if picked and total + seconds[test] > budget:
            break
        total += seconds[test]
        picked.append(test)
    return picked, total, len(tests)


def is_noticed(mutant: Mutant, folder: Path, tests: Sequence[str], limit: float) -> bool:
    """Whether a test fails, or does not end, on a mutant."""
    file = folder / mutant.file
    pristine = shutil.copy2(file, folder / "pristine")
    file.write_text(mutant.source)
    try:
        return forked(lambda: pytest_in(folder, tests), limit) != 0
    finally:
        shutil.copy2(pristine, file)


# --- the run ----------------------------------------------------------------------------------------------------------


def main() -> None:
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    files = {
        str(path.relative_to(ROOT)): tests
        for pattern, tests in SOURCES.items()
        for path in sorted(ROOT.glob(pattern))
        if any(str(path.relative_to(ROOT)).startswith(prefix) for prefix in arguments.only)
    }
    mutants = [mutant for file in files for mutant in mutants_of(file, (ROOT / file).read_text())]
    total = len(mutants)
    if arguments.sample:
        sample = random.Random(arguments.seed).sample(range(total), min(arguments.sample, total))
        mutants = [mutants[place] for place in sorted(sample)]
    import torch  # in this process, so that no mutant imports it again

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        for name in ("vaectl", "tests"):
            shutil.copytree(ROOT / name, folder / name)
        shutil.copy2(ROOT / "pyproject.toml", folder)
        print(f"{len(mutants)} of {total:,} mutants of {len(files)} files", flush=True)
        judge(mutants, files, folder, arguments)


def judge(
    mutants: Sequence[Mutant], files: Mapping[str, list[str]], folder: Path, arguments: argparse.Namespace
) -> None:
    """Try every mutant, and print the survivors and the score."""
    surveys: dict[str, dict[str, Any]] = {}
    noticed = 0
    for mutant in mutants:
        room = " ".join(files[mutant.file])
        if room not in surveys:
            print(f"which functions do these tests run: {room}", flush=True)
            surveys[room] = survey(folder, files[mutant.file], 100 * arguments.seconds)
            if surveys[room]["failed"]:
                print(f"left out, because they fail as it is: {' '.join(surveys[room]['failed'])}")
        tests, seconds, known = chosen(surveys[room], mutant, arguments.seconds)
        # a machine that has become busy is not a test that notices something
        if tests and is_noticed(mutant, folder, tests, 60 + 3 * seconds):
            noticed += 1
        else:
            place = f"{mutant.file}:{mutant.line}, {len(tests)} of {known} tests"
            print(f"\nsurvivor {place}", *mutant.diff(), sep="\n", flush=True)
    print(f"\n{noticed} of {len(mutants)} mutants are noticed: {noticed / max(1, len(mutants)):.0%}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, default=0, help="try this many mutants, drawn at random (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample (default: 0)")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=["vaectl"], help="only files that begin so, by commas"
    )
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="tests of so many seconds for a mutant (default: 120)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
