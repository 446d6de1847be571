"""Several processes of one training: the weights of one process, one run, one screen, and an end to all of them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import HashStore

from tests.conftest import Cli
from tests.support.combinations import small, suited
from tests.support.parts import MODELS, data_for, register, spec_for
from tests.support.runs import begin
from tests.support.specs import VARIANTS, spec_of
from tests.support.toys import toy_data
from vaectl.config.spec import Part, Spec
from vaectl.data.base import Data
from vaectl.errors import DataError, LostError, UsageError
from vaectl.model.objectives import OBJECTIVES
from vaectl.model.posteriors import POSTERIORS
from vaectl.model.priors import PRIORS
from vaectl.parallel import board
from vaectl.parallel.board import Board
from vaectl.parallel.distributed import Processes
from vaectl.parallel.shares import Share, batch_mean, current_share, sharing
from vaectl.runs.log import is_held
from vaectl.runs.processes import gather
from vaectl.system.launcher import ProcessInfo, here
from vaectl.system.signals import SIGNALS, Signalled
from vaectl.training.trainer import Epoch, fit

ROOT = Path(__file__).parents[2]
TRAIN = ("train", "--dataset", "digits", "--hidden-dims", "16", "--latent-dim", "2", "--batch-size", "100")
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
# of float32, over some tens of steps; and where a vector as near to one code as to another falls to either
TOLERANCE, OF_CODES = 1e-5, 1e-2

Processed = list[subprocess.Popen[str]]
Start = Callable[..., Processed]


def place(rank: int, world: int = 2) -> Any:
    """What stands for a board where only the place is asked for."""
    return SimpleNamespace(process=ProcessInfo(rank, world, rank, 0))


@pytest.fixture
def start() -> Iterator[Start]:
    """Start Python twice, as a launcher does, or torchrun once; what is left of them is killed in the end."""
    started: Processed = []

    def begun(*arguments: object, torchrun: bool = False, environments: tuple[dict[str, str], ...] = ({}, {})) -> Any:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = str(free.getsockname()[1])
        base = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        common = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2"}
        ranks = [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank), **environments[rank]} for rank in (0, 1)]
        launcher = (*TORCHRUN, "--master-port", port) if torchrun else ()
        command = [sys.executable, *launcher, *map(str, arguments)]
        for own in [{}] if torchrun else ranks:
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            started.append(subprocess.Popen(command, env=base | own, **pipes))
        return started

    yield begun
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(processes: Processed) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each."""
    outputs = [process.communicate(timeout=60) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def until_trained(run: Path, rows: int = 1) -> None:
    """Wait until so many epochs of a run are in its history."""
    history = run / "metrics.jsonl"
    for _ in range(3000):
        if history.exists() and history.read_text().count("\n") >= rows:
            return
        time.sleep(0.02)
    pytest.fail(f"{run} was not trained")


def errors(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("error: ")]


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = TOLERANCE) -> None:
    """Every tensor is that of the other, relative to its largest entry."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        ours, theirs = tensor.double(), other[name].double()
        assert (ours - theirs).abs().max() <= tolerance * ours.abs().max(), name


def assert_nearly_same_run(one: Path, other: Path) -> None:
    """Both runs have the same weights and the same history, up to the order of sums."""
    assert_close(load_file(one / "last.safetensors"), load_file(other / "last.safetensors"))
    rows = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, other)]
    for ours, theirs in zip(*rows, strict=True):
        for name in ("epoch", "step", "loss", "elbo", "kl", "grad_norm", "lr"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name
        assert ours["validation"] == pytest.approx(theirs["validation"], rel=1e-4)


# --- the trainer ------------------------------------------------------------------------------------------------------


# options with which an objective does what is its own within two epochs
OPTIONS: dict[str, dict[str, Any]] = {
    "iwae": {"k": 3},
    "capacity": {"capacity": 2.0, "warmup_epochs": 1},
    "kl-target": {"target": 3.0},
}


def parts_for(objective: str) -> dict[str, Any]:
    """An objective, with another posterior and prior where it does not take the latents of the usual ones."""
    chosen = {"objective": Part(objective, OPTIONS.get(objective, {}))}
    posterior = next(name for name in POSTERIORS if objective in suited(OBJECTIVES, name))
    if posterior == spec_of().posterior.name:
        return chosen
    return {"posterior": small(posterior), "prior": small(suited(PRIORS, posterior)[0]), **chosen}


OF_OBJECTIVES = {
    name: parts_for(name) for name, member in OBJECTIVES.items() if not getattr(member, "needs_pairs", False)
}
KINDS: dict[str, dict[str, Any]] = {
    **OF_OBJECTIVES,
    **{name: parts for name, parts in VARIANTS.items() if name != "tc" and parts not in OF_OBJECTIVES.values()},
    "doubly reparameterised": {"objective": Part("iwae", {"k": 3, "gradient": "doubly-reparameterized"})},
    "free bits": {"objective": Part("elbo", {"free_bits": 0.05})},
    "dynamic binarisation": {},
    "second stage": VARIANTS["codes by moving averages"]
    | {"prior": Part("transformer", {"width": 8, "depth": 1, "heads": 2})},
}
# of 280 examples; the last batch may be short, and of one example, so that one of two processes has none
CASES = [
    *((kind, 93) for kind in (*KINDS, *(name for name in MODELS if name != "adversary"))),
    ("free bits", 100),
    ("free bits", 280),
]


def coded(kind: str) -> bool:
    return "quantized" in str(KINDS.get(kind, {}).get("posterior"))


def given(kind: str, size: int) -> tuple[Spec, Data]:
    if kind in MODELS:
        return spec_for(kind, epochs=2, batch_size=size), data_for(kind, 350)
    data = toy_data(train=350)
    if kind == "dynamic binarisation":
        data = dataclasses.replace(data, train=dataclasses.replace(data.train, grey=data.train.images))
    stages = {"prior_epochs": 1} if kind == "second stage" else {}
    return spec_of({"epochs": 2, "batch_size": size, **stages}, **KINDS[kind]), data


def outcome(kind: str, size: int, processes: Processes) -> dict[str, Any]:
    """What a training came to: its tensors, and the figures of its epochs."""
    spec, data = given(kind, size)
    state = begin(spec, data)
    epochs = [
        event
        for event in fit(state.model, state.objective, data, spec.training, state, processes=processes)
        if isinstance(event, Epoch)
    ]
    names = ("loss", "recon", "kl", "beta", "grad_norm", "improved")
    figures = [{name: getattr(e, name) for name in names} | dict(e.validation) for e in epochs]
    return {"weights": state.model.state_dict(), "tensors": state.tensors(), "figures": figures}


def work(folder: Path) -> None:
    """What each of several processes does in the test below."""
    torch.set_num_threads(1)
    register()
    processes = Processes(Board.of_launcher(here()))
    processes.connect(torch.device("cpu"))
    done = {case: outcome(*case, processes) for case in CASES}
    processes.disconnect()
    torch.save(done, folder / f"{processes.rank}.pt")


@pytest.mark.usefixtures("registered")
def test_processes_train_what_one_process_trains(start: Start, isolated: Path) -> None:
    """Weights, moments and figures agree but for the order of sums; random streams, and both processes, bit for bit."""
    work_here = (
        f"from pathlib import Path; from tests.parallel.test_distributed import work; work(Path({str(isolated)!r}))"
    )
    both = start("-c", work_here)
    alone = {case: outcome(*case, Processes()) for case in CASES}
    for code, _, stderr in ended(both):
        assert code == 0, stderr
    first, second = (torch.load(isolated / f"{rank}.pt") for rank in (0, 1))
    for key, one in alone.items():
        assert first[key]["figures"] == second[key]["figures"], key
        for ours, theirs in zip(one["figures"], first[key]["figures"], strict=True):
            assert ours == pytest.approx(theirs, rel=OF_CODES if coded(key[0]) else 1e-4, abs=1e-6), key
        assert_close(one["weights"], first[key]["weights"], OF_CODES if coded(key[0]) else TOLERANCE)
        for name, tensor in one["tensors"].items():
            if name.startswith(("random.", "order")):
                assert torch.equal(tensor, first[key]["tensors"][name]), (key, name)
        for part in ("weights", "tensors"):
            for name, tensor in first[key][part].items():
                assert torch.equal(tensor, second[key][part][name]), (key, name)


def test_the_rows_of_all_processes_are_the_batch() -> None:
    """Each row counts once, and a process without one takes one that does not count."""
    for world in (2, 3, 7):
        for size in (1, 2, 6, 7, 100):
            counted = []
            for rank in range(world):
                processes = Processes(place(rank, world))
                processes._device = torch.device("cpu")
                share = processes.share(size)
                assert share is not None
                rows = range(size)[share.rows]
                assert len(rows) == max(share.count, 1)
                counted += rows[: share.count]
            assert counted == list(range(size))


def test_the_gradient_of_a_mean_over_the_batch_is_that_of_the_own_rows() -> None:
    """Weighted by the share and added up, the gradients of a function of the mean are those of the whole."""
    values = torch.tensor([1.0, 2.0, 4.0, 9.0, 5.0], dtype=torch.float64)
    whole = values.clone().requires_grad_()
    whole.mean().square().backward()
    assert whole.grad is not None
    for rows in (slice(0, 2), slice(2, 5)):
        own = values[rows].clone().requires_grad_()
        weight = len(own) / 5
        # the sum over all processes is known here
        with sharing(Share(rows, len(own), 5, lambda _: values.mean())):
            (weight * batch_mean(own.mean()).square()).backward()
        assert own.grad is not None
        torch.testing.assert_close(own.grad, whole.grad[rows])
    assert current_share() is None


def test_total_correlation_is_for_one_process() -> None:
    spec, data = spec_of(**VARIANTS["tc"]), toy_data()
    with pytest.raises(UsageError, match=r"--objective tc .* one process"):
        gather(Processes(place(0)), spec, data.info, "", begin(spec, data))


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cuda = torch.device("cuda")
    assert [str(Processes(place(rank, 3)).device(cuda)) for rank in (0, 1)] == ["cuda:0", "cuda:1"]
    for rank, device, problem in (
        (2, "cuda", "more processes"),
        (0, "cuda:1", "needs its own GPU"),
        (0, "mps", "one process"),
    ):
        with pytest.raises(UsageError, match=problem):
            Processes(place(rank, 3)).device(torch.device(device))
    assert str(Processes().device(torch.device("cuda:1"))) == "cuda:1"


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def boards(monkeypatch: pytest.MonkeyPatch) -> list[Board]:
    """The boards of two processes, here in one, which must not go deaf."""
    monkeypatch.setattr(board, "deafen", lambda: None)
    monkeypatch.setattr(board, "WORD_SECONDS", 0.05)
    store = HashStore()
    return [Board(ProcessInfo(rank, 2, rank, 0), store) for rank in (0, 1)]


def test_a_failure_is_told_to_the_others(boards: list[Board]) -> None:
    """With its hint, exit code and kind; the leader tells it, and whatever the others fail of then is not news."""
    leader, other = boards
    with pytest.raises(DataError), other.telling():
        raise DataError("no such data", hint="look elsewhere")
    with pytest.raises(LostError) as caught, leader.telling():
        leader.read("plan")
    error = caught.value
    assert error.message.startswith("process 1 on ")
    assert error.message.endswith(": no such data")
    assert (error.hint, error.exit_code, error.code, error.told) == ("look elsewhere", 1, "data", True)
    assert not other.lost().told


def test_a_failure_of_the_leader_is_not_told_twice(boards: list[Board]) -> None:
    leader, other = boards
    with pytest.raises(Signalled), leader.telling():
        raise Signalled(signal.SIGTERM)
    with pytest.raises(LostError) as caught, other.telling():
        other.wait_for_all()
    assert (caught.value.exit_code, caught.value.code, caught.value.told) == (143, "interrupted", False)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_says_nothing_is_named(boards: list[Board], rank: int) -> None:
    """By the first of those that are left."""
    error = boards[rank].lost()
    assert (error.message, error.told, error.code) == (f"process {1 - rank} was lost", True, "lost")


def test_a_connection_that_fails_between_living_processes_says_why(boards: list[Board]) -> None:
    """The leader tells it, and none is called lost."""
    boards[1].post("seen/1")
    error = boards[0].lost("no route to host")
    assert (error.message, error.told) == ("the connection between its processes failed: no route to host", True)
    assert not boards[1].lost("no route to host").told


def test_the_first_of_a_machine_goes_first(boards: list[Board]) -> None:
    leader, other = boards
    with leader.one_by_one():
        assert not other.is_posted("first/0")
    with other.one_by_one():
        pass


# --- the command line -------------------------------------------------------------------------------------------------


def test_one_run_and_one_screen(cli: Cli, start: Start, isolated: Path) -> None:
    """torchrun's run is that of one process."""
    ((code, stdout, stderr),) = ended(
        start("-m", "vaectl", *TRAIN, "--epochs", 2, "--name", "two", "--json", torchrun=True)
    )
    assert code == 0, stderr
    assert json.loads(stdout)["run"] == "two"
    assert [path.name for path in (isolated / "runs").iterdir()] == ["two"]
    assert stderr.count("2 processes") == stderr.count("    1/2") == stderr.count("val elbo") == 1
    assert cli(*TRAIN, "--epochs", 2, "--name", "one", "--json").exit_code == 0
    assert_nearly_same_run(isolated / "runs" / "two", isolated / "runs" / "one")


