"""Train a new run: from a spec and data to a run folder that every command can use."""

from __future__ import annotations

import dataclasses
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vaectl.config.datasets import GIVEN
from vaectl.config.spec import Part, Spec
from vaectl.evaluation.doctor import forecast
from vaectl.plugins import used_by
from vaectl.runs.catalog import check_name, runs_directory
from vaectl.runs.data import load_named
from vaectl.runs.endings import diverged, interrupted, recorded
from vaectl.runs.evaluating import evaluate_into
from vaectl.runs.events import DataLoaded, Reason, RunBegan, RunEnded, TrainingBegan
from vaectl.runs.listeners import Doctor, Keeper, Log
from vaectl.runs.processes import broadcast_state, gather, unstuck
from vaectl.runs.run import Run, now
from vaectl.system.files import finite
from vaectl.system.signals import noting
from vaectl.training.events import Found, Hub, Listener, Tell, Trained

if TYPE_CHECKING:
    from vaectl.data.base import Data
    from vaectl.model.vae import VAE
    from vaectl.parallel.distributed import Processes
    from vaectl.training.state import TrainState
    from vaectl.training.trainer import Stopped

CHECKPOINT_MINUTES = 5.0


def train_run(
    spec: Spec,
    data: Data | None = None,
    runs_dir: str | Path | None = None,
    *,
    name: str | None = None,
    device: str = "auto",
    data_dir: str | Path | None = None,
    listeners: Iterable[Listener] = (),
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
    argv: Sequence[str] = (),
    sources: Mapping[str, str] | None = None,
    processes: Processes | None = None,
) -> Run:
    """Train a new run, as ``vaectl train`` does, and evaluate its best weights on the test split.

    The first SIGINT, SIGTERM or SIGHUP finishes the batch and saves; outside the main thread signals are left to the
    caller.

    Args:
        spec: What to train.
        data: The data, from ``load_data`` or made from arrays; None loads the data set that the spec names. The
            run records the data that it was trained on, even if the spec names others.
        runs_dir: The folder of all runs; None for ``VAECTL_RUNS_DIR``, else ``runs``.
        name: The id of the run; None for the next ``run<N>``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        data_dir: The directory of built-in data sets; None for ``VAECTL_DATA_DIR``, else ``data``.
        listeners: Listen to every event, in order.
        checkpoint_minutes: Minutes between checkpoints within an epoch; each epoch also ends with one.
        argv: The command line, for the record.
        sources: Path -> where the setting comes from, for the record.
        processes: The processes that train the run, led by this one; None for this one alone.

    Returns:
        The run, completed.

    Raises:
        UsageError, SettingError: A setting or argument is not allowed, or the settings do not fit the data.
        RunError: The name is taken.
        DataError: The data are missing or damaged.
        DivergedError: A loss was not finite.
        InterruptedRunError: A signal came; progress is saved.
        LostError: Another process failed.
        OutputError: The run cannot be written.
    """
    hub, folder = Hub(listeners), runs_directory(runs_dir)
    if name is not None:
        check_name(name, folder)
    plan = plan_run(spec, data, device=device, data_dir=data_dir, tell=hub.tell, processes=processes)
    return begin_run(
        plan, folder, name=name, hub=hub, checkpoint_minutes=checkpoint_minutes, argv=argv, sources=sources
    )


@dataclass(frozen=True)
class Plan:
    """A run that is ready to begin.

    Attributes:
        spec: The complete spec, which names the data.
        data: The data.
        directory: The data directory; empty if the data were not loaded from files.
        state: The initial state of the training, with the model.
        processes: The processes that train the run.
    """

    spec: Spec
    data: Data
    directory: str
    state: TrainState
    processes: Processes

    @property
    def parameters(self) -> int:
        """Number of parameters that the model learns."""
        return sum(parameter.numel() for parameter in self.state.model.parameters())

    @property
    def title(self) -> str:
        """A description of the training in one line."""
        sizes, world = self.data.info.sizes, self.processes.world
        layers = _layers(self.spec.encoder.name, self.state.model)
        return (
            f"{self.data.info.name} {sizes['train']}/{sizes['validation']}  {layers}  {self.parameters:,} parameters  "
            f"{self.spec.likelihood.name}  {self.state.device}  seed {self.spec.training.seed}"
            + (f"  {world} processes" if world > 1 else "")
        )


def plan_run(
    spec: Spec,
    data: Data | None = None,
    *,
    device: str = "auto",
    data_dir: str | Path | None = None,
    tell: Tell = lambda event: None,
    processes: Processes | None = None,
) -> Plan:
    """Load the data and build the model of a run, without beginning it; arguments and errors as in ``train_run``."""
    from vaectl.model import builder
    from vaectl.parallel.distributed import Processes
    from vaectl.system.runtime import resolve_device
    from vaectl.training.trainer import prepare

    processes = processes or Processes()
    if data is not None:
        # the config must name these data as they were loaded, so that it repeats the run
        part = Part(f"{GIVEN}{data.info.name}", {}) if data.origin is None else data.origin.part
        spec = dataclasses.replace(spec, data=part)
    spec = builder.complete(spec)
    target = processes.device(resolve_device(device))
    for finding in forecast(spec):
        tell(Found(finding))
    if data is None:
        data = load_named(spec.data, data_dir, tell)
        assert data.origin is not None
        spec = dataclasses.replace(spec, data=data.origin.part)
    tell(DataLoaded(data))
    directory = "" if data.origin is None else str(data.origin.directory.resolve())
    return Plan(spec, data, directory, prepare(spec, data, target), processes)


