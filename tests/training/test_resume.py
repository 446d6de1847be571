"""Exact resume: a training that was stopped, however and wherever, ends in the very bits of one that was not."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import Cli, interrupt_at
from tests.support.idx import write_mnist
from tests.support.runs import assert_same_run, begin, figures, moved, rows_of, run_on, same_weights
from tests.support.specs import VARIANTS, spec_of
from tests.support.toys import toy_data
from vaectl.config.spec import Spec, Training
from vaectl.data.base import Data
from vaectl.model.objectives import Loss, Objective
from vaectl.runs import checkpoints
from vaectl.runs.checkpoints import FILES
from vaectl.system.signals import SAME_SECONDS
from vaectl.training.state import TrainState
from vaectl.training.trainer import Epoch, RolledBack, Step, Stopped, fit

SMALL = ("train", "--dataset", "digits", "--hidden-dims", "8", "--latent-dim", "2", "--batch-size", "700")  # 2 batches


# --- the trainer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8, 9])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_training_goes_on_bit_for_bit_from_any_step(variant: str, steps: int) -> None:
    """Weights, figures, best epoch and every random stream are those of a training that was not stopped."""
    data = toy_data(train=350)  # 280 in batches of 100: the last of three is short
    spec = spec_of(**VARIANTS[variant])
    whole = begin(spec, data)
    expected = run_on(whole, data, spec.training)
    first = begin(spec, data)
    before = run_on(first, data, spec.training, steps)
    second = moved(first, spec, data)
    after = run_on(second, data, spec.training)
    assert figures(before) + figures(after) == figures(expected)
    assert same_weights(second, whole)
    assert second.best_epoch == whole.best_epoch
    ours, theirs = second.tensors(), whole.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_dynamic_binarisation_goes_on_bit_for_bit() -> None:
    """The binary images of a step come from the stream that is restored."""
    plain = toy_data()
    split = dataclasses.replace(plain.train, grey=plain.train.images)
    data = dataclasses.replace(plain, train=split)
    spec = spec_of()
    whole, first = begin(spec, data), begin(spec, data)
    run_on(whole, data, spec.training)
    run_on(first, data, spec.training, 4)
    second = moved(first, spec, data)
    run_on(second, data, spec.training)
    assert same_weights(second, whole)


def test_more_epochs_are_as_if_asked_for_at_first() -> None:
    data = toy_data()
    short, long = spec_of({"epochs": 2}), spec_of({"epochs": 5})
    first, whole = begin(short, data), begin(long, data)
    expected = run_on(whole, data, long.training)
    run_on(first, data, short.training)
    second = moved(first, long, data)
    assert figures(run_on(second, data, long.training)) == figures(expected)[2:]
    assert same_weights(second, whole)


def test_a_training_that_ended_ends_again_at_once() -> None:
    data = toy_data()
    spec = spec_of({"epochs": 2})
    state = begin(spec, data)
    run_on(state, data, spec.training)
    (end,) = run_on(moved(state, spec, data), data, spec.training)
    assert isinstance(end, Stopped)
    assert (end.reason, end.epoch) == ("completed", 2)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("epoch", -1), ("epoch", 1.5), ("epoch", "1"), ("batch", 99), ("step", 7), ("lr", float("nan")), ("lr", -1),
        ("lr", 10**400), ("best", [True]), ("best", None), ("best", [True, float("inf")]), ("seconds", -1),
        ("rollbacks", None), ("best_epoch", None),
    ],
)  # fmt: skip
def test_numbers_of_no_training_are_refused(place: str, value: object) -> None:
    data = toy_data()
    spec = spec_of()
    state = begin(spec, data)
    run_on(state, data, spec.training, 4)
    with pytest.raises(ValueError, match=r".+"):
        begin(spec, data).restore(state.tensors(), {**state.values(), place: value})


@pytest.mark.parametrize("damage", ["missing", "shape", "random", "order", "records", "moments"])
def test_tensors_of_no_training_are_refused(damage: str) -> None:
    data = toy_data()
    spec = spec_of()
    state = begin(spec, data)
    run_on(state, data, spec.training, 4)
    tensors = state.tensors()
    moment = next(name for name in tensors if name.endswith("exp_avg"))
    if damage == "missing":
        del tensors["order"]
    elif damage == "moments":
        tensors = {name: t for name, t in tensors.items() if not name.startswith(moment.removesuffix("exp_avg"))}
    else:
        name = {"shape": moment, "random": "random.cpu", "order": "order", "records": "records"}[damage]
        tensors[name] = torch.zeros(3, dtype=tensors[name].dtype)
    with pytest.raises(ValueError, match=r".+"):
        begin(spec, data).restore(tensors, state.values())


# --- divergence -------------------------------------------------------------------------------------------------------


class Failing(Objective):
    """Another objective, whose loss is not finite at some steps while the learning rate is above a limit."""

    def __init__(self, inner: Objective, state: TrainState, steps: tuple[int, ...], limit: float) -> None:
        super().__init__()
        self.inner, self.state_of, self.steps, self.limit = inner, [state], steps, limit

    def beta(self, step: int) -> float:
        return self.inner.beta(step)

    def scheduled(self, step: int) -> float:
        bad = step in self.steps and self.state_of[0].lr > self.limit
        return float("nan") if bad else self.inner.scheduled(step)

    def forward(self, draw: Any, scheduled: torch.Tensor | float) -> Loss:
        loss: Loss = self.inner(draw, scheduled)
        return loss


def failing(spec: Spec, data: Data, steps: tuple[int, ...], limit: float) -> TrainState:
    state = begin(spec, data)
    state.objective = Failing(state.objective, state, steps, limit)
    return state


def test_a_rollback_goes_on_from_the_last_good_state_with_a_lower_rate() -> None:
    """Step 4, in the second epoch, fails until the rate has been halved twice; then training ends well."""
    data = toy_data()  # 240 examples: 3 batches an epoch
    spec = spec_of({"on_nonfinite": "rollback", "lr": 1e-2})
    state = failing(spec, data, (4,), 0.3e-2)
    events = run_on(state, data, spec.training)
    back = [event for event in events if isinstance(event, RolledBack)]
    assert [(event.epoch, event.step, event.rollbacks) for event in back] == [(2, 3, 1), (2, 3, 2)]
    assert [event.lr for event in back] == [0.5e-2, 0.25e-2]
    assert "the loss" in back[0].problem
    assert "step 4" in back[0].problem
    assert [(event.epoch, event.lr) for event in events if isinstance(event, Epoch)] == [
        (1, 1e-2), (2, 0.25e-2), (3, 0.25e-2)
    ]  # fmt: skip
    # what comes after the last rollback is a training with the lower rate from the first epoch's end on
    other = begin(spec_of({"lr": 1e-2}), data)
    run_on(other, data, Training(epochs=1, batch_size=100, lr=1e-2))
    other.optimizer.lr = 0.25e-2
    run_on(other, data, Training(epochs=3, batch_size=100))
    assert same_weights(state, other)


def test_rollbacks_end_after_the_stated_number() -> None:
    data = toy_data()
    spec = spec_of({"on_nonfinite": "rollback", "max_rollbacks": 2})
    state = failing(spec, data, (4,), 0.0)
    good = begin(spec, data)
    run_on(good, data, Training(epochs=1, batch_size=100))
    events = run_on(state, data, spec.training)
    assert sum(isinstance(event, RolledBack) for event in events) == 2
    end = events[-1]
    assert isinstance(end, Stopped)
    assert (end.reason, end.epoch, end.best_epoch) == ("diverged", 2, 1)


@pytest.mark.parametrize("steps", [4, 5, 6, 7])
def test_rollbacks_are_resumed_bit_for_bit(steps: int) -> None:
    """Also from within the epoch that will be rolled back: its beginning travels along."""
    data = toy_data()
    spec = spec_of({"on_nonfinite": "rollback", "lr": 1e-2})
    whole, first = (failing(spec, data, (5,), 0.8e-2) for _ in range(2))
    run_on(whole, data, spec.training)
    run_on(first, data, spec.training, steps)
    first.objective = first.objective.inner  # type: ignore[assignment]
    second = moved(first, spec, data)
    second.objective = Failing(second.objective, second, (5,), 0.8e-2)
    run_on(second, data, spec.training)
    assert second.rollbacks == whole.rollbacks == 1
    assert same_weights(second, whole)


def test_weights_that_overflow_in_the_last_step_are_no_epoch() -> None:
    """Without a validation split only the weights themselves show it."""
    data = toy_data(validation_fraction=0.0)
    spec = spec_of({"epochs": 1})
    state = begin(spec, data)
    events = fit(state.model, state.objective, data, spec.training, state)
    for event in events:
        if isinstance(event, Step) and event.batch == event.batches:
            with torch.no_grad():
                next(state.model.parameters()).fill_(float("inf"))
            break
    (end,) = events
    assert isinstance(end, Stopped)
    assert end.reason == "diverged"
    assert "weight" in end.problem


@pytest.mark.parametrize("place", ["weights", "records"])
def test_a_state_that_is_not_finite_says_so(place: str) -> None:
    """It must not replace a good checkpoint: none with such numbers is read again."""
    data = toy_data(300)
    state = begin(spec_of(), data)
    run_on(state, data, Training(batch_size=100), steps=1)
    assert state.finite
    with torch.no_grad():
        (state.figures.values if place == "records" else next(state.model.parameters()))[0, 1] = torch.inf
    assert not state.finite


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs of two batches that nothing ever stopped."""
    from typer.testing import CliRunner

    from vaectl.cli import app

    folder = tmp_path_factory.mktemp("reference") / "runs"
    result = CliRunner().invoke(app, ["--runs-dir", str(folder), *SMALL, "--epochs", "3", "-q"])
    assert result.exit_code == 0, result.output
    return folder / "run1"


