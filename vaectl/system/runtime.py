"""The run-time environment: device, memory, seeds, and the versions that a run records."""

from __future__ import annotations

import math
import os
import re
import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vaectl.errors import UsageError, nearest
from vaectl.system.launcher import here

if TYPE_CHECKING:
    import torch

# pages of memory that the process has, and the memory limit of the container in Linux's control groups
PROCESS_PAGES = Path("/proc/self/statm")
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
# a little less than the 32 MB that glibc's threshold can rise to
KEPT_BYTES = 2**25 - 2**13
# limit for the numbers computed at once outside of training, to bound the memory
NUMBERS_AT_ONCE = 2**23


# beside the GPUs by their number, cuda:N
DEVICES = ("auto", "cpu", "cuda", "mps")


def check_device(name: str) -> None:
    """Raise a UsageError unless ``name`` is the name of a device, which this machine may lack."""
    if name not in DEVICES and not re.fullmatch(r"cuda:\d{1,4}", name):
        raise UsageError(f"--device must be auto, cpu, cuda, cuda:N or mps; got '{name}'", hint=nearest(name, DEVICES))


def resolve_device(name: str) -> torch.device:
    """The device called ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; auto prefers CUDA, then MPS, then the CPU.

    Raises:
        UsageError: The name is unknown, or this machine has no such device.
    """
    import torch

    check_device(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind == "cuda" and not (torch.cuda.is_available() and int(index or 0) < torch.cuda.device_count()):
        raise UsageError(
            f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices",
            hint="use --device cpu",
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: this machine has no MPS device", hint="use --device cpu")
    use_true_fp32(torch.device(name))
    return torch.device(name)


def use_true_fp32(device: torch.device) -> None:
    """Have cuDNN convolve in fp32: unless it is told so it rounds what it multiplies to ten bits."""
    import torch

    if device.type != "cuda":
        return
    if hasattr(torch.backends.cudnn, "conv"):  # since torch 2.9, which warns of the flag
        torch.backends.cudnn.conv.fp32_precision = "ieee"
    else:
        torch.backends.cudnn.allow_tf32 = False


def memory() -> int:
    """Bytes of memory of this machine, or of its container, or what a limit of the process leaves, if that is lower."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_left_to_process()]
    with suppress(OSError):
        limit = CONTAINER_LIMIT.read_text(encoding="ascii").strip()
        sizes += [int(limit)] if limit.isdecimal() else []
    return min(sizes)


def _left_to_process() -> Iterator[int]:
    """Bytes that the limits of ``ulimit -v`` and ``ulimit -d`` leave, if they are set."""
    # pages of the address space and of data; see proc(5)
    used = dict.fromkeys((resource.RLIMIT_AS, resource.RLIMIT_DATA), 0)
    with suppress(OSError, ValueError, IndexError):
        pages = PROCESS_PAGES.read_text(encoding="ascii").split()
        used = {resource.RLIMIT_AS: int(pages[0]), resource.RLIMIT_DATA: int(pages[5])}
    for which, count in used.items():
        soft, _ = resource.getrlimit(which)
        if soft != resource.RLIM_INFINITY:
            yield max(0, soft - count * resource.getpagesize())


def at_once(most: int, shape: Sequence[int]) -> int:
    """How many examples, or decoded draws, of a shape to compute at once: ``most``, or fewer if they are large."""
    return max(1, min(most, NUMBERS_AT_ONCE // math.prod(shape)))


def seed_streams(seed: int) -> tuple[int, int, int]:
    """Independent seeds for a run's three random streams: initial weights, data order, posterior samples."""
    import numpy as np

    weights, order, noise = np.random.SeedSequence(seed).generate_state(3)
    return int(weights), int(order), int(noise)


def keep_freed_memory(most: int = KEPT_BYTES) -> None:
    """Make glibc keep freed memory for the next tensors, which it otherwise does only by chance.

    Freed blocks above a threshold go back to the system, which clears every page when it is next written. For the
    tensors of a batch this takes longer than computing them. The threshold rises to the size of the largest block ever
    freed, so one such block is allocated here and never written. Other C libraries are not affected.

    Args:
        most: Bytes of the largest tensors to keep, up to 32 MB, which is the default; glibc keeps up to twice as many.

    References:
        mallopt(3), M_MMAP_THRESHOLD, https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    import torch

    torch.empty(min(most, KEPT_BYTES), dtype=torch.uint8)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Start torch's random streams from ``seed`` within the block, and restore them afterwards.

    Evaluation and pictures use it, so that they are reproducible and do not affect the training streams.
    """
    import torch

    # fork_rng leaves a Mac's GPU out, and with no list of devices it would wake every CUDA device
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            if mps is not None:
                torch.mps.set_rng_state(mps)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect a run's results."""
    import importlib.metadata
    import platform

    packages = ("vaectl", "torch", "torchvision", "numpy", "safetensors")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of torch's global random streams for the CPU and a device, by the kind of device."""
    import torch

    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_state(device: torch.device, states: Mapping[str, torch.Tensor]) -> None:
    """Set torch's global random streams to states from ``random_state``; streams without a state are unchanged.

    Raises:
        RuntimeError: A state is invalid.
    """
    import torch

    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    if device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def arithmetic(device: torch.device) -> dict[str, str]:
    """The settings that affect the last bits of a computation; trainings that differ in them agree up to rounding."""
    import torch

    return {
        "torch": torch.__version__, "device": device.type, "threads": str(torch.get_num_threads()),
        "processes": str(here().world),
    }  # fmt: skip
