"""Reading files that lie: headers, sizes, bombs, folders that are none of images; and tables in little memory."""

from __future__ import annotations

import gzip
import http.server
import io
import json
import os
import socketserver
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from safetensors.torch import load_file
from torchvision import datasets

from tests.conftest import Cli
from tests.support.hostile import KINDS, hostile
from tests.support.idx import idx_file, write_mnist
from tests.support.marks import some
from tests.support.refusals import alter, put
from vaectl.config.datasets import located
from vaectl.data import loading
from vaectl.data.base import Loading
from vaectl.data.builtin import idx
from vaectl.data.loading import load_data
from vaectl.data.own import ahead
from vaectl.data.own.arrays import npy
from vaectl.data.own.pictures import decoding, folder, listing
from vaectl.data.own.tables import text_lines
from vaectl.errors import DataError, UsageError
from vaectl.runs import weights
from vaectl.system.reading import data_limit

TERABYTE = 1 << 40
PLAIN = "{'descr': '|u1', 'fortran_order': False, 'shape': (%s), }\n"


def head(text: str, version: int = 1) -> bytes:
    content = text.encode("latin-1")
    return b"\x93NUMPY" + bytes([version, 0]) + len(content).to_bytes(2 if version == 1 else 4, "little") + content


HEADERS = {
    "torn": head(PLAIN[:40]),
    "torn in the shape": head((PLAIN % "3, 2")[:-5]),
    "minuses": head(PLAIN % "-----1, 2"),
    "a terabyte": head(PLAIN % f"{TERABYTE}, 2"),
    "more than any file": head(PLAIN % f"{2**61}, {2**61}"),
    "thousands of digits": head(PLAIN % ("9" * 5000)),
    "brackets": head("(" * 9000),
    "no text": head("\0" * 40),
    "no version": b"\x93NUMPY\x09\x00\x10\x00" + b" " * 16,
    "a type with axes": head("{'descr': ('<f4', (99999, 99999)), 'fortran_order': False, 'shape': (2, 2), }"),
    "another field": head("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), 'x': 1}"),
    "a long header": head(PLAIN % "2, 2" + " " * 2**17, 2),
    "a cut length": b"\x93NUMPY\x01\x00\x10",
}


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("kind", HEADERS)
def test_headers_that_are_none_name_the_file(tmp_path: Path, kind: str, suffix: str) -> None:
    """Whatever the header says, it is a DataError that names the file, and nothing is allocated for it."""
    file = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        file.write_bytes(HEADERS[kind] + bytes(100))
    else:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("images.npy", HEADERS[kind] + bytes(100))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=f"x{suffix} is damaged"):
            load_data(file)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["|b1", "|u1", "<i2", ">i4", "<f2", ">f8", "<U3", "|S2"])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 5), (7,), (), (0, 4)])
