"""Every epoch loop in turn for some rounds, then start-up in turn: prints two tables and can write them as JSON."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, run
from typing import Any

import torch
from torchvision import datasets

from benchmarks.loops import Epoch, matmul, matmul_onednn, tutorial, vaectl
from benchmarks.peers import jax_scan, pythae
from vaectl.data import Data, Store, load
from vaectl.data.idx import present
from vaectl.runtime import versions

LOOPS: Mapping[str, Callable[[Data], Epoch | None]] = {
    "tutorial": tutorial,
    "pythae": pythae,
    "vaectl": vaectl,
    "jax scan": jax_scan,
    "matmul": matmul,
    "matmul onednn": matmul_onednn,
}
BARE = "import typer, rich\napp = typer.Typer()\n@app.command()\ndef run(name: str) -> None: ...\napp()"
STARTS = {
    "bare typer --help": ("-c", BARE, "--help"),
    "vaectl --help": ("-c", "from vaectl.cli import app; app()", "--help"),
    "import torch": ("-c", "import torch"),
}
STARTS_PER_ROUND = 5
WARM_UP_IMAGES = 2000


def machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = (names or [platform.processor()])[0]
    return {"system": platform.system(), "cpu": cpu, "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def first(data: Data, n: int) -> Data:
    train = data.train.first(n)
    info = dataclasses.replace(data.info, sizes={**data.info.sizes, "train": len(train)})
    return dataclasses.replace(data, train=train, info=info)


def interleave(rounds: int, set_ups: Mapping[str, Callable[[bool], Callable[[], object] | None]]) -> dict[str, Any]:
    """Seconds of each piece of work in each round, and the loss where the work gives one; a first round warms up.

    Args:
        rounds: Rounds that count.
        set_ups: Name -> function that is told whether it is the warm-up and gives the work, None where it is absent.
    """
    rows: dict[str, Any] = {name: {"seconds": []} for name in set_ups}
    for number in range(rounds + 1):
        for name, set_up in set_ups.items():
            work = set_up(number == 0)
            if work is None:
                continue
            started = time.perf_counter()
            result = work()
            if number > 0:
                rows[name]["seconds"].append(round(time.perf_counter() - started, 4))
                if isinstance(result, float):
                    rows[name]["loss"] = round(result, 3)
    return rows


def show(title: str, rows: dict[str, Any]) -> None:
    """Print the rows, having added to each its median and its ratio to the first row: the median over rounds."""
    reference = next(iter(rows))
    losses = f"{'loss':>9}" if "loss" in rows[reference] else ""
    print(f"\n{title:20}{'median s':>10}{'min':>8}{'max':>8}{f'x {reference}':>22}{losses}")
    for name, row in rows.items():
        values = row["seconds"]
        if not values:
            print(f"{name:20}{'absent':>10}")
            continue
        row["median"] = round(statistics.median(values), 4)
        ratios = (a / b for a, b in zip(values, rows[reference]["seconds"], strict=True))
        row["ratio"] = round(statistics.median(ratios), 4)
        loss = f"{row['loss']:9.2f}" if "loss" in row else ""
        print(f"{name:20}{row['median']:10.2f}{min(values):8.2f}{max(values):8.2f}{row['ratio']:22.2f}{loss}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds over the loops (default: 3)")
    parser.add_argument("--images", type=int, default=60_000, help="train on this many images, fewer for a quick look")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder that may hold MNIST, else glyphs")
    parser.add_argument("--json", type=Path, help="write the result here, as benchmarks/results/NAME.json")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # pythae tells a lot

    name = "mnist" if present(datasets.MNIST, arguments.data_dir) else "glyphs"
    data = first(load(name, Store(arguments.data_dir, note=print), validation_fraction=0.0), arguments.images)
    peers = {peer: importlib.metadata.version(peer) for peer in ("pythae", "jax") if importlib.util.find_spec(peer)}
    document: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions() | peers,
        "data": {"name": name, "images": len(data.train)},
    }
    print(*(f"{key}: {value}" for key, value in document.items()), sep="\n", flush=True)
    few = first(data, WARM_UP_IMAGES)
    epochs = {name: lambda warm_up, loop=loop: loop(few if warm_up else data) for name, loop in LOOPS.items()}
    document["epoch"] = interleave(arguments.rounds, epochs)
    show("epoch", document["epoch"])
    starts = {
        name: lambda _, command=command: partial(run, [sys.executable, *command], check=True, stdout=DEVNULL)
        for name, command in STARTS.items()
    }
    document["start"] = interleave(arguments.rounds * STARTS_PER_ROUND, starts)
    show("start", document["start"])
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
