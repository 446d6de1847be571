"""Several processes that train one run: one leads, with the run, and the others follow it.

The leader does all that a single process does. Once it knows what to train it posts that as the plan; the others then
also load the data and build the model, take over the leader's weights and state, and share the batches.
"""

from __future__ import annotations

import dataclasses
import os
import select
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaectl.config.spec import Part, Spec
from vaectl.data.location import find_directory, moved
from vaectl.errors import DataError, DivergedError, InterruptedRunError, LostError, UsageError
from vaectl.plugins import load_plugins, require, used_by
from vaectl.system.launcher import ProcessInfo
from vaectl.system.signals import noting
from vaectl.system.streams import lasting
from vaectl.training.events import Lost, Tell

if TYPE_CHECKING:
    from vaectl.data.base import Data
    from vaectl.data.info import DataInfo
    from vaectl.parallel.distributed import Processes
    from vaectl.training.state import TrainState

PLAN = "plan"
# torchrun kills processes that have not ended 30 s after its signal
STUCK_SECONDS = 25.0


@contextmanager
def leading(process: ProcessInfo) -> Iterator[Processes | None]:
    """Lead the other processes within the block, at whose end they end, too; yields None if there are none."""
    if process.world == 1:
        yield None
        return
    from vaectl.parallel.board import Board
    from vaectl.parallel.distributed import Processes

    board = Board.of_launcher(process)
    with board.telling():
        yield Processes(board)
        if PLAN not in board.said:
            board.post(PLAN)  # there was nothing to train


def gather(processes: Processes, spec: Spec, info: DataInfo, directory: str, state: TrainState) -> None:
    """Tell the other processes what to train, and return once all are ready and connected.

    Args:
        processes: The processes, which this one leads.
        spec: The complete spec.
        info: The description of its data.
        directory: The data directory on this machine.
        state: The state of the training.

    Raises:
        UsageError: The objective needs a single process.
        LostError: Another process failed.
    """
    if processes.world == 1:
        return
    if state.objective.needs_pairs:
        raise UsageError(
            f"--objective {spec.objective.name} compares the examples of a batch with each other, which needs one "
            f"process; there are {processes.world}",
            hint="run vaectl train without torchrun",
        )
    plan = {"config": spec.to_json(), "dataset": info.to_json(), "directory": directory}
    processes.board.post(PLAN, {**plan, "device": state.device.type, "plugins": used_by(spec)})
    with processes.board.one_by_one():
        pass  # the data are loaded
    processes.board.wait_for_all()
    processes.connect(state.device)


def broadcast_state(processes: Processes, state: TrainState, reference: str = "") -> str:
    """Give every process the leader's weights and state, and the run's reference.

    Raises:
        LostError: Another process failed.
    """
    if processes.world == 1:
        return reference
    mine = None
    if processes.rank == 0:
        best = state.best_weights or {}
        parts = {"weights": state.model.state_dict(), "tensors": state.tensors(), "best": best}
        mine = {name: {key: tensor.cpu() for key, tensor in part.items()} for name, part in parts.items()}
    message = processes.from_leader((reference, mine, state.values()))
    if processes.rank:
        reference, theirs, values = message
        state.model.load_state_dict(theirs["weights"])
        state.restore(theirs["tensors"], values)
        state.best_weights = theirs["best"] or None
    return reference


