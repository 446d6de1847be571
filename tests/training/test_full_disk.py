"""A full disk, a small real one and files that may not grow: a clear error, and the checkpoint before it is usable."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from tests.conftest import Cli
from tests.support.runs import assert_same_run

TRAIN = ("train", "--dataset", "digits", "--hidden-dims", "16", "--latent-dim", "2", "--batch-size", "700")
EPOCHS = ("--epochs", "6")
CHECKPOINTS = ("--checkpoint-minutes", "0")


@pytest.fixture
def disk(isolated: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    place = isolated / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True)
    if not done or done.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.fixture
def whole(cli: Cli, isolated: Path) -> Path:
    """A run that always had room."""
    assert cli("--runs-dir", isolated / "whole", *TRAIN, *EPOCHS).exit_code == 0
    return isolated / "whole" / "run1"


def leave(disk: Path, room: int) -> None:
    """Fill a disk up to so many bytes."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
    (disk / "fill").write_bytes(bytes(max(0, free - room)))


def check_error(result: Result) -> None:
    assert result.exit_code == 1, result.output
    lines = result.stderr.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == 1, result.stderr
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr


@pytest.mark.parametrize("room", [0, *range(4096, 140_000, 20_480)])
def test_a_disk_that_fills_up_in_training_loses_nothing(cli: Cli, disk: Path, whole: Path, room: int) -> None:
    """However little room is left: exit 1 and the reason; with room again the run goes on, bit for bit."""
    assert cli("--runs-dir", disk, *TRAIN, "--epochs", 2).exit_code == 0
    leave(disk, room)
    state = (disk / "run1" / "state.json").read_text()
    result = cli("--runs-dir", disk, "train", "--resume", "run1", "--epochs", 12, *CHECKPOINTS)
    check_error(result)
    # what was earned before, or since, is whole
    assert json.loads((disk / "run1" / "state.json").read_text())["step"] >= json.loads(state)["step"]
    listed = json.loads(cli("--runs-dir", disk, "runs", "--json").stdout)
    assert listed[0]["status"] in ("failed", "crashed", "completed")
    for checkpoint in ("best", "last"):
        used = cli("--runs-dir", disk, "sample", "run1", "-n", 4, "-o", disk.parent / f"{checkpoint}.png")
        assert used.exit_code == 0, used.output
    (disk / "fill").unlink()
    result = cli("--runs-dir", disk, "train", "--resume", "run1", *EPOCHS)
    assert result.exit_code == 0, result.output
    assert_same_run(disk / "run1", whole)


def test_a_run_that_finds_no_room_at_all_leaves_nothing(cli: Cli, disk: Path) -> None:
    leave(disk, 0)
    result = cli("--runs-dir", disk, *TRAIN, *EPOCHS)
    check_error(result)
    assert [path.name for path in disk.iterdir()] == ["fill"]


@pytest.mark.parametrize(
    "command", ["sample run1", "plot-latent run1", "embed run1 -o disk/codes.npz",
                "sample run1 -n 9000 -o disk/x.npy", "sample run1 -n 9000 -o disk/x.npz", "embed run1 -o disk/a.csv",
                "eval run1 -o disk/m.json", "eval run1 --per-example disk/v.npz", "compare run1 run2 -o disk/r.html"],
)  # fmt: skip
def test_a_full_disk_of_the_other_commands(cli: Cli, disk: Path, command: str) -> None:
    """Exit 1 and the reason; run.json is whole and no part of a file is left."""
    for _ in range(1 + command.startswith("compare")):
        assert cli("--runs-dir", disk, *TRAIN, "--epochs", 1).exit_code == 0
    record = (disk / "run1" / "run.json").read_bytes()
    before = {path for path in disk.rglob("*") if path.is_file()}
    leave(disk, 0)
    check_error(cli("--runs-dir", disk, *command.split()))
    assert (disk / "run1" / "run.json").read_bytes() == record
    assert {path for path in disk.rglob("*") if path.is_file()} - before == {disk / "fill"}


def test_an_evaluation_for_which_a_disk_has_no_room_is_printed(cli: Cli, disk: Path) -> None:
    """It is not kept, which is said."""
    assert cli("--runs-dir", disk, *TRAIN, "--epochs", 1).exit_code == 0
    record = (disk / "run1" / "run.json").read_bytes()
    leave(disk, 0)
    result = cli("--runs-dir", disk, "eval", "run1", "--seed", 1, "-q")
    assert result.exit_code == 0, result.output
    assert float(result.stdout) < 0
    assert "warning: this evaluation is not kept in run1: cannot write " in result.stderr
    assert "No space left on device" in result.stderr
    assert (disk / "run1" / "run.json").read_bytes() == record


def test_files_that_may_not_grow(isolated: Path, cli: Cli, whole: Path) -> None:
    """As with a full disk, where files have a largest size: no privilege is needed to try this one."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    assert cli(*TRAIN, "--epochs", 2).exit_code == 0
    command = [sys.executable, "-m", "vaectl", "train", "--resume", "run1", *EPOCHS]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1, done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert cli("train", "--resume", "run1", *EPOCHS).exit_code == 0
    assert_same_run(isolated / "runs" / "run1", whole)