def test_processes_stream_a_person_s_own_data(cli: Cli, start: Start, isolated: Path) -> None:
    """Each reads the path for itself; the run is that of one process that holds it in memory."""
    np.save(isolated / "x.npy", np.random.default_rng(0).integers(0, 256, (150, 6, 5, 3), dtype=np.uint8))
    train = (
        "train",
        "--dataset",
        "x.npy",
        "--hidden-dims",
        "8",
        "--latent-dim",
        "2",
        "--epochs",
        1,
        "--batch-size",
        50,
    )
    stream = ("--set", "data.storage=stream", "--name", "two", "--json")
    ((code, _, stderr),) = ended(start("-m", "vaectl", *train, *stream, torchrun=True))
    assert code == 0, stderr
    assert cli(*train, "--name", "one", "--json").exit_code == 0
    ours, theirs = (load_file(isolated / "runs" / name / "last.safetensors") for name in ("two", "one"))
    assert all(torch.allclose(ours[name], theirs[name], atol=TOLERANCE) for name in theirs)


def test_the_signals_of_all_are_known_from_the_sums_of_two_numbers() -> None:
    """Whichever of three processes receive which signals, all agree on one that was received."""
    choices: list[list[int]] = [[], *([signum] for signum in SIGNALS)]
    for received in itertools.product(choices, repeat=3):
        processes = [Processes(place(rank, 3)) for rank in range(3)]
        for process, signums in zip(processes, received, strict=True):
            process.heard = signums
        sums = [sum(column) for column in zip(*(process._flags() for process in processes), strict=True)]
        assert len(sums) == 2
        agreed = {process._signal_of(sums) for process in processes}
        assert agreed <= {signum for signums in received for signum in signums} or agreed == {0}
        assert len(agreed) == 1
        assert (agreed == {0}) == (not any(received))