def follow(process: ProcessInfo, data_dir: Path | None, tell: Tell, plugins: Iterable[Path] = ()) -> None:
    """Train with the leader, without a run.

    Args:
        process: This process among the others.
        data_dir: The data directory, or None for the leader's.
        tell: Called with a ``Lost`` event if this process must end while it waits and no other reports why.
        plugins: Files of plug-ins, as for the leader.

    Raises:
        LostError: Another process failed.
        RunError: A plug-in of the leader's is missing, or has another content here.
        DataError: This machine's data differ from the leader's.
        DivergedError, InterruptedRunError: As in the leader, which reports it.
    """
    import torch

    from vaectl.model import builder
    from vaectl.parallel.board import Board
    from vaectl.parallel.distributed import Processes
    from vaectl.training.trainer import prepare

    board = Board.of_launcher(process)
    processes = Processes(board)
    with board.telling():
        plan = board.read(PLAN)
        if plan is None:
            return
        load_plugins(plugins)
        require(plan["plugins"], "process 0", exactly=True)
        spec = builder.complete(Spec.from_json(plan["config"]))
        device = processes.device(torch.device(plan["device"]))
        with board.one_by_one():
            data = _same_data(spec.data, Path(plan["directory"]), data_dir, plan)
        state = prepare(spec, data, device)
        board.wait_for_all()
        processes.connect(device)
        _take_part(processes, state, data.to(device), spec, tell)


def _same_data(part: Part, of_leader: Path, data_dir: Path | None, plan: Mapping[str, Any]) -> Data:
    """Load the leader's data on this machine, with the scale that the leader's model has."""
    from vaectl.config.datasets import is_path
    from vaectl.data.base import Loading
    from vaectl.data.info import DataInfo
    from vaectl.runs.data import demands, load_alike

    own = is_path(part.name)
    directory = find_directory(data_dir, of_leader, own=part.name if own else None).path
    if own:
        part = moved(part, directory)
    info = DataInfo.from_json(plan["dataset"])
    data = load_alike(part, Loading(directory, **(demands(info, part) if own else {})), info.fingerprint)
    if data.info.fingerprint != info.fingerprint:
        raise DataError(f"{data.info.name} in {directory} differs from the data of process 0")
    return dataclasses.replace(data, info=dataclasses.replace(data.info, units=info.units))


def _take_part(processes: Processes, state: TrainState, data: Data, spec: Spec, tell: Tell) -> None:
    """Train as the leader does, and raise the error that ended training early."""
    from vaectl.training.trainer import Stopped, fit

    reference = broadcast_state(processes, state)
    end: Stopped | None = None
    try:
        with noting() as processes.heard, unstuck(processes, reference, tell):
            for event in fit(state.model, state.objective, data, spec.training, state, processes=processes):
                end = event if isinstance(event, Stopped) else None
                if processes.stop:
                    break
    except LostError as error:
        raise lost_in(error, reference) from error
    signum = processes.stop
    processes.disconnect()
    if end is not None and end.reason == "diverged":
        raise DivergedError(end.problem)
    if signum:
        raise InterruptedRunError("interrupted", signum=signum)


@contextmanager
def unstuck(processes: Processes, reference: str, tell: Tell) -> Iterator[None]:
    """Let a signal end this process within the block even while it waits for another that does not answer.

    Python handles signals between its own instructions, and a call that waits for another process is a single one. A
    thread learns of the signal at once, and gives the training ``STUCK_SECONDS`` to reach its next step.

    Args:
        processes: The processes.
        reference: The run.
        tell: Called with a ``Lost`` event if this process must end while it waits and no other reports why.
    """
    if processes.world == 1:
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        while os.read(reader, 64):  # the bytes are numbers of signals; none at the end
            steps = processes.steps
            if select.select([reader], [], [], STUCK_SECONDS)[0] or processes.steps > steps:
                continue
            error = lost_in(processes.board.lost(), reference)
            # a process that follows prints nothing else
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
            with lasting():
                if error.told:
                    tell(Lost(error))
            os._exit(error.exit_code)

    thread = threading.Thread(target=watch, daemon=True)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        thread.join()
        os.close(reader)


def lost_in(error: LostError, reference: str) -> LostError:
    """The same error for a run, with a hint on how to resume it."""
    return LostError(
        f"{reference} stopped: {error.message}",
        hint=f"progress up to the last checkpoint is saved; resume with: vaectl train --resume {reference}",
        exit_code=error.exit_code,
        code=error.code,
        told=error.told,
    )
