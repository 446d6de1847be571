"""The board: words that the processes of one training leave for each other.

The board outlives each of them: what a process says of its own failure is read there by the others.
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
from vaectl.system.launcher import Place
from vaectl.system.signals import SIGNALS, Signalled, deafen

OPENING = timedelta(minutes=10)
# the leader may have to download the data first
WAITING_SECONDS = 3600.0
POLL_SECONDS = 0.02
# for what a process says of its own failure to reach the others
WORD_SECONDS = 0.5
FAILURE = "failure"


class Board:
    """What the processes of one training tell each other.

    Attributes:
        place: The place of this process.
        said: The names under which it wrote something.

    Args:
        place: The place of this process.
        store: Where the board is kept.
    """

    def __init__(self, place: Place, store: Store) -> None:
        self.place = place
        self.said: set[str] = set()
        self._store = PrefixStore("vaectl", store)

    @classmethod
    def of_launcher(cls, place: Place) -> Board:
        """The board that the launcher of this process keeps.

        Raises:
            VaectlError: It cannot be reached.
        """
        try:
            store, _, _ = next(rendezvous("env://", timeout=OPENING))
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise VaectlError(f"the launcher of these processes cannot be reached: {reason}") from error
        return cls(place, store)

    def store(self, name: str) -> Store:
        """A part of the board for others to write on."""
        return PrefixStore(name, self._store)

    def post(self, name: str, word: Any = None) -> None:
        """Write what can be JSON, for the others to read."""
        self._store.set(name, json.dumps(word))
        self.said.add(name)

    def is_posted(self, name: str) -> bool:
        """Whether something is written under a name."""
        return bool(self._store.check([name]))

    def read(self, name: str) -> Any:
        """What is written under a name, waiting for it for an hour; signals are heard meanwhile.

        Raises:
            LostError: Another process failed, or it waited in vain.
        """
        since = time.monotonic()
        try:
            while not self.is_posted(name):
                if self.is_posted(FAILURE):
                    raise self.lost()
                if time.monotonic() - since > WAITING_SECONDS:
                    raise LostError("the other processes of this training did not come")
                time.sleep(POLL_SECONDS)
            return json.loads(self._store.get(name))
        except RuntimeError as error:
            raise self.lost() from error

    def wait_for_all(self) -> None:
        """Return once all processes have come here.

        Raises:
            LostError: Another process failed.
        """
        self.post(f"ready/{self.place.rank}")
        for rank in range(self.place.world):
            self.read(f"ready/{rank}")

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        """The first process of each machine goes through the block before the others of that machine.

        Raises:
            LostError: Another process failed.
        """
        done = f"first/{self.place.node}"
        if self.place.local_rank:
            self.read(done)
        yield
        if not self.place.local_rank:
            self.post(done)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Within the block what fails here is told to the others, which then end, too."""
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(RuntimeError):  # where the board is gone, too, there is no one to tell
                if not isinstance(error, LostError) and not self.is_posted(FAILURE):
                    self.post(FAILURE, _told(error, self.place.rank))
            raise

    def lost(self, reason: str = "") -> LostError:
        """What to say of another process that failed: its own words, where it had any.

        Args:
            reason: How it came to light, for where all processes are alive.
        """
        # the launcher is about to end the others with a signal, and what they say then is why
        deafen()
        rank, world = self.place.rank, self.place.world
        try:
            self.post(f"seen/{rank}")
            until = time.monotonic() + WORD_SECONDS
            while not self.is_posted(FAILURE) and time.monotonic() < until:
                time.sleep(POLL_SECONDS)
            if self.is_posted(FAILURE):
                word = json.loads(self._store.get(FAILURE))
                # the leader tells what the others fail of; what it fails of itself it has told
                return LostError(
                    word["message"], hint=word["hint"], exit_code=word["exit_code"], code=word["code"], told=rank == 0
                )
            gone = [other for other in range(world) if not self.is_posted(f"seen/{other}")]
            told = all(other in gone for other in range(rank))
        except RuntimeError:
            # the machine of the board is gone, and with it whoever else could say so
            return LostError("process 0 or its launcher was lost")
        if not gone:
            return LostError(f"the connection between its processes failed: {reason}", told=told)
        noun, verb = ("process", "was") if len(gone) == 1 else ("processes", "were")
        return LostError(f"{noun} {', '.join(map(str, gone))} {verb} lost", told=told)


def _told(error: BaseException, rank: int) -> Mapping[str, Any]:
    """What the others are told of a failure."""
    if isinstance(error, KeyboardInterrupt):
        signum = error.signum if isinstance(error, Signalled) else SIGNALS[0]
        error = InterruptedRunError("interrupted", signum=signum)
    if not isinstance(error, VaectlError):
        error = VaectlError(f"{type(error).__name__}: {error}")
    where = f"process {rank} on {socket.gethostname()}: " if rank else ""
    return {
        "message": f"{where}{error.message}", "hint": error.hint, "exit_code": error.exit_code, "code": error.code
    }  # fmt: skip
