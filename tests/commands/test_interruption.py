"""Ctrl-C, SIGTERM and SIGHUP outside the training loop: one error line, the right exit code, and nothing half done."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli
from tests.support.refusals import snapshot
from vaectl.commands.compare import report
from vaectl.data import loading
from vaectl.data.own import codes
from vaectl.evaluation import attributes, importance, information, latents, metrics, reconstruction
from vaectl.model import vae
from vaectl.output import arrays, grids, plots
from vaectl.output.plots import style
from vaectl.runs import weights
from vaectl.system import files

ROOT = Path(__file__).parents[2]
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
BY_NAME = pytest.mark.parametrize(("signum", "code"), SIGNALS, ids=["SIGINT", "SIGTERM", "SIGHUP"])


def at(
    place: Any, name: str, work: Callable[[], None], monkeypatch: pytest.MonkeyPatch, *, after: bool = False
) -> None:
    """Do ``work`` when a function is called, or when it has returned."""
    real = getattr(place, name)

    def watched(*arguments: Any, **options: Any) -> Any:
        if not after:
            work()
        result = real(*arguments, **options)
        if after:
            work()
        return result

    monkeypatch.setattr(place, name, watched)


def check(result: Any, code: int) -> None:
    assert result.exit_code == code, result.output
    assert [line for line in result.stderr.splitlines() if not line.startswith("report:")] == [
        "error: " + {130: "interrupted", 143: "terminated", 129: "hung up"}[code]
    ]


# what a command is at when the signal comes
MOMENTS = {
    "eval reads the weights": ("eval run1 -o out.json -f", weights, "read"),
    "eval loads the data": ("eval run1 -o out.json -f", loading, "load"),
    "eval evaluates": ("eval run1 -o out.json -f", metrics, "evaluate"),
    "eval estimates the information": ("eval run1 -o out.json -f", information, "information"),
    "eval draws importance samples": (
        "eval run1 --importance-samples 3 -o out.json -f",
        importance,
        "importance_bound",
    ),
    "eval writes": ("eval run1 -o out.json -f", files, "_flush"),
    "eval writes examples": ("eval run1 --per-example out.csv -f", arrays, "_save_csv"),
    "sample decodes": ("sample run1 -o out.png -f", vae.VAE, "decode"),
    "sample writes an array": ("sample run1 -o out.npz -f", arrays, "_write"),
    "sample writes": ("sample run1 -o out.png -f", files, "_flush"),
    "sample draws its grid": ("sample run1 -o out.png -f", grids, "_sheet"),
    "sample writes a numbered file": ("sample run1", files, "_flush"),
    "sample names a numbered file": ("sample run1", files, "_name"),
    "decode reads": ("decode run1 codes.csv -o out.npz -f", codes, "read_codes"),
    "decode decodes": ("decode run1 --z 0,0 -o out.npz -f", reconstruction, "decoded"),
    "edit finds its vectors": ("edit run1 --add 7 -o out.png -f", attributes, "directions"),
    "edit decodes": ("edit run1 --add 7 -o out.npz -f", attributes, "edits"),
    "embed encodes": ("embed run1 -o out.npz -f", latents, "encodings"),
    "embed writes": ("embed run1 -o out.csv -f", arrays, "_save_csv"),
    "plot-latent encodes": ("plot-latent run1 -o out.pdf -f", latents, "encode"),
    "plot-latent draws": ("plot-latent run1", plots, "scatter"),
    "plot-latent encodes its picture": ("plot-latent run1 -o out.pdf -f", style, "encode"),
    "compare reads the weights": ("compare run1 run2 -o out.html -f", weights, "read"),
    "compare draws": ("compare run1 run2 -o out.html -f", report, "pictures"),
    "compare writes": ("compare run1 run2 -o out.md -f", files, "_flush"),
    "train loads the data": ("train --dataset digits", loading, "load"),
}


@BY_NAME
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_at_a_moment(
    cli: Cli, runs: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch, moment: str, signum: int, code: int
) -> None:
    """The file that was there is untouched, the run is as it was, and no temporary file stays."""
    line, place, name = MOMENTS[moment]
    for suffix in ("json", "csv", "png", "npz", "pdf", "html", "md"):
        (isolated / f"out.{suffix}").write_text("before")
    before = snapshot(isolated, folders=False)
    at(place, name, lambda: signal.raise_signal(signum), monkeypatch)
    check(cli(*line.split()), code)
    after = snapshot(isolated, folders=False)
    if "eval" in moment and "writes" in moment and "examples" in moment:
        # the evaluation was kept before its values were written out
        before, after = ({k: v for k, v in kept.items() if not k.startswith("runs")} for kept in (before, after))
    assert after == before


@BY_NAME
def test_a_library_does_not_take_a_signal_for_its_own_failure(
    cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch, signum: int, code: int
) -> None:
    """``except Exception`` around work that a signal interrupts does not go on as if the work had failed."""

    def careless() -> None:
        try:
            signal.raise_signal(signum)
        except Exception:
            pytest.fail("taken for a failure")

    at(metrics, "evaluate", careless, monkeypatch)
    check(cli("eval", "run1"), code)


@BY_NAME
def test_a_signal_in_a_finalizer_is_raised_again(
    cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch, signum: int, code: int
) -> None:
    """Python prints what is raised there and goes on; the command ends all the same, and nothing else is printed."""

    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signum)

    def collect() -> None:
        Finalized()
        for _ in range(500):
            time.sleep(0.01)
        pytest.fail("it went on")

    at(metrics, "evaluate", collect, monkeypatch)
    check(cli("eval", "run1"), code)


def test_the_same_signal_twice_does_not_cut_the_tidying_up_short(
    cli: Cli, runs: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timeout(1) sends its signal to a process and to its group."""

    def twice() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)

    before = snapshot(isolated, folders=False)
    at(files, "_flush", twice, monkeypatch)
    check(cli("sample", "run1", "-o", "out.png"), 143)
    assert snapshot(isolated, folders=False) == before


