"""The figures of training steps every so many steps: events, ``steps.jsonl``, TensorBoard, and the loss at the bar."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import Cli, interrupt_at
from tests.support.runs import begin, moved, run_on
from tests.support.specs import spec_of
from tests.support.toys import toy_data
from vaectl.config.spec import Part
from vaectl.runs import history
from vaectl.training.trainer import Epoch, Event, Logged, Step

TRAIN = ("train", "--dataset", "digits", "--hidden-dims", "8", "--latent-dim", "2")


def logged(events: list[Event]) -> list[Logged]:
    return [event for event in events if isinstance(event, Logged)]


def rows(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("runs", run, "steps.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("every", "steps", "over"),
    [
        (1, [*range(1, 13)], [1] * 12),
        (3, [3, 6, 9, 12], [3, 2, 1, 3]),  # epochs of 4 steps, whose figures are not mixed with the epoch before
        (5, [4, 5, 10], [4, 1, 2]),
        (6, [4, 6, 12], [4, 2, 4]),
        (100, [4, 8, 12], [4, 4, 4]),
        (0, [4, 8, 12], [4, 4, 4]),
    ],
)
def test_figures_are_reported_every_so_many_steps_and_at_least_once_an_epoch(
    every: int, steps: list[int], over: list[int]
) -> None:
    data = toy_data(train=400)  # 320 examples
    spec = spec_of({"batch_size": 100, "epochs": 3, "log_every": every})
    events = run_on(begin(spec, data), data, spec.training)
    assert [event.step for event in logged(events)] == steps
    assert [event.steps for event in logged(events)] == over
    following = [after for event, after in itertools.pairwise(events) if isinstance(event, Logged)]
    assert [event.step for event in following if isinstance(event, Step)] == steps


def test_the_figures_are_means_over_the_examples_of_those_steps() -> None:
    """From reports of single steps: the last batch of 20 counts a fifth of the one of 100 before it."""
    data = toy_data(train=400)
    by_step, by_two = (
        logged(run_on(begin(spec, data), data, spec.training))
        for spec in (spec_of({"batch_size": 100, "epochs": 1, "log_every": every}) for every in (1, 2))
    )
    for pair, sizes, mean in zip((by_step[:2], by_step[2:]), ((100, 100), (100, 20)), by_two, strict=True):
        weights = torch.tensor(sizes).double() / sum(sizes)
        for name in ("loss", "recon", "kl"):
            values = torch.tensor([getattr(event, name) for event in pair]).double()
            assert getattr(mean, name) == pytest.approx((weights @ values).item(), rel=1e-6)
        assert mean.grad_norm == pytest.approx((pair[0].grad_norm + pair[1].grad_norm) / 2)


def test_the_warm_up_is_seen_within_an_epoch() -> None:
    data = toy_data(train=400)
    spec = spec_of({"batch_size": 80, "epochs": 2, "log_every": 1}, objective=Part("elbo", {"warmup_epochs": 2}))
    betas = [event.beta for event in logged(run_on(begin(spec, data), data, spec.training))]
    assert betas == pytest.approx([step / 8 for step in range(1, 9)])


@pytest.mark.parametrize("every", [1, 3, 0])
def test_the_cadence_changes_no_weight_and_no_figure_of_an_epoch(every: int) -> None:
    data = toy_data()
    results = []
    for log_every in (100, every):
        spec = spec_of({"batch_size": 50, "epochs": 2, "log_every": log_every})
        state = begin(spec, data)
        epochs = [event for event in run_on(state, data, spec.training) if isinstance(event, Epoch)]
        results.append(
            ([(epoch.loss, epoch.grad_norm, epoch.validation) for epoch in epochs], state.model.state_dict())
        )
    (before, weights), (after, others) = results
    assert before == after
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("steps", [1, 4, 5, 7])
def test_a_stopped_training_goes_on_with_the_same_reports(steps: int) -> None:
    data = toy_data(train=400)
    spec = spec_of({"batch_size": 60, "epochs": 2, "log_every": 5})
    expected = logged(run_on(begin(spec, data), data, spec.training))
    first = begin(spec, data)
    before = run_on(first, data, spec.training, steps)
    after = run_on(moved(first, spec, data), data, spec.training)
    assert logged(before) + logged(after) == expected


def test_steps_and_tensorboard_have_a_point_every_so_many_steps(cli: Cli) -> None:
    assert cli(*TRAIN, "--epochs", 2, "--batch-size", 100, "--log-every", 4, "--warmup-epochs", 2).exit_code == 0
    steps = rows("run1")
    assert [row["step"] for row in steps] == [4, 8, 12, 16, 20, 24, 28]  # 14 steps an epoch
    assert all(
        row.keys() == {"epoch", "step", "steps", "loss", "recon", "kl", "beta", "grad_norm", "lr"} for row in steps
    )
    events = EventAccumulator("runs/run1/tensorboard", size_guidance={"scalars": 0}).Reload()
    for tag, name in (("Loss/Train", "loss"), ("KL/beta", "beta"), ("GradNorm/Train", "grad_norm")):
        points = {point.step: point.value for point in events.Scalars(tag)}
        assert points == pytest.approx({row["step"]: row[name] for row in steps}, rel=1e-6)
    assert [point.step for point in events.Scalars("ELBO/Validation")] == [14, 28]


def test_a_resumed_run_has_each_row_once(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows after the checkpoint, and lines torn by a power cut, are dropped and written again."""
    options = (*TRAIN, "--epochs", 2, "--batch-size", 100, "--log-every", 4)
    assert cli(*options).exit_code == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, 15)
        assert cli(*options).exit_code == 130
    file = Path("runs/run2/steps.jsonl")
    file.write_text('{"step": 4, "ep\n' + file.read_text() + '{"step": 16, "loss": 1.0}\n\x00\x00{"st')
    assert cli("train", "--resume", "run2").exit_code == 0
    assert rows("run2") == rows("run1")


