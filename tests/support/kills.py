"""Commands that are killed with SIGKILL at random moments, and resumed until they are done."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.support.runs import assert_same_run

CHECKPOINT = ("--checkpoint-minutes", "0.0005")  # every 30 milliseconds

# imports once and forks for every command, because importing takes longer than the trainings
FORKS = """
import json, os, sys
import torch
torch.set_num_threads(1)
import matplotlib.backends.backend_agg, sklearn.datasets, sklearn.feature_selection
import vaectl.evaluation.information, vaectl.evaluation.latents, vaectl.output.plots, vaectl.runs.resuming
import vaectl.cli, vaectl.commands.train.cli
import vaectl.training.pictures, vaectl.training.tensorboard, vaectl.training.trainer
from vaectl.__main__ import main
for line in sys.stdin:
    arguments, errors = json.loads(line)
    if not (pid := os.fork()):
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(2, 1)
        sys.argv = ["vaectl", *arguments]
        try:
            code = main() or 0
        except SystemExit as error:
            code = error.code or 0
        sys.stderr.flush()
        os._exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Commands:
    """Commands of vaectl, each in a process of its own that can be killed.

    Attributes:
        errors: The file that takes a command's output.
    """

    def __init__(self, folder: Path) -> None:
        self.errors = folder / "stderr"
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
        )

    def __enter__(self) -> Commands:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def killed(self, arguments: tuple[str, ...], log: Path, seconds: float) -> bool:
        """Run a command, kill it so long after it began to train, and return whether it was still alive."""
        before = log.stat().st_size if log.exists() else 0
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([arguments, str(self.errors)]) + "\n")
        self.process.stdin.flush()
        pid = int(self.process.stdout.readline())
        while _alive(pid) and not (log.exists() and log.stat().st_size > before):
            time.sleep(0.005)
        time.sleep(seconds)
        if _alive(pid):
            os.kill(pid, signal.SIGKILL)
        code = int(self.process.stdout.readline())
        assert code in (0, -signal.SIGKILL), self.errors.read_text()
        return code != 0


def _alive(pid: int) -> bool:
    """Whether a process runs; one that has ended stays a zombie until its parent has waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def kill_until_done(
    commands: Commands, folder: Path, flags: tuple[str, ...], epochs: int, moments: random.Random, most: float
) -> int:
    """Train a run to its end through kills at random moments, and return how many there were."""
    log = folder / "run1" / "train.log"
    arguments = (*flags, "--epochs", str(epochs))
    for kills in range(200):
        line = ("--runs-dir", str(folder), *arguments, *CHECKPOINT)
        # the evaluation at the end has no checkpoints, and must be given the time that it takes
        patience = 1.1 ** max(0, kills - 20)
        if not commands.killed(line, log, most * moments.random() * patience):
            return kills
        arguments = ("train", "--resume", "run1", "-q")
    pytest.fail("200 resumes did not bring the run to its end")


def kill_runs(cli: Cli, folder: Path, flags: tuple[str, ...], epochs: int, wanted: int) -> tuple[int, int]:
    """Kill and resume whole runs until there were so many kills, and return how many runs and kills there were.

    Each run must end as one that was not killed.
    """
    assert cli("--runs-dir", folder / "whole", *flags, "--epochs", epochs).exit_code == 0
    # a slow machine needs longer to get anywhere between two kills
    seconds = json.loads((folder / "whole" / "run1" / "run.json").read_text())["seconds"]
    runs = kills = 0
    with Commands(folder) as commands:
        while kills < wanted:
            killed = folder / f"killed{runs}"
            moments = random.Random(f"{flags}{runs}")
            kills += kill_until_done(commands, killed, flags, epochs, moments, max(0.2, seconds / 6))
            runs += 1
            assert_same_run(killed / "run1", folder / "whole" / "run1")
    return runs, kills
