"""The checkpoint that a training is resumed from: several files that change together or not at all.

``state.json`` is the checkpoint: it names the other files by the SHA-256 of their tensors. New files are first written
in full next to the old ones (``.last.safetensors.new``). Renaming ``state.json`` makes the new checkpoint the valid
one, and only then are the other files renamed, too. If the process is killed before that moment, all old files are
still there; if it is killed after it, a new file may still have its temporary name, and is renamed on resuming.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaectl.config.spec import Spec
from vaectl.errors import RunError
from vaectl.system.files import write_json
from vaectl.system.reading import (
    HEADER_BYTES,
    RECORD_BYTES,
    SERIES_BYTES,
    open_regular,
    parse_json,
    path_within,
    read_text,
)

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1
STATE = "state.json"
BEST, LAST, OPTIMIZER = FILES = ("model.safetensors", "last.safetensors", "optimizer.safetensors")


def save(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]
) -> None:
    """Replace a folder's checkpoint; old files that ``tensors`` does not name stay part of it.

    Args:
        folder: The folder; no other process may be writing a checkpoint to it.
        config: The run's config, for the header of each file.
        tensors: File, one of ``FILES`` -> name -> tensor.
        values: Further content of ``state.json``, JSON-able.

    Raises:
        OutputError: A file cannot be written; the old checkpoint is still there.
        RunError: The old checkpoint is damaged.
    """
    from vaectl.runs import weights

    files = read_state(folder)["files"] if has_state(folder) else {}
    try:
        new = {name: weights.save(_beside(folder / name), state, config) for name, state in tensors.items()}
        write_json(folder / STATE, {"schema": SCHEMA, **values, "files": files | new})
    finally:
        # also if a second Ctrl-C came in between
        settle(folder)


def load(
    folder: Path,
    config: Mapping[str, Any],
    like: Mapping[str, Tensor],
    complete: Callable[[Spec], Spec],
    others: Iterable[Tensor] = (),
) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Read a folder's checkpoint.

    Args:
        folder: The folder.
        config: The config that the header of each file must hold.
        like: Tensors with the names, types and shapes of the model's.
        complete: Fills in the missing options of a spec, as in ``weights.read``.
        others: The objective's tensors, which are part of the training's state, not of the model.

    Returns:
        The content of ``state.json``, and for each file its tensors by name.

    Raises:
        RunError: A file is missing, damaged or foreign.
    """
    from vaectl.runs import weights

    settle(folder)
    values = read_state(folder)
    # two moments for each weight; both again with the weights if a good state is kept; figures for each batch
    room = 8 * sum(tensor.nbytes for tensor in (*like.values(), *others)) + SERIES_BYTES
    tensors = {}
    for name, digest in values["files"].items():
        file = path_within(folder, name)
        tensors[name] = weights.read(file, config, like, room=room if name == OPTIMIZER else None, complete=complete)
        if digest_of(file) != digest:
            raise RunError(f"{file} is damaged: its SHA-256 is not the one in {folder / STATE}")
    return values, tensors


def has_state(folder: Path) -> bool:
    """Whether the folder holds a checkpoint."""
    return (folder / STATE).exists()


def read_state(folder: Path) -> dict[str, Any]:
    """The content of ``state.json``.

    Raises:
        RunError: It is missing or damaged, or a newer vaectl wrote it.
    """
    file = path_within(folder, STATE)
    try:
        values = parse_json(read_text(file, RECORD_BYTES))
        schema, files = values["schema"], values["files"]
        sound = isinstance(schema, int) and {LAST, OPTIMIZER} <= set(files) <= set(FILES)
    except OSError as error:
        raise RunError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise RunError(f"{file} is damaged")
    if schema > SCHEMA:
        raise RunError(f"{file} has schema {schema}; this vaectl reads up to {SCHEMA}", hint="upgrade vaectl")
    return dict(values)


def settle(folder: Path) -> None:
    """Rename the new files that ``state.json`` names, and remove those that it does not name.

    Raises:
        RunError: ``state.json`` is damaged.
    """
    files = read_state(folder)["files"] if has_state(folder) else {}
    for name in FILES:
        new = _beside(folder / name)
        if name in files and digest_of(new) == files[name]:
            os.replace(new, folder / name)
        new.unlink(missing_ok=True)


def digest_of(file: Path) -> str | None:
    """The SHA-256 in the header of a weights file, read without torch; None if there is none."""
    try:
        with open_regular(file) as stored:
            size = min(int.from_bytes(stored.read(8), "little"), HEADER_BYTES)
            digest = parse_json(stored.read(size).decode("utf-8"))["__metadata__"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return digest if isinstance(digest, str) else None


def _beside(file: Path) -> Path:
    return file.with_name(f".{file.name}.new")
