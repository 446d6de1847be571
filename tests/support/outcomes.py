"""Commands that must succeed, and the arrays that they wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.conftest import Cli


def ok(cli: Cli, *arguments: object) -> Any:
    """The JSON document of a command that must succeed."""
    result = cli(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def arrays_of(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file by their keys."""
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}
