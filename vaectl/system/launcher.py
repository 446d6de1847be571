"""The rank of this process, as a launcher such as torchrun sets it in the environment."""

from __future__ import annotations

import os
from typing import NamedTuple


class ProcessInfo(NamedTuple):
    """The rank of a process among those of one training.

    Attributes:
        rank: Number of the process, from 0; process 0 leads.
        world: Number of processes.
        local_rank: Number of the process on its machine, from 0.
        node: Number of the machine, from 0.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    node: int = 0


def here() -> ProcessInfo:
    """The rank of this process, read from torchrun's environment variables; process 0 of 1 without a launcher."""
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys():
        return ProcessInfo()
    rank, world, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    return ProcessInfo(rank, world, local_rank, int(os.environ.get("GROUP_RANK", 0)))
