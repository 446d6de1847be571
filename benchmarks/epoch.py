"""One training epoch: vaectl beside a tutorial's loop, other libraries and the floor, from fresh weights in each round.

A new row is a line in ``LOOPS``: ``partial(vaectl, settings={...})`` for another setting of ``Training``,
``partial(vaectl, options={...})`` for another argument of ``fit``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.floors import BF16, FP32, training
from benchmarks.loops import eager, tutorial, vaectl
from benchmarks.peers import jax_scan, pythae
from benchmarks.tables import Rows, Work, absent, fastest, interleave, number, ratio, show, spread
from vaectl.data.base import Data

LOOPS: Mapping[str, Callable[[Data], Work]] = {
    "tutorial": tutorial,
    "pythae": pythae,
    "eager, data resident": eager,
    "jax scan": jax_scan,
    "vaectl": vaectl,
    "vaectl, plain step": partial(vaectl, options={"fast": False}),
    "vaectl bf16": partial(vaectl, settings={"precision": "bf16"}),
    **{name: partial(training, backend=backend) for name, backend in (FP32 | BF16).items()},
}
WARM_UP_IMAGES = 2000


def first(data: Data, n: int) -> Data:
    """The data with only the first ``n`` training images."""
    train = data.train.first(n)
    info = dataclasses.replace(data.info, sizes={**data.info.sizes, "train": len(train)})
    return dataclasses.replace(data, train=train, info=info)


def measure(data: Data, rounds: int, loops: Mapping[str, Callable[[Data], Work]] = LOOPS) -> Rows:
    """Seconds of an epoch by loop, as a multiple of the first one's and of the floor's, and the loss in nats."""
    few = first(data, WARM_UP_IMAGES)
    set_ups = {name: lambda warm_up, loop=loop: loop(few if warm_up else data) for name, loop in loops.items()}
    rows = interleave(rounds, set_ups)
    floor, reference = fastest(rows, FP32), next(iter(loops))
    for name, row in rows.items():
        if "absent" not in row:
            # what multiplies in bf16 is held against the floor of bf16
            row["floor"] = fastest(rows, BF16) if "bf16" in name else floor
            row["x_reference"] = ratio(rows, name, reference)
            row["x_floor"] = ratio(rows, name, row["floor"])
    return rows


def report(title: str, rows: Rows) -> None:
    """Print the rows; ``x floor`` is over the fastest products of the same precision in the same run."""
    lines = [
        absent(name, row)
        if "absent" in row
        else [name, *spread(row), number(row["x_reference"]), number(row["x_floor"]), number(row.get("loss"))]
        for name, row in rows.items()
    ]
    show(title, ["median s", "min", "max", f"x {next(iter(rows))}", "x floor", "loss, nats"], lines)
