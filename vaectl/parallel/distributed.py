"""Several processes that train one model: each computes its rows of a batch; gradients are summed.

Every process draws the random numbers of the whole batch from the same streams and keeps those of its rows, so training
matches that of one process up to the order in which numbers are added. gloo sums on the CPU, NCCL on CUDA.

Shapes: ``B`` batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vaectl.errors import UsageError
from vaectl.parallel.board import Board
from vaectl.parallel.shares import Share, sharing
from vaectl.system.launcher import ProcessInfo
from vaectl.system.signals import SIGNALS

# time after which a process that is alive but does not respond counts as lost
TIMEOUT = timedelta(minutes=10)
# on an accelerator reading a value stalls the queue, so signals are exchanged only once in this many steps
LISTEN_EVERY = 50


class Processes:
    """The processes of one training, of which this is one.

    Attributes:
        process: The rank of this process and the number of processes.
        rank: Number of this process; process 0 leads.
        world: Number of processes.
        heard: The signals that this process has received so far.
        steps: Number of optimizer steps whose gradients were summed.

    Args:
        board: The board of several processes; None for a single process.
    """

    def __init__(self, board: Board | None = None) -> None:
        self.process = ProcessInfo() if board is None else board.process
        self.rank, self.world = self.process.rank, self.process.world
        self.heard: Sequence[int] = ()
        self._board = board
        self._device: torch.device | None = None
        self.steps = self._agreed = 0

    @property
    def board(self) -> Board:
        """The board of several processes."""
        assert self._board is not None
        return self._board

    def device(self, device: torch.device) -> torch.device:
        """The device of this process for a requested device; each of several processes has its own GPU.

        Raises:
            UsageError: This machine has fewer GPUs than processes, or processes cannot share the device.
        """
        if self.world == 1 or device.type == "cpu":
            return device
        if device.type != "cuda":
            raise UsageError(f"--device {device.type} supports one process; there are {self.world}")
        if device.index is not None:
            raise UsageError(f"--device {device}: each of several processes needs its own GPU", hint="--device cuda")
        count = torch.cuda.device_count()
        if self.process.local_rank >= count:
            raise UsageError(
                f"this machine has more processes than its {count} CUDA devices",
                hint=f"torchrun --nproc-per-node {count} ..., or vaectl train --device cpu",
            )
        return torch.device("cuda", self.process.local_rank)

    def connect(self, device: torch.device) -> None:
        """Connect to the other processes, all of which must call this, to sum numbers on a device.

        Raises:
            LostError: Another process failed.
        """
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        with self._losing():
            dist.init_process_group(
                backend,
                store=self.board.store("numbers"),
                rank=self.rank,
                world_size=self.world,
                timeout=TIMEOUT,
                device_id=device if device.type == "cuda" else None,
            )
        self._device = device

    def disconnect(self) -> None:
        """End the connection; sums are then those of this process alone."""
        if self._device is not None:
            self._device = None
            dist.destroy_process_group()

    def share(self, size: int) -> Share | None:
        """The share of a batch of ``size`` examples for this process; None if one process computes all of it."""
        if self._device is None:
            return None
        start, stop = (size * rank // self.world for rank in (self.rank, self.rank + 1))
        if start == stop:
            return Share(slice(0, 1), 0, size, self._add)
        return Share(slice(start, stop), stop - start, size, self._add)

    @contextmanager
    def sharing(self, size: int) -> Iterator[Share | None]:
        """Compute this process's share of a batch of ``size`` examples within the block."""
        share = self.share(size)
        with sharing(share):
            yield share

    def sum(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """The sums of tensors of one type over all processes, bit for bit the same in each.

        Raises:
            LostError: Another process failed.
        """
        tensors = list(tensors)
        if self._device is None:
            return tensors
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        total = flat.to(self._device)
        with self._losing():
            dist.all_reduce(total)
        parts = torch.split(total.to(flat.device), [tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def _add(self, tensor: Tensor) -> Tensor:
        return self.sum((tensor,))[0]

    def add(
        self, gradients: Sequence[Tensor | None], parameters: Sequence[nn.Parameter], figures: Tensor
    ) -> tuple[Sequence[Tensor | None], Tensor]:
        """Sum the gradients and some figures over all processes, and exchange signals at the same time.

        Args:
            gradients: For each parameter the gradient of this process's share of the loss, or None.
            parameters: The parameters.
            figures: Numbers of the parameters' type and device, weighted by this process's share.

        Raises:
            LostError: Another process failed.
        """
        if self._device is None:
            return gradients, figures
        own = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
        flags = figures.new_tensor(self._flags())
        *added, figures, flags = self.sum((*own, figures, flags))
        self.steps += 1
        if flags.device.type == "cpu" or self.steps % LISTEN_EVERY == 0:
            self._agreed = self._agreed or self._signal_of(flags.tolist())
        return added, figures

    def _flags(self) -> list[float]:
        """The signal that this process received, as numbers whose sums tell which ones all received.

        There are two for three signals, so that the gradients are added in the same order as when there were two.
        """
        interrupted, terminated, hung_up = (float(signum in self.heard) for signum in SIGNALS)
        return [interrupted, terminated + (self.world + 1) * hung_up]

    def _signal_of(self, sums: Sequence[float]) -> int:
        """The first signal of ``SIGNALS`` that any process received, from the sums of their flags; 0 for none."""
        hung_up, terminated = divmod(sums[1], self.world + 1)
        counts = (sums[0], terminated, hung_up)
        return next((int(signum) for signum, count in zip(SIGNALS, counts, strict=True) if count), 0)

    @property
    def stop(self) -> int:
        """The signal at which all processes stop now, or 0; any of them may have received it."""
        if self._device is not None:
            return self._agreed
        return self.heard[0] if self.heard else 0

    def from_leader(self, thing: Any) -> Any:
        """The object that process 0 passed, whatever the others passed; its tensors must be on the CPU."""
        if self._device is None:
            return thing
        things = [thing]
        with self._losing():
            dist.broadcast_object_list(things, 0)
        return things[0]

    @contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # gloo and NCCL raise nothing else
            self._device = None
            raise self.board.lost(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


ALONE = Processes()