@pytest.mark.parametrize("batch", [1, 2, 3, 6])
def test_an_interrupted_run_is_resumed_bit_for_bit(
    cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch, reference: Path, batch: int
) -> None:
    """The first Ctrl-C says how to resume; doing so twice is one training."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, batch)
        stopped = cli(*SMALL, "--epochs", 3)
    assert stopped.exit_code == 130
    assert "resume with: vaectl train --resume run1" in stopped.output
    record = json.loads((isolated / "runs/run1/run.json").read_text())
    assert record["status"] == "interrupted"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1, signal.SIGTERM)
        assert cli("train", "--resume", "run1").exit_code == (143 if batch < 6 else 0)
    done = cli("train", "--resume", "run1", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["run"], document["status"], document["best_epoch"]) == ("run1", "completed", 3)
    assert_same_run(isolated / "runs/run1", reference)
    assert len(json.loads((isolated / "runs/run1/run.json").read_text())["resumed"]) == 2 - (batch == 6)


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_second_signal_stops_at_once_and_leaves_the_checkpoint_whole(
    cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch, reference: Path, written: bool, call: int
) -> None:
    """Also where it comes while a checkpoint is written, before or after it counts."""
    write, calls = checkpoints.write_json, []

    def interrupted(path: Path, document: Any) -> None:
        calls.append(path)
        if written:
            write(path, document)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
            time.sleep(SAME_SECONDS + 0.05)
            signal.raise_signal(signal.SIGINT)
        if not written:
            write(path, document)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_json", interrupted)
        stopped = cli(*SMALL, "--epochs", 3)
    assert stopped.exit_code == 130, stopped.output
    assert "resume with" in stopped.output
    assert json.loads((isolated / "runs/run1/run.json").read_text())["status"] == "interrupted"
    assert not [path.name for path in (isolated / "runs/run1").iterdir() if path.name.startswith(".")]
    state = isolated / "runs/run1/state.json"
    done = call if written else call - 1
    assert (json.loads(state.read_text())["epoch"] if state.exists() else 0) == done
    assert cli("train", "--resume", "run1").exit_code == 0
    assert_same_run(isolated / "runs/run1", reference)


def test_one_signal_that_is_sent_twice_is_one(
    cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch, reference: Path
) -> None:
    """timeout(1) signals a process and its group: the second is no reason to leave in haste."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, signal.SIGTERM, times=2)
        stopped = cli(*SMALL, "--epochs", 3)
    assert stopped.exit_code == 143
    assert "in epoch 1, after 2 of 2 batches; progress is saved" in stopped.output
    assert cli("train", "--resume", "run1").exit_code == 0
    assert_same_run(isolated / "runs/run1", reference)


