"""Events of a training beside those of ``fit``, and the listeners they are told to.

Listeners also get the events of ``training.trainer`` (``Step``, ``Epoch``, ``RolledBack``, ``PriorBegan``, ``Stopped``)
and of ``runs.events``. A listener looks at the types that it knows and passes over the rest.
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
    """Whoever follows a training or an evaluation: a screen, a log, a tracker of experiments, the doctor."""

    def on(self, event: object) -> None:
        """Take note of an event. What this raises ends the training, whose last checkpoint stays."""


class Hub:
    """Tells every event to several listeners, in their order.

    Args:
        listeners: The listeners.
    """

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        self.listeners = list(listeners)

    def tell(self, event: object) -> None:
        """Tell an event."""
        for listener in self.listeners:
            listener.on(event)


@dataclass(frozen=True)
class Said:
    """A sentence that the user should read, as a note, as a detail that only some want, or as a warning."""

    sentence: str
    kind: Literal["note", "detail", "warning"] = "note"


@dataclass(frozen=True)
class Progress:
    """Work goes on: ``done`` of ``total`` examples or bytes; a total of 0 is unknown."""

    what: str
    done: int
    total: int
    unit: Literal["examples", "bytes"] = "examples"


@dataclass(frozen=True)
class Found:
    """The doctor has found something that ails the run, which it had not said before."""

    finding: Finding


@dataclass(frozen=True)
class Pictured:
    """Pictures of the model as it stands at an optimizer step: PNG by name.

    The names are ``Reconstruction`` and ``Samples`` after each epoch, and ``Latent`` at the end.
    """

    step: int
    pictures: Mapping[str, bytes]


@dataclass(frozen=True)
class Trained:
    """The training has reached its end, and its status is recorded; ``model`` has the best weights."""

    step: int
    model: VAE


@dataclass(frozen=True)
class Lost:
    """Another process of the training failed, and this process ends at once."""

    error: LostError
