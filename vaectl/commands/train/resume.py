"""``vaectl train --resume``: resume a run that was stopped, or train one for longer."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaectl.commands.shared.render import Screen
from vaectl.config.spec import RESUMABLE
from vaectl.errors import UsageError
from vaectl.runs.resuming import resume_run

if TYPE_CHECKING:
    from vaectl.parallel.distributed import Processes

# the settings that may be given with --resume, by name
ALLOWED = tuple(path.partition(".")[2] for path in RESUMABLE)


def refuse_others(reference: str, flags: Mapping[str, Any]) -> None:
    """Raise a UsageError if a flag beside ``--resume`` is not one that a resumed run may change.

    Args:
        reference: The run.
        flags: Value of each flag on the command line, by its name without dashes.
    """
    for name in flags:
        if name not in ALLOWED:
            raise UsageError(
                f"--{name.replace('_', '-')} cannot be given with --resume; only --epochs, --prior-epochs and "
                "--patience of a run may change",
                hint=f"begin a new run with other settings: vaectl train --from {shlex.quote(reference)} ...",
            )


def resume(
    reference: str,
    changes: Mapping[str, Any],
    screen: Screen,
    runs_dir: Path,
    data_dir: Path | None,
    device: str,
    argv: Sequence[str],
    checkpoint_minutes: float,
    processes: Processes | None = None,
) -> None:
    """Continue a run in its folder from its last checkpoint; arguments and errors as in ``resume_run``."""
    from vaectl.commands.train.screen import TrainScreen

    with TrainScreen(screen) as listener:
        resume_run(
            reference, None, runs_dir, **changes, device=device, data_dir=data_dir, listeners=[listener],
            checkpoint_minutes=checkpoint_minutes, argv=argv, processes=processes,
        )  # fmt: skip
