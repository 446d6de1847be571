"""On a CUDA GPU: training, evaluation and the commands do what they do on the CPU; ``just cuda`` runs these tests.

Sums of fp32 numbers are added in another order there, and some kernels in a new order each time. Weights of two
trainings are therefore held against how far training moved them, and a test notes in its report whether they were
equal to the bit; figures of the same weights are held against the CPU's up to rounding, or where they are made of
other draws up to five standard errors.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.conftest import Cli, interrupt_at
from tests.support.combinations import COMBINATIONS, combined
from tests.support.combinations import usual as usual_parts
from tests.support.kills import kill_runs
from tests.support.toys import toy_data
from vaectl.config.recipes import RECIPES
from vaectl.config.spec import Part, Spec, Training
from vaectl.data import loading
from vaectl.data.base import Data, Loading, Split
from vaectl.data.own.streamed import StreamedSplit
from vaectl.evaluation import latents
from vaectl.evaluation.disentanglement import disentanglement
from vaectl.evaluation.importance import importance_bound
from vaectl.evaluation.information import information
from vaectl.evaluation.metrics import evaluate
from vaectl.model.vae import VAE, Draw
from vaectl.system.runtime import random_state, resolve_device, set_random_state
from vaectl.training import replay
from vaectl.training.replay import Graph, repeated
from vaectl.training.state import TrainState
from vaectl.training.trainer import Epoch, RolledBack, Step, Stopped, fit, prepare

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
CPU, DEVICE = torch.device("cpu"), torch.device("cuda")

# how far two trainings may end from each other, over how far one of them went: rounding, which Adam makes larger where
# a gradient is next to nothing, stays below the first; a code that falls to another vector is more than rounding
DRIFT, DRIFT_OF_CODES = 0.01, 0.1
ERRORS = 5
Note = Callable[[str, object], None]


@pytest.fixture(autouse=True)
def as_the_commands_set_it() -> None:
    """Convolutions in true fp32."""
    assert resolve_device("cuda") == DEVICE


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """The recordings that a test's trainings make."""
    made: list[Graph] = []

    class Noted(Graph):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(replay, "Graph", Noted)
    return made


def toys() -> Data:
    """240 training examples: with batches of 50 four full ones in an epoch, and one of 40."""
    return toy_data().to(DEVICE)


def short(spec: Spec, **training: Any) -> Spec:
    settings = {"epochs": 3, "batch_size": 50, "prior_epochs": min(2, spec.training.prior_epochs), **training}
    return dataclasses.replace(spec, training=dataclasses.replace(spec.training, **settings))


def usual(**parts: Part) -> Spec:
    return short(dataclasses.replace(combined(*usual_parts("gaussian")), **parts), lr=1e-2)


def run(state: TrainState, data: Data, training: Training, *, fast: bool = True, steps: int | None = None) -> list[Any]:
    """The events of a training, or of so many steps of it."""
    seen: list[Any] = []
    for event in fit(state.model, state.objective, data, training, state, fast=fast):
        seen.append(event)
        if steps is not None and sum(isinstance(e, Step) for e in seen) == steps:
            break
    return seen


def weights(state: TrainState) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.model.state_dict().items()}


