"""What is made of many examples is written as it comes: the same files, of which memory holds a part at a time."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet
from torch import Tensor

from tests.conftest import Cli
from tests.support.idx import mnist_files, write_mnist
from tests.support.toys import toy_data
from vaectl.commands.sample import making
from vaectl.config.recipes import vae
from vaectl.errors import OutputError
from vaectl.evaluation import importance, latents
from vaectl.evaluation.importance import importance_bound
from vaectl.evaluation.information import information
from vaectl.evaluation.metrics import evaluate
from vaectl.model.builder import build
from vaectl.output import arrays
from vaectl.output.arrays import Stream
from vaectl.system import runtime

IMAGES = np.random.default_rng(0).random((50, 1, 3, 4), np.float32)
LABELS = np.arange(50)
CODES = {"row": LABELS, "z": IMAGES.reshape(50, 12), "elbo": IMAGES.reshape(50, 12)[:, 0].astype(np.float64)}


def stream(array: np.ndarray, size: int = 7) -> Stream:
    return Stream(array.shape, array.dtype, (array[start : start + size] for start in range(0, len(array), size)))


def rows(size: int) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, 50, size):
        yield {name: values[start : start + size] for name, values in CODES.items()}


def test_streamed_arrays_are_numpys_to_the_byte(tmp_path: Path) -> None:
    """.npy and .npz written in parts are the files that numpy writes of whole arrays."""
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, IMAGES)
    np.savez(npz, images=IMAGES, labels=LABELS)
    arrays.save_npy(stream(IMAGES), tmp_path / "a.npy")
    arrays.save_npz({"images": stream(IMAGES), "labels": stream(LABELS)}, tmp_path / "a.npz")
    assert (tmp_path / "a.npy").read_bytes() == npy.getvalue()
    assert (tmp_path / "a.npz").read_bytes() == npz.getvalue()
    assert np.array_equal(stream(IMAGES).whole(), IMAGES)


@pytest.mark.parametrize("suffix", arrays.FORMATS)
@pytest.mark.parametrize("size", [1, 7, 49])
def test_parts_do_not_change_a_table(tmp_path: Path, suffix: str, size: int) -> None:
    """Rows in parts of any size are the rows at once."""
    one, other = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    arrays.save(rows(50), 50, one)
    arrays.save(rows(size), 50, other)
    if suffix == ".parquet":
        assert parquet.read_table(one).equals(parquet.read_table(other))
        groups = -(-50 // size)
        assert parquet.ParquetFile(other).num_row_groups == -(-groups // arrays.PARTS_AT_ONCE)
    else:
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv", "a.parquet", "rows.npz"])
def test_a_stream_that_breaks_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    """The older file stays, whole, and no part of the new one; what the system refuses is an OutputError."""
    path = tmp_path / name
    path.write_text("before")

    def breaking(parts: Iterator[Any]) -> Iterator[Any]:
        yield from (next(parts) for _ in range(3))
        raise OSError(28, "No space left on device")

    images = Stream(IMAGES.shape, IMAGES.dtype, breaking(iter(stream(IMAGES).parts)))
    write = {
        "a.npy": lambda: arrays.save_npy(images, path),
        "a.npz": lambda: arrays.save_npz({"images": images}, path),
    }.get(name, lambda: arrays.save(breaking(rows(7)), 50, path))
    with pytest.raises(OutputError, match="No space left"):
        write()
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == [name]


class Held:
    """How many of the things seen were alive at once."""

    def __init__(self) -> None:
        self.seen: list[weakref.ref[Any]] = []
        self.most = 0

    def watch(self, part: Any) -> None:
        self.seen.append(weakref.ref(part))
        self.most = max(self.most, sum(seen() is not None for seen in self.seen))


@pytest.mark.parametrize("kind", [(), ("--reconstruct",), ("--interpolate",)])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_sample_holds_a_chunk_at_a_time(
    cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, kind: tuple[str, ...]
) -> None:
    """Of 30 chunks of images there are never more than the one written and the one decoded."""
    monkeypatch.setattr(making, "CHUNK", 10)
    held, decode = Held(), making.Maker._decoded

    def watched(*arguments: Any) -> Iterator[np.ndarray]:
        for images in decode(*arguments):
            held.watch(images)
            yield images

    monkeypatch.setattr(making.Maker, "_decoded", watched)
    result = cli("sample", "run1", *kind, "-n", 300, "-o", f"a{suffix}")
    assert result.exit_code == 0, result.output
    assert len(held.seen) >= 30
    assert held.most <= 2


@pytest.mark.parametrize(("suffix", "most"), [(".npz", 2), (".csv", 2), (".parquet", arrays.PARTS_AT_ONCE + 2)])
def test_embed_holds_a_batch_at_a_time(
    cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, most: int
) -> None:
    """Of 60 batches of codes; a row group of .parquet is gathered first."""
    monkeypatch.setattr(latents, "EVALUATION_BATCH", 5)
    held, encodings = Held(), latents.encodings

    def watched(*arguments: Any, **options: Any) -> Iterator[latents.Encodings]:
        for codes in encodings(*arguments, **options):
            held.watch(codes.mean)
            yield codes

    monkeypatch.setattr(latents, "encodings", watched)
    result = cli("embed", "run1", "-o", f"a{suffix}")
    assert result.exit_code == 0, result.output
    assert len(held.seen) == 60
    assert held.most <= most


LIMITED = """
import resource
from typer.testing import CliRunner
from vaectl.cli import app
for n in (2000, 40_000):
    result = CliRunner().invoke(app, ["sample", "run1", "-n", str(n), "-o", f"{n}.npy"])
    assert result.exit_code == 0, result.output
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_the_memory_of_sample_does_not_grow_with_n(cli: Cli, isolated: Path) -> None:
    """40,000 images of 125 MB in all take no third of that more than 2,000 do."""
    write_mnist(isolated / "data", mnist_files(side=28))
    train = ("train", "--dataset", "mnist", "--epochs", 1, "--hidden-dims", 8, "--latent-dim", 2)
    assert cli(*train).exit_code == 0
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    few, many = (int(line) for line in done.stdout.split())
    assert (isolated / "40000.npy").stat().st_size > 125e6
    assert (many - few) * (1024 if sys.platform == "linux" else 1) < 40e6


