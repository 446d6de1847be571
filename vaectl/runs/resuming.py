"""A run goes on that was stopped, or is to be trained for longer."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaectl.config.settings import Layer, Resolved, resolve
from vaectl.config.spec import Training
from vaectl.errors import RunError, SettingError, UsageError
from vaectl.runs import checkpoints, history
from vaectl.runs.data import data_of
from vaectl.runs.endings import recorded
from vaectl.runs.events import RunBegan, RunEnded
from vaectl.runs.listeners import Log, ailments
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
    """Go on with a run in its folder and from its last checkpoint, as ``vaectl train --resume`` does.

    Args:
        run: The run, or what ``Run.open`` takes.
        data: The run's data; None loads them. A run that was trained on a ``Data`` object needs that.
        runs_dir: The folder of all runs; None takes ``VAECTL_RUNS_DIR``, else ``runs``.
        epochs: Passes over the training set in all; None leaves the setting as it is.
        prior_epochs: Passes of the second stage; None leaves the setting as it is.
        patience: Epochs without a better validation ELBO before stopping; None leaves the setting as it is.
        device: The device; ``auto`` is the one it was trained on, where this machine has it.
        data_dir: The directory that the run's data are in now; None takes the recorded one.
        listeners: Told every event, in order.
        checkpoint_minutes: Time between two checkpoints within an epoch.
        argv: The command line, for the record.
        processes: The processes that train it from now on, of which this one leads; None for this one.

    Returns:
        The run, completed.

    Raises:
        RunError: There is no such run, another process trains it, its files are damaged, or a plug-in that it needs is
            not loaded or has another content.
        UsageError: Fewer epochs than were begun.
        DataError: The data are missing or not those that the run was trained on.
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
        known = opened.complete_spec().flat()
        resolved = _changed(known, changes)
        whole = opened.record["status"] == "completed" and _is_whole(opened)
        if whole and not changes:
            _tell_end(opened, hub.tell)
            return opened
        place = processes.device(resolve_device(_device(opened, device, hub.tell, processes)))
        try:
            data = data_of(opened, data, data_dir, hub.tell)
            state = prepare(resolved.spec, data, place)
        except SettingError as error:
            raise resolved.named(error) from None
        rows, torn = history.read(opened.file(history.NAME))
        _restore(opened, state, hub.tell)
        _check_epochs(opened, state, resolved.spec.training, known["training.epochs"])
        reason = state.end
        if whole and reason:
            _tell_no_more(state, resolved.spec.training, changes, reason, hub.tell)
            _tell_end(opened, hub.tell)
            return opened
        directory = opened.record["data_directory"] if data.origin is None else str(data.origin.directory.resolve())
        gather(processes, resolved.spec, data.info, directory, state)
        hub = Hub([Log(opened), *hub.listeners])
        with recorded(opened, hub):
            validation = _rewind(opened, rows, state, hub.tell, torn=torn)
            _record(opened, state, resolved, validation, directory, argv)
            line = f"{opened.id}  resumed at {_place(state) if not reason else 'its evaluation'}"
            hub.tell(RunBegan(opened, state, data, line, resumed=True))
            train_on(opened, state, data, hub, checkpoint_minutes, processes)
    finally:
        opened.close()
    return opened


def _changed(known: Mapping[str, Any], changes: Mapping[str, Any]) -> Resolved:
    """The settings of a run with some changes, complete.

    Raises:
        SettingError: A change is not allowed.
    """
    from vaectl.model.builder import complete

    flags = Layer("flag", changes, lambda name: f"--{name.replace('_', '-')}")
    resolved = resolve([flags, Layer("from", known, lambda path: path)])
    try:
        return dataclasses.replace(resolved, spec=complete(resolved.spec))
    except SettingError as error:
        raise resolved.named(error) from None


def _record(
    run: Run, state: TrainState, resolved: Resolved, validation: Mapping[str, Any], directory: str, argv: Sequence[str]
) -> None:
    """Record that a run is trained again, and by what settings."""
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


def _check_epochs(run: Run, state: TrainState, training: Training, known: int) -> None:
    """Raise a UsageError where fewer epochs of a stage are asked for than were begun, or more of one that is over."""
    begun = state.epoch + bool(state.batch)
    if state.prior_began is None:
        flag, asked = "--epochs", training.epochs
    else:
        if training.epochs != known:
            raise UsageError(
                f"--epochs cannot change now: {run.id} fits its prior since epoch {state.prior_began + 1}, to codes "
                "that must stay as they are",
                hint="--prior-epochs fits it for longer",
            )
        flag, asked, begun = "--prior-epochs", training.prior_epochs, begun - state.prior_began
    if asked < begun:
        raise UsageError(f"{flag} must be at least the {begun} that {run.id} has begun; got {asked}")


