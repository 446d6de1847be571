"""What short seeded trainings come to, to the bit, to hold a change of the program's structure against.

``python -m benchmarks.fingerprints before.json``, then the change, then ``... after.json --like before.json``.
The trainings go through the command line alone, so that any two versions of the program can be compared on one machine
(``PYTHONPATH`` chooses the version). Bits depend on the processor and on torch, so results are not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

DIGITS = ("--dataset", "digits", "--epochs", "2", "--latent-dim", "4", "--device", "cpu")
RECIPES = (
    "vae", "beta-vae", "beta-tcvae", "capacity-vae", "control-vae", "iwae", "sigma-vae", "vamp-vae",
)  # fmt: skip
# name -> the command lines of one run, whose id is the name
TRAININGS: dict[str, tuple[tuple[str, ...], ...]] = {
    **{name: ((*DIGITS, "--model", name, "--name", name),) for name in RECIPES},
    "vq-vae": ((*DIGITS, "--model", "vq-vae", "--prior-epochs", "1", "--codes", "32", "--name", "vq-vae"),),
    "fsq-vae": ((*DIGITS, "--model", "fsq-vae", "--prior-epochs", "1", "--name", "fsq-vae"),),
    "conv": ((*DIGITS, "--network", "conv", "--width", "8", "--free-bits", "0.1", "--name", "conv"),),
    "resnet": ((*DIGITS, "--network", "resnet", "--width", "8", "--likelihood", "categorical", "--name", "resnet"),),
    "streamed": (("--dataset", "digits.npy", *DIGITS[2:], "--set", "data.storage=stream", "--name", "streamed"),),
    "dynamic": ((*DIGITS, "--binarize", "dynamic", "--warmup-epochs", "1", "--name", "dynamic"),),
    "bf16": ((*DIGITS, "--precision", "bf16", "--likelihood", "gaussian", "--name", "bf16"),),
    "resumed": (
        (*DIGITS, "--epochs", "1", "--prior", "mixture", "--name", "resumed"),
        ("--resume", "resumed", "--epochs", "3"),
    ),
    "two-processes": ((*DIGITS, "--objective", "kl-target", "--name", "two-processes"),),
}


def fingerprint(run: Path) -> dict[str, Any]:
    """The digests that a run's weights carry, and its figures without what a clock says."""
    weights = {}
    for name in ("model", "last"):
        with (run / f"{name}.safetensors").open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        weights[name] = header["__metadata__"]["sha256"]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    history = [{key: row[key] for key in row.keys() - {"seconds", "images_per_second"}} for row in rows]
    record = json.loads((run / "run.json").read_text())
    return {"weights": weights, "history": history, "metrics": record["metrics"], "parameters": record["parameters"]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fingerprints", description=__doc__)
    parser.add_argument("result", type=Path, help="where to write what the trainings came to, as JSON")
    parser.add_argument("--like", type=Path, metavar="FILE", help="the result of another version, to compare with")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the runs in this new folder")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[*TRAININGS], metavar="NAME,...")
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        write_digits(here / "digits.npy")
        for name in arguments.only:
            for command in TRAININGS[name]:
                train(command, here, processes=2 if name == "two-processes" else 1)
            found[name] = fingerprint(here / "runs" / name)
            print(name, found[name]["weights"]["last"][:16], flush=True)
        if arguments.keep:
            shutil.copytree(here, arguments.keep)
    arguments.result.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    if arguments.like:
        compare(found, json.loads(arguments.like.read_text()))


def write_digits(path: Path) -> None:
    from sklearn.datasets import load_digits

    np.save(path, (load_digits().images * 15.9375).astype(np.uint8))


def train(command: tuple[str, ...], here: Path, processes: int) -> None:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", str(Path.cwd()))}
    environment = {name: value for name, value in environment.items() if not name.startswith("VAECTL_")}
    subprocess.run(
        [sys.executable, *launcher, "-m", "vaectl", "train", *command, "-q"], cwd=here, env=environment, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def compare(found: dict[str, Any], before: dict[str, Any]) -> None:
    """Exit with an error where a training came to something else, in what both report."""
    unlike = []
    for name, now in found.items():
        then = before[name]
        same_rows = len(now["history"]) == len(then["history"]) and all(
            row[key] == past[key] for row, past in zip(now["history"], then["history"], strict=True) for key in past
        )
        for what, same in (
            ("weights", now["weights"] == then["weights"]),
            ("history", same_rows),
            ("metrics", all(now["metrics"].get(key) == value for key, value in then["metrics"].items())),
        ):
            if not same:
                unlike.append(f"{name}: {what}")
    print("\n".join(unlike) or f"all {len(found)} trainings came to the same, bit for bit")
    sys.exit(bool(unlike))


if __name__ == "__main__":
    main()
