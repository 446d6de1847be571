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
    """The data are there; the model is not made yet."""

    data: Data


@dataclass(frozen=True)
class RunBegan:
    """The run's folder is there and belongs to this process.

    Attributes:
        run: The run.
        state: Where its training stands, with the model, the objective and the device.
        data: Its data.
        line: What is trained, in one line.
        resumed: Whether it goes on, instead of being new.
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
    """An evaluation is kept in its run.

    Attributes:
        run: The run.
        document: What ``evaluate_run`` returns.
        values: Values of each example by name, float64 (N,).
    """

    run: Run
    document: Mapping[str, Any]
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class RunEnded:
    """Nothing more will be told: the run has ended, and its record says how.

    Attributes:
        run: The run; its ``status`` is completed, interrupted or failed.
        reason: Why: all epochs were trained, ``--patience`` ended it, there was nothing left to resume, or an error,
            which is raised next, or a signal stopped it.
        document: Of a run that reached its end ``measure``, ``metrics``, ``findings`` and ``seconds``; else empty.
        epoch: The epoch after which training ended; None where it was not trained to its end now.
    """

    run: Run
    reason: Reason
    document: Mapping[str, Any]
    epoch: int | None = None
