"""``vaectl train --resume``: a run goes on that was stopped, or is to be trained for longer."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaectl.commands.shared.doctor import ailments
from vaectl.commands.shared.render import Screen
from vaectl.commands.shared.session import Session
from vaectl.config.settings import Layer, resolve
from vaectl.config.spec import RESUMABLE, Training
from vaectl.errors import RunError, SettingError, UsageError
from vaectl.runs import checkpoints, history
from vaectl.runs.run import Run, now
from vaectl.system.files import write_json
from vaectl.system.reading import has_numbers
from vaectl.system.runtime import arithmetic, check_device, resolve_device, versions

if TYPE_CHECKING:
    from vaectl.parallel.distributed import Processes
    from vaectl.training.state import TrainState

# the settings that may be given with --resume, as they are typed
ALLOWED = tuple(path.partition(".")[2] for path in RESUMABLE)


def refuse_others(reference: str, given: Mapping[str, Any]) -> None:
    """Raise a UsageError unless the flags given beside ``--resume`` are ones that a run can go on with.

    Args:
        reference: The run.
        given: Value of each flag that was given, by its name without dashes.
    """
    for name in given:
        if name not in ALLOWED:
            raise UsageError(
                f"--{name.replace('_', '-')} cannot be given with --resume: of a run's settings only --epochs, "
                "--prior-epochs and --patience may change",
                hint=f"begin a new run with other settings: vaectl train --from {shlex.quote(reference)} ...",
            )


def resume(
    reference: str,
    changes: Mapping[str, Any],
    screen: Screen,
    runs_dir: Path,
    data_dir: Path | None,
    device_name: str,
    argv: Sequence[str],
    checkpoint_minutes: float,
    processes: Processes | None = None,
) -> None:
    """Go on with a run, in its folder and from its last checkpoint.

    Args:
        reference: The run.
        changes: The settings that are another from now on, of ``ALLOWED``.
        screen: Where to show it.
        runs_dir: Folder of all runs.
        data_dir: The data directory, or None for the recorded one.
        device_name: The device; ``auto`` is the one it was trained on, where this machine has it.
        argv: The command line, for the record.
        checkpoint_minutes: Time between two checkpoints within an epoch.
        processes: The processes that train it from now on, of which this one leads; None for this one.

    Raises:
        RunError: There is no such run, another process trains it, or its files are damaged.
        UsageError: Fewer epochs than were begun.
    """
    run = Run.resume(reference, runs_dir)
    try:
        _go_on(run, changes, screen, data_dir, device_name, argv, checkpoint_minutes, processes)
    finally:
        run.close()


def _go_on(
    run: Run,
    changes: Mapping[str, Any],
    screen: Screen,
    data_dir: Path | None,
    device_name: str,
    argv: Sequence[str],
    checkpoint_minutes: float,
    processes: Processes | None,
) -> None:
    from vaectl.commands.train.processes import gather
    from vaectl.commands.train.run import kept, train_run
    from vaectl.model.builder import complete
    from vaectl.parallel.distributed import Processes
    from vaectl.training.trainer import prepare

    processes = processes or Processes()
    check_device(device_name)
    known = run.complete_spec().flat()
    resolved = resolve(
        [Layer("flag", changes, lambda name: f"--{name.replace('_', '-')}"), Layer("from", known, lambda path: path)]
    )
    try:
        spec = complete(resolved.spec)
    except SettingError as error:
        raise resolved.named(error) from None
    if not changes and run.record["status"] == "completed" and _is_whole(run):
        _show_end(run, screen)
        return
    session = Session(run, screen, _device(run, device_name, screen, processes), data_dir)
    try:
        state = prepare(spec, session.data(), processes.device(session.device))
    except SettingError as error:
        raise resolved.named(error) from None
    rows, torn = history.read(run.file(history.NAME))
    _restore(run, state, screen)
    _check_epochs(run, state, spec.training, known["training.epochs"])
    reason = state.end
    if reason and run.record["status"] == "completed" and _is_whole(run):
        if reason == "patience":
            screen.note(f"--patience {spec.training.patience} ended it; go on with more of it, or with --patience 0")
        elif "patience" in changes:
            more = "--epochs" if state.prior_began is None else "--prior-epochs"
            screen.note(f"all epochs are trained; go on with more {more}")
        _show_end(run, screen)
        return
    changed = {path: source for path, source in resolved.sources.items() if source == "flag"}
    gather(processes, spec, session.data().info, session.directory, state)
    with kept(run):
        past = run.record.get("resumed")
        run.update(
            status="running",
            finished=None,
            config=spec.to_json(),
            sources=run.record["sources"] | changed,
            best_epoch=state.best_epoch,
            validation=_rewind(run, rows, state, screen, torn=torn),
            data_directory=str(session.directory.resolve()),
            device=str(state.device),
            metrics={},
            resumed=[
                *(past if isinstance(past, list) else []),
                {"at": now(), "argv": list(argv), "step": state.step, "versions": versions()},
            ],
        )
        write_json(run.path / "config.json", run.record["config"])
        line = f"{run.id}  resumed at {_place(state) if not reason else 'its evaluation'}"
        run.log(line)
        screen.note(line, "bold")
        train_run(run, state, session.data(), screen, checkpoint_minutes, processes)


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


def _restore(run: Run, state: TrainState, screen: Screen) -> None:
    """Restore the state of the run's checkpoint; where it died before its first one it stays at the beginning."""
    if checkpoints.has_state(run.path):
        before, here = run.load_checkpoint(state), arithmetic(state.device)
        for name in before.keys() & here.keys():
            if before[name] != here[name]:
                change = f"{name}: {here[name]} where it was {before[name]:.40}"
                screen.note(f"{change}; the numbers agree only up to rounding")
    elif run.record["best_epoch"] is not None or any(os.path.lexists(run.path / name) for name in checkpoints.FILES):
        raise RunError(
            f"{run.id} has no {checkpoints.STATE}: there is nothing to resume it from",
            hint=f"begin a new run with its settings: vaectl train --from {run.reference}",
        )


