"""What runs in a fresh process to be measured there: ``python child.py RESULT.json KIND ARGUMENT...``.

- ``step``: the command line of these arguments until its first training step; seconds after torch's own import.
- ``peak``: the command line of these arguments; its peak memory, and every module it had imported.
- ``imports``: those modules (the argument is the result of ``peak``) and nothing else; their peak memory.

Nothing is imported here that the measured program might not import.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any


def peak_memory() -> int:
    """The largest resident set of this process in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would do, but after an exec Linux begins it at the size of the process that started this one
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def step(tell: Callable[[dict[str, Any]], None], arguments: list[str]) -> None:
    import torch  # noqa: F401

    imported = time.perf_counter()
    from vaectl.training import trainer

    fit = trainer.fit

    def until_first_step(*positional: Any, **named: Any) -> Iterator[trainer.Event]:
        for event in fit(*positional, **named):
            if isinstance(event, trainer.Step):
                tell({"seconds": time.perf_counter() - imported})
                os._exit(0)
            yield event

    trainer.fit = until_first_step  # before the command imports it from there
    command_line(arguments)


def peak(tell: Callable[[dict[str, Any]], None], arguments: list[str]) -> None:
    try:
        command_line(arguments)
    finally:
        tell({"bytes": peak_memory(), "modules": list(sys.modules)})


def imports(tell: Callable[[dict[str, Any]], None], arguments: list[str]) -> None:
    for name in json.loads(Path(arguments[0]).read_text())["modules"]:
        with suppress(Exception):  # some modules are made by others and cannot be imported by name
            import_module(name)
    tell({"bytes": peak_memory()})


def command_line(arguments: list[str]) -> None:
    sys.argv = ["vaectl", *arguments]
    from vaectl.__main__ import main

    main()


if __name__ == "__main__":
    result, kind, *rest = sys.argv[1:]
    {"step": step, "peak": peak, "imports": imports}[kind](lambda told: Path(result).write_text(json.dumps(told)), rest)
