"""Peak memory of commands, each in a fresh process, over that of a process with the same imports and nothing else."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.processes import Source, measured
from benchmarks.tables import AbsentError, Row, Rows, absent, number, show

MB = 1e6
BYTES = ("peak", "imports", "over_imports")
SAMPLES = 100_000
IMPORTANCE_SAMPLES = 100  # the memory is that of any number of them: they are drawn and decoded a chunk at a time


def measure(source: Source, data_bytes: int, rounds: int) -> Rows:
    """Bytes by command: ``peak``, the ``imports``' own, and their difference as a multiple of the data set's.

    Args:
        source: The data set.
        data_bytes: Bytes of its images, all splits together, as uint8.
        rounds: Fresh processes of each kind; the median counts.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs, made = Path(folder) / "runs", Path(folder)
        data = ["--data-dir", str(source.directory.resolve())]
        used = ["-q", "--device", "cpu"]
        commands = {
            "train, 1 epoch": lambda number: source.train(runs / str(number)),
            f"eval --importance-samples {IMPORTANCE_SAMPLES}": lambda number: [
                "--runs-dir", str(runs / "0"), "eval", "bench", *data, *used,
                "--importance-samples", str(IMPORTANCE_SAMPLES),
            ],
            "embed": lambda number: [
                "--runs-dir", str(runs / "0"), "embed", "bench", *data, *used, "-o", str(made / f"{number}.npz"),
            ],
            f"sample -n {SAMPLES} (.npy)": lambda number: [
                "--runs-dir", str(runs / "0"), "sample", "bench", "-n", str(SAMPLES), *used, "-f",
                "-o", str(made / "samples.npy"),
            ],
        }  # fmt: skip
        return {name: _row(command, data_bytes, rounds, made / "modules.json") for name, command in commands.items()}


def _row(command: Callable[[int], list[str]], data_bytes: int, rounds: int, modules: Path) -> Row:
    peaks, imports = [], []
    try:
        for number in range(rounds):
            peaks.append(measured("peak", *command(number), keep=modules)["bytes"])
            imports.append(measured("imports", modules)["bytes"])
    except AbsentError as reason:
        return {"absent": str(reason)}
    peak, imported = statistics.median(peaks), statistics.median(imports)
    return {
        "peaks": peaks,
        "peak": peak,
        "imports": imported,
        "over_imports": peak - imported,
        "x_data": round((peak - imported) / data_bytes, 3),
    }


def report(rows: Rows, data_bytes: int) -> None:
    lines = [
        absent(name, row)
        if "absent" in row
        else [name, *(number(row[key] / MB, 0) for key in BYTES), number(row["x_data"])]
        for name, row in rows.items()
    ]
    title = f"peak memory (the data: {data_bytes / MB:.1f} MB)"
    show(title, ["MB", "imports", "over them", "x data"], lines)
