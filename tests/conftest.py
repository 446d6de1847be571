"""Fixtures: an isolated place, the command line in-process, two small trained runs, and real MNIST where it is."""

from __future__ import annotations

import os
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from vaectl.cli import app
from vaectl.commands.train.screen import EpochScreen
from vaectl.model.builder import FAMILIES
from vaectl.training.trainer import Step

# what the shared modules assert is told as fully as what a test does
pytest.register_assert_rewrite("tests.support")

# two threads of several processes fight on a small machine; the models here need one
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

# as in a terminal, also where the tests run in the background or without one, and these signals are ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

Cli = Callable[..., Result]

REPOSITORY = Path(__file__).parents[1]
# where real MNIST is, read before a test's environment is cleaned
MNIST_DIRECTORY = Path(os.environ.get("VAECTL_DATA_DIR") or REPOSITORY.parent / "shared" / "data")


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in its own empty folder, without the person's settings."""
    for name in [*os.environ]:
        if name.startswith("VAECTL_") or name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network: a download fails at once, as without one."""

    def refuse(*arguments: object, **options: object) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture
def cli() -> Cli:
    """Run the real app in this process: ``cli("train", "--epochs", 1)``."""

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with two runs on digits: run1 (2 latent dimensions) and run2 (3, beta 4). Read it only."""
    folder = tmp_path_factory.mktemp("trained") / "runs"
    for arguments in (["--latent-dim", "2", "--warmup-epochs", "1"], ["--latent-dim", "3", "--beta", "4"]):
        common = ["--dataset", "digits", "--epochs", "3", "--hidden-dims", "32,16", "-q"]
        result = CliRunner().invoke(app, ["--runs-dir", str(folder), "train", *common, *arguments])
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def runs(trained: Path, isolated: Path) -> Path:
    """A copy of the two trained runs at ./runs, for a test to use and to break."""
    return Path(shutil.copytree(trained, isolated / "runs"))


def interrupt_at(
    monkeypatch: pytest.MonkeyPatch, batch: int, signum: int = signal.SIGINT, times: int = 1
) -> list[Step]:
    """Let a signal come in the ``batch``-th batch of a training; the steps it shows, as it shows them."""
    seen: list[Step] = []
    step = EpochScreen.step

    def shown(self: EpochScreen, event: Step) -> None:
        seen.append(event)
        step(self, event)
        if len(seen) == batch:
            for _ in range(times):
                signal.raise_signal(signum)

    monkeypatch.setattr(EpochScreen, "step", shown)
    return seen


@pytest.fixture(scope="session")
def mnist() -> Path:
    """The data directory that holds real MNIST; the test is skipped where there is none."""
    if not (MNIST_DIRECTORY / "MNIST" / "raw").is_dir():
        pytest.skip("real MNIST is neither in VAECTL_DATA_DIR nor in ../shared/data")
    return MNIST_DIRECTORY


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a test the parts of ``tests.support.parts`` are members of their families."""
    from tests.support.parts import PARTS

    for family, members in PARTS.items():
        for name, member in members.items():
            monkeypatch.setitem(FAMILIES[family], name, member)  # type: ignore[arg-type]
