"""The goals of speed, and what of them a result reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.floors import BF16, FP32
from benchmarks.tables import fastest, number, ratio, show


@dataclass(frozen=True)
class Goal:
    """A figure and its limit; ``measured`` is None where what it needs was not measured or is absent."""

    text: str
    measured: float | None
    limit: float
    at_least: bool = False

    @property
    def reached(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def to_json(self) -> dict[str, Any]:
        sign = ">=" if self.at_least else "<="
        return {
            "goal": self.text,
            "limit": f"{sign} {self.limit:g}",
            "measured": self.measured,
            "reached": self.reached,
        }


def goals(document: Mapping[str, Any]) -> Iterator[Goal]:
    """Every goal, with what a result (its sections by name) says of it."""
    there = {
        name: section for name, section in document.items() if isinstance(section, dict) and "absent" not in section
    }
    epoch, start, memory, cuda = (there.get(name, {}) for name in ("epoch", "start", "memory", "cuda"))
    yield Goal("epoch: times faster than the tutorial's loop", ratio(epoch, "tutorial", "vaectl"), 6, at_least=True)
    yield Goal("epoch: times faster than pythae", ratio(epoch, "pythae", "vaectl"), 3, at_least=True)
    yield Goal("epoch: time over that of JAX's scan", ratio(epoch, "vaectl", "jax scan"), 1)
    for name, backends in (("vaectl", FP32), ("vaectl bf16", BF16)):
        yield Goal(f"epoch: time of {name} over its floor's", ratio(epoch, name, fastest(epoch, backends)), 1.5)
    yield Goal("vaectl --help over a bare Typer app's", ratio(start, "vaectl --help", "bare typer --help"), 1.5)
    yield Goal("tab completion over the same", ratio(start, "vaectl completion", "bare typer completion"), 1.5)
    first_step = start.get("train, torch imported to first step", {}).get("median")
    yield Goal("seconds from torch's import to the first step", first_step, 1)
    for name, row in there.get("runs", {}).items():
        yield Goal(f"seconds with thousands of runs: {name}", row.get("median"), 1)
    for name, row in memory.items():
        yield Goal(f"memory over the imports, x the data: {name}", row.get("x_data"), 2)
    yield Goal("CUDA epoch: times faster than eager", ratio(cuda, "eager", "vaectl"), 10, at_least=True)
    yield Goal("CUDA: seconds of 20 epochs", cuda.get("vaectl, 20 epochs", {}).get("median"), 3)


def report(reached: list[dict[str, Any]]) -> None:
    words = {None: "not measured", True: "reached", False: "not reached"}
    lines = [[goal["goal"], goal["limit"], number(goal["measured"]), words[goal["reached"]]] for goal in reached]
    show("goals", ["limit", "measured", ""], lines)
