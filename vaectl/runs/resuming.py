"""Resume a run that was stopped, or train a completed run for longer."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaectl.config.settings import Layer, Resolved, resolve
from vaectl.config.spec import Training
from vaectl.errors import RunError, SettingError, UsageError, amount
from vaectl.runs import checkpoints, history
from vaectl.runs.data import data_of
from vaectl.runs.endings import recorded
from vaectl.runs.events import RunBegan, RunEnded
from vaectl.runs.listeners import Log, diagnose
from vaectl.runs.processes import gather
from vaectl.runs.run import Run, now
from vaectl.runs.training import CHECKPOINT_MINUTES, train_on
from vaectl.system.files import write_json
from vaectl.system.reading import has_numbers
from vaectl.system.runtime import arithmetic, check_device, resolve_device, versions
from vaectl.training.events import Hub, Listener, Said, Tell

if TYPE_CHECKING:
    from vaectl.data.base import Data
    from vaectl.parallel.distributed import Processes
    from vaectl.training.state import TrainState


def resume_run(
    run: Run | str | Path,
    data: Data | None = None,
    runs_dir: str | Path | None = None,
    *,
    epochs: int | str | None = None,
    prior_epochs: int | str | None = None,
    patience: int | str | None = None,
    device: str = "auto",
    data_dir: str | Path | None = None,
    listeners: Iterable[Listener] = (),
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
    argv: Sequence[str] = (),
    processes: Processes | None = None,
) -> Run:
    """Continue a run in its folder from its last checkpoint, as ``vaectl train --resume`` does.

    Args:
        run: The run, or a reference as for ``Run.open``.
        data: The run's data; None loads them. A run that was trained on a ``Data`` object needs that object.
        runs_dir: The folder of all runs; None for ``VAECTL_RUNS_DIR``, else ``runs``.
        epochs: Total passes over the training set; None leaves the setting as it is.
        prior_epochs: Passes of the second stage; None leaves the setting as it is.
        patience: Epochs without a better validation ELBO before stopping; None leaves the setting as it is.
        device: The device; ``auto`` is the one that the run was trained on, if this machine has it.
        data_dir: The directory where the run's data are now; None for the recorded one.
        listeners: Listen to every event, in order.
        checkpoint_minutes: Minutes between checkpoints within an epoch.
        argv: The command line, for the record.
        processes: The processes that train the run from now on, led by this one; None for this one alone.

    Returns:
        The run, completed.

    Raises:
        RunError: There is no such run, another process trains it, its files are damaged, or a plug-in that it needs is
            not loaded or has another content.
        UsageError: The new number of epochs is lower than the number of epochs begun.
        DataError: The data are missing or not what the run was trained on.
        DivergedError, InterruptedRunError, LostError, OutputError: As ``train_run``.
    """
    from vaectl.parallel.distributed import Processes
    from vaectl.training.trainer import prepare

    changes = {"epochs": epochs, "prior_epochs": prior_epochs, "patience": patience}
    changes = {name: value for name, value in changes.items() if value is not None}
    hub, processes = Hub(listeners), processes or Processes()
    opened = Run.resume(run.path if isinstance(run, Run) else run, runs_dir)
    try:
        check_device(device)
        opened.check_plugins(exactly=True)
        settings = opened.complete_spec().flat()
        resolved = _changed(settings, changes)
        complete = opened.record["status"] == "completed" and _has_metrics(opened)
        if complete and not changes:
            _tell_end(opened, hub.tell)
            return opened
        target = processes.device(resolve_device(_device(opened, device, hub.tell, processes)))
        try:
            data = data_of(opened, data, data_dir, hub.tell)
            state = prepare(resolved.spec, data, target)
        except SettingError as error:
            raise resolved.named(error) from None
        rows, torn = history.read(opened.file(history.NAME))
        _restore(opened, state, hub.tell)
        _check_epochs(opened, state, resolved.spec.training, settings["training.epochs"])
        reason = state.end
        if complete and reason:
            _tell_no_more(state, resolved.spec.training, changes, reason, hub.tell)
            _tell_end(opened, hub.tell)
            return opened
        directory = opened.record["data_directory"] if data.origin is None else str(data.origin.directory.resolve())
        gather(processes, resolved.spec, data.info, directory, state)
        hub = Hub([Log(opened), *hub.listeners])
        with recorded(opened, hub):
            validation = _rewind(opened, rows, state, hub.tell, torn=torn)
            _record(opened, state, resolved, validation, directory, argv)
            line = f"{opened.id}  resumed at {_position(state) if not reason else 'its evaluation'}"
            hub.tell(RunBegan(opened, state, data, line, resumed=True))
            train_on(opened, state, data, hub, checkpoint_minutes, processes)
    finally:
        opened.close()
    return opened


def _changed(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> Resolved:
    """The complete settings of a run after some changes.

    Raises:
        SettingError: A change is not allowed.
    """
    from vaectl.model.builder import complete

    flags = Layer("flag", changes, lambda name: f"--{name.replace('_', '-')}")
    resolved = resolve([flags, Layer("from", settings, lambda path: path)])
    try:
        return dataclasses.replace(resolved, spec=complete(resolved.spec))
    except SettingError as error:
        raise resolved.named(error) from None


def _record(
    run: Run, state: TrainState, resolved: Resolved, validation: Mapping[str, Any], directory: str, argv: Sequence[str]
) -> None:
    """Record that a run is resumed, and its settings."""
    past = run.record.get("resumed")
    this_time = {"at": now(), "argv": list(argv), "step": state.step, "versions": versions()}
    run.update(
        status="running",
        finished=None,
        config=resolved.spec.to_json(),
        sources=run.record["sources"] | {path: by for path, by in resolved.sources.items() if by == "flag"},
        best_epoch=state.best_epoch,
        validation=dict(validation),
        data_directory=directory,
        device=str(state.device),
        metrics={},
        resumed=[*(past if isinstance(past, list) else []), this_time],
    )
    write_json(run.path / "config.json", run.record["config"])


def _check_epochs(run: Run, state: TrainState, training: Training, previous: int) -> None:
    """Raise a UsageError if a stage gets fewer epochs than it has begun, or a finished stage gets another number."""
    begun = state.epoch + bool(state.batch)
    if state.prior_began is None:
        flag, epochs = "--epochs", training.epochs
    else:
        if training.epochs != previous:
            raise UsageError(
                f"--epochs cannot change any more: {run.id} has trained its prior since epoch {state.prior_began + 1}, "
                "on latents that must not change",
                hint="--prior-epochs trains the prior for longer",
            )
        flag, epochs, begun = "--prior-epochs", training.prior_epochs, begun - state.prior_began
    if epochs < begun:
        raise UsageError(f"{flag} must be at least the {begun} that {run.id} has begun; got {epochs}")


def _restore(run: Run, state: TrainState, tell: Tell) -> None:
    """Restore the state from the run's checkpoint; a run that died before its first one starts from the beginning."""
    if checkpoints.has_state(run.path):
        before, here = run.load_checkpoint(state), arithmetic(state.device)
        for name in before.keys() & here.keys():
            if before[name] != here[name]:
                change = f"{name}: {here[name]}, previously {before[name]:.40}"
                tell(Said(f"{change}; the numbers agree only up to rounding"))
    elif run.record["best_epoch"] is not None or any(os.path.lexists(run.path / name) for name in checkpoints.FILES):
        raise RunError(
            f"{run.id} has no {checkpoints.STATE}, from which it could be resumed",
            hint=f"begin a new run with its settings: vaectl train --from {run.reference}",
        )