def _rewind(
    run: Run, rows: Sequence[Mapping[str, Any]], state: TrainState, screen: Screen, *, torn: bool
) -> dict[str, Any]:
    """Drop from the history what came after the state, which is done again; the best epoch's validation metrics."""
    path = run.file(history.NAME)
    done = [row for row in rows if has_numbers(row, "epoch") and row["epoch"] <= state.epoch]
    if torn:
        screen.note(f"{path}: a torn last line was dropped")
    if lost := sorted({*range(1, state.epoch + 1)} - {row["epoch"] for row in done}):
        screen.warn(f"{path} has lost {'epoch' if len(lost) == 1 else 'epochs'} {', '.join(map(str, lost[:10]))}"
                    + (" ..." if len(lost) > 10 else ""))  # fmt: skip
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


def _show_end(run: Run, screen: Screen) -> None:
    """Show the result of a run that has nothing left to do, from its record alone."""
    from vaectl.commands.train.run import show_outcome
    from vaectl.model.builder import measure

    metrics = run.record["metrics"]
    findings = [finding.to_json() for finding in ailments(run, metrics, screen)]
    spec, info = run.complete_spec(), run.data_info
    try:
        document = {"measure": measure(spec, info), "metrics": metrics, "findings": findings, "seconds": 0.0}
    except UsageError as error:
        raise RunError(f"{run.path / 'run.json'} is damaged: {error.message}") from None
    show_outcome(run, f"{run.id} has nothing left to resume", document, screen)


def _place(state: TrainState) -> str:
    """Where a training goes on, in words."""
    epoch = f"epoch {state.epoch + 1}"
    if state.batch == state.batches:
        return f"the end of {epoch}"
    return f"{epoch}, batch {state.batch + 1} of {state.batches}" if state.batch else epoch


def _device(run: Run, asked: str, screen: Screen, processes: Processes) -> str:
    """The device that was asked for; for ``auto`` the one that the run was trained on, where this machine has it."""
    if asked != "auto":
        return asked
    try:
        device = resolve_device(run.record["device"])
        # of several processes each has a GPU of its own, whichever one process had
        return device.type if processes.world > 1 else str(device)
    except UsageError:
        screen.note(f"{run.id} was trained on {run.record['device']}, which this machine does not have")
        return "auto"
