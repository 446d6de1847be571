"""Weights as safetensors: written whole, with the config and a digest in the header, and read with suspicion."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vaectl.errors import OutputError, RunError, VaectlError
from vaectl.files import replacing
from vaectl.spec import RESUMABLE, Spec


def save(path: Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    """Write a state dict and the config it belongs to, and return the SHA-256 of the tensors.

    Args:
        path: The file.
        state: Tensors by name.
        config: The run's config, JSON-able.

    Raises:
        OutputError: The file cannot be written; an older one is still there.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    digest = _digest(tensors)
    header = {"format": "vaectl", "config": json.dumps(config, allow_nan=False), "sha256": digest}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=header)
        except SafetensorError as error:
            raise OutputError(f"cannot write {path}: {error}") from None
    return digest


def read(path: Path, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict that ``save`` wrote.

    Args:
        path: The file.
        config: The config that the weights must belong to, but for what a resumed run may change of it.

    Raises:
        RunError: The file is truncated, altered or foreign, or belongs to another config.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            header = stored.metadata() or {}
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise RunError(f"{path} is damaged: {str(error).splitlines()[0]}") from None
    if header.get("format") != "vaectl" or "sha256" not in header:
        raise RunError(f"{path} was not written by vaectl")
    if header.get("sha256") != _digest(state):
        raise RunError(f"{path} is damaged: its content does not match its checksum")
    if not _same_config(header.get("config", ""), config):
        raise RunError(f"{path} and the run.json beside it name different configs: one of them was altered")
    return state


def _same_config(text: str, config: Mapping[str, Any]) -> bool:
    try:
        theirs, ours = (Spec.from_json(document).flat() for document in (json.loads(text), config))
    except (ValueError, TypeError, AttributeError, RecursionError, VaectlError):
        return False
    return all(theirs.get(path) == ours.get(path) for path in {*theirs, *ours} - {*RESUMABLE})


def _digest(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name}{state[name].dtype}{tuple(state[name].shape)}".encode())
        digest.update(state[name].flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