def begin_run(
    plan: Plan,
    runs_dir: Path,
    *,
    name: str | None = None,
    hub: Hub,
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
    argv: Sequence[str] = (),
    sources: Mapping[str, str] | None = None,
) -> Run:
    """Create the folder of a run and train it; arguments and errors as in ``train_run``."""
    from vaectl.system.runtime import versions

    spec, state, plugins = plan.spec, plan.state, used_by(plan.spec)
    gather(plan.processes, spec, plan.data.info, plan.directory, state)
    run = Run.create(
        runs_dir,
        name,
        {
            "argv": list(argv),
            "config": spec.to_json(),
            "sources": {path: (sources or {}).get(path, "default") for path in spec.flat()},
            "dataset": plan.data.info.to_json(),
            "data_directory": plan.directory,
            "versions": versions(),
            "git_commit": _git_commit(),
            "device": str(state.device),
            "parameters": plan.parameters,
            **({"plugins": plugins} if plugins else {}),
        },
    )
    run_hub = Hub([Log(run), *hub.listeners])
    with recorded(run, run_hub):
        run_hub.tell(RunBegan(run, state, plan.data, f"{run.id}  {plan.title}"))
        train_on(run, state, plan.data, run_hub, checkpoint_minutes, plan.processes)
    return run


def train_on(
    run: Run, state: TrainState, data: Data, hub: Hub, checkpoint_minutes: float, processes: Processes
) -> None:
    """Train a run from its present state, evaluate the best weights on the test split, and record the outcome.

    Args:
        run: The run, created or resumed, which has begun.
        state: The state of its training.
        data: Its data.
        hub: The log and the caller's listeners, to which the keeper, the trackers and the doctor are added.
        checkpoint_minutes: Minutes between checkpoints within an epoch; each epoch also ends with one.
        processes: The processes that train the run, led by this one.

    Raises:
        DivergedError, InterruptedRunError, LostError, OutputError: As ``train_run``.
    """
    from vaectl.training.pictures import Pictures
    from vaectl.training.tensorboard import TensorBoard

    started = time.monotonic()
    broadcast_state(processes, state, run.reference)
    on_device = data.to(state.device)
    folder = run.file("tensorboard")
    tracker = TensorBoard(folder, state.step if folder.exists() else None)
    keeper, everyone = Keeper(run, state, checkpoint_minutes), Hub()
    doctor = Doctor(run, everyone.tell)
    pictures = Pictures(state.model, on_device, everyone.tell)
    everyone.listeners += [tracker, pictures, keeper, *hub.listeners, doctor]
    try:
        everyone.tell(TrainingBegan(state.last_epoch))
        end = _steps(run, state, on_device, everyone, keeper, processes)
        best = run.load_model("best", state.device)
        # the training is complete: an interruption from here on costs only the evaluation
        run.update(status="completed", finished=now())
        everyone.tell(Trained(end.step, best))
    finally:
        tracker.close()
    _conclude(run, best, on_device, end, doctor, everyone, started)


def _steps(run: Run, state: TrainState, data: Data, hub: Hub, keeper: Keeper, processes: Processes) -> Stopped:
    """Take the training steps, report their events and return how training ended, or raise if it was stopped."""
    from vaectl.training.trainer import Logged, Step, Stopped, fit

    end: Stopped | None = None
    events = fit(state.model, state.objective, data, run.spec.training, state, processes=processes)
    with noting() as processes.heard, unstuck(processes, run.reference, hub.tell):
        for event in events:
            hub.tell(event)
            if isinstance(event, Stopped):
                end = event
            if processes.stop:
                if isinstance(event, Step | Logged):
                    keeper.save()
                break
    events.close()
    signum = processes.stop
    processes.disconnect()
    # also a signal that only this process got, after the last step
    if (signum := signum or processes.stop) and (end is None or end.reason != "diverged"):
        raise interrupted(run, state, signum)
    assert end is not None
    if end.reason == "diverged":
        raise diverged(run, state, end)
    return end


def _conclude(run: Run, best: VAE, data: Data, end: Stopped, doctor: Doctor, hub: Hub, started: float) -> None:
    """Evaluate the best weights, and record the end of a run."""
    document, _ = evaluate_into(run, best, data, "test", "best", 0, hub.tell, must_keep=True)
    findings = doctor.conclude(document["metrics"])
    run.finish("completed", metrics=finite(document["metrics"]))
    outcome = {"findings": [finding.to_json() for finding in findings], "seconds": time.monotonic() - started}
    reason: Reason = "patience" if end.reason == "patience" else "completed"
    hub.tell(RunEnded(run, reason, document | outcome, end.epoch))


def _layers(name: str, model: VAE) -> str:
    """The encoder from the data to the latent: ``mlp 784-512-256-2``, or ``conv 1x28x28-32-64-2`` by its channels."""
    space = model.space
    codes = f", {'x'.join(map(str, space.grid))} of {space.codebook_size} codes" if space.codebook_size else ""
    return f"{name} {model.encoder.network.describe()}-{space.shape[0]}{codes}"


def _git_commit() -> str | None:
    """The commit that the working directory is at, or None outside a git checkout."""
    try:
        process = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip()
