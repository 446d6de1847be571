"""A terminal, a pipe or a disk behind the screen is lost: the work goes on mute, is finished and kept."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, Cli, interrupt_at
from vaectl.cli import app
from vaectl.errors import OutputError
from vaectl.system.signals import SAME_SECONDS
from vaectl.system.streams import Lasting

TRAIN = ("train", "--dataset", "digits", "--hidden-dims", "8", "--latent-dim", "2", "--epochs", "3")
# a command, and what it leaves behind
COMMANDS = {
    TRAIN: "runs/run3/model.safetensors",
    ("eval", "run1", "-o", "out.json"): "out.json",
    ("sample", "run1", "-o", "out.png"): "out.png",
    ("decode", "run1", "--z", "0,0", "-o", "out.npz"): "out.npz",
    ("embed", "run1", "-o", "out.npz"): "out.npz",
    ("score", "run1", "-o", "out.csv"): "out.csv",
    ("plot-latent", "run1", "-o", "out.png"): "out.png",
    ("compare", "run1", "run2", "-o", "out.md"): "out.md",
    ("runs",): "runs/run1/run.json",
    ("eval", "nothing"): None,
}


class Lost(io.StringIO):
    """A stream that fails once so many texts were written to it."""

    def __init__(self, number: int, texts: int = 0) -> None:
        super().__init__()
        self._number, self._left = number, texts

    def write(self, text: str) -> int:
        if not self._left:
            raise OSError(self._number, os.strerror(self._number))
        self._left -= 1
        return super().write(text)


def code_of(monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...], out: io.StringIO, err: io.StringIO) -> int:
    """The exit code of a command whose streams these are."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as end:
            app([*line], prog_name="vaectl")
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize(
    ("number", "texts"), [(errno.EPIPE, 0), (errno.EIO, 1), (errno.ENOSPC, 2)], ids=["pipe", "terminal", "disk"]
)
@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: " ".join(line[:2]))
def test_a_lost_stderr_changes_nothing(
    runs: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...], number: int, texts: int
) -> None:
    """From the first line or from a later one: the result is printed, kept, and the exit code is the same."""
    kept, out = COMMANDS[line], io.StringIO()
    assert code_of(monkeypatch, line, out, Lost(number, texts)) == (0 if kept else 1)
    assert bool(out.getvalue()) == bool(kept)
    assert kept is None or (isolated / kept).is_file()


FLAGS = pytest.mark.parametrize("flags", [(), ("--json",), ("-q",)], ids=["text", "json", "quiet"])


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: " ".join(line[:2]))
def test_a_reader_that_leaves_changes_nothing(
    runs: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...]
) -> None:
    """Nobody reads the result, who knows it; the work is kept, and the exit code is the same."""
    err, kept = io.StringIO(), COMMANDS[line]
    assert code_of(monkeypatch, line, Lost(errno.EPIPE), err) == (0 if kept else 1)
    assert ("error: " in err.getvalue()) == (kept is None)
    assert kept is None or (isolated / kept).is_file()


@FLAGS
def test_a_reader_that_leaves_a_list(runs: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]) -> None:
    """As ``head`` does: the exit code is that of a list that was read to its end."""
    assert code_of(monkeypatch, ("runs", *flags), Lost(errno.EPIPE), err := io.StringIO()) == 0
    assert err.getvalue() == ""