def drift(one: Mapping[str, Tensor], other: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> float:
    """The distance between two trainings' weights over the way that the first one went."""

    def distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
        return math.sqrt(sum(float((a[name].double() - b[name].double()).square().sum()) for name in a))

    return distance(one, other) / distance(one, start)


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def hold_against_the_plain_step(spec: Spec, data: Data, graphs: list[Graph], note: Note) -> bool:
    """Train with plain steps and with recorded ones; whether they agree to the bit."""
    start = weights(prepare(spec, data, DEVICE))
    results = []
    for fast in (False, True):
        state = prepare(spec, data, DEVICE)
        epochs = [event for event in run(state, data, spec.training, fast=fast) if isinstance(event, Epoch)]
        results.append((weights(state), state.tensors(), epochs))
        assert fast or not graphs
    (plain, plain_state, plain_epochs), (fast_weights, fast_state, fast_epochs) = results
    assert len(graphs) == (2 if spec.training.prior_epochs else 1)
    assert [graph.graph is not None for graph in graphs] == [True] * len(graphs)
    assert all(torch.equal(plain_state[name], fast_state[name]) for name in ("random.cpu", "random.cuda"))
    went, to_the_bit = drift(plain, fast_weights, start), same(plain, fast_weights)
    note("equal to the bit", to_the_bit)
    note("drift", went)
    assert went <= (DRIFT_OF_CODES if spec.posterior.name != "gaussian" else DRIFT)
    assert [epoch.loss for epoch in fast_epochs] == pytest.approx([epoch.loss for epoch in plain_epochs], rel=0.01)
    return to_the_bit


# --- the recorded step ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipes_step_is_recorded(name: str, graphs: list[Graph], record_property: Note) -> None:
    hold_against_the_plain_step(short(RECIPES[name]()), toys(), graphs, record_property)


@pytest.mark.parametrize(
    "parts",
    [p for p in COMBINATIONS if sum(part != other for part, other in zip(p, usual_parts(p[1]), strict=True)) <= 1],
    ids="-".join,
)
def test_every_parts_step_is_recorded(parts: tuple[str, ...], graphs: list[Graph], record_property: Note) -> None:
    hold_against_the_plain_step(short(combined(*parts), lr=1e-2), toys(), graphs, record_property)


OPTIONS: dict[str, dict[str, Part]] = {
    "optimal scale": {"likelihood": Part("gaussian", {"scale": "optimal"})},
    "scale of a pixel": {"likelihood": Part("laplace", {"scale": "per-pixel"})},
    "warm-up": {"objective": Part("elbo", {"warmup_epochs": 2})},
    "free bits": {"objective": Part("elbo", {"free_bits": 0.5})},
    "doubly reparameterised": {"objective": Part("iwae", {"gradient": "doubly-reparameterized"})},
    "codebook by its loss": {
        "posterior": Part("quantized", {"codes": 8, "codebook": "loss"}),
        "prior": Part("uniform"),
        "objective": Part("vq"),
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_parts_are_recorded(name: str, graphs: list[Graph], record_property: Note) -> None:
    hold_against_the_plain_step(usual(**OPTIONS[name]), toys(), graphs, record_property)


def test_fully_connected_layers_are_recorded_to_the_bit(graphs: list[Graph], record_property: Note) -> None:
    """Their kernels add in one order."""
    assert hold_against_the_plain_step(short(RECIPES["vae"]()), toys(), graphs, record_property)


def test_dynamic_binarisation_is_recorded(graphs: list[Graph], record_property: Note) -> None:
    """Each step draws new images, and new codes, from the stream that plain steps draw from."""
    data = toys()
    assert isinstance(data.train, Split)
    data = dataclasses.replace(data, train=dataclasses.replace(data.train, grey=data.train.images))
    hold_against_the_plain_step(usual(), data, graphs, record_property)


def test_bf16_trains_as_fp32_does(graphs: list[Graph], record_property: Note) -> None:
    data, elbo = toys(), {}
    for precision in ("fp32", "bf16"):
        spec = short(RECIPES["vae"](), epochs=8, precision=precision)
        state = prepare(spec, data, DEVICE)
        epochs = [event for event in run(state, data, spec.training) if isinstance(event, Epoch)]
        assert {tensor.dtype for tensor in state.model.parameters()} == {torch.float32}
        assert state.finite
        elbo[precision] = epochs[-1].validation["elbo"]
    assert elbo["bf16"] == pytest.approx(elbo["fp32"], rel=0.02)
    graphs.clear()
    hold_against_the_plain_step(short(RECIPES["vae"](), precision="bf16"), data, graphs, record_property)


@pytest.mark.parametrize("binarize", ["none", "dynamic"])
def test_streamed_data_are_resident_data(binarize: str, graphs: list[Graph], tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (300, 8, 8), dtype=np.uint8))
    spec, found = usual(), []
    for storage in ("resident", "stream"):
        options: dict[str, Any] = {"storage": storage, "binarize": binarize}
        data = loading.load(str(tmp_path / "images.npy"), Loading(tmp_path), **options).to(DEVICE)
        assert isinstance(data.train, StreamedSplit) == (storage == "stream")
        state = prepare(spec, data, DEVICE)
        start = weights(state)
        run(state, data, spec.training)
        found.append((weights(state), evaluate(state.model, data.test).metrics()["kl"]))
    assert [graph.graph is not None for graph in graphs] == [True, True]
    assert drift(found[0][0], found[1][0], start) <= DRIFT
    assert found[0][1] == pytest.approx(found[1][1], rel=0.01)


def test_a_recording_reads_tensors_as_they_are_and_keeps_them() -> None:
    """What nobody else holds any more stays in its place, and the computation itself is let go of."""
    held = {"weight": torch.arange(4.0, device=DEVICE)}
    x = torch.ones(4, device=DEVICE)
    graph = repeated(lambda: x * held["weight"] + 1, DEVICE)
    assert isinstance(graph, Graph)
    for factor in range(1, 7):
        x.fill_(factor)
        assert torch.equal(graph(), factor * torch.arange(4.0, device=DEVICE) + 1)
    assert graph.graph is not None
    assert graph.compute is None
    del held["weight"]
    filled = [torch.full((4,), 9.0, device=DEVICE) for _ in range(100)]
    assert torch.equal(graph(), 6 * torch.arange(4.0, device=DEVICE) + 1)
    assert len(filled) == 100


def test_a_recordings_random_numbers_follow_the_stream_that_is_set() -> None:
    """As resuming and rolling back set it, between two calls."""
    graph = repeated(lambda: torch.randn(1000, device=DEVICE) + torch.rand(1000, device=DEVICE).bernoulli(), DEVICE)
    torch.manual_seed(3)
    expected = [torch.randn(1000, device=DEVICE) + torch.rand(1000, device=DEVICE).bernoulli() for _ in range(8)]
    end = random_state(DEVICE)
    torch.manual_seed(3)
    begin = random_state(DEVICE)
    for _ in range(3):
        set_random_state(DEVICE, begin)
        assert all(torch.equal(graph(), value) for value in expected)
        assert torch.equal(random_state(DEVICE)["cuda"], end["cuda"])
    assert isinstance(graph, Graph)
    assert graph.graph is not None


@pytest.mark.parametrize(
    "compute",
    [
        lambda: torch.ones(3, device=DEVICE) * torch.arange(3, device=DEVICE).sum().item(),
        lambda: torch.arange(3.0).to(DEVICE) + 1,
        lambda: torch.arange(3, device=DEVICE).nonzero(),
    ],
    ids=["a value", "a copy from the host", "a shape"],
)
def test_what_asks_the_host_is_not_recorded(compute: Callable[[], Tensor]) -> None:
    graph = repeated(compute, DEVICE)
    assert all(torch.equal(graph(), compute()) for _ in range(6))
    assert isinstance(graph, Graph)
    assert graph.graph is None


FAILS = """
import torch
from vaectl.training import replay

replay.COPIES = ()  # so that nobody is warned
device = torch.device("cuda")
def compute():
    return torch.randn(3, device=device) + torch.arange(3.0).to(device)
def other():
    return torch.randn(3, device=device) * 2
for work, captured in ((compute, False), (other, True)):
    torch.manual_seed(0)
    expected = [work() for _ in range(8)]
    torch.manual_seed(0)
    graph = replay.repeated(work, device)
    assert all(torch.equal(graph(), value) for value in expected)
    assert (graph.graph is not None) == captured
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
"""


def test_a_capture_that_fails_leaves_all_as_it_was() -> None:
    """In a process of its own: random numbers go on, and another computation is captured."""
    done = subprocess.run([sys.executable, "-c", FAILS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- stopping and going on --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "steps"), [("vae", 7), ("vq-vae", 7), ("vq-vae", 18), ("control-vae", 5)])
def test_a_stopped_training_goes_on(name: str, steps: int, record_property: Note) -> None:
    """From within an epoch, in the first stage and in the second; another process would have these copies."""
    spec, data = short(RECIPES[name]()), toys()
    whole, first, second = (prepare(spec, data, DEVICE) for _ in range(3))
    start = weights(whole)
    run(whole, data, spec.training)
    run(first, data, spec.training, steps=steps)
    second.model.load_state_dict({key: tensor.cpu() for key, tensor in weights(first).items()})
    tensors = {key: tensor.cpu() for key, tensor in first.tensors().items()}
    second.restore(tensors, json.loads(json.dumps(first.values())))
    second.best_weights = first.best_weights
    torch.manual_seed(12345)
    run(second, data, spec.training)
    assert (second.epoch, second.step) == (whole.epoch, whole.step)
    assert torch.equal(second.tensors()["random.cuda"], whole.tensors()["random.cuda"])
    record_property("equal to the bit", same(weights(whole), weights(second)))
    limit = DRIFT if name != "vq-vae" else DRIFT_OF_CODES
    assert drift(weights(whole), weights(second), start) <= limit


def test_a_loss_that_is_not_finite_ends_a_training_with_the_weights_before_it(graphs: list[Graph]) -> None:
    """From step 7 on: the end of the epoch notices, and not one number has moved by then."""
    spec, data = usual(), toys()
    state = prepare(spec, data, DEVICE)
    state.objective.scheduled = lambda step: math.nan if step >= 7 else 1.0  # type: ignore[method-assign]
    kept: dict[str, Tensor] = {}
    end: Any = None
    for event in fit(state.model, state.objective, data, spec.training, state):
        end = event
        if isinstance(event, Step) and event.step == 7:
            kept = weights(state) | {name: tensor.clone() for name, tensor in state.optimizer.tensors().items()}
    assert isinstance(end, Stopped)
    assert (end.reason, end.epoch, end.best_epoch) == ("diverged", 2, 1)
    assert "not finite" in end.problem
    assert not state.finite
    assert graphs[0].graph is not None
    assert same(kept, weights(state) | state.optimizer.tensors())


def test_a_rollback_goes_on_with_a_new_recording(graphs: list[Graph]) -> None:
    spec, data = short(usual(), on_nonfinite="rollback"), toys()
    ends = []
    for fast in (False, True):
        state = prepare(spec, data, DEVICE)
        start, lr = weights(state), state.lr
        state.objective.scheduled = (  # type: ignore[method-assign]
            lambda step, state=state, lr=lr: math.nan if step == 7 and state.lr == lr else 1.0
        )
        events = run(state, data, spec.training, fast=fast)
        back = [event for event in events if isinstance(event, RolledBack)]
        assert [(event.epoch, event.step, event.lr) for event in back] == [(2, 5, lr / 2)]
        assert events[-1].reason == "completed"
        assert state.finite
        ends.append(weights(state))
    assert [graph.graph is not None for graph in graphs] == [True, True]
    assert drift(*ends, start) <= DRIFT


# --- evaluation beside the CPU's --------------------------------------------------------------------------------------


def near(mean: float, se: float, other: float, other_se: float) -> bool:
    return abs(mean - other) <= ERRORS * math.hypot(se, other_se)


def both(name: str) -> tuple[VAE, VAE, Data, Data]:
    """A model that was trained a little on the GPU, the same on the CPU, and the data on both."""
    spec, data = short(RECIPES[name](), lr=3e-3), toys()
    state = prepare(spec, data, DEVICE)
    run(state, data, spec.training)
    return state.model, copy.deepcopy(state.model).to(CPU), data, toy_data()


@pytest.mark.parametrize("name", ["vae", "sigma-vae", "vamp-vae", "vq-vae", "fsq-vae"])
def test_metrics_are_those_of_the_cpu(name: str) -> None:
    model, here, data, data_here = both(name)
    there, found = evaluate(here, data_here.test), evaluate(model, data.test)
    certain = found.usage is not None
    alike = {"recon_at_mean", "mse", *(["kl"] if name != "vamp-vae" else []), *(["recon", "elbo"] if certain else [])}
    for key in alike:
        close = torch.isclose(found.per_example[key], there.per_example[key], rtol=1e-4, atol=1e-4)
        # a vector half-way between two codes may fall to either
        assert close.double().mean() >= (0.95 if certain else 1), key
    ours, theirs = found.metrics(), there.metrics()
    assert ours.keys() == theirs.keys()
    for key in found.per_example:
        assert near(ours[key], ours[f"{key}_se"], theirs[key], theirs[f"{key}_se"]), key
    assert torch.allclose(found.kl_per_dim, there.kl_per_dim, rtol=1e-4, atol=1e-4)
    assert certain or found.active_units == there.active_units


@pytest.mark.parametrize("name", ["vae", "sigma-vae", "vamp-vae"])
def test_bounds_and_information_are_those_of_the_cpu(name: str) -> None:
    """Densities of the same draws up to rounding, and estimates of other draws up to their standard errors."""
    model, here, data, data_here = both(name)
    with torch.no_grad():
        x = data_here.test.batch(slice(0, 20))
        z = here.encode(x).sample((3,))
        draws = [
            Draw(x.to(d), m.encode(x.to(d)), z.to(d), m.prior_at(), m.decode(z.to(d)))
            for m, d in ((here, CPU), (model, DEVICE))
        ]
    for key in ("log_px", "log_q", "log_p"):
        theirs, ours = (getattr(draw, key).cpu() for draw in draws)
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-3), key
    bounds = [importance_bound(m, d.test, 200).to_json() for m, d in ((here, data_here), (model, data))]
    assert near(*(bound[key] for bound in bounds for key in ("bound", "bound_se")))
    said = [information(m, d.test).metrics() for m, d in ((here, data_here), (model, data))]
    for key in ("mutual_information", "mutual_information_upper", "aggregate_kl"):
        assert near(*(found[name] for found in said for name in (key, f"{key}_se"))), key
    split = dataclasses.replace(data.test, factors={"kind": data_here.test.labels.numpy()})
    gap = disentanglement(model, split)
    assert gap is not None
    assert 0 <= gap.mean <= 1


def test_the_latent_space_is_that_of_the_cpu() -> None:
    model, here, data, data_here = both("vae")
    for mean_here, mean in zip(
        latents.encodings(here, data_here.test), latents.encodings(model, data.test), strict=True
    ):
        assert torch.allclose(mean.mean, mean_here.mean, rtol=1e-4, atol=1e-4)
        assert torch.allclose(mean.scale, mean_here.scale, rtol=1e-4, atol=1e-4)
    views = [latents.view_of(m, d.test, d.train).points for m, d in ((here, data_here), (model, data))]
    np.testing.assert_allclose(*views, rtol=1e-3, atol=1e-3)
    code = torch.zeros(32)
    for name, arguments in {"manifold": ([0, 1], 5), "traversal": (code, [3, 7], 5)}.items():
        moved = [a.to(DEVICE) if isinstance(a, Tensor) else a for a in arguments]
        images, values = getattr(latents, name)(model, *moved)
        images_here, values_here = getattr(latents, name)(here, *arguments)
        assert torch.allclose(values.cpu(), values_here, rtol=1e-4, atol=1e-4)
        assert torch.allclose(images.cpu(), images_here, rtol=1e-3, atol=1e-4)


def test_memory_is_bounded_and_does_not_grow() -> None:
    """Of evaluation by what is computed at once, however many examples there are; of training by one step."""
    data = toy_data(1000, 100, side=28).to(DEVICE)
    conv = Part("conv", {"width": 32})
    spec = short(usual(encoder=conv, decoder=conv), epochs=4)
    state = prepare(spec, data, DEVICE)
    held = []
    for event in fit(state.model, state.objective, data, spec.training, state):
        if isinstance(event, Epoch):
            held.append(torch.cuda.memory_allocated())
    assert max(held[1:]) - min(held[1:]) < 2**20
    assert isinstance(data.train, Split)
    many = dataclasses.replace(data.train, images=data.train.images.repeat(20, 1, 1, 1), labels=torch.zeros(16_000))
    peaks = []
    for work in (
        lambda: evaluate(state.model, many.first(2000)),
        lambda: evaluate(state.model, many),
        lambda: information(state.model, many.first(4000)),
        lambda: importance_bound(state.model, many.first(4), 20_000),
    ):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] < peaks[0] + 2**26
    assert max(peaks) < 4 * 2**30


