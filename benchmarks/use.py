"""Evaluation and use of a model: images a second of the functions and of the whole commands, beside the floor.

The floor of each is the matrix products that it cannot do without, through the fastest backend of the same run. The
commands run in this process, so that their imports are not timed; reading the data and writing the results are.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.floors import FP32, forward
from benchmarks.loops import DECODER, ENCODER, default_spec
from benchmarks.processes import Source, python
from benchmarks.tables import AbsentError, Rows, SetUp, Work, absent, fastest, interleave, number, ratio, show, spread
from vaectl.cli import app
from vaectl.data.base import Data
from vaectl.evaluation.importance import importance_bound
from vaectl.evaluation.latents import encode
from vaectl.evaluation.metrics import evaluate
from vaectl.model.builder import build

AT_ONCE = 1000
IMPORTANCE_SAMPLES = 5000


@dataclass(frozen=True)
class Use:
    """A use of ``images`` images, each of which sends ``rows`` rows through each of the networks at the least."""

    images: int
    work: Callable[[], object]
    networks: tuple[tuple[int, ...], ...]
    rows: int = 1


def measure(data: Data, source: Source, rounds: int, images: int) -> Rows:
    """Seconds, ``images``, ``images_per_second`` and ``x_floor`` by work; the floors are rows of their own.

    Args:
        data: The data.
        source: Where the commands find the same data.
        rounds: Rounds that count.
        images: How much work to do: on 60,000 the test split's images, 100 of them with importance samples, and
            100,000 samples.
    """
    model, _ = build(default_spec(), data.info)
    test, few = data.test.first(max(1, images // 6)), data.test.first(max(1, images // 600))
    samples = max(1, images * 5 // 3)

    def decode() -> None:
        with torch.no_grad():
            for start in range(0, samples, AT_ONCE):
                _ = model.sample(min(AT_ONCE, samples - start)).mean

    with tempfile.TemporaryDirectory() as folder:
        runs, data_dir = Path(folder) / "runs", ["--data-dir", str(source.directory.resolve())]
        python(["-m", "vaectl", *source.train(runs)])

        def command(name: str, *options: str) -> None:
            output = io.StringIO()
            arguments = ["--runs-dir", str(runs), name, "bench", "-q", "--device", "cpu", *options]
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                try:
                    app(arguments)
                except SystemExit as end:
                    if end.code:
                        raise AbsentError(output.getvalue().strip()) from None

        array, table = f"{folder}/samples.npy", f"{folder}/codes.npz"
        evaluation = (ENCODER, DECODER, DECODER)  # of a draw, and of the posterior's mean
        uses = {
            "evaluate": Use(len(test), lambda: evaluate(model, test), evaluation),
            f"importance bound, K = {IMPORTANCE_SAMPLES}": Use(
                len(few), lambda: importance_bound(model, few, IMPORTANCE_SAMPLES), (DECODER,), IMPORTANCE_SAMPLES
            ),
            "encode": Use(len(test), lambda: encode(model, test), (ENCODER,)),
            "sample": Use(samples, decode, (DECODER,)),
            "vaectl eval": Use(len(data.test), lambda: command("eval", *data_dir), evaluation),
            "vaectl embed": Use(len(data.test), lambda: command("embed", *data_dir, "-f", "-o", table), (ENCODER,)),
            "vaectl sample to .npy": Use(
                samples, lambda: command("sample", "-n", str(samples), "-f", "-o", array), (DECODER,)
            ),
        }
        set_ups: dict[str, SetUp] = {}
        for name, use in uses.items():
            set_ups[name] = lambda _, use=use: _telling_nothing(use.work)
            for key, backend in FP32.items():
                floors = [forward(sizes, use.images * use.rows, AT_ONCE, backend) for sizes in use.networks]
                set_ups[f"{name}: {key}"] = lambda _, floors=floors: _telling_nothing(*floors)
        rows = interleave(rounds, set_ups)
    for name, use in uses.items():
        if "absent" not in rows[name]:
            floor = fastest(rows, (f"{name}: {backend}" for backend in FP32))
            per_second = round(use.images / rows[name]["median"], 1)
            rows[name] |= {
                "images": use.images,
                "images_per_second": per_second,
                "floor": floor,
                "x_floor": ratio(rows, name, floor),
            }
    return rows


def _telling_nothing(*works: Callable[[], object]) -> Work:
    def done() -> dict[str, float]:
        for work in works:
            work()
        return {}

    return done


def report(rows: Rows) -> None:
    """Print the works, without their floors' rows."""
    lines = []
    for name, row in rows.items():
        if "absent" in row:
            lines.append(absent(name, row))
        elif "images" in row:
            per_second = row["images_per_second"]
            floor = per_second * row["x_floor"] if row["x_floor"] else None
            rates = [number(per_second, 0), number(floor, 0), number(row["x_floor"])]
            lines.append([name, *spread(row), number(row["images"], 0), *rates])
    show("use", ["median s", "min", "max", "images", "images/s", "floor's", "x floor"], lines)
