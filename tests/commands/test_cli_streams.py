"""Streams: the result on stdout, the rest on stderr; colour, width, encoding, signals, pipes, imports, completion."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.conftest import REPOSITORY, Cli, interrupt_at
from tests.support.idx import mnist_files, write_mnist
from vaectl.cli import app
from vaectl.commands.shared import render
from vaectl.runs.lines import COLUMNS, compact

TRAIN = ("train", "--dataset", "digits", "--hidden-dims", "8", "--latent-dim", "2")
# one line a command that works on the fixture runs, and what it prints alone under -q
COMMANDS = {
    "train": (*TRAIN, "--epochs", "2", "--lr", "0.03"),
    "eval": ("eval", "run1"),
    "sample": ("sample", "run1", "-n", "4"),
    "decode": ("decode", "run1", "--z", "0,0"),
    "embed": ("embed", "run1"),
    "score": ("score", "run1"),
    "plot-latent": ("plot-latent", "run1", "-n", "20"),
    "compare": ("compare", "run1", "run2"),
    "runs": ("runs",),
    "runs RUN": ("runs", "run1"),
}
HEAVY = (
    "torch",
    "torchvision",
    "numpy",
    "matplotlib",
    "sklearn",
    "scipy",
    "PIL",
    "tensorboard",
    "safetensors",
    "pyarrow",
)
COLOUR = re.compile(r"\x1b\[([0-9;]*)m")


def rows(stderr: str) -> list[str]:
    """The lines of the epoch table, header and rows, on a training's stderr."""
    return [line for line in stderr.splitlines() if re.match(r" +(epoch|\d+/\d+) ", line + " ")]


