"""Programs in processes of their own: vaectl's command line, and the measurements of ``child.py``."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import run
from typing import Any

import vaectl
from benchmarks.loops import BATCH, CLIP, HIDDEN, LATENT, LR
from benchmarks.tables import AbsentError

CHILD = Path(__file__).with_name("child.py")
ROOT = Path(vaectl.__file__).parents[1]


@dataclass(frozen=True)
class Source:
    """The data set that the command lines train on: its name and the data directory."""

    name: str
    directory: Path

    def train(self, runs_dir: Path, epochs: int = 1) -> list[str]:
        """The arguments of ``vaectl`` that train this benchmark's net, as the run ``bench``."""
        options = {
            "dataset": self.name, "data-dir": self.directory.resolve(), "latent-dim": LATENT,
            "hidden-dims": ",".join(map(str, HIDDEN)), "batch-size": BATCH, "lr": LR, "grad-clip": CLIP,
            "epochs": epochs, "device": "cpu", "name": "bench",
        }  # fmt: skip
        flags = [text for key, value in options.items() for text in (f"--{key}", str(value))]
        return ["--runs-dir", str(runs_dir), "train", "-q", *flags]


def python(arguments: Sequence[str | Path], environment: Mapping[str, str] = {}) -> None:
    """Run Python with these arguments and this very vaectl.

    Raises:
        AbsentError: It failed; the message is its error line on stderr, or else the last line.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    # without the script's own folder, whose files have names that others have too
    command = [sys.executable, "-P", *map(str, arguments)]
    done = run(command, env={**os.environ, "PYTHONPATH": path, **environment}, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error:")]  # of several processes the first is the cause
        raise AbsentError([*errors, *reversed(lines), f"it ended with {done.returncode}"][0])


def measured(kind: str, *arguments: str | Path, keep: Path | None = None) -> dict[str, Any]:
    """What ``child.py`` tells of these arguments in a fresh process, kept as a file where one is named."""
    with tempfile.TemporaryDirectory() as folder:
        result = keep or Path(folder) / "result.json"
        python([CHILD, result, kind, *arguments])
        told: dict[str, Any] = json.loads(result.read_text())
    return told