def test_arrays_are_those_that_numpy_reads(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    """To the bit, in either order, as a map and from an archive."""
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    for made in (array, np.asarray(array, order="F")):
        np.save(tmp_path / "x.npy", made)
        content = (tmp_path / "x.npy").read_bytes()
        for found in (npy.mapped(tmp_path / "x.npy"), npy.read_array(io.BytesIO(content), len(content))):
            assert found.dtype == np.load(tmp_path / "x.npy").dtype
            assert np.array_equal(found, array)
            assert found.flags.f_contiguous == np.load(tmp_path / "x.npy").flags.f_contiguous


def test_a_header_of_python_2_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(head(PLAIN % "30L, 2L") + bytes(60))
    assert npy.mapped(tmp_path / "x.npy").shape == (30, 2)


# --- sizes ------------------------------------------------------------------------------------------------------------


def claim(file: Path, size: int) -> None:
    """Let the only member of an archive claim to be of a size."""
    content = file.read_bytes()
    at = content.index(b"PK\1\2")
    file.write_bytes(content[: at + 24] + struct.pack("<I", size) + content[at + 28 :])


def zeros(file: Path, mebibytes: int, shape: tuple[int, ...]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for _ in range(mebibytes):
            member.write(bytes(1 << 20))


def test_what_a_member_claims_is_held_against_its_packed_size(tmp_path: Path) -> None:
    """Deflate makes at most 1032 bytes of one, so 700 bytes are not three gigabytes."""
    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((30, 8, 8), np.uint8))
    claim(tmp_path / "x.npz", 3_000_000_000)
    with pytest.raises(DataError, match=r"x\.npz is damaged: array 'images': .* of packed data cannot be the 2.8 GiB"):
        load_data(tmp_path / "x.npz")


def test_the_limit_is_stated_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb is refused before it is unpacked; VAECTL_MAX_BYTES moves the limit both ways."""
    zeros(tmp_path / "x.npz", 32, (64, 512, 1024))
    monkeypatch.setenv("VAECTL_MAX_BYTES", "16MiB")
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"would take 32 MiB of memory; the limit is 16 MiB") as caught:
            load_data(tmp_path / "x.npz")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert "VAECTL_MAX_BYTES=1GiB" in str(caught.value.hint)
    assert ".npy" in str(caught.value.hint)
    monkeypatch.setenv("VAECTL_MAX_BYTES", "33M")
    assert load_data(tmp_path / "x.npz").info.shape == (1, 512, 1024)


@pytest.mark.parametrize(("text", "size"), [("5", 5), ("3k", 3 << 10), ("8GiB", 8 << 30), ("2 TB", 2 << 40)])
def test_the_limit_has_units(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("VAECTL_MAX_BYTES", text)
    assert data_limit() == size


@pytest.mark.parametrize("text", ["much", "-1", "1e9", "8 GiB x", "9" * 30])
def test_a_limit_that_is_no_size_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("VAECTL_MAX_BYTES", text)
    with pytest.raises(UsageError, match="VAECTL_MAX_BYTES must be a number of bytes"):
        data_limit()


def test_the_account_of_many_examples_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million examples of one byte take 64 times as much beside their numbers, which are within the limit."""
    monkeypatch.setenv("VAECTL_MAX_BYTES", "32M")
    zeros(tmp_path / "x.npz", 1, (1 << 20, 1))
    with pytest.raises(DataError, match=r"account of the 1,048,576 examples of .*x.npz would take 64 MiB"):
        load_data(tmp_path / "x.npz")
    parquet.write_table(pa.table({"a": np.zeros(1 << 20)}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x.parquet would take .* the limit is 32 MiB"):
        load_data(tmp_path / "x.parquet")


def test_an_example_larger_than_any_run_may_have_is_refused(tmp_path: Path) -> None:
    """Before its pixels are read: runs of such examples could not be opened again."""
    (tmp_path / "photos").mkdir()
    Image.new("1", (9000, 8000)).save(tmp_path / "photos" / "a.png")
    with pytest.raises(DataError, match=r"shape \(1, 8000, 9000\) is too large: at most 67,108,864 numbers") as caught:
        load_data(tmp_path / "photos")
    assert "--image-size" in str(caught.value.hint)


def test_large_images_are_decoded_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(12):
        Image.fromarray(np.full((20, 20), number, np.uint8)).save(tmp_path / "photos" / f"{number:02}.png")
    inside, most = [0], [0]
    convert = decoding._pixels

    def watched(*arguments: Any) -> np.ndarray:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        inside[0] -= 1
        return convert(*arguments)

    monkeypatch.setattr(decoding, "_pixels", watched)
    monkeypatch.setattr(decoding, "LARGE_PIXELS", 399)
    monkeypatch.setattr(ahead, "WORKERS", 6)
    from vaectl.data import survey

    monkeypatch.setattr(survey, "MOST_AT_ONCE", 1)
    load_data(tmp_path / "photos")
    assert most[0] == 1


def test_a_packed_idx_file_cannot_claim_more_than_it_holds(tmp_path: Path) -> None:
    raw = write_mnist(tmp_path)
    (raw / "train-images-idx3-ubyte").unlink()
    packed = gzip.compress(idx_file((1 << 18, 28, 28), body=b""))
    (raw / "train-images-idx3-ubyte.gz").write_bytes(packed)
    with pytest.raises(DataError, match="of packed data cannot be the 196 MiB that they claim"):
        load_data("mnist", tmp_path)


def test_a_header_of_tensors_has_a_limit(tmp_path: Path) -> None:
    """A hundred megabytes of JSON would take gigabytes; the error says how long a header may be."""
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", 2 << 20) + b" " * (2 << 20))
    with pytest.raises(
        DataError, match=r"its header claims 2.0 MiB; at most 1.0 MiB|its header claims 2 MiB; at most 1 MiB"
    ):
        load_data(tmp_path / "x.safetensors")


def test_an_archive_of_a_hundred_thousand_arrays_is_not_listed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number}.npy", b"")
    with pytest.raises(DataError, match="list of its arrays is longer than 1 MiB"):
        load_data(tmp_path / "x.npz")


# --- tables -----------------------------------------------------------------------------------------------------------

PEAK = """
import resource, sys
import torch, numpy, pyarrow.parquet, pyarrow.compute, vaectl.data.own.loading
from vaectl.data.loading import load_data
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
load_data(sys.argv[1])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1024 if sys.platform == "linux" else 1))
"""


@pytest.mark.parametrize("kind", ["pixels", "numbers", "parquet"])
def test_a_table_takes_less_than_four_times_its_size(tmp_path: Path, kind: str) -> None:
    """In a process of its own, over its imports; the cells of a .csv as text took up to eighteen times its size."""
    random = np.random.default_rng(0)
    file = tmp_path / ("x.parquet" if kind == "parquet" else "x.csv")
    if kind == "parquet":
        parquet.write_table(pa.table({f"c{column}": random.normal(size=60_000) for column in range(40)}), file)
    else:
        pixels = random.integers(0, 256, (8000, 784)) * (random.random((8000, 784)) < 0.3)
        rows = pixels if kind == "pixels" else random.normal(size=(40_000, 30)).round(6)
        file.write_text("".join(",".join(map(str, row)) + "\n" for row in rows.tolist()))
    size = file.stat().st_size
    assert size > 10e6
    done = subprocess.run([sys.executable, "-c", PEAK, str(file)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4 * size


@pytest.mark.parametrize("label", some([",label", ""], 2))
def test_short_rows_take_little_beside_their_numbers(tmp_path: Path, label: str) -> None:
    """Of rows of 11 bytes digest, range, label and place took 13 times the file; they take 7, and 8 with a label."""
    numbers = np.random.default_rng(0).integers(0, 1000, (800_000, 3))
    numbers[:, 2] %= 10 if label else 1000
    rows = "".join(f"{a},{b},{c}\n" for a, b, c in numbers.tolist())
    (tmp_path / "x.csv").write_text(("a,b,label\n" if label else "a,b,c\n") + rows)
    done = subprocess.run([sys.executable, "-c", PEAK, tmp_path / "x.csv"], capture_output=True, text=True, check=True)
    assert int(done.stdout) < (10 if label else 8.5) * (tmp_path / "x.csv").stat().st_size


ROWS = ["a,label,b", "1,x,2", "", "3,y", '"4",x,"5"', "6,,7", "8,x,nan", '9,"p\nq",1', "1_0,x,1", "7,x,seven", "5,y,6"]


@pytest.mark.parametrize("block", [1, 10, 1 << 19])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_blocks_do_not_change_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, end: str) -> None:
    """Rows are the same, and named the same, whatever is read at once; a quote may span blocks."""
    monkeypatch.setattr(text_lines, "BLOCK", block)
    (tmp_path / "x.csv").write_bytes("\n".join([*ROWS, *["1,x,2", "2,y,1"] * 8]).replace("\n", end).encode())
    with pytest.raises(DataError) as caught:
        load_data(tmp_path / "x.csv")
    assert caught.value.message == (
        "x.csv: 4 of 25 rows cannot be used: row 4: has 2 cells, not 3; row 6: column 'label' is empty; row 7: column "
        "'b' is not finite; row 11: column 'b' holds 'seven'"
    )
    data = load_data(tmp_path / "x.csv", skip_bad=True, test_fraction=0.2, validation_fraction=0)
    assert data.info.classes == ("p\nq".replace("\n", end), "x", "y")
    rows = {tuple(row) for split in (data.train, data.test) for row in split.images[:, 0, 0].tolist()}
    assert rows == {(1, 2), (4, 5), (9, 1), (10, 1), (5, 6), (2, 1)}


@pytest.mark.parametrize("block", [7, 1 << 19])
@pytest.mark.parametrize("late", ["3", "256", "0.1", "-1"])
def test_one_late_number_decides_what_all_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: str, block: int
) -> None:
    """Numbers that are held as bytes become real ones when one cell is none, however late, and stay what they are."""
    monkeypatch.setattr(text_lines, "BLOCK", block)
    (tmp_path / "x.csv").write_text("a,b\n" + "2,255\n" * 40 + f"1,{late}\n" + "0,7\n")
    data = load_data(tmp_path / "x.csv", validation_fraction=0)
    images = np.concatenate([data.train.images.numpy(), data.test.images.numpy()])
    assert images.dtype == np.float32
    assert {255, 7, float(np.float32(float(late)))} <= set(images[..., 1].ravel().tolist())
    assert [column.kind for column in data.info.columns] == ["whole", "real" if "." in late else "whole"]


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "LONGEST_LINE", 1000)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n" + "1," * 1000)
    with pytest.raises(DataError, match=r"x.csv, line 3: it is longer than 1,000 bytes"):
        load_data(tmp_path / "x.csv")


# --- servers and folders ----------------------------------------------------------------------------------------------


def unresolved(*arguments: object, **options: object) -> None:
    time.sleep(12)
    raise OSError("no such name")


class Silent(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        time.sleep(12)


@pytest.mark.parametrize("silent", ["server", "name"])
def test_auto_waits_a_stated_time_for_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: str) -> None:
    """A server that takes the connection and says nothing, and a name that no one resolves: then glyphs, and why."""
    monkeypatch.setattr(idx, "DECISION_SECONDS", 1)
    monkeypatch.setitem(loading.SOURCES, "glyphs", loading.SOURCES["digits"])
    if silent == "name":
        monkeypatch.setattr("urllib.request.urlopen", unresolved)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Silent) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        monkeypatch.setattr(datasets.MNIST, "mirrors", [address, address + "again/"])
        loading.load("digits", Loading(tmp_path))  # whose imports take as long
        notes: list[str] = []
        began = time.monotonic()
        assert loading.load("auto", Loading(tmp_path, note=notes.append)).info.name == "glyphs"
        assert time.monotonic() - began < 10
        server.shutdown()
    assert any("no server answered within 1 seconds" in note for note in notes), notes


