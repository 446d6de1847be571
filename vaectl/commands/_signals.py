"""Signals: the first Ctrl-C or SIGTERM of a training is only noted, so that it can end in order."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def first_signal() -> Iterator[list[int]]:
    """Within the block the first Ctrl-C or SIGTERM is only noted; the second acts as it always does."""
    received: list[int] = []
    previous: dict[int, Any] = {}

    def restore() -> None:
        for signum, handler in previous.items():
            signal.signal(signum, handler)

    def note(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        restore()

    with contextlib.suppress(ValueError):  # off the main thread the caller owns the signals
        for signum in (signal.SIGINT, signal.SIGTERM):
            previous[signum] = signal.signal(signum, note)
    try:
        yield received
    finally:
        restore()