@FLAGS
def test_a_result_that_a_full_disk_swallows_is_an_error_of_a_completed_run(
    isolated: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    err = io.StringIO()
    assert code_of(monkeypatch, (*TRAIN, *flags), Lost(errno.ENOSPC), err) == 1
    assert "error: cannot write the result to stdout: No space left on device\n" in err.getvalue()
    assert json.loads((isolated / "runs/run1/run.json").read_text())["status"] == "completed"


def test_a_stream_that_lasts(capfd: pytest.CaptureFixture[str]) -> None:
    """What cannot be written is dropped, also what libraries write to the descriptor; only a full disk is told."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        lasting = Lasting(stream, "stdout")
        lasting.writelines(["one\n", "two\n"])
        lasting.flush()
        assert os.write(writer, b"three") == 5
        lasting.check()
    for stream_or_none in (None, Lost(errno.EPIPE)):
        lasting = Lasting(stream_or_none, "stdout")
        assert lasting.write("text") == 4
        lasting.check()
        lasting.close()
    lasting = Lasting(Lost(errno.ENOSPC), "stdout")
    lasting.write("text")
    with pytest.raises(OutputError, match="stdout: No space left"):
        lasting.check()
    assert capfd.readouterr() == ("", "")


# --- whole programs ---------------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color"}


def without(*descriptors: int) -> Callable[[], None]:
    """Close descriptors before a program starts."""

    def close() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    return close


def left_pipe(stack: ExitStack) -> dict[str, Any]:
    """Both streams are a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    stack.callback(os.close, writer)
    return {"stdout": writer, "stderr": writer}


def closed_terminal(stack: ExitStack) -> dict[str, Any]:
    """Both streams are a terminal that is closed."""
    master, slave = pty.openpty()
    os.close(master)
    stack.callback(os.close, slave)
    return {"stdout": slave, "stderr": slave}


def full_disk(stack: ExitStack) -> dict[str, Any]:
    """Stderr is a full disk."""
    full = os.open("/dev/full", os.O_WRONLY)
    stack.callback(os.close, full)
    return {"stdout": subprocess.DEVNULL, "stderr": full}


WAYS: dict[str, Callable[[ExitStack], dict[str, Any]]] = {
    "a pipe that nobody reads": left_pipe,
    "a closed terminal": closed_terminal,
    "a full disk": full_disk,
    "no stderr": lambda stack: {"stdout": subprocess.DEVNULL, "preexec_fn": without(2)},
    "no stdout": lambda stack: {"stderr": subprocess.DEVNULL, "preexec_fn": without(1)},
    "no streams": lambda stack: {"preexec_fn": without(0, 1, 2)},
}


OFTEN = ("a pipe that nobody reads", "a closed terminal", "no streams")


@pytest.mark.parametrize("way", [way if way in OFTEN else pytest.param(way, marks=pytest.mark.slow) for way in WAYS])
def test_a_training_goes_on_mute(isolated: Path, way: str) -> None:
    """It completes, exits 0, and its log has all that the screen would have shown."""
    with ExitStack() as stack:
        streams = WAYS[way](stack)
        command = [sys.executable, "-m", "vaectl", *TRAIN]
        done = subprocess.run(command, env=environment(), timeout=120, check=False, **streams)
    assert done.returncode == 0
    run = isolated / "runs" / "run1"
    assert json.loads((run / "run.json").read_text())["status"] == "completed"
    log = (run / "train.log").read_text().splitlines()
    assert log[0].startswith("run1  digits")
    assert [line.split()[0] for line in log[2:5]] == ["1/3", "2/3", "3/3"]
    assert log[-2].startswith("run1 completed in ")
    assert log[-1].startswith("  test elbo ")


@contextmanager
def training(**streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A training of many epochs that has ended its first one; it is killed in the end."""
    command = [sys.executable, "-m", "vaectl", *TRAIN, "--epochs", "100000"]
    process = subprocess.Popen(command, env=environment(), **streams)
    try:
        history = Path("runs/run1/metrics.jsonl")
        deadline = time.monotonic() + 120
        while not (history.exists() and history.stat().st_size):
            assert process.poll() is None, "training ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_terminal_that_closes_saves_the_training(cli: Cli, isolated: Path) -> None:
    """The system sends SIGHUP and the screen is gone: a checkpoint, exit code 129, and the hint in the log."""
    master, slave = pty.openpty()
    with training(
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=control(slave)
    ) as process:
        os.close(slave)
        os.close(master)
        assert process.wait(60) == 129
    run = isolated / "runs" / "run1"
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    error, hint = (run / "train.log").read_text().splitlines()[-2:]
    assert error.startswith("error: run1 was interrupted ")
    assert error.endswith("progress is saved")
    assert hint == "hint: resume with: vaectl train --resume run1"
    begun = json.loads((run / "state.json").read_text())["epoch"] + 1
    assert cli("train", "--resume", "run1", "--epochs", begun).exit_code == 0


def control(terminal: int) -> Callable[[], None]:
    """Make a terminal the one that controls a new session."""

    def take() -> None:
        import fcntl
        import termios

        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    return take


def test_under_nohup_a_hangup_is_ignored(isolated: Path) -> None:
    """It goes on with neither terminal nor signal, until another signal ends it."""
    master, slave = pty.openpty()

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with training(stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, preexec_fn=ignore) as process:
        os.close(slave)
        os.close(master)
        process.send_signal(signal.SIGHUP)
        history = isolated / "runs/run1/metrics.jsonl"
        size, deadline = history.stat().st_size, time.monotonic() + 60
        while history.stat().st_size < size + 1000:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert json.loads((isolated / "runs/run1/run.json").read_text())["status"] == "interrupted"


# --- signals ----------------------------------------------------------------------------------------------------------


def test_a_second_hangup_is_no_haste(cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shell and system both send one, some time apart: the batch is finished and saved all the same."""
    seen = interrupt_at(monkeypatch, 2, signal.SIGHUP)
    saved: list[int] = []

    def again(run: Any, state: Any, **options: Any) -> None:
        time.sleep(SAME_SECONDS + 0.05)
        signal.raise_signal(signal.SIGHUP)
        saved.append(state.batch)
        save(run, state, **options)

    from vaectl.runs.run import Run

    save = Run.save_checkpoint
    monkeypatch.setattr(Run, "save_checkpoint", again)
    result = cli(*TRAIN, "--batch-size", 500)
    assert result.exit_code == 129, result.output
    assert (len(seen), saved) == (2, [2])
    assert "in epoch 1, after 2 of 3 batches; progress is saved" in result.stderr
    assert "resume with: vaectl train --resume run1" in (isolated / "runs/run1/train.log").read_text()


def test_a_hangup_that_is_ignored_stays_ignored(cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a program, too, whatever the command does with the other signals."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        interrupt_at(monkeypatch, 2, signal.SIGHUP)
        assert cli(*TRAIN).exit_code == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