def _restore(run: Run, state: TrainState, tell: Tell) -> None:
    """Restore the state of the run's checkpoint; where it died before its first one it stays at the beginning."""
    if checkpoints.has_state(run.path):
        before, here = run.load_checkpoint(state), arithmetic(state.device)
        for name in before.keys() & here.keys():
            if before[name] != here[name]:
                change = f"{name}: {here[name]} where it was {before[name]:.40}"
                tell(Said(f"{change}; the numbers agree only up to rounding"))
    elif run.record["best_epoch"] is not None or any(os.path.lexists(run.path / name) for name in checkpoints.FILES):
        raise RunError(
            f"{run.id} has no {checkpoints.STATE}: there is nothing to resume it from",
            hint=f"begin a new run with its settings: vaectl train --from {run.reference}",
        )


def _rewind(
    run: Run, rows: Sequence[Mapping[str, Any]], state: TrainState, tell: Tell, *, torn: bool
) -> dict[str, Any]:
    """Drop from the history what came after the state, which is done again; the best epoch's validation metrics."""
    path = run.file(history.NAME)
    done = [row for row in rows if has_numbers(row, "epoch") and row["epoch"] <= state.epoch]
    if torn:
        tell(Said(f"{path}: a torn last line was dropped"))
    if lost := sorted({*range(1, state.epoch + 1)} - {row["epoch"] for row in done}):
        epochs = f"{'epoch' if len(lost) == 1 else 'epochs'} {', '.join(map(str, lost[:10]))}"
        tell(Said(f"{path} has lost {epochs}{' ...' if len(lost) > 10 else ''}", "warning"))
    if torn or len(done) < len(rows):
        history.write(path, done)
    best = [row.get("validation") for row in done if row["epoch"] == state.best_epoch]
    if best and isinstance(best[-1], dict):
        return best[-1]
    known: dict[str, Any] = run.record["validation"]
    return known if run.record["best_epoch"] == state.best_epoch else {}


def _is_whole(run: Run) -> bool:
    metrics = run.record["metrics"]
    counted = has_numbers(metrics, "active_units") or has_numbers(metrics, "codes_used", "codes")
    return counted and has_numbers(metrics, "elbo", "recon", "kl")


def _tell_no_more(state: TrainState, training: Training, changes: Mapping[str, Any], reason: str, tell: Tell) -> None:
    """Say what a run would need to go on, whose training has ended."""
    if reason == "patience":
        tell(Said(f"--patience {training.patience} ended it; go on with more of it, or with --patience 0"))
    elif "patience" in changes:
        more = "--epochs" if state.prior_began is None else "--prior-epochs"
        tell(Said(f"all epochs are trained; go on with more {more}"))


def _tell_end(run: Run, tell: Tell) -> None:
    """Tell the result of a run that has nothing left to do, from its record alone."""
    from vaectl.model.builder import measure

    metrics = run.record["metrics"]
    findings = [finding.to_json() for finding in ailments(run, metrics, tell)]
    try:
        measured = measure(run.complete_spec(), run.data_info)
    except UsageError as error:
        raise RunError(f"{run.path / 'run.json'} is damaged: {error.message}") from None
    document = {"measure": measured, "metrics": metrics, "findings": findings, "seconds": 0.0}
    tell(RunEnded(run, "nothing left", document))


def _place(state: TrainState) -> str:
    """Where a training goes on, in words."""
    epoch = f"epoch {state.epoch + 1}"
    if state.batch == state.batches:
        return f"the end of {epoch}"
    return f"{epoch}, batch {state.batch + 1} of {state.batches}" if state.batch else epoch


def _device(run: Run, wanted: str, tell: Tell, processes: Processes) -> str:
    """The device that was asked for; for ``auto`` the one that the run was trained on, where this machine has it."""
    if wanted != "auto":
        return wanted
    try:
        device = resolve_device(run.record["device"])
        # of several processes each has a GPU of its own, whichever one process had
        return device.type if processes.world > 1 else str(device)
    except UsageError:
        tell(Said(f"{run.id} was trained on {run.record['device']}, which this machine does not have"))
        return "auto"