def test_runs_says_how_to_go_on(cli: Cli, isolated: Path, reference: Path) -> None:
    """A run whose process died is crashed, in the list and alone, and the hint works."""
    run = Path(shutil.copytree(reference, isolated / "runs/run1"))
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "running", "metrics": {}}))
    for arguments in (("runs",), ("runs", "run1")):
        result = cli(*arguments)
        assert "crashed" in result.stdout
        assert "run1 is crashed; resume with: vaectl train --resume run1" in result.stderr
    assert cli("train", "--resume", "run1").exit_code == 0
    assert_same_run(run, reference)


def test_two_processes_do_not_both_resume(cli: Cli, isolated: Path, reference: Path) -> None:
    """Of two that begin at once one trains and the other is told so; the run is whole."""
    run = Path(shutil.copytree(reference, isolated / "runs/run1"))
    command = [sys.executable, "-m", "vaectl", "train", "--resume", "run1", "--epochs", "60"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [(*process.communicate(timeout=120), process.returncode) for process in started]
    assert sorted(code for *_, code in ended) in ([0, 1], [0, 0]), ended  # both, where the first was done before
    for stdout, stderr, code in ended:
        assert code == 0 or "is being trained by another process" in stderr
        assert code == 1 or "run1" in stdout
    assert [row["epoch"] for row in rows_of(run)] == list(range(1, 61))


def test_a_rollback_is_said_and_recorded(cli: Cli, isolated: Path) -> None:
    """With a hopeless rate training goes back until it holds; each time is a warning and a line of the log."""
    hopeless = ("--lr", 100, "--grad-clip", 0, "--epochs", 8, "--posterior-scale", "log-variance")
    assert cli(*SMALL, *hopeless).exit_code == 3
    result = cli(*SMALL, *hopeless, "--on-nonfinite", "rollback", "--set", "training.max_rollbacks=40")
    assert result.exit_code == 0, result.output
    assert "rollback 1 of 40" in result.stderr
    assert "rollback 1 of 40" in (isolated / "runs/run2/train.log").read_text()
    assert rows_of(isolated / "runs/run2")[-1]["lr"] < 100
    failed = cli(*SMALL, *hopeless, "--on-nonfinite", "rollback", "--set", "training.max_rollbacks=1")
    assert failed.exit_code == 3
    assert "diverged after 1 rollback:" in failed.output


@pytest.mark.parametrize("name", ["max_rollbacks=5", "rollback_factor=0.1"])
def test_rollback_options_without_rollback_are_refused(cli: Cli, name: str) -> None:
    result = cli(*SMALL, "--dry-run", "--set", f"training.{name}")
    assert result.exit_code == 2
    assert "--on-nonfinite rollback" in result.output


def test_the_events_of_a_resumed_run_are_those_of_one(cli: Cli, isolated: Path, reference: Path) -> None:
    """TensorBoard shows each step once, and the train log says where it was resumed."""
    run = Path(shutil.copytree(reference, isolated / "runs/run1"))
    assert cli("train", "--resume", "run1", "--epochs", 5).exit_code == 0
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [scalar.step for scalar in events.Scalars("Loss/Train")] == [2, 4, 6, 8, 10]
    assert "resumed at epoch 4" in (run / "train.log").read_text()


def test_a_finished_run_is_trained_for_longer(cli: Cli, isolated: Path, reference: Path) -> None:
    """--epochs raised afterwards gives the run that had them from the start; its config says so."""
    run = Path(shutil.copytree(reference, isolated / "runs/run1"))
    result = cli("train", "--resume", "run1", "--epochs", 5)
    assert result.exit_code == 0, result.output
    assert cli(*SMALL, "--epochs", 5, "--name", "whole").exit_code == 0
    whole = isolated / "runs/whole"
    assert_same_run(run, whole)
    assert json.loads((run / "config.json").read_text())["training"]["epochs"] == 5
    assert json.loads((run / "run.json").read_text())["sources"]["training.epochs"] == "flag"
    for command in ("eval run1", "eval run1 --checkpoint last", "sample run1", "compare run1 whole"):
        assert cli(*command.split()).exit_code == 0, command


def test_a_finished_run_has_nothing_left(cli: Cli, isolated: Path, reference: Path) -> None:
    """Exit 0, the same result, and no file changed."""
    run = Path(shutil.copytree(reference, isolated / "runs/run1"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = cli("train", "--resume", "run1", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["metrics"] == json.loads((run / "run.json").read_text())["metrics"]
    assert "nothing left to resume" in cli("train", "--resume", "run1").output
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_record_whose_likelihood_does_not_fit_its_data_is_damaged(cli: Cli, isolated: Path, reference: Path) -> None:
    run = Path(shutil.copytree(reference, isolated / "runs/run1"))
    record = json.loads((run / "run.json").read_text())
    record["dataset"]["support"] = "real"
    (run / "run.json").write_text(json.dumps(record))
    result = cli("train", "--resume", "run1")
    assert result.exit_code == 1, result.output
    assert "run.json is damaged" in result.output


def test_an_evaluation_that_was_interrupted_is_made_up_for(
    cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch, reference: Path
) -> None:
    """A trained run whose test split was not evaluated is complete again after --resume."""
    from vaectl.runs import training

    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "evaluate_into", stop)
        result = cli(*SMALL, "--epochs", 3)
    assert result.exit_code == 130
    assert "run1 is trained, but its evaluation was interrupted" in result.output
    assert cli("train", "--resume", "run1").exit_code == 0
    assert_same_run(isolated / "runs/run1", reference)


def test_hints_work_as_they_are_typed(cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is not in the usual folder is named by its path."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        stopped = cli("--runs-dir", "else where", *SMALL, "--epochs", 2)
    hint = "vaectl train --resume 'else where/run1'"
    assert hint in stopped.output
    assert hint in cli("--runs-dir", "else where", "runs", "run1").stderr
    done = cli(*shlex.split(hint)[1:])
    assert done.exit_code == 0, done.output
    assert f"vaectl sample '{isolated}/else where/run1'" in done.output
    assert not (isolated / "runs").exists()


def test_data_that_moved(cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old folder is named; once the new one was, it is remembered; a finished run needs no data to say so."""
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
    write_mnist(isolated / "old")
    train = ("train", "--dataset", "mnist", "--hidden-dims", 4, "--epochs", 2)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        assert cli(*train, "--data-dir", "old").exit_code == 130
    (isolated / "old").rename("new")
    missed = cli("train", "--resume", "run1")
    assert missed.exit_code == 1
    assert "was trained on data in" in missed.output
    assert "--data-dir" in missed.output
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        assert cli("train", "--resume", "run1", "--data-dir", "new").exit_code == 130
    assert cli("train", "--resume", "run1").exit_code == 0
    shutil.rmtree("new")
    again = cli("train", "--resume", "run1")
    assert again.exit_code == 0
    assert "nothing left to resume" in again.output


def test_a_trained_run_without_its_checkpoint_is_not_begun_anew(cli: Cli, isolated: Path, reference: Path) -> None:
    run = Path(shutil.copytree(reference, isolated / "runs/run1"))
    for name in (*FILES, "state.json"):
        (run / name).unlink()
    result = cli("train", "--resume", "run1", "--epochs", 4)
    assert result.exit_code == 1
    assert "--from run1" in result.output
    assert len(rows_of(run)) == 3


def test_epochs_that_the_history_lost_are_named(cli: Cli, isolated: Path, reference: Path) -> None:
    """A torn line of an epoch that is in the checkpoint cannot be made again; what the record knows is kept."""
    run = Path(shutil.copytree(reference, isolated / "runs/run1"))
    file = run / "metrics.jsonl"
    file.write_text(file.read_text()[:-40])
    result = cli("train", "--resume", "run1", "--epochs", 4)
    assert result.exit_code == 0, result.output
    assert "lacks epoch 3" in result.stderr
    assert [row["epoch"] for row in rows_of(run)] == [1, 2, 4]


def test_patience_may_be_another_one(cli: Cli, isolated: Path) -> None:
    """A run that patience stopped goes on without it, or with more of it."""
    stopped = cli(*SMALL, "--epochs", 40, "--patience", 1, "--lr", 0.2)
    assert stopped.exit_code == 0
    epochs = len(rows_of(isolated / "runs/run1"))
    assert epochs < 40
    assert "nothing left" in cli("train", "--resume", "run1").output
    more = cli("train", "--resume", "run1", "--epochs", 50)
    assert more.exit_code == 0
    assert "--patience 1 ended the training; continue with a larger --patience, or with --patience 0" in more.stderr
    assert cli("train", "--resume", "run1", "--patience", 0, "--epochs", epochs + 1).exit_code == 0
    assert len(rows_of(isolated / "runs/run1")) == epochs + 1


@pytest.mark.parametrize(
    "flags",
    ["--lr 0.1", "--latent-dim 3", "--dataset glyphs", "--seed 1", "--name x", "--set objective.beta=2", "--from run1",
     "-c config.toml", "--dry-run", "--model iwae", "--on-nonfinite rollback"],
)  # fmt: skip
def test_other_flags_point_to_from(cli: Cli, isolated: Path, reference: Path, flags: str) -> None:
    run = Path(shutil.copytree(reference, isolated / "runs/run1"))
    before = (run / "run.json").read_bytes()
    result = cli("train", "--resume", "run1", *flags.split())
    assert result.exit_code == 2, result.output
    assert flags.split()[0].replace("-c", "--config", flags.startswith("-c")) in result.output
    assert "--from" in result.output
    assert (run / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "named"),
    [("--epochs 2", "--epochs"), ("--epochs 0", "--epochs"), ("--epochs x", "--epochs"), ("--device tpu", "--device"),
     ("--patience -1", "--patience"), ("--checkpoint-minutes -1", "--checkpoint-minutes")],
)  # fmt: skip
def test_values_that_a_run_cannot_be_resumed_with(
    cli: Cli, isolated: Path, reference: Path, flags: str, named: str
) -> None:
    """Fewer epochs than were trained, and what is no such number."""
    run = Path(shutil.copytree(reference, isolated / "runs/run1"))
    before = (run / "run.json").read_bytes()
    result = cli("train", "--resume", "run1", *flags.split())
    assert result.exit_code == 2, result.output
    assert named in result.output
    assert (run / "run.json").read_bytes() == before


def test_an_error_names_the_flag_that_was_typed(cli: Cli, isolated: Path) -> None:
    assert cli(*SMALL, "--epochs", 1, "--validation-fraction", 0).exit_code == 0
    result = cli("train", "--resume", "run1", "--epochs", 2, "--patience", 1)
    assert result.exit_code == 2, result.output
    assert "--patience needs a validation split" in result.stderr


@pytest.mark.parametrize(
    ("batch", "place"), [(1, "epoch 1, batch 2 of 2"), (2, "the end of epoch 1"), (3, "epoch 2, batch 2 of 2")]
)
def test_a_run_says_where_it_goes_on(
    cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch, batch: int, place: str
) -> None:
    """After the last batch of an epoch only its validation is missing."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, batch)
        assert cli(*SMALL, "--epochs", 2).exit_code == 130
    assert f"run1  resumed at {place}\n" in cli("train", "--resume", "run1").stderr


def test_what_a_killed_process_left_half_written_is_swept(cli: Cli, isolated: Path, reference: Path) -> None:
    """Files of ours, and the one that safetensors writes to before it renames it."""
    run = Path(shutil.copytree(reference, isolated / "runs/run1"))
    for name in (".run.tmp-0123456789ab.json", ".tmpa1B2c3"):
        (run / name).write_text("half")
    assert cli("train", "--resume", "run1").exit_code == 0
    assert_same_run(run, reference)


def test_weights_are_as_readable_as_the_rest(reference: Path) -> None:
    """safetensors writes files that only their owner may read; a run is for whom the umask lets read it."""
    modes = {path.name: path.stat().st_mode for path in reference.iterdir() if path.is_file()}
    assert set(modes) >= {*FILES, "state.json"}
    assert len(set(modes.values())) == 1, modes


HOLD = """
import fcntl, sys, time
log = open(sys.argv[1], "a")
fcntl.flock(log, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_a_run_in_training_is_not_resumed(cli: Cli, isolated: Path, reference: Path) -> None:
    """Another process holds its lock: exit 1, and nothing is touched."""
    run = Path(shutil.copytree(reference, isolated / "runs/run1"))
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run / "train.log")], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        before = (run / "run.json").read_bytes()
        result = cli("train", "--resume", "run1", "--epochs", 9)
        assert result.exit_code == 1
        assert "run1 is being trained by another process" in result.output
        assert (run / "run.json").read_bytes() == before
    finally:
        process.kill()
        process.communicate()
    assert cli("train", "--resume", "run1", "--epochs", 4).exit_code == 0


@pytest.mark.parametrize("torn", ['{"epoch": 3, "st', "\0\0\0", '{"epoch": 4}\n{"ep'])
def test_a_torn_line_of_the_history_is_dropped_with_a_note(
    cli: Cli, isolated: Path, reference: Path, torn: str
) -> None:
    """What was appended after the checkpoint is dropped, too: those epochs are done again."""
    run = Path(shutil.copytree(reference, isolated / "runs/run1"))
    with (run / "metrics.jsonl").open("a") as file:
        file.write(torn)
    result = cli("train", "--resume", "run1", "--epochs", 4)
    assert result.exit_code == 0, result.output
    assert "incomplete last line" in result.output
    assert [row["epoch"] for row in rows_of(run)] == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["state.json", "last.safetensors", "optimizer.safetensors", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "foreign"])
def test_a_damaged_checkpoint_is_named(cli: Cli, isolated: Path, reference: Path, name: str, damage: str) -> None:
    """Exit 1 and the file's name; no other file is changed, and nothing is trained."""
    run = Path(shutil.copytree(reference, isolated / "runs/run1"))
    content = bytearray((run / name).read_bytes())
    (run / name).unlink()
    if damage == "truncated":
        (run / name).write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[-9] ^= 1 if name != "state.json" else 0x80
        (run / name).write_bytes(content)
    elif damage == "foreign":
        shutil.copy(run / "run.json", run / name)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = cli("train", "--resume", "run1", "--epochs", 4)
    assert result.exit_code == 1, result.output
    assert name in result.output
    assert "internal error" not in result.output
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(
    cli: Cli, isolated: Path, reference: Path
) -> None:
    """There is a record, and perhaps the row of an epoch that was not saved any more."""
    run = Path(shutil.copytree(reference, isolated / "runs/run1"))
    for name in (*FILES, "state.json"):
        (run / name).unlink()
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "running", "metrics": {}, "best_epoch": None}))
    (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text().splitlines(keepends=True)[0])
    assert cli("train", "--resume", "run1").exit_code == 0
    assert_same_run(run, reference)


# --- killed at any write ----------------------------------------------------------------------------------------------


class Camera:
    """Copies a folder before everything that Python does to a file in it: what a kill at that moment would leave."""

    EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "shutil.rmtree")

    def __init__(self, folder: Path, album: Path) -> None:
        self.folder, self.album, self.on, self.taken = folder, album, False, 0
        sys.addaudithook(self._see)  # which can never be removed, so it has a switch

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or event not in self.EVENTS or not isinstance(arguments[0], str | os.PathLike):
            return
        reads = event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if reads or not str(arguments[0]).startswith(str(self.folder)):
            return
        self.on = False
        if (self.folder / "run1/run.json").exists():
            self.taken += 1
            shutil.copytree(self.folder, self.album / str(self.taken))
        self.on = True


@pytest.fixture
def snapshots(cli: Cli, isolated: Path) -> list[Path]:
    """The runs folder as it was before each change of a file while a run was trained, with a checkpoint a batch."""
    camera = Camera(isolated / "runs", isolated / "album")
    camera.on = True
    try:
        assert cli("--runs-dir", isolated / "runs", *SMALL, "--epochs", 3, "--checkpoint-minutes", 0).exit_code == 0
    finally:
        camera.on = False
    return [isolated / "album" / str(number + 1) for number in range(camera.taken)]


def check_snapshots(cli: Cli, snapshots: list[Path], reference: Path) -> None:
    for runs in snapshots:
        listed = json.loads(cli("--runs-dir", runs, "runs", "--json").stdout)
        assert listed[0]["status"] in ("crashed", "completed"), runs
        result = cli("--runs-dir", runs, "train", "--resume", "run1", "-q")
        assert result.exit_code == 0, (runs, result.output)
        assert_same_run(runs / "run1", reference)


def test_killed_before_a_write_a_run_is_resumed_bit_for_bit(cli: Cli, snapshots: list[Path], reference: Path) -> None:
    """Some of the moments before a file is opened, renamed, removed or made: the run is listed, and goes on."""
    assert len(snapshots) > 100
    check_snapshots(cli, snapshots[::7], reference)


@pytest.mark.slow
def test_killed_before_any_write_a_run_is_resumed_bit_for_bit(cli: Cli, snapshots: list[Path], reference: Path) -> None:
    """All of these moments."""
    check_snapshots(cli, snapshots, reference)
