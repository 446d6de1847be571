"""Events of a run: it begins, is evaluated, and ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vaectl.runs.run import Run

if TYPE_CHECKING:
    import numpy as np

    from vaectl.data.base import Data
    from vaectl.training.state import TrainState


Reason = Literal["completed", "patience", "nothing left", "stopped"]


@dataclass(frozen=True)
class DataLoaded:
    """The data are loaded; the model is not built yet."""

    data: Data


@dataclass(frozen=True)
class RunBegan:
    """The run's folder exists and is locked by this process.

    Attributes:
        run: The run.
        state: The state of its training, with the model, the objective and the device.
        data: Its data.
        line: A description of the training in one line.
        resumed: Whether the run is resumed rather than new.
    """

    run: Run
    state: TrainState
    data: Data
    line: str
    resumed: bool = False


@dataclass(frozen=True)
class TrainingBegan:
    """All is ready for the first step; training ends with ``last_epoch`` unless it is stopped early."""

    last_epoch: int


@dataclass(frozen=True)
class Evaluated:
    """An evaluation was made, and added to its run if that can be written.

    Attributes:
        run: The run.
        document: The result of ``evaluate_run``, without findings.
        values: Values for each example by name, float64 (N,).
    """

    run: Run
    document: Mapping[str, Any]
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class RunEnded:
    """The run has ended, as its record says; no event follows.

    Attributes:
        run: The run; its ``status`` is completed, interrupted or failed.
        reason: Why it ended: all epochs were trained, ``--patience`` ended it, there was nothing left to resume, or it
            was stopped by a signal or by an error, which is raised next.
        document: ``measure``, ``metrics``, ``findings`` and ``seconds`` of a run that reached its end; else empty.
        epoch: The epoch after which training ended; None if this process did not train it to its end.
    """

    run: Run
    reason: Reason
    document: Mapping[str, Any]
    epoch: int | None = None
