"""Damaged and hostile inputs for every reader, and a process of bounded memory that reads them one after another."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# bytes for the inputs of a process; seconds of work for one, and seconds in all, of which other processes take some
ROOM, SECONDS, WAIT_SECONDS = 3 << 30, 20, 300
Random = np.random.Generator


# --- what is damaged --------------------------------------------------------------------------------------------------


def mangled(r: Random, content: bytes) -> bytes:
    """Bytes cut short, flipped, overwritten, put in, taken out or repeated; most often near the front."""
    out = bytearray(content)
    for _ in range(int(r.integers(1, 4))):
        front = r.random() < 0.6
        at = int(r.integers(0, max(1, min(len(out), 128 if front else len(out)))))
        kind = r.integers(0, 6)
        if kind == 0:
            out = out[:at] if r.random() < 0.3 else out[: max(1, len(out) - at)]
        elif kind == 1 and out:
            out[min(at, len(out) - 1)] ^= 1 << int(r.integers(0, 8))
        elif kind == 2:
            width = int(r.choice([1, 2, 4, 8]))
            out[at : at + width] = r.choice([b"\xff", b"\0", b"\x7f", b"\x80"]) * width
        elif kind == 3:
            out[at:at] = r.bytes(int(r.integers(1, 40)))
        elif kind == 4:
            del out[at : at + int(r.integers(1, 40))]
        else:
            out += out[:at]
    return bytes(out)


LENGTHS = (
    "-1",
    "0",
    "-----1",
    "1e9",
    "True",
    "None",
    "9" * 30,
    "9" * 5000,
    "1099511627776",
    "2**40",
    "30L",
    "'3'",
    "()",
)
TYPES = ("'|O'", "'|u1'", "'>f8'", "'<M8[s]'", "'|V0'", "'<U9999999'", "'<f99'", "[('a', '<f8')]",
         "('<f4', (9999, 9999))", "'" + "x" * 3000 + "'", "(" * 90, "None")  # fmt: skip


def npy(r: Random) -> bytes:
    """An array whose header says anything."""
    if r.random() < 0.4:
        out = io.BytesIO()
        np.save(out, r.integers(0, 255, (20, 4, 4)).astype(r.choice(["u1", "f4", "i8", "f8"])))
        return mangled(r, out.getvalue())
    shape = ", ".join(str(r.choice(LENGTHS)) if r.random() < 0.5 else "4" for _ in range(int(r.integers(0, 6))))
    kind = str(r.choice(TYPES)) if r.random() < 0.6 else "'|u1'"
    text = f"{{'descr': {kind}, 'fortran_order': {r.choice(['False', 'True', '3'])}, 'shape': ({shape}), }}\n"
    text = str(
        r.choice(
            [text, text[: int(r.integers(0, len(text)))], "(" * 5000, "{" + text, "-" * 9000 + "1"],
            p=[0.6, 0.1, 0.1, 0.1, 0.1],
        )
    )
    head = text.encode()
    version = int(r.choice([1, 1, 1, 2, 3, 9]))
    length = len(head) if r.random() < 0.8 else int(r.integers(0, 2**16))
    return (
        b"\x93NUMPY" + bytes([version, 0]) + length.to_bytes(2 if version == 1 else 4, "little") + head + r.bytes(400)
    )


def npz(r: Random) -> bytes:
    """An archive with a bomb, a lie about sizes, odd names, or damaged bytes."""
    out, kind = io.BytesIO(), r.integers(0, 5)
    packing = int(
        r.choice(
            [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], p=[0.3, 0.5, 0.1, 0.1]
        )
    )
    with zipfile.ZipFile(out, "w", packing) as archive:
        if kind == 0:  # zeros that unpack to 64 MiB, of any shape
            shape = [(1 << 26,), (1 << 26, 1), (64, 1 << 20), (1, 1 << 26), (256, 512, 512)][int(r.integers(0, 5))]
            with archive.open(str(r.choice(["images.npy", "x.npy", "images"])), "w") as member:
                np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})
                for _ in range(64):
                    member.write(bytes(1 << 20))
        elif kind == 1:
            archive.writestr("images.npy", npy(r))
        else:
            good = io.BytesIO()
            np.save(good, r.integers(0, 255, (20, 4, 4)).astype("u1"))
            archive.writestr(str(r.choice(["images.npy", "x_train.npy", "a/../b.npy", "x", "é.npy"])), good.getvalue())
            archive.writestr("labels.npy", npy(r))
    content = out.getvalue()
    if kind in (3, 4):
        return mangled(r, content)
    if kind == 2:  # sizes in the list of members
        at = content.index(b"PK\1\2")
        field = int(r.choice([20, 24, 28, 30, 42]))
        lie = int(r.choice([0, 1, 2**31, 2**32 - 2, 999_999_999_999])) % 2**32
        return content[: at + field] + struct.pack("<I", lie) + content[at + field + 4 :]
    return content


def csv(r: Random) -> bytes:
    """A table with odd cells, rows, quotes and ends of lines; some of one very long line, or of many columns."""
    kind = r.integers(0, 8)
    if kind == 0:
        return b"1," * int(r.choice([100, 70_000, 2_000_000])) + b"1\n2\n"
    if kind == 1:
        return b'a,b\n1,"' + b"x\n" * int(r.choice([10, 100_000])) + b"3,4\n"
    if kind == 2:
        return b"label,a\n" + b"".join(b"%d,1\n" % i if r.random() < 0.9 else b"\n" for i in range(3000))
    cells = [
        "1",
        "2.5",
        "-3",
        "",
        "nan",
        "inf",
        "1e999",
        "x",
        '"',
        '"a',
        "9" * 400,
        "1_0",
        "é",
        "\x0b",
        "\u2028",
        "0x1",
    ]
    weights = [0.3, 0.2, 0.15] + [0.35 / 13] * 13
    width, delimiter = int(r.integers(1, 6)), str(r.choice([",", ";", "\t", "|"]))
    lines = [delimiter.join(r.choice(cells, width + int(r.random() < 0.03), p=weights)) for _ in range(60)]
    text = str(r.choice(["\n", "\r\n", "\r"])).join([delimiter.join("abcdef"[:width]), *lines]).encode()
    return mangled(r, text) if kind > 4 else text


def picture(r: Random, suffix: str) -> bytes:
    """An image with damaged bytes; a PNG also with a size that it does not have, and a sum that says it does."""
    from PIL import Image

    out = io.BytesIO()
    image = Image.fromarray(r.integers(0, 255, (12, 10, 3)).astype("u1"))
    mode = str(r.choice(["RGB", "L", "P", "1"] if suffix in (".png", ".tif") else ["RGB"]))
    image.convert(mode).save(
        out, {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF", ".webp": "WEBP", ".gif": "GIF"}[suffix]
    )
    content = out.getvalue()
    if suffix == ".png" and r.random() < 0.3:
        side = [int(r.choice([0, 1, 12, 9000, 60_000, 2**31 - 1])) for _ in range(2)]
        head = b"IHDR" + struct.pack(">II", *side) + content[24:29]
        return content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]
    return mangled(r, content)


def idx(r: Random) -> bytes:
    """The images of an IDX file under a header of another shape, packed or not by the caller."""
    shape = [
        int(r.choice([0, 1, 20, 28, 2**16, 2**30, 2**32 - 1])) if r.random() < 0.4 else size for size in (20, 28, 28)
    ]
    content = struct.pack(">HBB3I", 0, 8, int(r.choice([1, 2, 3, 3, 3, 255])), *shape) + r.bytes(20 * 784)
    return mangled(r, content) if r.random() < 0.4 else content


def parquet(r: Random) -> bytes:
    """A table with damaged bytes, columns that are no numbers, or millions of rows that are all the same."""
    import pyarrow as pa
    from pyarrow import parquet as format_

    out, kind = io.BytesIO(), r.integers(0, 6)
    if kind == 0:
        one = pa.array(np.zeros(1 << 18, np.int64))
        with format_.ParquetWriter(out, pa.schema([("a", pa.int64())])) as writer:
            for _ in range(int(r.choice([1, 4]))):
                writer.write_table(pa.table({"a": one}))
        return out.getvalue()
    columns: list[Any] = [
        [1, 2, None] * 9,
        ["x"] * 27,
        [[1, 2]] * 27,
        [b"\xff"] * 27,
        [1.5, float("nan"), 3] * 9,
        [True] * 27,
    ]
    table = pa.table({f"c{index}": pa.array(columns[int(r.integers(0, 6))]) for index in range(3)})
    format_.write_table(table, out, compression=str(r.choice(["none", "snappy", "gzip", "zstd"])))
    return out.getvalue() if kind == 1 else mangled(r, out.getvalue())


def safetensors(r: Random) -> bytes:
    """Tensors whose header lies about names, types, shapes, places or its own length."""
    size = 20 * 16
    entry: dict[str, Any] = {"dtype": "U8", "shape": [20, 4, 4], "data_offsets": [0, size]}
    lies: list[tuple[str, list[Any]]] = [
        ("dtype", ["F32", "BF16", "F8_E4M3", "X", 3, None]),
        ("shape", [[2**62, 4], [-1], [0], [], [20, 16], "x", [2**40], [320]]),
        ("data_offsets", [[0, 2**50], [size, 0], [-1, 3], [0], "x", [0, size + 1]]),
    ]
    if r.random() < 0.7:
        name, values = lies[int(r.integers(0, 3))]
        entry[name] = values[int(r.integers(0, len(values)))]
    head = json.dumps({str(r.choice(["images", "x", "__metadata__", ""])): entry}).encode()
    if r.random() < 0.2:
        head = b"[" * int(r.choice([100, 100_000])) + head
    length = len(head) if r.random() < 0.7 else int(r.choice([0, 7, 2**20, 2**27, 2**40, 2**63]))
    content = struct.pack("<Q", length) + head + r.bytes(size)
    return mangled(r, content) if r.random() < 0.3 else content


def text(r: Random, content: bytes) -> bytes:
    """JSON or TOML with damaged bytes, a value that is absurd, or one inside another a thousand times."""
    kind = r.integers(0, 5)
    if kind == 0:
        numbers = [at for at, byte in enumerate(content) if chr(byte).isdigit()] or [0]
        at = numbers[int(r.integers(0, len(numbers)))]
        odd = [b"9" * 400, b"1e400", b"NaN", b"-1", b'"x"', b"null", b"[]", b"{}", b"[" * 1000 + b"]" * 1000, b"\xff"]
        return content[:at] + odd[int(r.integers(0, len(odd)))] + content[at + 1 :]
    return content * 3 if kind == 1 else mangled(r, content)


# --- reading it -------------------------------------------------------------------------------------------------------

DATA: dict[str, Callable[[Random], bytes]] = {
    ".npy": npy, ".npz": npz, ".csv": csv, ".parquet": parquet, ".safetensors": safetensors,
}  # fmt: skip
PICTURES = (".png", ".jpg", ".tif", ".webp", ".gif")
RUN = ("run.json", "state.json", "metrics.jsonl", "model.safetensors", "optimizer.safetensors", "config.json")
LINES = ("runs run1 --json", "eval run1", "compare run1 run2", "train --resume run1", "train --resume run1 --epochs 4")
KINDS = (*DATA, *PICTURES, "idx", "idx.gz", *RUN, "a.toml")


def read(kind: str, r: Random, place: Path, runs: Path) -> str:
    """Make an input of a kind and read it: ``read`` or ``refused``; what else is raised is a fault of the program."""
    from typer.testing import CliRunner

    from tests.support.idx import write_mnist
    from vaectl.cli import app
    from vaectl.data.loading import load_data
    from vaectl.errors import VaectlError

    def load(source: Path | str, **options: Any) -> str:
        try:
            load_data(source, skip_bad=not isinstance(source, str) and bool(r.integers(0, 2)), **options)
        except VaectlError as error:
            return "refused" if 0 < len(error.message) < 20_000 else f"refused with {error.message!r:.200}"
        return "read"

    if kind in DATA:
        (place / f"x{kind}").write_bytes(DATA[kind](r))
        return load(place / f"x{kind}")
    if kind in PICTURES:
        for number in range(3):
            (place / f"{number}{kind}").write_bytes(picture(r, kind))
        return load(place, **({"image_size": (8,)} if r.random() < 0.5 else {}))
    if kind.startswith("idx"):
        raw = write_mnist(place)
        file = raw / "train-images-idx3-ubyte"
        file.unlink()
        packed = gzip.compress(idx(r), 1)
        if kind == "idx":
            file.write_bytes(idx(r))
        else:
            file.with_name(file.name + ".gz").write_bytes(mangled(r, packed) if r.random() < 0.5 else packed)
        return load("mnist", data_dir=place)
    shutil.copytree(runs, place / "runs")
    if kind == "a.toml":
        (place / kind).write_bytes(
            text(r, b'beta = 4\nhidden_dims = [32, 16]\n[training]\nepochs = 1\n[data]\nname = "digits"\n')
        )
        line = f"train -c {place / kind} --dry-run"
    else:
        file = place / "runs" / "run1" / kind
        damage = mangled if kind.endswith(".safetensors") else text
        file.write_bytes(damage(r, file.read_bytes()))
        line = LINES[int(r.integers(0, len(LINES)))]
    result = CliRunner().invoke(app, ["--runs-dir", str(place / "runs"), *line.split()])
    if "internal error" in result.output or result.exit_code not in (0, 1, 2):
        raise RuntimeError(f"{line}: {result.output[-500:]}")
    return "refused" if result.exit_code else "read"


def process(first: int, count: int, runs: Path) -> dict[str, Any]:
    """Read inputs in this process, whose memory is bounded from now on, and count how that ends."""
    import torch  # noqa: F401 - its memory is not that of an input

    import vaectl.commands.train.screen
    import vaectl.data.own.loading
    import vaectl.model.builder
    import vaectl.training.pictures  # noqa: F401

    def late(*_: object) -> None:
        raise TimeoutError(f"longer than {SECONDS} seconds of work, or {WAIT_SECONDS} in all")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, resource.RLIM_INFINITY))
    for signum in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(signum, late)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts: dict[str, Any] = {"read": 0, "refused": 0, "faults": [], "largest": 0, "largest_kind": "", "slowest": 0.0}
    for number in range(first, first + count):
        kind, r = KINDS[number % len(KINDS)], np.random.default_rng(number)
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            signal.alarm(WAIT_SECONDS)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                counts[read(kind, r, Path(folder), runs)] += 1
            except BaseException as error:
                counts["faults"].append(f"{number} {kind}: {type(error).__name__}: {str(error)[:600]}")
            finally:
                signal.alarm(0)
                signal.setitimer(signal.ITIMER_PROF, 0)
            counts["slowest"] = max(counts["slowest"], round(time.process_time() - began, 1))
        taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) * 1024
        if taken > counts["largest"]:
            counts["largest"], counts["largest_kind"] = taken, f"{number} {kind}"
    return counts


def hostile(first: int, count: int, runs: Path) -> dict[str, Any]:
    """The counts of ``process`` in a process of its own."""
    command = [sys.executable, "-m", "tests.support.hostile", str(first), str(count), str(runs.resolve())]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    counts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return counts


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        result = process(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    sys.stdout.write(json.dumps(result) + "\n")
