"""Messages between the processes of one training, on a board in the launcher's store.

The board outlives the processes, so a process can leave a message about its own failure for the others.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from vaectl.errors import InterruptedRunError, LostError, VaectlError
from vaectl.system.launcher import ProcessInfo
from vaectl.system.signals import SIGNALS, Signalled, deafen

OPENING = timedelta(minutes=10)
# long enough for process 0 to download the data first
WAITING_SECONDS = 3600.0
POLL_SECONDS = 0.02
# time for a message about a failure to reach the others
WORD_SECONDS = 0.5
FAILURE = "failure"


class Board:
    """A board on which the processes of one training post messages for each other.

    Attributes:
        process: The rank of this process.
        said: The names under which this process posted something.

    Args:
        process: The rank of this process.
        store: The store that holds the board.
    """

    def __init__(self, process: ProcessInfo, store: Store) -> None:
        self.process = process
        self.said: set[str] = set()
        self._store = PrefixStore("vaectl", store)

    @classmethod
    def of_launcher(cls, process: ProcessInfo) -> Board:
        """The board in the store of this process's launcher.

        Raises:
            VaectlError: The launcher cannot be reached.
        """
        try:
            store, _, _ = next(rendezvous("env://", timeout=OPENING))
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise VaectlError(f"the launcher of these processes cannot be reached: {reason}") from error
        return cls(process, store)

    def store(self, name: str) -> Store:
        """A separate part of the board, for other uses."""
        return PrefixStore(name, self._store)

    def post(self, name: str, word: Any = None) -> None:
        """Post a JSON-able message for the others."""
        self._store.set(name, json.dumps(word))
        self.said.add(name)

    def is_posted(self, name: str) -> bool:
        """Whether a message is posted under a name."""
        return bool(self._store.check([name]))

    def read(self, name: str) -> Any:
        """Read the message under a name, waiting for up to an hour; signals are handled while waiting.

        Raises:
            LostError: Another process failed, or the message did not arrive.
        """
        since = time.monotonic()
        try:
            while not self.is_posted(name):
                if self.is_posted(FAILURE):
                    raise self.lost()
                if time.monotonic() - since > WAITING_SECONDS:
                    raise LostError("the other processes of this training did not respond")
                time.sleep(POLL_SECONDS)
            return json.loads(self._store.get(name))
        except RuntimeError as error:
            raise self.lost() from error

    def wait_for_all(self) -> None:
        """Wait until all processes have called this method.

        Raises:
            LostError: Another process failed.
        """
        self.post(f"ready/{self.process.rank}")
        for rank in range(self.process.world):
            self.read(f"ready/{rank}")

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        """Let the first process of each machine run the block before the others of that machine.

        Raises:
            LostError: Another process failed.
        """
        done = f"first/{self.process.node}"
        if self.process.local_rank:
            self.read(done)
        yield
        if not self.process.local_rank:
            self.post(done)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Post a failure in the block to the others, so that they end, too."""
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(RuntimeError):  # the board may be gone, too
                if not isinstance(error, LostError) and not self.is_posted(FAILURE):
                    self.post(FAILURE, _failure(error, self.process.rank))
            raise

    def lost(self, reason: str = "") -> LostError:
        """The error for a failure of another process, with that process's own message if it posted one.

        Args:
            reason: The symptom, used if all processes are alive.
        """
        # the launcher is about to end the others with a signal, which must not replace their message
        deafen()
        rank, world = self.process.rank, self.process.world
        try:
            self.post(f"seen/{rank}")
            until = time.monotonic() + WORD_SECONDS
            while not self.is_posted(FAILURE) and time.monotonic() < until:
                time.sleep(POLL_SECONDS)
            if self.is_posted(FAILURE):
                word = json.loads(self._store.get(FAILURE))
                # process 0 reports the failures of the others; it has already reported its own
                return LostError(
                    word["message"], hint=word["hint"], exit_code=word["exit_code"], code=word["code"], told=rank == 0
                )
            gone = [other for other in range(world) if not self.is_posted(f"seen/{other}")]
            reports = all(other in gone for other in range(rank))
        except RuntimeError:
            # the machine with the board is gone, so this process reports the loss
            return LostError("process 0 or its launcher was lost")
        if not gone:
            return LostError(f"the connection between its processes failed: {reason}", told=reports)
        noun, verb = ("process", "was") if len(gone) == 1 else ("processes", "were")
        return LostError(f"{noun} {', '.join(map(str, gone))} {verb} lost", told=reports)


def _failure(error: BaseException, rank: int) -> Mapping[str, Any]:
    """The message about a failure that is posted to the others."""
    if isinstance(error, KeyboardInterrupt):
        signum = error.signum if isinstance(error, Signalled) else SIGNALS[0]
        error = InterruptedRunError("interrupted", signum=signum)
    if not isinstance(error, VaectlError):
        error = VaectlError(f"{type(error).__name__}: {error}")
    where = f"process {rank} on {socket.gethostname()}: " if rank else ""
    return {
        "message": f"{where}{error.message}", "hint": error.hint, "exit_code": error.exit_code, "code": error.code
    }  # fmt: skip
