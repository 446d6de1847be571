"""The standard streams of a command: when a terminal or a pipe is lost, they go mute."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from vaectl.errors import OutputError


class Lasting:
    """A text stream that never fails: once it cannot be written, what is written to it is discarded.

    Args:
        stream: The stream; None, as Python has it for a closed descriptor, is mute from the beginning.
        name: Its name in an error.
    """

    def __init__(self, stream: TextIO | None, name: str) -> None:
        self._stream = stream if stream is not None else open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        self._name = name
        self._failure: OSError | None = None
        self._gone = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, or discard it if nobody can read it."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts as ``write``."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Send what was written on its way."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def check(self) -> None:
        """Check that all was written, or that its reader has left, who knows it.

        Raises:
            OutputError: Something else kept it from being written, such as a full disk.
        """
        self.flush()
        if self._failure is not None and not self._gone:
            raise OutputError(f"cannot write the result to {self._name}: {self._failure.strerror or self._failure}")

    def _lose(self, error: OSError) -> None:
        """Go mute, also for what the stream still holds and for libraries that write to the descriptor themselves."""
        with contextlib.suppress(OSError, ValueError):  # a stream in memory has no descriptor
            descriptor = self._stream.fileno()
            # a closed terminal answers so, and a damaged disk
            hung_up = error.errno == errno.EIO and stat.S_ISCHR(os.fstat(descriptor).st_mode)
            self._gone = self._gone or hung_up
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
        self._gone = self._gone or error.errno == errno.EPIPE
        self._failure = self._failure or error


@contextmanager
def lasting() -> Iterator[tuple[Lasting, Lasting]]:
    """Make stdout and stderr last within the block; yields both."""
    before = sys.stdout, sys.stderr
    out, err = Lasting(sys.stdout, "stdout"), Lasting(sys.stderr, "stderr")
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        yield out, err
    finally:
        sys.stdout, sys.stderr = before
        for stream in (out, err):
            stream.flush()


def open_closed() -> None:
    """Put the null device in place of closed standard descriptors, which the next file opened would get otherwise."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
