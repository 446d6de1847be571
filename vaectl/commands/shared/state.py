"""The options that stand before the command, for the command to find in its context."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class State:
    """What the options before the command decide, and the whole command line as it was given."""

    runs_dir: Path
    argv: tuple[str, ...]
