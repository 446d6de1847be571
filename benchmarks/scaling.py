"""Scaling: the cost of a training epoch, and of the importance bound, against one size at a time."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.epoch import WARM_UP_IMAGES, first
from benchmarks.loops import default_spec, fitting
from benchmarks.processes import Source, python
from benchmarks.tables import Rows, SetUp, Work, absent, interleave, number, show, spread
from vaectl.config import recipes
from vaectl.config.spec import Part, Spec
from vaectl.data.base import Data
from vaectl.evaluation.importance import importance_bound
from vaectl.model.builder import build
from vaectl.runs.run import Run

BATCHES = (32, 64, 128, 256, 512, 1024, 2048)
LATENTS = (2, 8, 32, 128, 512)
HIDDEN = ((128, 64), (256, 128), (512, 256), (1024, 512), (2048, 1024))
SIZES = (1 / 60, 1 / 15, 1 / 4, 1, 4)  # 1,000 to 240,000 images where there are 60,000
DRAWS = (1, 5, 20, 50)
BOUND = (1, 10, 100, 1000, 5000)
BOUND_DRAWS = 100_000  # importance samples over all images
PROCESSES = (1, 2)


def measure(data: Data, source: Source, rounds: int) -> Iterator[tuple[str, Rows]]:
    """Axis by axis the rows by size, each with ``images_per_second`` and an image's cost over that of the first row.

    All but the axes of data size and of processes train on a sixth of the data.
    """
    for axis, set_ups, images in _axes(data, source):
        rows = interleave(rounds, set_ups)
        for name, row in rows.items():
            if name in images:
                row["images_per_second"] = round(images[name] / row["median"], 1)
        reference = next(iter(rows.values()))
        for row in rows.values():
            if "absent" not in row and "absent" not in reference:
                row["x_first"] = round(reference["images_per_second"] / row["images_per_second"], 4)
        yield axis, rows


def _axes(data: Data, source: Source) -> Iterator[tuple[str, dict[str, SetUp], dict[str, int]]]:
    """Name, set-ups by size, and the images of each that does not itself tell its images a second."""
    part = first(data, max(1, len(data.train) // 6))

    def training(specs: Mapping[str, Spec]) -> tuple[dict[str, SetUp], dict[str, int]]:
        set_ups = {
            name: lambda warm_up, spec=spec: fitting(first(part, WARM_UP_IMAGES) if warm_up else part, spec)
            for name, spec in specs.items()
        }
        return set_ups, dict.fromkeys(specs, len(part.train))

    base = default_spec()
    yield "batch size", *training({str(n): default_spec(batch_size=n) for n in BATCHES})
    yield "latent dimensions", *training({str(n): dataclasses.replace(base, latent_dim=n) for n in LATENTS})
    yield "hidden units", *training({"-".join(map(str, dims)): _mirrored(base, dims) for dims in HIDDEN})
    yield "K of the IWAE objective", *training({str(k): _iwae(base, k) for k in DRAWS})
    counts = [max(1, round(len(data.train) * size)) for size in SIZES]
    yield (
        "training images",
        {
            f"{n:,}": lambda warm_up, n=n: fitting(_repeated(data, min(n, WARM_UP_IMAGES) if warm_up else n), base)
            for n in counts
        },
        {f"{n:,}": n for n in counts},
    )
    yield "K of the importance bound", *_bounds(data)
    # a process of its own has no use for a warm-up
    set_ups = {str(n): lambda warm_up, n=n: dict if warm_up else _command(source, n) for n in PROCESSES}
    yield "processes (vaectl train, torchrun)", set_ups, {}


def _mirrored(base: Spec, dims: tuple[int, ...]) -> Spec:
    encoder, decoder = Part("mlp", {"hidden_dims": dims}), Part("mlp", {"hidden_dims": dims[::-1]})
    return dataclasses.replace(base, encoder=encoder, decoder=decoder)


def _iwae(base: Spec, k: int) -> Spec:
    objective = recipes.iwae().objective
    return dataclasses.replace(base, objective=Part(objective.name, {**objective.options, "k": k}))


def _repeated(data: Data, n: int) -> Data:
    """The data with ``n`` training images: the first ones, or all of them again and again."""
    split = data.train
    times = -(-n // len(split))
    many = dataclasses.replace(
        split,
        images=split.images.repeat(times, *(1 for _ in split.images.shape[1:])),
        labels=split.labels.repeat(times),
        rows=split.rows.repeat(times),
        factors={},
    )
    return first(dataclasses.replace(data, train=many), n)


def _bounds(data: Data) -> tuple[dict[str, SetUp], dict[str, int]]:
    model, _ = build(default_spec(), data.info)

    def bound(k: int, n: int) -> Callable[[], dict[str, float]]:
        split = data.test.first(n)

        def work() -> dict[str, float]:
            importance_bound(model, split, k)
            return {}

        return work

    images = {k: min(len(data.test), BOUND_DRAWS // k) for k in BOUND}
    return {str(k): lambda _, k=k: bound(k, images[k]) for k in BOUND}, {str(k): n for k, n in images.items()}


def _command(source: Source, processes: int) -> Work:
    """``vaectl train`` for two epochs in one process or, under torchrun, several; tells of the second epoch."""

    def work() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
            python([*(launcher if processes > 1 else ()), "-m", "vaectl", *source.train(Path(folder), epochs=2)])
            row = Run.open("bench", Path(folder)).history()[-1]
        return {"seconds": row["seconds"], "images_per_second": row["images_per_second"]}

    return work


def report(axis: str, rows: Rows) -> None:
    lines = [
        absent(name, row)
        if "absent" in row
        else [name, *spread(row), number(row["images_per_second"], 0), number(row.get("x_first"))]
        for name, row in rows.items()
    ]
    show(axis, ["median s", "min", "max", "images/s", "cost x first"], lines)
