"""``vaectl train --resume``: a run that was interrupted, crashed, or is to be trained for longer, goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaectl import checkpoints, history
from vaectl.commands._render import Screen
from vaectl.commands._session import Session
from vaectl.errors import RunError, SettingError, UsageError
from vaectl.files import write_json
from vaectl.records import has_numbers
from vaectl.runs import Run, now
from vaectl.settings import Layer, resolve
from vaectl.spec import RESUMABLE

if TYPE_CHECKING:
    from vaectl.train_state import TrainState

# the settings that may be given with --resume, as they are typed
ALLOWED = tuple(path.partition(".")[2] for path in RESUMABLE)


def refuse_others(given: Mapping[str, Any]) -> None:
    """Raise a UsageError unless the flags given beside ``--resume`` are ones that a run can go on with.

    Args:
        given: Value of each flag that was given, by its name without dashes.
    """
    for name in given:
        if name not in ALLOWED:
            raise UsageError(
                f"--{name.replace('_', '-')} cannot be given with --resume, which changes only epochs and patience",
                hint="begin a new run with other settings: vaectl train --from RUN ...",
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

    Raises:
        RunError: There is no such run, another process trains it, or its files are damaged.
        UsageError: Fewer epochs than were begun.
    """
    run = Run.resume(reference, runs_dir)
    try:
        _go_on(run, changes, screen, data_dir, device_name, argv, checkpoint_minutes)
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
) -> None:
    from vaectl.builder import complete, measure
    from vaectl.commands._training import kept, prepare, show_outcome, train_run

    known = run.complete_spec().flat()
    resolved = resolve([Layer("flag", changes, lambda name: f"--{name}"), Layer("from", known, lambda path: path)])
    try:
        spec = complete(resolved.spec)
    except SettingError as error:
        raise resolved.named(error) from None
    session = Session(run, screen, _device(run, device_name, screen), data_dir)
    state = prepare(spec, session.data(), session.device)
    rows, torn = history.read(run.file(history.NAME))
    _restore(run, state, screen)
    begun = state.epoch + bool(state.batch)
    if spec.training.epochs < begun:
        raise UsageError(f"--epochs must be at least the {begun} that {run.id} has begun; got {spec.training.epochs}")
    reason = state.end(spec.training)
    metrics = run.record["metrics"]
    if reason and run.record["status"] == "completed" and has_numbers(metrics, "elbo", "recon", "kl", "active_units"):
        result = {"measure": measure(spec, run.data_info), "metrics": metrics, "findings": []}
        conclusion = f"{run.id} has nothing left to resume: it ended after epoch {state.epoch}"
        show_outcome(run, conclusion, {**result, "seconds": 0.0}, screen)
        return
    changed = {path: source for path, source in resolved.sources.items() if source == "flag"}
    with kept(run):
        if torn:
            screen.note(f"{run.path / history.NAME}: a torn last line was dropped")
        past = run.record.get("resumed")
        run.update(
            status="running",
            finished=None,
            config=spec.to_json(),
            sources=run.record["sources"] | changed,
            best_epoch=state.best_epoch,
            validation=_rewind(run, rows, state, torn=torn),
            metrics={},
            resumed=[
                *(past if isinstance(past, list) else []),
                {"at": now(), "argv": list(argv), "step": state.step},
            ],
        )
        write_json(run.path / "config.json", run.record["config"])
        line = f"{run.id}  resumed at {_place(state) if not reason else 'its evaluation'}"
        run.log(line)
        screen.note(line, "bold")
        train_run(run, state, session.data(), screen, checkpoint_minutes)


def _restore(run: Run, state: TrainState, screen: Screen) -> None:
    """Restore the state of the run's checkpoint; where it died before its first one it stays at the beginning."""
    from vaectl.runtime import arithmetic

    if checkpoints.has_state(run.path):
        before, here = run.load_checkpoint(state), arithmetic(state.device)
        for name in before.keys() & here.keys():
            if before[name] != here[name]:
                change = f"{name}: {here[name]} where it was {before[name]:.40}"
                screen.note(f"{change}; the numbers agree only up to rounding")
    elif any(os.path.lexists(run.path / name) for name in checkpoints.FILES):
        raise RunError(
            f"{run.id} has no {checkpoints.STATE}: there is nothing to resume it from",
            hint=f"begin a new run with its settings: vaectl train --from {run.id}",
        )


def _rewind(run: Run, rows: Sequence[Mapping[str, Any]], state: TrainState, *, torn: bool) -> dict[str, Any]:
    """Drop from the history what came after the state, which is done again; the best epoch's validation metrics."""
    done = [row for row in rows if has_numbers(row, "epoch") and row["epoch"] <= state.epoch]
    if torn or len(done) < len(rows):
        history.write(run.file(history.NAME), done)
    best = [row.get("validation") for row in done if row["epoch"] == state.best_epoch]
    return best[-1] if best and isinstance(best[-1], dict) else {}


def _place(state: TrainState) -> str:
    """Where a training goes on, in words."""
    epoch = f"epoch {state.epoch + 1}"
    if state.batch == state.batches:
        return f"the end of {epoch}"
    return f"{epoch}, batch {state.batch + 1} of {state.batches}" if state.batch else epoch


def _device(run: Run, asked: str, screen: Screen) -> str:
    """The device that was asked for; for ``auto`` the one that the run was trained on, where this machine has it."""
    from vaectl.runtime import resolve_device

    if asked != "auto":
        return asked
    try:
        return str(resolve_device(run.record["device"]))
    except UsageError:
        screen.note(f"{run.id} was trained on {run.record['device']}, which this machine does not have")
        return "auto"