def test_a_signal_when_all_is_written_is_too_late(
    cli: Cli, runs: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the new file has its name the command may be interrupted, and the file is whole."""
    at(files, "_name", lambda: signal.raise_signal(signal.SIGINT), monkeypatch, after=True)
    check(cli("sample", "run1"), 130)
    assert [path.name for path in (runs / "run1" / "samples").iterdir()] == ["0001.png"]
    assert (runs / "run1" / "samples" / "0001.png").stat().st_size > 1000


def test_signals_are_the_callers_again_after_a_command(cli: Cli, runs: Path) -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    hook = sys.unraisablehook
    assert cli("sample", "run1").exit_code == 0
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)] == before
    assert sys.unraisablehook is hook


# --- whole programs ---------------------------------------------------------------------------------------------------

# raises a signal where a module begins to be imported
IMPORT = """
import builtins, signal, sys
wanted, signum = sys.argv.pop(1), int(sys.argv.pop(1))
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            signal.raise_signal(signum)
sys.meta_path.insert(0, Finder())
from vaectl.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("module", "signum", "code", "flags"),
    [
        ("typer", signal.SIGINT, 130, ()),
        ("rich.console", signal.SIGTERM, 143, ("--json",)),
        ("torch", signal.SIGINT, 130, ("--json",)),
        ("torch.nn.functional", signal.SIGTERM, 143, ()),
        ("torch.distributions", signal.SIGINT, 130, ()),
    ],
)
def test_a_signal_while_a_module_is_imported(
    runs: Path, isolated: Path, module: str, signum: int, code: int, flags: tuple[str, ...]
) -> None:
    command = [sys.executable, "-c", IMPORT, module, str(int(signum)), "sample", "run1", "-o", "out.png", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == code, done.stderr
    assert done.stderr == f"error: {'interrupted' if code == 130 else 'terminated'}\n"
    assert (json.loads(done.stdout)["error"]["code"] if flags else done.stdout) == ("interrupted" if flags else "")
    assert [path.name for path in isolated.iterdir()] == ["runs"]


LINES = (
    "eval run1 --importance-samples 20 -o out.json -f",
    "sample run1 -n 256 -o out.png -f",
    "sample run1",
    "embed run1 -o out.npz -f",
    "plot-latent run1 -o out.pdf -f",
    "compare run1 run2 -o out.html -f",
    "train --dry-run --dataset digits",
)


@pytest.mark.parametrize("times", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_signals_at_random_moments_of_whole_programs(runs: Path, isolated: Path, times: int) -> None:
    """Each ends in 128 + the signal's number with one error line, or had ended before with a whole result."""
    generator = random.Random(times)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for line, signum in ((generator.choice(LINES), generator.choice(SIGNALS)[0]) for _ in range(times)):
        for suffix in ("json", "png", "npz", "pdf", "html"):
            (isolated / f"out.{suffix}").write_text("before")
        command = [sys.executable, "-m", "vaectl", *line.split()]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        # Python itself takes some 50 ms until the program's first line; a signal before that is not the program's
        moment = generator.uniform(0.3, 4)
        time.sleep(moment)
        process.send_signal(signum)
        _, stderr = process.communicate(timeout=120)
        what = f"{line}, {signal.Signals(signum).name} after {moment:.3f} s: {stderr}"
        assert process.returncode in (0, 128 + signum), what
        errors = [row for row in stderr.splitlines() if row.startswith("error: ")]
        assert len(errors) == (process.returncode != 0), what
        for noise in ("Traceback", "Exception ignored", "internal error", "Fatal"):
            assert noise not in stderr, what
        assert not list(isolated.rglob(".*")), what
        changed = [path for path in isolated.glob("out.*") if path.read_bytes() != b"before"]
        assert all(path.stat().st_size > 1000 for path in changed), what
        json.loads((runs / "run1" / "run.json").read_text())