def test_rows_of_a_run_of_an_older_version_begin_where_it_is_resumed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 15)
        assert cli(*TRAIN, "--epochs", 2, "--batch-size", 100, "--log-every", 4).exit_code == 130
    Path("runs/run1/steps.jsonl").unlink()
    assert cli("train", "--resume", "run1").exit_code == 0
    assert [row["step"] for row in rows("run1")] == [16, 20, 24, 28]


def test_a_rollback_drops_the_rows_of_the_steps_that_are_taken_again(tmp_path: Path) -> None:
    file = tmp_path / history.STEPS
    for step in range(4, 20, 4):
        history.append(file, {"step": step}, lasting=False)
    history.rewind(file, 8)
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [4, 8]
    history.rewind(tmp_path / "missing.jsonl", 8)
    assert [path.name for path in tmp_path.iterdir()] == [history.STEPS]


@pytest.mark.parametrize("every", ["-1", "1.5", "x"])
def test_another_cadence_is_refused(cli: Cli, every: str) -> None:
    result = cli(*TRAIN, "--log-every", every)
    assert result.exit_code == 2
    assert "--log-every" in result.stderr
    assert every in result.stderr


def test_the_loss_stands_beside_the_bar(cli: Cli) -> None:
    """In plain progress, too: a heartbeat names the loss of the last steps."""
    from vaectl.commands.shared.render import Screen
    from vaectl.commands.train.screen import EpochScreen

    screen = EpochScreen(Screen(quiet=False, verbose=False, as_json=False, progress="plain"), spec_of({}), 3)
    step = Step(epoch=1, step=4, batch=4, batches=12, examples=100)
    assert screen.standing(step)["loss"] == ""
    screen.on(Logged(1, 4, 4, 146.204, 140.0, 6.2, 1.0, {}, 3.0, 1e-3))
    assert screen.standing(step)["loss"] == "loss 146.20"
