"""Trainings that are begun, stopped and carried elsewhere, and what two of them must have in common."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from vaectl.config.spec import Spec, Training
from vaectl.data.base import Data
from vaectl.model.builder import build
from vaectl.runs.checkpoints import FILES
from vaectl.training.state import TrainState
from vaectl.training.trainer import Epoch, Event, Step, fit

TIMES = ("seconds", "images_per_second")


# --- in memory --------------------------------------------------------------------------------------------------------


def begin(spec: Spec, data: Data) -> TrainState:
    """The state of a training that has taken no step."""
    model, objective = build(spec, data.info)
    return TrainState(model, objective, spec.training, len(data.train))


def run_on(state: TrainState, data: Data, training: Training, steps: int | None = None) -> list[Event]:
    """The events of a training until it has taken so many more steps, or until it ends."""
    events = fit(state.model, state.objective, data, training, state)
    seen: list[Event] = []
    for event in events:
        seen.append(event)
        if steps is not None and sum(isinstance(e, Step) for e in seen) == steps:
            break
    return seen


def moved(state: TrainState, spec: Spec, data: Data) -> TrainState:
    """The state as another process would have it: by way of plain numbers as JSON, and of copied tensors."""
    weights = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    tensors = {name: tensor.clone() for name, tensor in state.tensors().items()}
    values = json.loads(json.dumps(state.values(), allow_nan=False))
    other = begin(spec, data)
    torch.manual_seed(12345)  # another process's stream is elsewhere
    other.model.load_state_dict(weights)
    other.restore(tensors, values)
    return other


def figures(events: list[Event]) -> list[dict[str, Any]]:
    """What the epochs among some events say, but for their times."""
    rows = [dataclasses.asdict(event) for event in events if isinstance(event, Epoch)]
    return [_without_times(row) for row in rows]


def same_weights(one: TrainState, other: TrainState) -> bool:
    """Whether two models have the same weights, bit for bit."""
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def tensors_and_figures(spec: Spec, data: Data, *, fast: bool) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """All tensors after a training, recorded or plain, and what its epochs say."""
    state = begin(spec, data)
    events = list(fit(state.model, state.objective, data, spec.training, state, fast=fast))
    return {**state.model.state_dict(), **state.tensors()}, figures(events)


# --- in a folder ------------------------------------------------------------------------------------------------------


def rows_of(run: Path) -> list[dict[str, Any]]:
    """A run's history, but for its times."""
    return [_without_times(json.loads(line)) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(run: Path, expected: Path) -> None:
    """Two completed runs are the same, bit for bit, but for times and for how they came about."""
    for name in FILES:
        ours, theirs = (load_file(folder / name) for folder in (run, expected))
        assert ours.keys() == theirs.keys(), name
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    # but for the best weights of an epoch before, whose header may say what was first asked for
    assert (run / "last.safetensors").read_bytes() == (expected / "last.safetensors").read_bytes()
    assert rows_of(run) == rows_of(expected)
    assert (run / "steps.jsonl").read_text() == (expected / "steps.jsonl").read_text()
    ours, theirs = (json.loads((folder / "run.json").read_text()) for folder in (run, expected))
    for name in ("status", "config", "best_epoch", "validation", "metrics", "parameters"):
        assert ours[name] == theirs[name], name
    assert ours["status"] == "completed"
    state, other = (json.loads((folder / "state.json").read_text()) for folder in (run, expected))
    assert state == other
    hidden = [path.name for path in run.iterdir() if path.name.startswith(".")]
    assert not hidden


def replica(folder: Path, source: str, name: str, by: float, **training: Any) -> str:
    """A run like another with other settings of training, every test image better by so many nats; its id."""
    path = Path(shutil.copytree(folder / source, folder / name))
    record = json.loads((path / "run.json").read_text())
    record["config"]["training"] |= training
    file = path / "evaluations" / "test-best.json"
    values = json.loads(file.read_text())
    values["elbo"] = [value + by for value in values["elbo"]]
    record["evaluations"][0]["metrics"]["elbo"] += by
    file.write_text(json.dumps(values))
    (path / "run.json").write_text(json.dumps(record))
    return name


def _without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in TIMES}
