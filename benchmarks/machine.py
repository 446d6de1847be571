"""The machine and the versions that a result was measured with."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from pathlib import Path
from typing import Any

import torch

from vaectl.system.runtime import versions

PEERS = ("pythae", "jax")


def machine() -> dict[str, Any]:
    """System, CPU, cores, threads, caches, memory in GB, and the GPU where there is one."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "system": platform.system(),
        "cpu": (names or [platform.processor()])[0],
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "caches": _caches(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def installed() -> dict[str, str]:
    """The versions of vaectl, of what it stands on, and of the peers that are here."""
    return versions() | {peer: importlib.metadata.version(peer) for peer in PEERS if importlib.util.find_spec(peer)}


def _caches() -> dict[str, str]:
    """Sizes of the first core's caches by level, as Linux tells them."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        found[f"L{level}{'' if kind == 'Unified' else kind[0].lower()}"] = size
    return found
