"""Events of a training other than those of ``fit``, and the listeners that receive them.

Listeners also get the events of ``training.trainer`` (``Step``, ``Epoch``, ``RolledBack``, ``PriorBegan``, ``Stopped``)
and of ``runs.events``. A listener handles the types that it knows and ignores the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from vaectl.evaluation.doctor import Finding

if TYPE_CHECKING:
    from vaectl.errors import LostError
    from vaectl.model.vae import VAE

Tell = Callable[[object], None]


class Listener(Protocol):
    """A follower of a training or an evaluation: a screen, a log, an experiment tracker, the doctor."""

    def on(self, event: object) -> None:
        """Handle an event. An exception ends the training, whose last checkpoint stays."""


class Hub:
    """Sends every event to several listeners, in order.

    Args:
        listeners: The listeners.
    """

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        self.listeners = list(listeners)

    def tell(self, event: object) -> None:
        """Send an event to all listeners."""
        for listener in self.listeners:
            listener.on(event)


@dataclass(frozen=True)
class Said:
    """A sentence for the user: a note, a detail for verbose output, or a warning."""

    sentence: str
    kind: Literal["note", "detail", "warning"] = "note"


@dataclass(frozen=True)
class Progress:
    """Work in progress: ``done`` of ``total`` examples or bytes; a total of 0 is unknown."""

    what: str
    done: int
    total: int
    unit: Literal["examples", "bytes"] = "examples"


@dataclass(frozen=True)
class Found:
    """The doctor reports a new problem of the run."""

    finding: Finding


@dataclass(frozen=True)
class Pictured:
    """Pictures of the model at an optimizer step, as PNG by name.

    The names are ``Reconstruction`` and ``Samples`` after each epoch, and ``Latent`` at the end.
    """

    step: int
    pictures: Mapping[str, bytes]


@dataclass(frozen=True)
class Trained:
    """The training has ended, and its status is recorded; ``model`` has the best weights."""

    step: int
    model: VAE


@dataclass(frozen=True)
class Lost:
    """Another process of the training failed, and this process ends at once."""

    error: LostError
