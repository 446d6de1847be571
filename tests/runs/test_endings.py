"""How a training ends whose folder is no longer there: the error says so, and nothing tells to resume what is gone."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Cli
from vaectl.commands.train.screen import EpochScreen
from vaectl.training.trainer import Step

TRAIN = "train --dataset digits --epochs 2 --hidden-dims 8"
FOLDER = Path("runs/run1")


def interrupted() -> None:
    shutil.rmtree(FOLDER)
    signal.raise_signal(signal.SIGINT)


def replaced() -> None:
    shutil.rmtree(FOLDER)
    FOLDER.mkdir()


LOSSES: dict[str, tuple[Callable[[], object], str]] = {
    "the folder": (lambda: shutil.rmtree(FOLDER), "run1"),
    "the folder, then Ctrl-C": (interrupted, "run1"),
    "all runs": (lambda: shutil.rmtree("runs"), "run1"),
    "moved": (lambda: FOLDER.rename("moved"), "run1"),
    "the record": (lambda: (FOLDER / "run.json").unlink(), "run1/run.json"),
    "an empty folder instead": (replaced, "run1/run.json"),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("resumed", [False, True])
def test_a_run_that_is_deleted_in_training(
    cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch, loss: str, resumed: bool
) -> None:
    if resumed:
        assert cli(*TRAIN.split(), "-q").exit_code == 0
    lose, name = LOSSES[loss]
    steps: list[Step] = []
    step = EpochScreen.step

    def shown(self: EpochScreen, event: Step) -> None:
        step(self, event)
        steps.append(event)
        if len(steps) == 3:
            lose()

    monkeypatch.setattr(EpochScreen, "step", shown)
    result = cli(*(["train", "--resume", "run1", "--epochs", "4"] if resumed else TRAIN.split()))
    assert result.exit_code == 1, result.output
    assert f"error: run1: runs/{name} was deleted or moved during the training\n" in result.stderr
    assert "hint: if it was moved, resume the run by its new path" in result.stderr
    assert "--resume run1" not in result.stderr
    if loss == "moved":
        resumption = cli("train", "--resume", "./moved")
        assert resumption.exit_code == 0, resumption.output
        assert "completed" in resumption.stdout
