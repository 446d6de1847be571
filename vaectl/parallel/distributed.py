"""Several processes that train one model: each computes its rows of a batch, and sums go to all.

All of them draw the random numbers of the whole batch from the same streams and keep those of their rows, so that a
training is that of one process but for the order in which numbers are added. gloo adds them up on the CPU, NCCL on
CUDA.

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
from vaectl.system.launcher import Place
from vaectl.system.signals import SIGNALS

# for so long a process waits for another that is alive and does nothing, before it takes it for lost
TIMEOUT = timedelta(minutes=10)
# on an accelerator reading a value stalls the queue: there signals are agreed on once in so many steps
LISTEN_EVERY = 50


class Processes:
    """The processes of one training, of which this is one.

    Attributes:
        rank: The number of this process; 0 leads.
        world: How many there are.
        heard: The signals that came to this process, as they come.
        steps: Optimizer steps that all have added up.

    Args:
        board: The board of several processes; None is for one.
    """

    def __init__(self, board: Board | None = None) -> None:
        self.place = Place() if board is None else board.place
        self.rank, self.world = self.place.rank, self.place.world
        self.heard: Sequence[int] = ()
        self._board = board
        self._device: torch.device | None = None
        self.steps = self._agreed = 0

    @property
    def board(self) -> Board:
        """What several processes tell each other."""
        assert self._board is not None
        return self._board

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
        """End the connection; numbers are then those of this process."""
        if self._device is not None:
            self._device = None
            dist.destroy_process_group()

    def share(self, size: int) -> Share | None:
        """The own share of a batch of ``size`` examples; None where one process computes all of it."""
        if self._device is None:
            return None
        start, stop = (size * rank // self.world for rank in (self.rank, self.rank + 1))
        if start == stop:
            return Share(slice(0, 1), 0, size, self._add)
        return Share(slice(start, stop), stop - start, size, self._add)

    @contextmanager
    def sharing(self, size: int) -> Iterator[Share | None]:
        """Within the block a batch of ``size`` examples is computed by all processes, of which this has its share."""
        share = self.share(size)
        with sharing(share):
            yield share

    def sum(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """The sums of tensors of one type over all processes, the same bits in each.

        Raises:
            LostError: Another process failed.
        """
        tensors = list(tensors)
        if self._device is None:
            return tensors
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        there = flat.to(self._device)
        with self._losing():
            dist.all_reduce(there)
        parts = torch.split(there.to(flat.device), [tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def _add(self, tensor: Tensor) -> Tensor:
        return self.sum((tensor,))[0]

    def add(
        self, gradients: Sequence[Tensor | None], parameters: Sequence[nn.Parameter], figures: Tensor
    ) -> tuple[Sequence[Tensor | None], Tensor]:
        """The sums of the gradients over all processes, and those of some figures; signals are agreed on by the way.

        Args:
            gradients: Of each parameter, that of the own share of the loss, or None where it has none.
            parameters: The parameters.
            figures: Numbers of the parameters' type and device, weighted by the own share.

        Raises:
            LostError: Another process failed.
        """
        if self._device is None:
            return gradients, figures
        own = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
        flags = figures.new_tensor([float(signum in self.heard) for signum in SIGNALS])
        *added, figures, flags = self.sum((*own, figures, flags))
        self.steps += 1
        if flags.device.type == "cpu" or self.steps % LISTEN_EVERY == 0:
            came = [signum for signum, count in zip(SIGNALS, flags.tolist(), strict=True) if count > 0]
            self._agreed = self._agreed or (came[0] if came else 0)
        return added, figures

    @property
    def stop(self) -> int:
        """The signal at which all processes stop now, or 0: one that came to any of them, and that all know of."""
        if self._device is not None:
            return self._agreed
        return self.heard[0] if self.heard else 0

    def from_leader(self, thing: Any) -> Any:
        """What the leader gave, whatever the others did; tensors in it lie on the CPU."""
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
        except RuntimeError as error:  # gloo's and NCCL's are of no other kind
            self._device = None
            raise self.board.lost(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


ALONE = Processes()
