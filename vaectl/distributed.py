"""Several processes that train one model: each computes its rows of every batch, and what they found is added up.

All of them draw the random numbers of the whole batch from the same streams and keep those of their rows, so that a
training is that of one process but for the order in which numbers are added.

Shapes: ``B`` batch and ``b`` of its rows here, ``F`` features, ``K`` draws, ``Z`` latent shape.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from vaectl.errors import InterruptedRunError, LostError, UsageError, VaectlError
from vaectl.launcher import Place
from vaectl.signals import SIGNALS, Signalled, deafen

# for so long a process waits for another that is alive and does nothing, before it takes it for lost
TIMEOUT = timedelta(minutes=10)
# the leader may have to download the data first
READY_SECONDS = 3600.0
POLL_SECONDS = 0.02
# for what a process says of its own failure to reach the others
WORD_SECONDS = 0.5
# on an accelerator reading a value stalls the queue: there signals are agreed on once in so many steps
LISTEN_EVERY = 50


@dataclass(frozen=True)
class Share:
    """The rows of a batch that one of several processes computes.

    A process for which there is no row takes one all the same, at weight 0: all then do the same work.

    Attributes:
        rows: The rows.
        count: How many of them count: all (b), or none of the one that is taken all the same.
        size: Examples in the batch (B).
        processes: The processes that the batch is shared among.
    """

    rows: slice
    count: int
    size: int
    processes: Processes

    @property
    def weight(self) -> float:
        """The part of the batch that counts here, b / B."""
        return self.count / self.size

    def within(self, own: Tensor) -> Tensor:
        """The values of the own rows (b, ...), or none (0, ...), in their place in the batch (B, ...); 0 elsewhere."""
        start = self.rows.start
        before, after = (own.new_zeros(n, *own.shape[1:]) for n in (start, self.size - start - len(own)))
        return torch.cat((before, own, after))


_SHARE: ContextVar[Share | None] = ContextVar("share", default=None)


def current_share() -> Share | None:
    """The share of the batch that is computed now; None where one process computes all of it."""
    return _SHARE.get()


def batch_mean(own: Tensor) -> Tensor:
    """The mean over the whole batch, of the mean over the rows that are computed here.

    Its gradient is that of the own mean, which is right once all gradients are weighted by their share and added up.
    Every process must call it as often as the others.

    Args:
        own: A mean over the rows that are computed here, of any shape.
    """
    share = current_share()
    if share is None:
        return own
    whole = share.processes.sum((own.detach() * share.weight,))[0]
    return whole + (own - own.detach()) if own.requires_grad else whole


class Processes:
    """The processes of one training, of which this is one: what they tell each other, and what they add up.

    There are two ways to speak. Words go to a board that the launcher keeps, which outlives any of the processes;
    numbers are added up by gloo on the CPU and by NCCL on CUDA, once they are connected.

    Attributes:
        rank: The number of this process; 0 leads.
        world: How many there are.
        heard: The signals that came to this process, as they come.

    Args:
        place: The place of this process.
    """

    def __init__(self, place: Place = Place()) -> None:  # noqa: B008  (it is a constant)
        self.place, self.rank, self.world = place, place.rank, place.world
        self.heard: Sequence[int] = ()
        self._agreed = 0
        self._reduced = 0
        self._board: Store | None = None
        self._connected = False
        self._device = torch.device("cpu")

    # --- words --------------------------------------------------------------------------------------------------------

    def meet(self) -> None:
        """Open the board.

        Raises:
            VaectlError: It cannot be reached.
        """
        if self.world == 1:
            return
        try:
            store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise VaectlError(f"the launcher of these processes cannot be reached: {reason}") from error
        self._board = PrefixStore("vaectl", store)

    def post(self, name: str, word: Any = None) -> None:
        """Write what can be JSON on the board, for the others to read."""
        if self._board is not None:
            self._board.set(name, json.dumps(word))

    def is_posted(self, name: str) -> bool:
        """Whether something is on the board under a name."""
        return self._board is not None and bool(self._board.check([name]))

    def read(self, name: str) -> Any:
        """What is on the board under a name, waiting for it for an hour; signals are heard meanwhile.

        Raises:
            LostError: Another process failed, or it waited in vain.
        """
        since = time.monotonic()
        while not self.is_posted(name):
            if self.is_posted("failure"):
                raise self._lost()
            if time.monotonic() - since > READY_SECONDS:
                raise LostError("the other processes of this training did not come")
            time.sleep(POLL_SECONDS)
        return self._word(name)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Within the block what fails here is told to the others, which then end, too."""
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(RuntimeError):  # where the board is gone, too, there is no one to tell
                if not isinstance(error, LostError) and not self.is_posted("failure"):
                    self.post("failure", _told(error, self.rank))
            raise

    def wait_for_all(self) -> None:
        """Return once all processes have come here.

        Raises:
            LostError: Another process failed.
        """
        self.post(f"ready/{self.rank}")
        for rank in range(self.world):
            self.read(f"ready/{rank}")

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        """The first process of each machine goes through the block before the others of that machine."""
        done = f"first/{self.place.node}"
        if self.place.local_rank:
            self.read(done)
        yield
        if not self.place.local_rank:
            self.post(done)

    # --- numbers ------------------------------------------------------------------------------------------------------

    def device(self, device: torch.device) -> torch.device:
        """The device of this process, given the one that was asked for: of several GPUs each process has its own.

        Raises:
            UsageError: There are fewer GPUs than processes on this machine, or processes cannot share the device.
        """
        if self.world == 1 or device.type == "cpu":
            return device
        if device.type != "cuda":
            raise UsageError(f"--device {device.type} is for one process; there are {self.world}")
        if device.index is not None:
            raise UsageError(f"--device {device}: each of several processes has a GPU of its own", hint="--device cuda")
        count = torch.cuda.device_count()
        if self.place.local_rank >= count:
            raise UsageError(
                f"there are more processes on this machine than its {count} CUDA devices",
                hint=f"torchrun --nproc-per-node {count} ..., or vaectl train --device cpu",
            )
        return torch.device("cuda", self.place.local_rank)

    def connect(self, device: torch.device) -> None:
        """Connect the processes, all of which must do so, to add up numbers on a device.

        Raises:
            LostError: Another process failed.
        """
        if self.world == 1:
            return
        assert self._board is not None
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        with self._losing():
            dist.init_process_group(
                backend,
                store=PrefixStore("numbers", self._board),
                rank=self.rank,
                world_size=self.world,
                timeout=TIMEOUT,
            )
        self._connected, self._device = True, device

    def disconnect(self) -> None:
        """End the connection; numbers are then those of this process."""
        if self._connected:
            self._connected = False
            dist.destroy_process_group()

    def share(self, size: int) -> Share | None:
        """The own share of a batch of ``size`` examples; None where one process computes all of it."""
        if not self._connected:
            return None
        start, stop = (size * rank // self.world for rank in (self.rank, self.rank + 1))
        if start == stop:
            return Share(slice(0, 1), 0, size, self)
        return Share(slice(start, stop), stop - start, size, self)

    @contextmanager
    def sharing(self, size: int) -> Iterator[Share | None]:
        """Within the block a batch of ``size`` examples is computed by all processes, of which this has its share."""
        share = self.share(size)
        before = _SHARE.set(share)
        try:
            yield share
        finally:
            _SHARE.reset(before)

    def sum(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """The sums of tensors of one type over all processes, the same bits in each.

        Raises:
            LostError: Another process failed.
        """
        tensors = list(tensors)
        if not self._connected:
            return tensors
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        there = flat.to(self._device)
        with self._losing():
            dist.all_reduce(there)
        parts = torch.split(there.to(flat.device), [tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def add_gradients(self, parameters: Sequence[nn.Parameter], figures: Tensor) -> Tensor:
        """Add up the gradients in place, and return the sums of some figures; signals are agreed on by the way.

        Args:
            parameters: The parameters, each with the gradient of the own share of the loss.
            figures: Numbers of the parameters' type and device, weighted by the own share.

        Raises:
            LostError: Another process failed.
        """
        if not self._connected:
            return figures
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flags = figures.new_tensor([float(signum in self.heard) for signum in SIGNALS])
        *added, figures, flags = self.sum((*gradients, figures, flags))
        for parameter, gradient in zip(parameters, added, strict=True):
            parameter.grad = gradient
        self._reduced += 1
        if flags.device.type == "cpu" or self._reduced % LISTEN_EVERY == 0:
            came = [signum for signum, count in zip(SIGNALS, flags.tolist(), strict=True) if count > 0]
            self._agreed = self._agreed or (came[0] if came else 0)
        return figures

    @property
    def stop(self) -> int:
        """The signal at which all processes stop now, or 0: one that came to any of them, and that all know of."""
        if self._connected:
            return self._agreed
        return self.heard[0] if self.heard else 0

    def from_leader(self, thing: Any) -> Any:
        """What the leader gave, whatever the others did; tensors in it lie on the CPU."""
        if not self._connected:
            return thing
        things = [thing]
        with self._losing():
            dist.broadcast_object_list(things, 0)
        return things[0]

    # --- losses -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # gloo's and NCCL's are of no other kind
            self._connected = False
            raise self._lost() from error

    def _lost(self) -> LostError:
        """What to say of another process that failed: its own words, where it had any."""
        # the launcher is about to end the others with a signal, and what they say then is why
        deafen()
        try:
            self.post(f"seen/{self.rank}")
            if self._comes(["failure"]):
                word = self._word("failure")
                # who leads tells what others fail of; what the leader fails of it tells itself
                return LostError(
                    word["message"], hint=word["hint"], exit_code=word["exit_code"], code=word["code"],
                    told=self.rank == 0,
                )  # fmt: skip
            first = self.rank == 0 or not self._comes([f"seen/{rank}" for rank in range(self.rank)])
        except RuntimeError:
            # the machine of the board is gone, and with it whoever else could say so
            first = True
        return LostError("another process of this training was lost", told=first)

    def _word(self, name: str) -> Any:
        assert self._board is not None
        return json.loads(self._board.get(name))

    def _comes(self, names: Sequence[str]) -> bool:
        """Whether one of some words is on the board, or soon will be."""
        until = time.monotonic() + WORD_SECONDS
        while not (found := any(self.is_posted(name) for name in names)) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        return found


ALONE = Processes()


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
