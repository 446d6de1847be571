"""The options before the command, which the command finds in its context."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class State:
    """The values of the options before the command, and the whole command line."""

    runs_dir: Path
    argv: tuple[str, ...]