@pytest.mark.parametrize(
    ("signum", "expected"), [(signal.SIGTERM, 143), pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow)]
)
def test_a_signal_to_one_process_stops_all_at_one_step(
    cli: Cli, start: Start, isolated: Path, signum: int, expected: int
) -> None:
    """All end as one process does, the leader says so, and one process goes on as if nothing had been."""
    run = isolated / "runs" / "run1"
    both = start("-m", "vaectl", *TRAIN, "--epochs", 2000, "--json", "--progress", "none")
    until_trained(run)
    both[1].send_signal(signum)
    (code, stdout, stderr), (other, nothing, silence) = ended(both)
    assert (code, other, nothing, silence) == (expected, expected, "", "")
    assert json.loads(stdout)["error"]["code"] == "interrupted"
    assert len(errors(stderr)) == 1
    assert "progress is saved" in stderr
    epochs = json.loads((run / "state.json").read_text())["epoch"] + 1
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "interrupted"
    result = cli("train", "--resume", "run1", "--epochs", epochs + 1, "--progress", "none")
    assert result.exit_code == 0, result.output
    assert "processes: 1, previously 2; the numbers agree only up to rounding" in result.stderr
    assert cli(*TRAIN, "--epochs", epochs + 1, "--name", "one", "-q").exit_code == 0
    assert_nearly_same_run(run, isolated / "runs" / "one")


