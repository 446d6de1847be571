"""The kill test: trainings killed with SIGKILL at random moments, and resumed until they are done."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.support.kills import kill_runs

TRAIN = ("train", "--dataset", "digits", "--hidden-dims", "16", "--latent-dim", "2", "--batch-size", "100", "-q")
MAPS = ("train", "--dataset", "digits", "--width", "4", "--depth", "1", "--batch-size", "200", "-q")
# a training of each kind: its flags and its epochs
VARIANTS: dict[str, tuple[tuple[str, ...], int]] = {
    "elbo": ((*TRAIN, "--warmup-epochs", "5"), 60),
    "controller": ((*TRAIN, "--model", "control-vae"), 60),
    "dynamic": ((*TRAIN, "--binarize", "dynamic"), 60),
    "rollback": ((*TRAIN, "--on-nonfinite", "rollback", "--lr", "0.01"), 60),
    "optimal scale": ((*TRAIN, "--model", "sigma-vae", "--set", "likelihood.scale=optimal"), 60),
    "importance weights": ((*TRAIN, "--model", "iwae"), 40),
    "total correlation": ((*TRAIN, "--model", "beta-tcvae"), 40),
    "learned prior": ((*TRAIN, "--model", "vamp-vae"), 30),
    "cyclical, free bits": (
        (*TRAIN, "--beta-schedule", "cyclical", "--warmup-epochs", "20", "--free-bits", "0.1", "--patience", "40"), 60,
    ),
    "bf16": ((*TRAIN, "--precision", "bf16"), 40),
    "conv": ((*MAPS, "--network", "conv", "--latent-dim", "2", "--log-every", "3"), 20),
    "codes in two stages": ((*MAPS, "--model", "vq-vae", "--codes", "16", "--prior-epochs", "4"), 8),
    "scalar codes": ((*MAPS, "--model", "fsq-vae", "--prior-epochs", "4"), 8),
}  # fmt: skip


def test_a_killed_run_is_resumed_bit_for_bit(cli: Cli, isolated: Path) -> None:
    """One run or two, killed a few times."""
    kill_runs(cli, isolated, VARIANTS["controller"][0], 8, 3)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_runs_are_resumed_bit_for_bit(cli: Cli, isolated: Path, variant: str) -> None:
    """A thousand kills in all, 77 or more of each kind: no run is lost and no weight differs."""
    runs, kills = kill_runs(cli, isolated, *VARIANTS[variant], 77)
    sys.__stderr__.write(f"{variant}: {runs} runs, {kills} kills\n")