@pytest.mark.parametrize("samples", [1, 3, 50, 500])
def test_how_many_are_decoded_at_once_does_not_change_the_bound(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The draws of a seed are the same, and so is the bound up to rounding; a CPU decodes no more than it should."""
    data = toy_data()
    model, _ = build(vae(), data.info)
    expected = importance_bound(model, data.test, samples)
    monkeypatch.setattr(importance, "DECODED_AT_ONCE", 100)
    sizes: list[int] = []
    forward = model.decoder.forward

    def count(z: Tensor, given: None) -> object:
        sizes.append(z.shape[0] * z.shape[1])
        return forward(z, given)

    monkeypatch.setattr(model.decoder, "forward", count)
    found = importance_bound(model, data.test, samples)
    assert torch.allclose(found.bound, expected.bound, rtol=0, atol=1e-4)
    assert torch.allclose(found.ess, expected.ess, rtol=1e-4)
    assert max(sizes) <= 100
    assert sum(sizes) == samples * len(data.test)


def test_a_closed_stream_of_codes_gives_the_random_stream_back() -> None:
    """Whoever stops early gets torch's random stream, and the model's mode, as they were."""
    data = toy_data()
    model, _ = build(vae(), data.info)
    model.train()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    parts = latents.encodings(model, data.test)
    next(iter(parts))
    parts.close()  # type: ignore[attr-defined]
    assert torch.equal(torch.rand(2), expected)
    assert model.training


@pytest.mark.parametrize("line", ["sample run1 -n 9 -o a.npy", "embed run1 -o a.npz", "eval run1 -o a.json"])
def test_the_pace_is_reported(cli: Cli, runs: Path, line: str) -> None:
    """In the text and in --json, and not in what a run keeps."""
    assert " examples/s" in cli(*line.split()).stdout
    document = json.loads(cli(*line.split(), "--json", "-f").stdout)
    assert document["seconds"] > 0
    # both are rounded
    assert document["images_per_second"] * document["seconds"] == pytest.approx(document["n"], rel=0.05)
    kept = json.loads((runs / "run1" / "run.json").read_text())["evaluations"]
    assert all("seconds" not in entry for entry in kept)


@pytest.mark.parametrize("module", ["metrics", "importance", "information", "latents"])
def test_large_images_are_computed_a_few_at_a_time(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many numbers at once, whatever the images' size: an encoder never sees more of them, and results agree."""
    data = toy_data()
    model, _ = build(dataclasses.replace(vae(), latent_dim=2), data.info)
    compute: dict[str, Callable[[], Any]] = {
        "metrics": lambda: evaluate(model, data.test).per_example["recon_at_mean"],
        "importance": lambda: importance_bound(model, data.test, 1).bound.shape,
        "information": lambda: information(model, data.test).draws,
        "latents": lambda: latents.encode(model, data.test).mean,
    }
    before = compute[module]()
    seen: list[int] = []
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].x.numel()))
    monkeypatch.setattr(runtime, "NUMBERS_AT_ONCE", 36 * 7)
    after = compute[module]()
    assert max(seen) == 36 * 7
    assert torch.allclose(before, after, atol=1e-5) if isinstance(before, torch.Tensor) else before == after
