"""The launcher, such as torchrun: which of how many processes this one is, and on which machine."""

from __future__ import annotations

import os
from typing import NamedTuple


class Place(NamedTuple):
    """The place of a process among those of one training.

    Attributes:
        rank: Its number, from 0; number 0 leads.
        world: How many there are.
        local_rank: Its number among those of its machine.
        node: The machine's number.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    node: int = 0


def here() -> Place:
    """The place of this process, as torchrun wrote it into the environment; of one process without a launcher."""
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys():
        return Place()
    rank, world, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    return Place(rank, world, local_rank, int(os.environ.get("GROUP_RANK", 0)))
