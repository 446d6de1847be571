"""Measure vaectl's speed and memory beside others' and the floor: prints tables and goals, and keeps them as JSON."""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import os
from pathlib import Path
from typing import Any

import torch

from benchmarks import cuda, epoch, goals, lists, memory, scaling, startup, use
from benchmarks.machine import installed, machine
from benchmarks.processes import Source
from benchmarks.tables import AbsentError
from vaectl.data.base import Data, Loading
from vaectl.data.builtin.idx import present
from vaectl.data.loading import load

SECTIONS = ("epoch", "cuda", "start", "runs", "memory", "use", "scaling")
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    arguments = parse()
    logging.disable(logging.WARNING)  # pythae tells a lot
    name = "mnist" if present("MNIST", arguments.data_dir) else "glyphs"
    whole = load(name, Loading(arguments.data_dir, note=print), validation_fraction=0.0)
    data, source = epoch.first(whole, arguments.images), Source(name, arguments.data_dir)
    data_bytes = sum(split.images.nbytes for split in (whole.train, whole.test))
    document: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": installed(),
        "data": {"name": name, "images": len(data.train), "bytes": data_bytes},
        "rounds": arguments.rounds,
    }
    print(*(f"{key}: {value}" for key, value in document.items()), sep="\n", flush=True)
    for section in arguments.only:
        try:
            measure(section, document, data, source)
        except AbsentError as reason:
            document[section] = {"absent": str(reason)}
            print(f"\n{section}  absent: {reason}")
    document["goals"] = [goal.to_json() for goal in goals.goals(document)]
    goals.report(document["goals"])
    if not arguments.no_save:
        path = arguments.output or free_path(document["date"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n")
        print(f"\nresult: {path}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds over each table's rows (default: 3)")
    parser.add_argument("--images", type=int, default=60_000, help="work on this many images, fewer for a quick look")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path(os.environ.get("VAECTL_DATA_DIR") or "data"),
        help="folder that may hold MNIST, else glyphs; also VAECTL_DATA_DIR",
    )
    parser.add_argument(
        "--only",
        metavar="TABLE,...",
        type=lambda text: text.split(","),
        default=SECTIONS,
        help=f"only these of {','.join(SECTIONS)}",
    )
    parser.add_argument("--output", "-o", type=Path, help="write the result here (default: benchmarks/results)")
    parser.add_argument("--no-save", action="store_true", help="only print")
    arguments = parser.parse_args()
    for section in arguments.only:
        if section not in SECTIONS:
            parser.error(f"--only takes {', '.join(SECTIONS)}; got '{section}'")
    if arguments.rounds < 1 or arguments.images < 1:
        parser.error("--rounds and --images must be at least 1")
    if arguments.no_save and arguments.output:
        parser.error("--no-save and --output contradict each other")
    return arguments


def measure(section: str, document: dict[str, Any], data: Data, source: Source) -> None:
    """Measure one section into the document, and print it.

    Raises:
        AbsentError: The section as a whole cannot be measured here.
    """
    rounds, images, data_bytes = document["rounds"], document["data"]["images"], document["data"]["bytes"]
    match section:
        case "epoch":
            rows = document[section] = epoch.measure(data, rounds)
            epoch.report("epoch", rows)
        case "cuda":
            rows = document[section] = cuda.measure(data, rounds)
            epoch.report("epoch on CUDA", rows)
        case "start":
            rows = document[section] = startup.measure(source, rounds)
            startup.report(rows)
        case "runs":
            rows = document[section] = lists.measure(rounds)
            lists.report(rows)
        case "memory":
            rows = document[section] = memory.measure(source, data_bytes, rounds)
            memory.report(rows, data_bytes)
        case "use":
            rows = document[section] = use.measure(data, source, rounds, images)
            use.report(rows)
        case "scaling":
            document[section] = {}
            for axis, rows in scaling.measure(data, source, rounds):
                document[section][axis] = rows
                scaling.report(axis, rows)


def free_path(date: str) -> Path:
    """``results/DATE-DEVICE.json``, or with a number where that is there: no result replaces another."""
    stem = f"{date}-{'cuda' if torch.cuda.is_available() else 'cpu'}"
    names = [f"{stem}.json", *(f"{stem}-{number}.json" for number in range(2, 1000))]
    return next(path for path in (RESULTS / name for name in names) if not path.exists())


if __name__ == "__main__":
    main()