def _rewind(
    run: Run, rows: Sequence[Mapping[str, Any]], state: TrainState, tell: Tell, *, torn: bool
) -> dict[str, Any]:
    """Drop epochs after the state from the history, and return the best epoch's validation metrics."""
    path = run.file(history.NAME)
    done = [row for row in rows if has_numbers(row, "epoch") and row["epoch"] <= state.epoch]
    if torn:
        tell(Said(f"{path}: an incomplete last line was dropped"))
    if lost := sorted({*range(1, state.epoch + 1)} - {row["epoch"] for row in done}):
        epochs = f"{'epoch' if len(lost) == 1 else 'epochs'} {', '.join(map(str, lost[:10]))}"
        tell(Said(f"{path} lacks {epochs}{' ...' if len(lost) > 10 else ''}", "warning"))
    if dropped := [row["epoch"] for row in rows if has_numbers(row, "epoch") and row["epoch"] > state.epoch]:
        epochs = f"epoch {dropped[0]}" if len(dropped) == 1 else f"epochs {dropped[0]} to {dropped[-1]}"
        tell(Said(f"{path}: {epochs} dropped, because the checkpoint is older and they are trained again"))
    if unnumbered := len(rows) - len(done) - len(dropped):
        tell(Said(f"{path}: {amount(unnumbered, 'line')} without an epoch dropped"))
    if torn or len(done) < len(rows):
        history.write(path, done)
    run.rewind_steps(state.step)
    best = [row.get("validation") for row in done if row["epoch"] == state.best_epoch]
    if best and isinstance(best[-1], dict):
        return best[-1]
    metrics: dict[str, Any] = run.record["validation"]
    return metrics if run.record["best_epoch"] == state.best_epoch else {}