def test_a_download_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "MAX_BYTES", 1000)

    class Endless(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(bytes(100_000))

        def log_message(self, *arguments: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        with pytest.raises(DataError, match="is larger than 1,000 bytes"):
            load_data("mnist", tmp_path)
        server.shutdown()


def test_a_walk_gives_up_a_folder_that_is_none_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many other entries, and ten for each image."""
    monkeypatch.setattr(listing, "MOST_OTHERS", 20)
    for number in range(32):
        (tmp_path / f"{number:02}").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "00" / "a.png")
    with pytest.raises(DataError, match="is no folder of images: of its first 32 files and folders 1 are images"):
        load_data(tmp_path)


def test_a_walk_stays_on_its_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos" / "other").mkdir(parents=True)
    for number in range(9):
        Image.new("L", (4, 4), number).save(tmp_path / "photos" / "other" / f"{number}.png")
    plain = listing.FolderListing.__init__

    def elsewhere(self: Any, *arguments: Any) -> None:
        plain(self, *arguments)
        self._device += 1

    monkeypatch.setattr(listing.FolderListing, "__init__", elsewhere)
    with pytest.raises(DataError, match="other: is a folder on another file system"):
        load_data(tmp_path / "photos")


@pytest.mark.parametrize(
    ("name", "fingerprint"), [("/", None), ("/usr", None), ("/etc/digits", "x"), ("/digits/../etc", None)]
)
def test_a_foreign_record_does_not_make_a_command_walk_the_disk(
    cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch, name: str, fingerprint: str | None
) -> None:
    """A path that cannot be that of the data that the record describes is not listed."""
    file = runs / "run1" / "run.json"
    alter(file, put("config.data.name", name))
    alter(file, put("data_directory", "/"))
    if fingerprint:
        alter(file, put("dataset.fingerprint", fingerprint))
    weights.save(runs / "run1" / "model.safetensors", load_file(runs / "run1" / "model.safetensors"),
                 json.loads(file.read_text())["config"])  # fmt: skip
    listed: list[Any] = []
    monkeypatch.setattr(folder, "open_folder", lambda *arguments: listed.append(arguments))
    monkeypatch.setattr(os, "scandir", lambda path=".": pytest.fail(f"{path} was listed"))
    result = cli("eval", "run1")
    monkeypatch.undo()
    assert result.exit_code == 1
    assert not listed
    assert f"its data are called 'digits' and lie in '{located(name)}'" in result.stderr


def test_a_folder_of_far_more_images_than_in_training_is_given_up(tmp_path: Path) -> None:
    for number in range(9):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number}.png")
    with pytest.raises(DataError, match="holds more than 8 images"):
        loading.load(str(tmp_path), Loading(tmp_path, most=8))


# --- runs -------------------------------------------------------------------------------------------------------------


def test_rows_beyond_the_checkpoint_are_named_when_they_are_dropped(cli: Cli, runs: Path) -> None:
    """On the screen and in train.log."""
    file = runs / "run1" / "metrics.jsonl"
    last = json.loads(file.read_text().splitlines()[-1])
    with file.open("a") as out:
        for epoch in (4, 5):
            out.write(json.dumps({**last, "epoch": epoch}) + "\n")
    result = cli("train", "--resume", "run1", "--epochs", 4)
    assert result.exit_code == 0, result.output
    assert "metrics.jsonl: epochs 4 to 5 dropped" in result.stderr
    assert "epochs 4 to 5 dropped" in (runs / "run1" / "train.log").read_text()
    assert [json.loads(line)["epoch"] for line in file.read_text().splitlines()] == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["model.safetensors", "last.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_completed_run_with_damaged_weights_is_not_done(cli: Cli, runs: Path, name: str, damage: str) -> None:
    """Before it is said that nothing is left to do, the weights and the checkpoint are opened."""
    assert cli("train", "--resume", "run1").exit_code == 0
    file = runs / "run1" / name
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.unlink()
    if damage != "missing":
        file.write_bytes(content if damage == "flipped" else content[:-40])
    result = cli("train", "--resume", "run1")
    assert result.exit_code == 1
    assert name in result.stderr
    assert "nothing left" not in result.output


# --- anything ---------------------------------------------------------------------------------------------------------

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


@LINUX
def test_hostile_inputs_are_read_or_refused(trained: Path) -> None:
    """Some of each kind, in bounded memory: no traceback, no internal error, nothing that hangs."""
    counts = hostile(0, 4 * len(KINDS), trained)
    assert counts["faults"] == []
    assert counts["read"] + counts["refused"] == 4 * len(KINDS)
    assert counts["refused"] > counts["read"] > 0
    assert counts["largest"] < 1 << 30


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_thousands_of_hostile_inputs(trained: Path, part: int) -> None:
    """5,000 in all."""
    counts = hostile(250 * part, 250, trained)
    assert counts["faults"] == []
    assert counts["largest"] < 3 << 30
