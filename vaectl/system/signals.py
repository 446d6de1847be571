"""Ctrl-C and SIGTERM during a command: raised wherever they come, or a moment later."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# a signal this soon after another is the same, sent to a process and its group; it must not cut the tidying up short
SAME_SECONDS = 0.2
AGAIN_SECONDS = 0.01


class Signalled(KeyboardInterrupt):
    """A signal came. It is no Exception, so that no library takes it for a failure of its own and goes on.

    Args:
        signum: Its number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


class Listener:
    """What came of SIGINT and SIGTERM.

    Attributes:
        signum: The last signal, or None.
        deaf: Whether nothing is raised any more, because the command has ended and only its end is to be told.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.deaf = False
        self._since = 0.0

    def hear(self, signum: int, frame: FrameType | None) -> None:
        """Handle a signal: raise ``Signalled``, unless it is the one that was just raised."""
        now = time.monotonic()
        if not self.deaf and (self.signum is None or now - self._since > SAME_SECONDS):
            self.signum, self._since = signum, now
            raise Signalled(signum)

    def hear_again(self, signum: int, frame: FrameType | None) -> None:
        """Handle the alarm: raise what could not be raised before."""
        if not self.deaf and self.signum is not None:
            raise Signalled(self.signum)


@contextmanager
def listening() -> Iterator[Listener]:
    """Within the block SIGINT and SIGTERM raise ``Signalled``; then all is as before.

    Python cannot raise from a finalizer or a callback, as there are many in an import, and would print the exception
    and go on; there it is raised again a moment later. Off the main thread the caller owns the signals.
    """
    listener = Listener()
    unraisable = sys.unraisablehook

    def postpone(caught: Any) -> None:
        if isinstance(caught.exc_value, Signalled):
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        else:
            unraisable(caught)

    handlers = {**dict.fromkeys(SIGNALS, listener.hear), signal.SIGALRM: listener.hear_again}
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
    """Ignore SIGINT and SIGTERM for good: the process is about to end, and not because of them.

    Off the main thread the caller owns the signals.
    """
    with contextlib.suppress(ValueError):
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_IGN)


@contextmanager
def noting() -> Iterator[list[int]]:
    """Within the block the first SIGINT or SIGTERM is only noted, in the list; the second does what it does outside.

    Off the main thread the caller owns the signals.
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
        elif time.monotonic() - since > SAME_SECONDS:
            restore()
            signal.raise_signal(signum)

    with contextlib.suppress(ValueError):
        for signum in SIGNALS:
            previous[signum] = signal.signal(signum, note)
    try:
        yield received
    finally:
        restore()