def test_a_killed_process_ends_the_others(cli: Cli, start: Start, isolated: Path) -> None:
    """Under torchrun, which then signals the leader: what is told is the cause. One process goes on, as one began."""
    run = isolated / "runs" / "run1"
    assert cli(*TRAIN, "--epochs", 1, "-q").exit_code == 0
    resume = ("train", "--resume", "run1", "--epochs", 2000, "--progress", "none")
    (launcher,) = start("-m", "vaectl", *resume, torchrun=True)
    until_trained(run, 3)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    ranks = {pid: (Path("/proc") / pid / "environ").read_bytes().split(b"\0") for pid in children}
    (victim,) = (pid for pid, variables in ranks.items() if b"RANK=1" in variables)
    os.kill(int(victim), signal.SIGKILL)
    ((code, _, stderr),) = ended([launcher])
    assert code == 1
    assert errors(stderr) == ["error: run1 stopped: process 1 was lost"]
    assert "vaectl train --resume run1" in stderr
    assert json.loads((run / "run.json").read_text())["status"] == "failed"
    assert not is_held(run / "train.log")
    epochs = json.loads((run / "state.json").read_text())["epoch"] + 1
    assert cli("train", "--resume", "run1", "--epochs", epochs + 1, "-q").exit_code == 0
    assert cli(*TRAIN, "--epochs", epochs + 1, "--name", "one", "-q").exit_code == 0
    assert_nearly_same_run(run, isolated / "runs" / "one")