def python(
    *arguments: str, environment: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in the current folder."""
    env = {**os.environ, **(environment or {})}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, check=False, **options)


# --- what goes where --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_stdout_is_the_result_and_nothing_else(cli: Cli, runs: Path, command: str) -> None:
    """With --progress none and no notes due, everything that is left on stdout is the result; rows go to stderr."""
    result = cli(*COMMANDS[command])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()
    assert not rows(result.stdout)
    assert bool(rows(result.stderr)) == (command == "train")
    for line in result.stdout.splitlines():
        assert not line.startswith(("error:", "hint:", "warning:", "  next:"))


@pytest.mark.parametrize("command", COMMANDS)
def test_quiet_prints_only_the_id_path_or_number(cli: Cli, runs: Path, isolated: Path, command: str) -> None:
    """-q leaves the one thing that a script wants on stdout, and on stderr warnings alone: these runs are ill."""
    result = cli(*COMMANDS[command], "-q")
    assert result.exit_code == 0, result.output
    assert all(line.startswith("warning:") for line in result.stderr.splitlines())
    assert command in ("train", "eval") or not result.stderr
    text = result.stdout
    assert text.endswith("\n")
    if command == "train":
        assert text == "run3\n"
    elif command == "eval":
        assert float(text) < 0
    elif command == "score":  # the mean of minus the bounds
        assert float(text) > 0
    elif command == "compare":
        assert [float(value) < 0 for value in text.split()] == [True, True]
    elif command.startswith("runs"):
        assert text == ("run1\n" if command == "runs RUN" else "run1\nrun2\n")
    else:
        assert (isolated / text.strip()).is_file()


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_exactly_one_document(cli: Cli, runs: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """--json: stdout parses as one document, without colour or NaN, whatever FORCE_COLOR says."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    result = cli(*COMMANDS[command], "--json")
    assert result.exit_code == 0, result.output
    json.loads(result.stdout, parse_constant=pytest.fail)
    assert "\x1b" not in result.stdout


def test_an_error_is_one_document_too(cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The document of an error is never coloured, and its lines are on stderr as well."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    result = cli("eval", "run9", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["code"] == "run"
    assert "\x1b" not in result.stdout
    assert re.search(r"^error: ", COLOUR.sub("", result.stderr), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_verbose_says_more_on_stderr_only(cli: Cli, runs: Path, command: str) -> None:
    """-v adds to stderr, and leaves the result as it was."""
    if command in ("runs", "runs RUN"):
        pytest.skip("the list has nothing more to say")
    plain, verbose = cli(*COMMANDS[command], "--json"), cli(*COMMANDS[command], "--json", "-v")
    assert verbose.exit_code == 0, verbose.output
    assert len(verbose.stderr.splitlines()) > len(plain.stderr.splitlines())
    assert json.loads(plain.stdout).keys() == json.loads(verbose.stdout).keys()


# --- progress ---------------------------------------------------------------------------------------------------------


def test_off_a_terminal_there_is_one_plain_row_an_epoch(cli: Cli, isolated: Path) -> None:
    """auto, bar and plain all come to the same rows where stderr is no terminal; none shows none."""
    for mode in ("auto", "bar", "plain"):
        result = cli(*TRAIN, "--epochs", 3, "--progress", mode)
        header, *lines = rows(result.stderr)
        assert header.split() == ["epoch", "elbo", "recon", "kl", "beta", "val", "elbo", "active", "time"]
        assert [line.split()[0] for line in lines] == ["1/3", "2/3", "3/3"]
        assert "\x1b" not in result.output
        assert "\r" not in result.output
    result = cli(*TRAIN, "--epochs", 3, "--progress", "none")
    assert result.exit_code == 0
    assert rows(result.stderr) == []


def test_progress_of_the_environment(cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VAECTL_PROGRESS is the default; the flag wins; a wrong value is a usage error."""
    monkeypatch.setenv("VAECTL_PROGRESS", "none")
    assert rows(cli(*TRAIN, "--epochs", 1).stderr) == []
    assert len(rows(cli(*TRAIN, "--epochs", 1, "--progress", "plain").stderr)) == 2
    monkeypatch.setenv("VAECTL_PROGRESS", "sparkles")
    assert cli("runs").exit_code == 2


def test_heartbeats_come_between_the_rows(cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat says where training stands; with none there is none."""
    monkeypatch.setattr(render, "HEARTBEAT_SECONDS", 0)
    result = cli(*TRAIN, "--epochs", 1, "--batch-size", 500, "--progress", "plain")
    beats = [line for line in result.stderr.splitlines() if re.search(r"\beta \d", line)]
    assert [re.findall(r"(\d+)/3\b", line) for line in beats] == [["1"], ["2"], ["3"]]
    result = cli(*TRAIN, "--epochs", 1, "--batch-size", 500, "--progress", "none")
    assert not re.search(r"\beta \d", result.stderr)


@pytest.mark.parametrize("width", [200, 80, 69, 60, 50, 40, 30, 20])
def test_rows_never_wrap_and_columns_drop_as_the_width_shrinks(
    cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Every row fits into COLUMNS, the epoch and the validation ELBO stay longest, and no row is folded."""
    monkeypatch.setenv("COLUMNS", str(width))
    table = rows(cli(*TRAIN, "--epochs", 2).stderr)
    assert len(table) == 3
    assert all(len(line) <= width for line in table)
    names = table[0].replace("val elbo", "val_elbo").split()
    assert {"epoch", "val_elbo"} <= set(names)
    if width >= 69:
        assert len(names) == 8
    elif width <= 60:
        assert len(names) < 8
    for line in table[1:]:
        assert len(line.removesuffix(" *").split()) == len(names)


NUMBER = re.compile(r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?![\w…])")


@pytest.mark.parametrize("width", [70, 60, 50, 40])
def test_narrow_tables_lose_no_numbers(cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """A narrow table continues below itself: whole numbers, all of them, and every verdict."""
    wide = cli(*COMMANDS["compare"]).stdout
    monkeypatch.setenv("COLUMNS", str(width))
    result = cli(*COMMANDS["compare"])
    assert all(len(line) <= width for line in result.stdout.splitlines())
    assert set(NUMBER.findall(result.stdout)) == set(NUMBER.findall(wide))
    for word in ("better", "worse", "≈"):
        assert result.stdout.count(word) == wide.count(word)
    assert "too narrow" not in result.stderr


# --- colour -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_piped_output_has_no_escape_codes(cli: Cli, runs: Path, command: str) -> None:
    assert "\x1b" not in cli(*COMMANDS[command]).output


@pytest.mark.parametrize("command", ["train", "compare"])
def test_force_color_colours_but_never_animates(
    cli: Cli, runs: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FORCE_COLOR brings colours into a pipe, but no cursor codes; NO_COLOR takes the colours out again."""
    plain = cli(*COMMANDS[command])
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = cli(*COMMANDS[command])
    assert COLOUR.search(coloured.output)
    without = COLOUR.sub("", coloured.output)
    assert "\x1b" not in without
    assert "\r" not in without
    assert len(without.splitlines()) == len(plain.output.splitlines())
    monkeypatch.setenv("NO_COLOR", "1")
    for codes in COLOUR.findall(cli(*COMMANDS[command]).output):
        # bold, dim and the like are no colours
        assert all(int(code or 0) < 30 for code in codes.split(";")), codes


def test_an_error_is_coloured_only_where_asked(cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in cli("eval", "run9").stderr
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert COLOUR.search(cli("eval", "run9").stderr)


# --- encoding ---------------------------------------------------------------------------------------------------------


def in_ascii(*arguments: object) -> Result:
    """The app with streams that can encode ASCII only."""
    return CliRunner(charset="ascii").invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("width", [None, 60, 40])
@pytest.mark.parametrize("command", COMMANDS)
def test_ascii_where_the_stream_cannot_encode(
    runs: Path, command: str, width: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrows, bars and ellipses come as ASCII look-alikes, at any width, and nothing fails."""
    if width is not None:
        monkeypatch.setenv("COLUMNS", str(width))
    result = in_ascii(*COMMANDS[command])
    assert result.exit_code == 0, result.output
    assert result.output.isascii()
    assert "?" not in result.output


def test_ascii_errors_and_file_names(runs: Path) -> None:
    """An error that quotes what ASCII lacks is still an error line, and JSON escapes it."""
    result = in_ascii("eval", "modèle")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "modèle" in json.loads(in_ascii("eval", "modèle", "--json").stdout)["error"]["message"]
    result = in_ascii("sample", "run1", "-o", "échantillon.png")
    assert result.exit_code == 0, result.output
    assert Path("échantillon.png").is_file()


def test_help_and_compare_in_an_ascii_process(runs: Path) -> None:
    """The real streams under PYTHONIOENCODING=ascii, not the test runner's."""
    for arguments in (("--help",), ("train", "--help"), ("compare", "run1", "run2"), ("runs", "run1")):
        done = python("-m", "vaectl", *arguments, environment={"PYTHONIOENCODING": "ascii", "COLUMNS": "60"})
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()


# --- environment ------------------------------------------------------------------------------------------------------


def test_the_runs_folder_of_the_environment(
    cli: Cli, runs: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VAECTL_RUNS_DIR replaces ./runs, for reading and for new runs; --runs-dir wins."""
    monkeypatch.setenv("VAECTL_RUNS_DIR", str(isolated / "others"))
    assert json.loads(cli("runs", "--json").stdout) == []
    assert cli(*TRAIN, "--epochs", 1, "-q").exit_code == 0
    assert (isolated / "others" / "run1" / "run.json").is_file()
    assert cli("--runs-dir", "runs", "runs", "-q").stdout == "run1\nrun2\n"


@pytest.mark.parametrize("value", ["1", "true", "yes", "on"])
def test_debug_of_the_environment_shows_tracebacks(
    cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """With VAECTL_DEBUG the traceback stands before the error, which keeps its exit code."""
    monkeypatch.setenv("VAECTL_DEBUG", value)
    result = cli("eval", "run9")
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback")
    assert "\nerror: no run 'run9'" in result.stderr


@pytest.mark.parametrize("value", ["", "0", "false", "no", "off"])
def test_debug_that_is_off_shows_none(cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The values that mean false for --debug mean false for the traceback too."""
    monkeypatch.setenv("VAECTL_DEBUG", value)
    result = cli("eval", "run9")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("error: ")


def test_debug_keeps_the_exit_code_and_the_document(isolated: Path) -> None:
    """--debug adds a traceback on stderr; a usage error still exits 2, and --json still prints one document."""
    done = python("-m", "vaectl", "--debug", "runs", "--limit", "0", "--json")
    assert "Traceback" in done.stderr
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "usage"


# --- pipes and signals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--json",), ("-q",)], ids=["text", "json", "quiet"])
def test_a_broken_pipe_leaves_no_traceback(runs: Path, flags: Sequence[str]) -> None:
    """The reader of ``vaectl runs | head -1`` leaves; nothing is said of it."""
    for number in range(3, 60):  # more than a pipe's reader asks for
        folder = runs / f"run{number}"
        folder.mkdir()
        shutil.copy(runs / "run1" / "run.json", folder)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "vaectl", "runs", "--all", *flags]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writer)
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["text", "json"])
def test_a_full_disk_behind_stdout(runs: Path, flags: Sequence[str]) -> None:
    """A result that cannot be written is an error that exits 1, without a traceback."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "vaectl", "runs", *flags]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert "internal error" not in done.stderr


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("batch", [2, 5])
def test_the_first_signal_ends_training_in_order(
    cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch, signum: int, code: int, batch: int
) -> None:
    """A signal in the first or second epoch finishes the batch, saves, says interrupted, and exits 128 + its number."""
    seen = interrupt_at(monkeypatch, batch, signum)
    result = cli(*TRAIN, "--epochs", 5, "--batch-size", 500, "--json")  # three batches an epoch
    assert result.exit_code == code, result.output
    assert len(seen) == batch
    assert json.loads(result.stdout)["error"]["code"] == "interrupted"
    record = json.loads((isolated / "runs" / "run1" / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert record["finished"]
    assert record["best_epoch"] == (1 if batch > 3 else None)
    assert cli("eval", "run1", "--checkpoint", "last").exit_code == 0
    # before the first epoch has ended there are no best weights, and that is said
    best = cli("eval", "run1")
    assert best.exit_code == (0 if batch > 3 else 1)
    assert "Traceback" not in best.output
    assert not [path for path in (isolated / "runs" / "run1").iterdir() if path.name.startswith(".")]


def wait_for_an_epoch(run: Path, process: subprocess.Popen[Any]) -> None:
    """Until the history of a run being trained has its first line."""
    history = run / "metrics.jsonl"
    for _ in range(1200):
        if history.exists() and history.stat().st_size:
            return
        assert process.poll() is None, "training ended before it was interrupted"
        time.sleep(0.1)
    pytest.fail("no epoch ended within two minutes")


def start(*arguments: str, environment: dict[str, str], **streams: Any) -> subprocess.Popen[Any]:
    command = [sys.executable, "-m", "vaectl", *TRAIN, "--epochs", "100000", *arguments]
    return subprocess.Popen(command, env={**os.environ, **environment}, **streams)


def test_ctrl_c_on_a_terminal(cli: Cli, isolated: Path) -> None:
    """On a terminal a bar moves under rows that stay; SIGINT exits 130, and the weights are usable."""
    master, slave = pty.openpty()
    environment = {"TERM": "xterm-256color", "COLUMNS": "90"}
    process = start(environment=environment, stdin=slave, stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    os.set_blocking(master, False)
    shown = b""
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                shown += os.read(master, 1 << 16)
            if (isolated / "runs/run1/metrics.jsonl").exists() and shown.count(b"img/s") > 3:
                process.send_signal(signal.SIGINT)
                break
            time.sleep(0.02)
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                shown += os.read(master, 1 << 16)
        with contextlib.suppress(OSError):
            while chunk := os.read(master, 1 << 16):
                shown += chunk
        assert process.wait(60) == 130
        assert process.stdout is not None
        assert process.stdout.read() == b""
    finally:
        process.kill()
        process.wait()
        os.close(master)
        if process.stdout is not None:
            process.stdout.close()
    text = shown.decode()
    assert "\x1b[?25l" in text, "the bar hides the cursor"
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "and gives it back"
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()
    finished = [line.split()[0] for line in lines if re.match(r" +\d+/100000 +-\d", line)]
    assert finished == [f"{number}/100000" for number in range(1, len(finished) + 1)]
    assert "Traceback" not in text
    assert any(line.startswith("error: ") for line in lines)
    assert json.loads(cli("runs", "--json").stdout)[0]["status"] == "interrupted"
    for checkpoint in ("best", "last"):
        assert cli("eval", "run1", "--checkpoint", checkpoint).exit_code == 0


def test_sigterm_in_an_ascii_pipe(cli: Cli, isolated: Path) -> None:
    """SIGTERM exits 143 with one JSON document on stdout and ASCII rows on stderr; meanwhile the run is running."""
    process = start("--json", environment={"PYTHONIOENCODING": "ascii"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for_an_epoch(isolated / "runs" / "run1", process)
        assert json.loads(cli("runs", "--json").stdout)[0]["status"] == "running"
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 143
    assert json.loads(stdout)["error"]["code"] == "interrupted"
    assert stderr.isascii()
    assert b"Traceback" not in stderr
    assert json.loads(cli("runs", "--json").stdout)[0]["status"] == "interrupted"
    for checkpoint in ("best", "last"):
        assert cli("eval", "run1", "--checkpoint", checkpoint).exit_code == 0


# --- imports and completion -------------------------------------------------------------------------------------------

WATCH = """
import contextlib, io, json, os, sys
from vaectl.cli import app
found = {}
for line in json.loads(sys.argv[1]):
    out = io.StringIO()
    environment = dict(item.split("=", 1) for item in line["env"])
    os.environ.update(environment)
    with contextlib.redirect_stdout(out):
        try:
            app(line["args"], prog_name="vaectl")
        except SystemExit as end:
            assert not end.code, (line, end.code)
    for name in environment:
        del os.environ[name]
    assert out.getvalue().strip(), line
    found[" ".join(line["args"])] = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps(found))
"""


def test_light_commands_import_nothing_heavy(runs: Path) -> None:
    """--help, --version, completion, runs and the text of compare load neither torch, numpy nor matplotlib."""
    leaves = ("train", "eval", "sample", "decode", "embed", "score", "plot-latent", "compare", "runs")
    lines: list[dict[str, Any]] = [
        {"args": arguments, "env": []}
        for arguments in (
            ["--version"], ["--help"], *([leaf, "--help"] for leaf in leaves), ["runs"], ["runs", "--json"],
            ["runs", "run1"], ["compare", "run1", "run2"], ["compare", "run1", "run2", "--json"],
        )
    ]  # fmt: skip
    lines.append({"args": [], "env": ["_VAECTL_COMPLETE=complete_bash", "COMP_WORDS=vaectl eval ", "COMP_CWORD=2"]})
    done = python("-c", WATCH, json.dumps(lines), environment={"PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 0, done.stderr
    for line, modules in json.loads(done.stdout).items():
        assert not set(modules) & set(HEAVY), line


FIRST_STEP = """
import json, os, sys
from vaectl.cli import app
from vaectl.commands.train.screen import EpochScreen

def stop(self, event):
    print(json.dumps(sorted(sys.modules)), flush=True)
    os._exit(0)

EpochScreen.step = stop
app(sys.argv[1:], prog_name="vaectl")
"""


@pytest.fixture(scope="module")
def at_the_first_step(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What a training on an IDX data set has imported when its first optimizer step is done."""
    place = tmp_path_factory.mktemp("first-step")
    write_mnist(place / "data", mnist_files(side=28), packed=True)
    line = ("--runs-dir", str(place / "runs"), "train", "--dataset", "mnist", "--data-dir", str(place / "data"))
    done = python("-c", FIRST_STEP, *line, "-q", environment={"PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "package",
    ["torchvision", "matplotlib", "sklearn", "scipy", "pyarrow", "torch._dynamo", "sympy"],
)
def test_the_first_step_comes_before(package: str, at_the_first_step: set[str]) -> None:
    """Training begins within a second of torch's import, because what takes longer is imported when it is used."""
    assert package not in at_the_first_step


def complete(words: str, position: int, **environment: str) -> list[str]:
    """What bash is offered for a command line, at a word."""
    given = {"_VAECTL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position), **environment}
    result = CliRunner().invoke(app, [], prog_name="vaectl", env=given)
    assert "Traceback" not in result.output
    return result.stdout.split()


@pytest.mark.parametrize(
    ("words", "position"),
    [("vaectl eval ", 2), ("vaectl runs run", 2), ("vaectl compare run1 ", 3), ("vaectl train --from ", 3),
     ("vaectl sample r", 2), ("vaectl embed ", 2), ("vaectl plot-latent ", 2)],
)  # fmt: skip
def test_completion_lists_run_ids(runs: Path, words: str, position: int) -> None:
    assert set(complete(words, position)) == {"run1", "run2"}


def test_completion_follows_what_is_typed(runs: Path, isolated: Path) -> None:
    """Ids that begin with the word, damaged runs' too, from the folder that the line or the environment names."""
    assert complete("vaectl eval run2", 2) == ["run2"]
    assert complete("vaectl eval x", 2) == []
    (runs / "run1" / "run.json").write_text("{")
    assert set(complete("vaectl eval ", 2)) == {"run1", "run2"}
    runs.rename(isolated / "others")
    assert complete("vaectl eval ", 2) == []
    assert set(complete("vaectl --runs-dir others eval ", 4)) == {"run1", "run2"}
    assert set(complete("vaectl eval ", 2, VAECTL_RUNS_DIR="others")) == {"run1", "run2"}


def test_completion_comes_with_a_summary(runs: Path) -> None:
    """A shell that shows descriptions gets status, data and size of each run."""
    given = {"_VAECTL_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    given["_TYPER_COMPLETE_ARGS"] = "vaectl eval "
    result = CliRunner().invoke(app, [], prog_name="vaectl", env=given)
    summary = dict(line.split("\t", 1) for line in result.stdout.splitlines())
    assert summary.keys() == {"run1", "run2"}
    assert "completed" in summary["run1"]
    assert "digits" in summary["run1"]


@pytest.mark.parametrize(
    ("value", "column", "text"),
    [(-189.424, "elbo", "-189.42"), (-327747.27, "elbo", "-327747"), (-1.1e8, "val elbo", "-1.1e8"),
     (8158585.5, "kl", "8158586"), (81585850.5, "kl", "8.16e7"), (1e7, "kl", "1e7"),
     (1.234e12, "kl", "1.23e12"), (1e7, "beta", "1e7"), (-99999.99, "elbo", "-99999.99"),
     (-999999.9, "elbo", "-1000000")],
)  # fmt: skip
def test_numbers_of_a_row_keep_apart(value: float, column: str, text: str) -> None:
    """Of large colour images the bound has six digits and more: decimals go before numbers run together."""
    assert compact(value, column) == text
    assert len(text) < next(width for name, width, _ in COLUMNS if name == column), "it touches the column before"
