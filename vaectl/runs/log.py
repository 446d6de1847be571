"""``train.log``: the output of a training, and the lock that tells a running run from a crashed one.

The process that trains a run holds the lock. The system releases it when the process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from pathlib import Path

from vaectl.errors import RunError
from vaectl.system.files import open_append, writing
from vaectl.system.reading import open_regular
from vaectl.system.text import harmless

NAME = "train.log"
# time for which another process may hold the lock while it checks it
LOOKING_SECONDS = 1.0


class TrainLog:
    """The ``train.log`` of a run, locked and open for appending.

    Args:
        path: The file, created if missing.

    Raises:
        RunError: Another process holds the lock.
        OutputError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._since = path, time.monotonic()
        with writing(path):
            self._file = open_append(path)
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if self.seconds > LOOKING_SECONDS:
                    self.close()
                    problem = f"{path.parent.name} is being trained by another process"
                    raise RunError(problem, hint="wait for it, or stop it first") from None
                time.sleep(0.02)

    @property
    def seconds(self) -> float:
        """Seconds since the log was opened."""
        return time.monotonic() - self._since

    def write(self, line: str) -> None:
        """Append a line, harmless to a terminal that shows the file.

        Raises:
            OutputError: The file cannot be written.
        """
        with writing(self._path):
            self._file.write(harmless(line.rstrip()) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file and release the lock."""
        with contextlib.suppress(OSError):  # a full disk has already caused an error
            self._file.close()


def is_held(path: Path) -> bool:
    """Whether a process is training the run that a ``train.log`` belongs to."""
    try:
        with open_regular(path) as log:
            fcntl.flock(log, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