def _has_metrics(run: Run) -> bool:
    """Whether the record has the metrics of the final evaluation."""
    metrics = run.record["metrics"]
    counted = has_numbers(metrics, "active_units") or has_numbers(metrics, "codes_used", "codes")
    return counted and has_numbers(metrics, "elbo", "recon", "kl")


def _tell_no_more(state: TrainState, training: Training, changes: Mapping[str, Any], reason: str, tell: Tell) -> None:
    """Say how a run whose training has ended could be trained further."""
    if reason == "patience":
        more = "continue with a larger --patience, or with --patience 0"
        tell(Said(f"--patience {training.patience} ended the training; {more}"))
    elif "patience" in changes:
        flag = "--epochs" if state.prior_began is None else "--prior-epochs"
        tell(Said(f"all epochs are trained; continue with a larger {flag}"))


def _tell_end(run: Run, tell: Tell) -> None:
    """Report the recorded result of a run that has nothing left to do, if its files are sound."""
    from vaectl.model.builder import measure

    metrics = run.record["metrics"]
    try:
        name = measure(run.complete_spec(), run.data_info)
    except UsageError as error:
        raise RunError(f"{run.path / 'run.json'} is damaged: {error.message}") from None
    run.check_weights()
    findings = [finding.to_json() for finding in diagnose(run, metrics, tell)]
    document = {"measure": name, "metrics": metrics, "findings": findings, "seconds": 0.0}
    tell(RunEnded(run, "nothing left", document))


def _position(state: TrainState) -> str:
    """The position at which training continues, in words."""
    epoch = f"epoch {state.epoch + 1}"
    if state.batch == state.batches:
        return f"the end of {epoch}"
    return f"{epoch}, batch {state.batch + 1} of {state.batches}" if state.batch else epoch


def _device(run: Run, device: str, tell: Tell, processes: Processes) -> str:
    """The requested device; for ``auto`` the one that the run was trained on, if this machine has it."""
    if device != "auto":
        return device
    try:
        recorded_device = resolve_device(run.record["device"])
        # each of several processes has a GPU of its own, whichever the run had before
        return recorded_device.type if processes.world > 1 else str(recorded_device)
    except UsageError:
        tell(Said(f"{run.id} was trained on {run.record['device']}, which this machine does not have"))
        return "auto"
