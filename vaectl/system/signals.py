"""Ctrl-C, SIGTERM and SIGHUP as exceptions, raised again where Python could not raise them."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# signal -> what it does to a command
OUTCOMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# a signal this soon after another is the same one, sent to a process and its group; it must not interrupt the cleanup
SAME_SECONDS = 0.2
AGAIN_SECONDS = 0.01


def heeded() -> tuple[signal.Signals, ...]:
    """The signals that end a command: all, but SIGHUP only if it was not ignored before, as nohup arranges it."""
    return tuple(s for s in SIGNALS if s != signal.SIGHUP or signal.getsignal(s) != signal.SIG_IGN)


class Signalled(KeyboardInterrupt):
    """A signal arrived. It is not an Exception, so that no library catches it as an ordinary failure.

    Args:
        signum: Number of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


class Listener:
    """The handler of SIGINT, SIGTERM and SIGHUP.

    Attributes:
        signum: The last signal, or None.
        deaf: Whether signals are ignored, because the command has ended and only its outcome remains to be printed.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.deaf = False
        self._since = 0.0

    def hear(self, signum: int, frame: FrameType | None) -> None:
        """Handle a signal: raise ``Signalled``, unless it is a repetition of the last one."""
        now = time.monotonic()
        if not self.deaf and (self.signum is None or is_another(signum, now - self._since)):
            self.signum, self._since = signum, now
            raise Signalled(signum)

    def hear_again(self, signum: int, frame: FrameType | None) -> None:
        """Handle the alarm: raise a signal that could not be raised before."""
        if not self.deaf and self.signum is not None:
            raise Signalled(self.signum)


def is_another(signum: int, seconds: float) -> bool:
    """Whether a signal that came ``seconds`` after another says something new.

    A SIGHUP does not: the system and the shell both send one when a terminal closes.
    """
    return signum != signal.SIGHUP and seconds > SAME_SECONDS


@contextmanager
def listening() -> Iterator[Listener]:
    """Make SIGINT, SIGTERM and SIGHUP raise ``Signalled`` within the block, and restore the handlers afterwards.

    Python cannot raise from a finalizer or a callback, of which an import has many: it prints the exception and
    continues. In that case the exception is raised again a moment later. Outside the main thread signals are left to
    the caller.
    """
    listener = Listener()
    unraisable = sys.unraisablehook

    def postpone(caught: Any) -> None:
        if isinstance(caught.exc_value, Signalled):
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        else:
            unraisable(caught)

    handlers = {**dict.fromkeys(heeded(), listener.hear), signal.SIGALRM: listener.hear_again}
    before: dict[int, Any] = {}
    try:
        with contextlib.suppress(ValueError):
            for signum, handler in handlers.items():
                before[signum] = signal.signal(signum, handler)
            sys.unraisablehook = postpone
        yield listener
    finally:
        if before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, previous in before.items():
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, previous)
        sys.unraisablehook = unraisable


def deafen() -> None:
    """Ignore SIGINT, SIGTERM and SIGHUP from now on, because the process is about to end for another reason.

    Outside the main thread signals are left to the caller.
    """
    with contextlib.suppress(ValueError):
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_IGN)


@contextmanager
def noting() -> Iterator[list[int]]:
    """Add the first SIGINT, SIGTERM or SIGHUP to a list within the block; another one has its usual effect.

    Outside the main thread signals are left to the caller.
    """
    received: list[int] = []
    previous: dict[int, Any] = {}
    since = 0.0

    def restore() -> None:
        for signum, handler in previous.items():
            if signal.getsignal(signum) != signal.SIG_IGN:
                signal.signal(signum, handler)

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal since
        if not received:
            received.append(signum)
            since = time.monotonic()
        elif is_another(signum, time.monotonic() - since):
            restore()
            signal.raise_signal(signum)

    with contextlib.suppress(ValueError):
        for signum in heeded():
            previous[signum] = signal.signal(signum, note)
    try:
        yield received
    finally:
        restore()
