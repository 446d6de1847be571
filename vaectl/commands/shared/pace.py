"""The speed of a command: seconds of work, and examples per second."""

from __future__ import annotations

import time
from dataclasses import dataclass

from vaectl.runs.lines import duration


@dataclass(frozen=True)
class Pace:
    """The pace of work on ``images`` images or rows that took ``seconds``."""

    images: int
    seconds: float

    def __str__(self) -> str:
        return f"{duration(self.seconds)}, {self._rate:,.0f} examples/s"

    def to_json(self) -> dict[str, float]:
        """``seconds`` and ``images_per_second``."""
        return {"seconds": round(self.seconds, 6), "images_per_second": round(self._rate, 1)}

    @property
    def _rate(self) -> float:
        # a clock may not have moved since it was first read
        return self.images / max(self.seconds, 1e-9)


class Clock:
    """A clock that starts when it is made: after loading model and data, so that it measures the work alone."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def pace(self, images: int) -> Pace:
        """The pace until now."""
        return Pace(images, time.monotonic() - self._start)
