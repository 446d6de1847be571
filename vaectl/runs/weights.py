"""Weights as safetensors, with the config and a digest in the header, read with suspicion."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vaectl.config.spec import RESUMABLE, Spec
from vaectl.errors import OutputError, RunError, VaectlError
from vaectl.system.files import replacing
from vaectl.system.reading import HEADER_BYTES, open_regular, size_text

# what safetensors calls the types that a model's tensors may have
NAMES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64",
         torch.bool: "BOOL"}  # fmt: skip


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
        mode = temporary.stat().st_mode
        try:
            save_file(tensors, temporary, metadata=header)
            # safetensors puts a file of its own there, which nobody else may read
            temporary.chmod(mode)
            _sort_header(temporary)
        except SafetensorError as error:
            raise OutputError(f"cannot write {path}: {error}") from None
    return digest


def read(
    path: Path,
    config: Mapping[str, Any],
    like: Mapping[str, Tensor],
    *,
    room: int | None = None,
    complete: Callable[[Spec], Spec] = lambda spec: spec,
) -> dict[str, Tensor]:
    """The state dict that ``save`` wrote. No tensor is read before all are known to be those of the model.

    Args:
        path: The file.
        config: The config that the weights must belong to, but for what a resumed run may change of it.
        like: Tensors of the names, types and shapes that the model has, whose memory may be missing (device "meta").
        room: Bytes that the tensors may take, whatever they are; then ``like`` is not looked at. None for a model's.
        complete: A spec -> the same with every option, so that options which did not exist yet make no difference.

    Raises:
        RunError: The file is truncated, altered or foreign, belongs to another config, does not fit the model, or
            holds numbers that are not finite.
    """
    try:
        with open_regular(path) as file:
            if (claimed := int.from_bytes(file.read(8), "little")) > HEADER_BYTES:
                raise RunError(f"{path} is damaged: its header claims {size_text(claimed)}")
        with safe_open(path, framework="pt") as stored:
            header = stored.metadata() or {}
            if header.get("format") != "vaectl" or "sha256" not in header:
                raise RunError(f"{path} was not written by vaectl")
            if not _same_config(header.get("config", ""), config, complete):
                raise RunError(f"{path} and the run.json beside it name different configs: one of them was altered")
            names = stored.keys()
            found = {name: stored.get_slice(name) for name in names}
            if problem := _misfit(found, like) if room is None else _excess(path, room):
                raise RunError(f"{path} does not fit the run.json beside it: {problem}")
            state = {name: stored.get_tensor(name) for name in names}
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from None
    except (SafetensorError, ValueError, RuntimeError, MemoryError) as error:
        raise RunError(f"{path} is damaged: {str(error).splitlines()[0]}") from None
    if header.get("sha256") != _digest(state):
        raise RunError(f"{path} is damaged: its content does not match its checksum")
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise RunError(f"{path} holds numbers that are not finite")
    return state


def _sort_header(path: Path) -> None:
    """Put the header's entries in order, which safetensors leaves to chance: equal weights are then equal files."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        assert len(text) == size
        file.seek(8)
        file.write(text)


def _same_config(text: str, config: Mapping[str, Any], complete: Callable[[Spec], Spec]) -> bool:
    try:
        theirs, ours = (complete(Spec.from_json(document)).flat() for document in (json.loads(text), config))
    except (ValueError, TypeError, AttributeError, RecursionError, VaectlError):
        return False
    return all(theirs.get(path) == ours.get(path) for path in {*theirs, *ours} - {*RESUMABLE})


def _excess(path: Path, room: int) -> str | None:
    # safetensors has compared what the tensors claim with the size of the file
    size = path.stat().st_size
    return f"it has {size_text(size)}, and there is no need for more than {size_text(room)}" if size > room else None


def _misfit(found: Mapping[str, Any], like: Mapping[str, Tensor]) -> str | None:
    """How tensors differ from the ones they should be, in name, type or shape; None where they do not."""
    if odd := sorted(found.keys() ^ like.keys()):
        return f"{odd[0]:.100} is {'no tensor of the model' if odd[0] in found else 'missing'}"
    for name, tensor in like.items():
        wanted = (NAMES[tensor.dtype], list(tensor.shape))
        if (kept := (found[name].get_dtype(), found[name].get_shape())) != wanted:
            return f"{name} is {kept[0]} {kept[1]} and not {wanted[0]} {wanted[1]}"
    return None


def _digest(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name}{state[name].dtype}{tuple(state[name].shape)}".encode())
        digest.update(state[name].flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
