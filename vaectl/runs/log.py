"""``train.log``: the lines of a training, and the lock that tells a running run from a crashed one.

The process that trains a run holds the lock for as long as it lives. The system lets go of it when the process ends,
however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from pathlib import Path

from vaectl.errors import RunError
from vaectl.system.files import open_append, writing
from vaectl.system.reading import open_regular

NAME = "train.log"
# for so long another process may look at the lock
LOOKING_SECONDS = 1.0


class TrainLog:
    """A run's ``train.log``, locked and open for more lines.

    Args:
        path: The file, made if missing.

    Raises:
        RunError: Another process holds it.
        OutputError: It cannot be written.
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
        """Time since it was opened."""
        return time.monotonic() - self._since

    def write(self, line: str) -> None:
        """Append a line.

        Raises:
            OutputError: It cannot be written.
        """
        with writing(self._path):
            self._file.write(line.rstrip() + "\n")
            self._file.flush()

    def close(self) -> None:
        """Let go of it."""
        with contextlib.suppress(OSError):  # what the full disk has no room for was an error before
            self._file.close()


def is_held(path: Path) -> bool:
    """Whether a process trains the run of a ``train.log``."""
    try:
        with open_regular(path) as log:
            fcntl.flock(log, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