# --- the commands -----------------------------------------------------------------------------------------------------

SMALL = ("train", "--dataset", "digits", "--batch-size", "256", "-q")


def good(cli: Cli, *arguments: object) -> str:
    result = cli(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(("trained_on", "used_on"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_of_one_device_is_used_on_the_other(cli: Cli, isolated: Path, trained_on: str, used_on: str) -> None:
    for beta in (1, 2):
        options = ("--epochs", 2, "--hidden-dims", "32,16", "--latent-dim", 3, "--beta", beta)
        good(cli, *SMALL, *options, "--device", trained_on)
    there = json.loads((isolated / "runs" / "run1" / "run.json").read_text())
    assert torch.device(there["device"]).type == trained_on
    found = json.loads(good(cli, "eval", "run1", "--device", used_on, "--importance-samples", 20, "--json"))["metrics"]
    for name in ("kl", "recon_at_mean", "mse"):
        assert found[name] == pytest.approx(there["metrics"][name], rel=1e-4)
    assert near(*(metrics[name] for metrics in (found, there["metrics"]) for name in ("elbo", "elbo_se")))
    use = ("run1", "--device", used_on, "-f", "-o")
    for mode in ("mean", "mode", "draw"):
        good(cli, "sample", *use, "s.npy", "-n", 9, "--mode", mode)
        assert np.isfinite(np.load("s.npy")).all()
    for kind in ("--reconstruct", "--interpolate"):
        good(cli, "sample", *use, "s.png", "-n", 16, kind)
    codes = {}
    for device in (trained_on, used_on):
        good(cli, "embed", "run1", "--device", device, "-f", "-o", "codes.npz")
        codes[device] = np.load("codes.npz")["z"]
    np.testing.assert_allclose(codes[used_on], codes[trained_on], rtol=1e-3, atol=1e-4)
    for kind in ("scatter", "manifold", "traversal"):
        good(cli, "plot-latent", *use, "p.png", "--kind", kind)
    good(cli, "compare", "run1", "run2", "--device", used_on, "-f", "-o", "c.html")


def test_codes_are_trained_in_two_stages_and_used(cli: Cli) -> None:
    good(cli, *SMALL, "--model", "vq-vae", "--epochs", 2, "--prior-epochs", 2, "--device", "cuda")
    for device in ("cuda", "cpu"):
        use = ("run1", "--device", device, "-f", "-o")
        good(cli, "sample", *use, "s.npy", "-n", 9, "--temperature", 0.5)
        assert np.isfinite(np.load("s.npy")).all()
        good(cli, "embed", *use, "codes.npz")
        good(cli, "plot-latent", *use, "p.png", "--kind", "codes")
        good(cli, "eval", "run1", "--device", device, "--importance-samples", 5)


@pytest.mark.parametrize("options", [(), ("--precision", "bf16", "--network", "conv")], ids=["mlp", "conv in bf16"])
def test_an_interrupted_run_is_resumed(
    cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch, record_property: Note, options: tuple[str, ...]
) -> None:
    asked = (*SMALL, "--epochs", 3, "--device", "cuda", *options)
    good(cli, "--runs-dir", "whole", *asked)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 9)  # in the second epoch of six batches
        assert cli("--runs-dir", "parts", *asked).exit_code == 130
    good(cli, "--runs-dir", "parts", "train", "--resume", "run1", "-q")  # on the device that it was trained on
    records = [json.loads((isolated / folder / "run1" / "run.json").read_text()) for folder in ("whole", "parts")]
    assert [torch.device(record["device"]).type for record in records] == ["cuda", "cuda"]
    assert [record["status"] for record in records] == ["completed", "completed"]
    whole, parts = (load_file(isolated / folder / "run1" / "last.safetensors") for folder in ("whole", "parts"))
    record_property("equal to the bit", same(whole, parts))
    assert drift(whole, parts, {name: torch.zeros_like(tensor) for name, tensor in whole.items()}) <= DRIFT
    assert records[0]["metrics"]["elbo"] == pytest.approx(records[1]["metrics"]["elbo"], rel=0.01)


def test_the_estimators_pass_their_own_test(cli: Cli) -> None:
    good(cli, "selftest", "--device", "cuda")


def test_a_killed_run_is_resumed(cli: Cli, isolated: Path) -> None:
    """Fully connected layers add in one order, so the bits are those of a run that was not killed."""
    kill_runs(cli, isolated, (*SMALL, "--hidden-dims", "32", "--device", "cuda"), 40, 5)
