"""Data that are read as they are needed: to the bit what they are in memory, and in bounded memory."""

from __future__ import annotations

import dataclasses
import json
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import Cli, interrupt_at
from vaectl.config.recipes import vae
from vaectl.config.spec import Part, Training
from vaectl.data import loading
from vaectl.data.base import Data, Loading
from vaectl.data.examples import Examples
from vaectl.data.own import loading as own
from vaectl.data.own import streamed
from vaectl.data.own.ahead import PENDING_BYTES, WORKERS, ahead
from vaectl.data.own.streamed import StreamedSplit
from vaectl.errors import DataError, SettingError
from vaectl.evaluation.metrics import evaluate
from vaectl.model.builder import build
from vaectl.system.runtime import memory
from vaectl.training.state import TrainState
from vaectl.training.trainer import Epoch, Step, fit

SHAPES: dict[str, Any] = {
    "bytes": lambda random: random.integers(0, 256, (90, 6, 5, 3), dtype=np.uint8),
    "unit": lambda random: random.random((90, 6, 5)),
    "real": lambda random: random.normal(size=(90, 12)),
}


def load(path: Path, **options: Any) -> Data:
    return loading.load(str(path), Loading(Path("nowhere")), **options)


def photos(root: Path, n: int = 60) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (n, 9, 7, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        (root / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / "ab"[number % 2] / f"{number}.png")
    return root


@pytest.fixture(params=[*SHAPES, "folder"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An array file of each kind of numbers, and a folder of images."""
    if request.param == "folder":
        return photos(tmp_path / "photos")
    np.save(tmp_path / f"{request.param}.npy", SHAPES[request.param](np.random.default_rng(0)))
    return tmp_path / f"{request.param}.npy"


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """What reads ahead ends with what it reads for."""
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vaectl-reader")]


def test_streamed_data_are_resident_data(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The description, every batch, every row and label; also where a batch is read in many pieces."""
    monkeypatch.setattr(streamed, "PIECE_BYTES", 500)
    resident, stream = load(path), load(path, storage="stream")
    assert isinstance(stream.train, StreamedSplit)
    assert stream.info == resident.info
    assert stream.report is not None
    assert resident.report is not None
    assert dataclasses.replace(stream.report, streamed=False) == resident.report
    for name in ("train", "validation", "test"):
        there, here = stream.split(name), resident.split(name)
        assert len(there) == len(here)
        assert torch.equal(there.rows, here.rows)
        assert torch.equal(there.labels, here.labels)
        assert torch.equal(values(there, 7), values(here, 7))
        assert np.array_equal(np.concatenate([*there.stored(4)]), np.concatenate([*here.stored(4)]))
    index = torch.tensor([4, 1, 1, 20])
    assert torch.equal(stream.train.batch(index).x, resident.train.batch(index).x)
    assert torch.equal(stream.train.first(5).batch(slice(1, 3)).x, resident.train.batch(slice(1, 3)).x)
    order = torch.randperm(len(resident.train))
    for start in (0, 2):
        ours, theirs = stream.train.feed(order, 8, start), resident.train.feed(order, 8, start)
        for given, index in zip(ours, theirs, strict=True):
            assert torch.equal(stream.train.training_batch(given).x, resident.train.training_batch(index).x)


def values(examples: Examples, size: int) -> torch.Tensor:
    """All of a split's values, taken in batches of a size."""
    return torch.cat([batch.x for batch in examples.batches(size)])


def trained(
    path: Path, storage: str, *, fast: bool = True, break_at: int | None = None, **options: Any
) -> dict[str, torch.Tensor]:
    """The weights after two epochs, maybe through a new process's state in the middle of one."""
    spec = dataclasses.replace(
        vae(), latent_dim=2, likelihood=Part("gaussian"), training=Training(epochs=2, batch_size=16),
        encoder=Part("mlp", {"hidden_dims": (8,)}), decoder=Part("mlp", {"hidden_dims": (8,)}),
    )  # fmt: skip
    if "binarize" in options:
        spec = dataclasses.replace(spec, likelihood=Part("bernoulli"))
    loaded = load(path, storage=storage, **options)
    model, objective = build(spec, loaded.info)
    state = TrainState(model, objective, spec.training, len(loaded.train))
    events, steps = fit(model, objective, loaded, spec.training, state, fast=fast), 0
    for event in events:
        steps += isinstance(event, Step)
        if steps == break_at:
            kept = {name: value.clone() for name, value in model.state_dict().items()}, state.tensors(), state.values()
            events.close()
            model, objective = build(spec, loaded.info)
            model.load_state_dict(kept[0])
            state = TrainState(model, objective, spec.training, len(loaded.train))
            state.restore({name: value.clone() for name, value in kept[1].items()}, kept[2])
            list(fit(model, objective, loaded, spec.training, state, fast=fast))
            break
    return model.state_dict()


@pytest.mark.parametrize("fast", [True, False])
def test_training_on_a_stream_is_training_in_memory(path: Path, fast: bool) -> None:
    """The same weights to the bit, whether steps are repeated from a recording or not."""
    ours, theirs = trained(path, "stream", fast=fast), trained(path, "resident", fast=fast)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("break_at", [1, 3, 6])
def test_a_stream_goes_on_in_mid_epoch(path: Path, break_at: int) -> None:
    ours, theirs = trained(path, "stream", break_at=break_at), trained(path, "resident")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
@pytest.mark.parametrize("name", ["bytes.npy", "unit.npy", "photos", "splits"])
def test_binary_draws_of_a_stream_are_those_of_memory(tmp_path: Path, name: str, kind: str) -> None:
    """What is evaluated, and what is trained on: also where the source brings its own splits."""
    path = tmp_path / name
    if name == "splits":
        for part in ("train", "val", "test"):
            photos(path / part, 20)
    elif name == "photos":
        photos(path)
    else:
        np.save(path, SHAPES[path.stem](np.random.default_rng(0)))
    chosen = {"binarize": kind, "binarize_seed": 3}
    resident, stream = load(path, **chosen), load(path, storage="stream", **chosen)
    assert stream.info == resident.info
    assert stream.info.support == "binary"
    for split in ("train", "validation", "test"):
        there, here = (values(data.split(split), 9) for data in (stream, resident))
        assert torch.equal(there, here)
        assert set(there.unique().tolist()) == {0.0, 1.0}
    ours, theirs = (trained(path, storage, break_at=2, **chosen) for storage in ("stream", "resident"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_evaluation_of_a_stream_is_that_of_memory(path: Path) -> None:
    resident, stream = load(path), load(path, storage="stream")
    spec = dataclasses.replace(vae(), latent_dim=2, likelihood=Part("gaussian"))
    model, _ = build(spec, resident.info)
    assert evaluate(model, stream.test).metrics() == evaluate(model, resident.test).metrics()


SMALL = ("--epochs", 2, "--hidden-dims", 8, "--latent-dim", 2, "--batch-size", 8, "--json")


def weights_of(run: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(Path("runs") / run / "last.safetensors")


def test_an_interrupted_streamed_run_resumes_to_the_same_bits(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command line: interrupted in an epoch and resumed, streamed; and never interrupted, resident."""
    photos(tmp_path / "photos")
    assert cli("train", "--dataset", "photos", *SMALL).exit_code == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, 8)
        stopped = cli("train", "--dataset", "photos", "--set", "data.storage=stream", *SMALL)
    assert stopped.exit_code == 130
    assert "after 1 of 7 batches" in stopped.output
    resumed = cli("train", "--resume", "run2", "--json")
    assert resumed.exit_code == 0, resumed.output
    ours, theirs = weights_of("run2"), weights_of("run1")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    commands = (
        "eval run2", "sample run2 --reconstruct -n 4", "sample run2 --interpolate -n 4", "embed run2",
        "plot-latent run2", "plot-latent run2 --kind traversal", "compare run1 run2 -o report.html",
    )  # fmt: skip
    for command in commands:
        result = cli(*command.split())
        assert result.exit_code == 0, result.output
    compared = json.loads(cli("compare", "run1", "run2", "--json").stdout)
    assert compared["comparable"]
    assert all(metric["delta"] == [None, 0] for metric in compared["metrics"])


def test_what_is_large_streams_by_itself_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", SHAPES["bytes"](np.random.default_rng(0)))
    monkeypatch.setattr(own, "memory", lambda: 20_000)
    notes: list[str] = []
    loaded = loading.load(str(tmp_path / "x.npy"), Loading(tmp_path, note=notes.append))
    assert isinstance(loaded.train, StreamedSplit)
    assert any("streamed" in note for note in notes)
    assert not isinstance(load(tmp_path / "x.npy", storage="resident").train, StreamedSplit)
    assert memory() > 20_000


def test_the_memory_of_a_stream_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """A pass over 60 MB, to describe it and to train on it, takes a few MB for each thread."""
    array = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (20_000, 56, 56))
    array[::7] = 200
    array.flush()
    del array
    tracemalloc.start()
    try:
        loaded = load(tmp_path / "x.npy", storage="stream")
        for _ in loaded.train.feed(torch.randperm(len(loaded.train)), 128):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (2 * WORKERS + 4) * (1 << 23)


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_what_is_read_whole_cannot_stream(tmp_path: Path, suffix: str) -> None:
    numbers = np.random.default_rng(0).normal(size=(40, 3))
    file = tmp_path / f"x{suffix}"
    if suffix == ".npz":
        np.savez_compressed(file, x=numbers)
    else:
        np.savetxt(file, numbers, delimiter=",")
    with pytest.raises(SettingError, match=r"data\.storage.*\.npy"):
        load(file, storage="stream")


def test_a_file_that_is_gone_bad_since_is_named(tmp_path: Path) -> None:
    loaded = load(photos(tmp_path / "photos"), storage="stream")
    assert isinstance(loaded.train, StreamedSplit)
    name = loaded.train.source.name(int(loaded.train.positions[5]))
    (tmp_path / "photos" / name).write_bytes(b"")
    with pytest.raises(DataError, match=name):
        list(loaded.train.batches(10))


def test_reading_ahead_is_bounded_in_order_and_ends() -> None:
    """No more is begun than two pieces for each thread; an error comes where its piece does."""
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 50:
            raise ValueError("fifty")
        return item

    results = ahead(work, range(100), PENDING_BYTES // 4)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(begun) <= 9
    with pytest.raises(ValueError, match="fifty"):
        list(results)
    results = ahead(work, range(20), PENDING_BYTES // 4)
    next(results)
    results.close()


def test_epochs_of_a_stream_have_the_pace_of_a_training(tmp_path: Path) -> None:
    """An epoch's events are those of a training in memory."""
    loaded = load(photos(tmp_path / "photos"), storage="stream")
    spec = dataclasses.replace(vae(), latent_dim=2, training=Training(epochs=1, batch_size=20))
    model, objective = build(spec, loaded.info)
    events = list(fit(model, objective, loaded, spec.training))
    assert [event.examples for event in events if isinstance(event, Step)] == [20, 20, 10]
    assert sum(isinstance(event, Epoch) for event in events) == 1