@pytest.mark.slow
def test_the_others_tell_of_a_killed_leader(cli: Cli, start: Start, isolated: Path) -> None:
    both = start("-m", "vaectl", *TRAIN, "--epochs", 2000, "--json", "--progress", "none")
    until_trained(isolated / "runs" / "run1")
    both[0].kill()
    (_, (code, stdout, stderr)) = ended(both)
    assert code == 1
    assert json.loads(stdout)["error"]["code"] == "lost"
    assert len(errors(stderr)) == 1
    assert "vaectl train --resume run1" in stderr
    assert "crashed" in cli("runs").stdout


@pytest.mark.slow
def test_a_signal_ends_a_process_that_waits_for_one_that_does_not_answer(start: Start, isolated: Path) -> None:
    """Where Python itself does not hear of the signal, within the time that torchrun gives it."""
    both = start("-m", "vaectl", *TRAIN, "--epochs", 2000, "--progress", "none")
    until_trained(isolated / "runs" / "run1")
    both[1].send_signal(signal.SIGSTOP)
    time.sleep(1)
    both[0].send_signal(signal.SIGTERM)
    ((code, _, stderr),) = ended(both[:1])
    assert code == 1
    assert errors(stderr) == ["error: run1 stopped: process 1 was lost"]


@pytest.mark.slow
def test_the_leader_tells_what_another_process_fails_of(start: Start, isolated: Path) -> None:
    """Before a run is made, with the exit code of the one that failed."""
    elsewhere = ({}, {"VAECTL_DATA_DIR": "/nowhere"})
    both = start("-m", "vaectl", *TRAIN, "--json", environments=elsewhere)
    (code, stdout, stderr), other = ended(both)
    assert (code, *other) == (1, 1, "", "")
    assert json.loads(stdout)["error"]["code"] == "data"
    (message,) = errors(stderr)
    assert "process 1 on " in message
    assert "VAECTL_DATA_DIR /nowhere does not exist" in message
    assert not (isolated / "runs").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_other_commands_are_for_one_process(cli: Cli, monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    """One of the processes says so."""
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, str(value))
    result = cli("eval", "run1", "--json")
    assert result.exit_code == 2
    assert errors(result.stderr) == ([] if rank else ["error: vaectl eval runs in one process; there are 2"])
    assert (result.stdout == "") is bool(rank)


def test_the_place_is_what_the_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without all that torchrun sets there is one process."""
    assert here() == ProcessInfo(0, 1, 0, 0)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert here() == ProcessInfo()
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("GROUP_RANK", "1")
    assert cast(tuple[int, ...], here()) == (3, 4, 1, 1)


# --- plug-ins ---------------------------------------------------------------------------------------------------------

NETWORK = """
from tests.support.parts import Informed
from vaectl.model.networks import DECODERS, ENCODERS

ENCODERS["mine"] = DECODERS["mine"] = Informed
"""
OWN = ("-m", "vaectl", "train", "--dataset", "digits", "--epochs", 1, "--network", "mine", "--progress", "none")


def test_every_process_loads_the_plugins(start: Start, isolated: Path) -> None:
    Path("my.py").write_text(NETWORK)
    for code, _, stderr in ended(start(*OWN, "--plugin", "my.py")):
        assert code == 0, stderr
    record = json.loads((isolated / "runs" / "run1" / "run.json").read_text())
    assert [plugin["name"] for plugin in record["plugins"]] == ["my.py"]


@pytest.mark.parametrize(("content", "problem"), [(NETWORK + "\n", "with sha256"), ("", "needs the plug-in 'my.py'")])
def test_a_process_with_another_plugin_is_refused(start: Start, isolated: Path, content: str, problem: str) -> None:
    """Where machines have different files: nothing is trained."""
    for folder, text in (("a", NETWORK), ("b", content)):
        Path(folder).mkdir()
        Path(folder, "my.py" if text else "none.py").write_text(text)
    names = [str(next(Path(folder).glob("*.py"))) for folder in ("a", "b")]
    outcomes = ended(start(*OWN, environments=tuple({"VAECTL_PLUGINS": name} for name in names)))
    assert all(code for code, _, _ in outcomes)
    (told,) = errors("".join(stderr for _, _, stderr in outcomes))
    assert "process 0" in told
    assert problem in told
    assert not (isolated / "runs").exists()
