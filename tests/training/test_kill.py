"""The kill test: trainings killed with SIGKILL at random moments, and resumed until they are done."""

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

TRAIN = ("train", "--dataset", "digits", "--hidden-dims", "16", "--latent-dim", "2", "--batch-size", "100", "-q")
VARIANTS = {
    "elbo": ("--warmup-epochs", "5"),
    "controller": ("--model", "control-vae"),
    "dynamic": ("--binarize", "dynamic"),
    "rollback": ("--on-nonfinite", "rollback", "--lr", "0.01"),
    "optimal scale": ("--model", "sigma-vae", "--set", "likelihood.scale=optimal"),
}
CHECKPOINT = ("--checkpoint-minutes", "0.0005")  # every 30 milliseconds


def vaectl(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "vaectl", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ))


def kill_after(process: subprocess.Popen[bytes], log: Path, seconds: float) -> bool:
    """Kill a process so long after it began to train, and return whether it was still alive."""
    before = log.stat().st_size if log.exists() else 0
    while process.poll() is None and not (log.exists() and log.stat().st_size > before):
        time.sleep(0.005)
    time.sleep(seconds)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    _, stderr = process.communicate()
    assert alive or process.returncode == 0, stderr.decode()
    return alive


def kill_until_done(folder: Path, flags: tuple[str, ...], epochs: int, moments: random.Random, most: float) -> int:
    """Train a run to its end through kills at random moments, and return how many there were."""
    log = folder / "run1" / "train.log"
    arguments = (*TRAIN, *flags, "--epochs", str(epochs))
    for kills in range(200):
        process = vaectl("--runs-dir", str(folder), *arguments, *CHECKPOINT)
        if not kill_after(process, log, most * moments.random()):
            return kills
        arguments = ("train", "--resume", "run1", "-q")
    pytest.fail("200 resumes did not bring the run to its end")


def check(cli: Cli, isolated: Path, variant: str, epochs: int, wanted: int) -> tuple[int, int]:
    """Kill and resume whole runs until there were so many kills; how many runs and kills there were."""
    flags = VARIANTS[variant]
    assert cli("--runs-dir", isolated / "whole", *TRAIN, *flags, "--epochs", epochs).exit_code == 0
    # a slow machine needs longer to get anywhere between two kills
    seconds = json.loads((isolated / "whole" / "run1" / "run.json").read_text())["seconds"]
    runs = kills = 0
    while kills < wanted:
        folder = isolated / f"killed{runs}"
        kills += kill_until_done(folder, flags, epochs, random.Random(f"{variant}{runs}"), max(1.0, seconds))
        runs += 1
        assert_same_run(folder / "run1", isolated / "whole" / "run1")
    return runs, kills


def test_a_killed_run_is_resumed_bit_for_bit(cli: Cli, isolated: Path) -> None:
    """One run or two, killed a few times."""
    check(cli, isolated, "controller", 8, 2)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_runs_are_resumed_bit_for_bit(cli: Cli, isolated: Path, variant: str) -> None:
    """At least ten kills of runs of each kind: none is lost and no weight differs."""
    runs, kills = check(cli, isolated, variant, 60, 10)
    sys.stderr.write(f"{variant}: {runs} runs, {kills} kills\n")
