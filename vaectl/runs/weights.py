"""Weights as safetensors, with the config and a digest in the header; both are checked on reading."""

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

# names in safetensors of the types that a model's tensors may have
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
            # safetensors replaces the file by one that other users may not read
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
    """Read a state dict that ``save`` wrote; no tensor is read before all are known to fit the model.

    Args:
        path: The file.
        config: The config that the weights must belong to, apart from settings that a resumed run may change.
        like: Tensors with the names, types and shapes of the model's; they may lack memory (device "meta").
        room: Largest size of the file in bytes if its tensors are not a model's; ``like`` is not used then.
        complete: Fills in the missing options of a spec, so that options newer than the file make no difference.

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
            slices = {name: stored.get_slice(name) for name in names}
            if problem := _misfit(slices, like) if room is None else _excess(path, room):
                raise RunError(f"{path} does not fit the run.json beside it: {problem}")
            state = {name: stored.get_tensor(name) for name in names}
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeEncodeError:  # older versions of safetensors cannot open such a path
        raise RunError(f"cannot read {path}: its path is not valid UTF-8", hint="rename the folder") from None
    except (SafetensorError, ValueError, RuntimeError, MemoryError) as error:
        raise RunError(f"{path} is damaged: {str(error).splitlines()[0]}") from None
    if header.get("sha256") != _digest(state):
        raise RunError(f"{path} is damaged: its content does not match its checksum")
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise RunError(f"{path} holds numbers that are not finite")
    return state


def _sort_header(path: Path) -> None:
    """Sort the header's entries, whose order safetensors leaves to chance, so that equal weights give equal files."""
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
    # safetensors has compared the sizes of the tensors with the size of the file
    size = path.stat().st_size
    return f"it has {size_text(size)}; at most {size_text(room)} were expected" if size > room else None


def _misfit(slices: Mapping[str, Any], like: Mapping[str, Tensor]) -> str | None:
    """The first difference from the expected tensors in name, type or shape, or None."""
    if odd := sorted(slices.keys() ^ like.keys()):
        return f"{odd[0]:.100} is {'not a tensor of the model' if odd[0] in slices else 'missing'}"
    for name, tensor in like.items():
        expected = (NAMES[tensor.dtype], list(tensor.shape))
        if (actual := (slices[name].get_dtype(), slices[name].get_shape())) != expected:
            return f"{name} is {actual[0]} {actual[1]}; expected {expected[0]} {expected[1]}"
    return None


def _digest(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name}{state[name].dtype}{tuple(state[name].shape)}".encode())
        digest.update(state[name].flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
