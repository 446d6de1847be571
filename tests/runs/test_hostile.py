"""Hostile files: sizes that cost nothing to claim, links out of a run, pipes, and what a record may not ask for."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import struct
import subprocess
import sys
import tomllib
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import Cli
from tests.support.idx import idx_file, write_mnist
from tests.support.refusals import alter, put, refuse, snapshot
from vaectl.config.recipes import vae
from vaectl.data.builtin import glyphs
from vaectl.errors import RunError, VaectlError
from vaectl.model import builder
from vaectl.runs import weights
from vaectl.system import runtime
from vaectl.system.reading import (
    CONFIG_BYTES,
    HEADER_BYTES,
    LEVELS,
    RECORD_BYTES,
    SERIES_BYTES,
    parse_json,
    path_within,
    read_text,
    size_text,
)

pytestmark = pytest.mark.usefixtures("offline")

TERABYTE = 1 << 40


def sparse(file: Path) -> None:
    """A file that claims a terabyte and takes no place."""
    file.unlink(missing_ok=True)
    with file.open("wb") as out:
        out.truncate(TERABYTE)


def pipe(file: Path) -> None:
    """A pipe that no one writes into: opened without care it waits for ever."""
    file.unlink(missing_ok=True)
    os.mkfifo(file)


def folder(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.mkdir()


def outside(file: Path) -> None:
    """A link to a file that is no part of the run."""
    target = Path("outside")
    target.mkdir(exist_ok=True)
    if file.exists():
        file.replace(target / file.name)
    else:
        (target / file.name).write_text("{}")
    file.symlink_to((target / file.name).resolve())


def device(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.symlink_to("/dev/zero")


# --- in bounded memory ------------------------------------------------------------------------------------------------

# what a command may take beyond what it takes for a sound file: the largest file that is read, parsed
ROOM = 2 << 30


def bounded(line: str, *, room: int = ROOM) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own that may not take more than its imports and ``room`` bytes."""
    code = (
        "import resource, sys, torch, vaectl.model.builder, vaectl.commands.train.screen, vaectl.training.pictures\n"
        "from vaectl.cli import app\n"
        "taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (taken + {room}, resource.RLIM_INFINITY))\n"
        "app(sys.argv[1:])\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *line.split()], capture_output=True, text=True, timeout=120, check=False
    )


def _gzip_bomb(raw: Path) -> None:
    """Four megabytes that are a gigabyte, and claim ten thousand pixels."""
    (raw / "train-images-idx3-ubyte").unlink()
    packed = gzip.compress(idx_file((100, 10, 10), body=b"")) + gzip.compress(bytes(1 << 24), 1) * 64
    (raw / "train-images-idx3-ubyte.gz").write_bytes(packed)


def test_a_gzip_bomb_costs_what_it_claims(tmp_path: Path) -> None:
    """Of a gigabyte behind a header that claims 10,000 pixels one byte more than those is unpacked."""
    from vaectl.data.builtin.idx import _read_idx

    _gzip_bomb(write_mnist(tmp_path))
    tracemalloc.start()
    try:
        with pytest.raises(VaectlError, match="more bytes"):
            _read_idx(tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_model_of_terabytes_is_refused(cli: Cli) -> None:
    """Before a byte of it is allocated, with what it needs, what there is and what to lower."""
    line = f"train --dataset digits --hidden-dims {','.join(['16384'] * 64)}"
    refuse(cli, line.split(), 1, ["parameters, 4 times over, need", "GiB"], "--hidden-dims")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize("bomb", ["gzip", "model", "weights"])
def test_bombs_in_bounded_memory(runs: Path, bomb: str) -> None:
    """A gzip bomb, a model of terabytes, and weights that claim one are refused within 256 MiB, by name."""
    line, words = {
        "gzip": ("train --dataset mnist --dry-run", "train-images-idx3-ubyte.gz is damaged: more bytes"),
        "model": (f"train --dataset digits --hidden-dims {','.join(['16384'] * 64)}", "parameters, 4 times over, need"),
        "weights": ("eval run1", "model.safetensors"),
    }[bomb]
    if bomb == "gzip":
        _gzip_bomb(write_mnist(Path("data")))
    sparse(runs / "run1" / "model.safetensors")
    done = bounded(line, room=256 << 20)
    assert done.returncode == 1, done.stderr
    assert words in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize("unit", ["[],", "{},", '{"":1},', "1e1,", '"ab",'])
@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "evaluations/test-best.json"])
def test_the_largest_files_in_bounded_memory(runs: Path, name: str, unit: str) -> None:
    """Files as large as is read, of the JSON that takes most memory, take less than 4 GiB."""
    limit = RECORD_BYTES if name == "run.json" else SERIES_BYTES
    row = '{"x": [' + unit * ((limit - 20) // len(unit)) + "0]}"
    (runs / "run1" / name).write_text(row)
    done = bounded("compare run1 run2", room=4 << 30)
    assert done.returncode in (0, 1)
    assert "internal error" not in done.stderr


# --- one file at a time -----------------------------------------------------------------------------------------------

STRANGE = {"sparse": sparse, "a pipe": pipe, "a folder": folder, "a link out": outside, "a device": device}
READS = ("runs", "runs run1", "eval run1", "compare run1 run2", "sample run1 -n 4")
NAMES = ("run.json", "metrics.jsonl", "evaluations/test-best.json", "model.safetensors", "train.log", "config.json")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", STRANGE)
def test_no_regular_file(cli: Cli, runs: Path, kind: str, name: str) -> None:
    """A file of a run that is a pipe, a folder, a device, a link out of the run, or claims a terabyte hangs nothing."""
    STRANGE[kind](runs / "run1" / name)
    before = snapshot(Path("outside"))
    for line in READS:
        result = cli(*line.split())
        assert result.exit_code in (0, 1), result.output
        assert "internal error" not in result.output
        assert isinstance(result.exception, SystemExit | None)
        if result.exit_code:
            assert name in result.stderr or "run1" in result.stderr
    assert snapshot(Path("outside")) == before


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("run.json", "eval run1"),
        ("model.safetensors", "eval run1"),
        ("evaluations/test-best.json", "compare run1 run2"),
        ("metrics.jsonl", "compare run1 run2 -o a.html"),
    ],
)
def test_links_out_of_a_run_are_named(cli: Cli, runs: Path, name: str, line: str) -> None:
    """The error names the link and where it leads; nothing is read or written there."""
    outside(runs / "run1" / name)
    before = snapshot(Path("outside"))
    result = cli(*line.split())
    assert result.exit_code == 1
    assert f"run1/{name} is a link that leads out" in result.stderr
    assert "outside" in result.stderr
    assert snapshot(Path("outside")) == before


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("samples", "sample run1 -n 4"),
        ("plots", "plot-latent run1"),
        ("embeddings", "embed run1"),
        ("evaluations", "eval run1"),
    ],
)
@pytest.mark.parametrize("to", ["full", "missing"])
def test_folders_that_are_links_are_not_written_into(cli: Cli, runs: Path, name: str, line: str, to: str) -> None:
    """A folder of a run that is a link to one outside takes no output, whether that is there or not."""
    Path("full").mkdir()
    if (runs / "run1" / name).exists():
        (runs / "run1" / name).rename("moved")
    (runs / "run1" / name).symlink_to(Path(to).resolve())
    result = cli(*line.split())
    assert result.exit_code == 1
    assert f"run1/{name} is a link" in result.stderr
    assert not Path("missing").exists()
    assert not list(Path("full").iterdir())


def test_a_file_in_the_place_of_an_output_folder(cli: Cli, runs: Path) -> None:
    (runs / "run1" / "samples").write_text("no folder")
    refuse(cli, ["sample", "run1", "-n", "4"], 1, ["run1/samples"])


def test_a_run_folder_may_be_a_link(cli: Cli, runs: Path, isolated: Path) -> None:
    """The runs folder, and a run in it, may lie elsewhere; links within a run are its own affair."""
    (runs / "run1").rename(isolated / "elsewhere")
    (runs / "run1").symlink_to(isolated / "elsewhere")
    (isolated / "linked").symlink_to(runs)
    (isolated / "elsewhere" / "last.safetensors").unlink()
    (isolated / "elsewhere" / "last.safetensors").symlink_to("model.safetensors")
    assert cli("--runs-dir", "linked", "eval", "run1", "--checkpoint", "last").exit_code == 0
    assert cli("--runs-dir", "linked", "sample", "run1", "-n", "4").exit_code == 0


# --- what a record may not ask for ------------------------------------------------------------------------------------


def test_a_recorded_data_directory_is_only_read(cli: Cli, runs: Path, isolated: Path) -> None:
    """Data that are missing in the directory that run.json names are neither downloaded nor made there."""
    theirs = isolated / "theirs"
    theirs.mkdir()
    for name in ("mnist", "kmnist"):
        alter(runs / "run1" / "run.json", put("data_directory", str(theirs)))
        alter(runs / "run1" / "run.json", put("dataset.name", name))
        refuse(cli, ["embed", "run1", "-o", "a.npz"], 1, [str(theirs), ".gz"], "--data-dir", kind="data")
    assert not list(theirs.iterdir())


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\nb", "$x^{$", "a\udcffb", "-q"])
def test_names_of_run_folders_are_only_names(cli: Cli, runs: Path, name: str) -> None:
    """A folder's name with control codes, formulas or half characters is shown without them, and draws no formula."""
    (runs / "run1").rename(runs / name)
    reference = str(runs / name)
    for line in (["runs"], ["runs", "-q"], ["runs", reference], ["plot-latent", reference, "-o", "a.png", "-f"]):
        result = cli(*line)
        # safetensors opens no file whose path is not UTF-8
        assert result.exit_code == 0 or "not valid UTF-8" in result.stderr, result.output
        assert "\x1b" not in result.output
        assert "Traceback" not in result.output


def test_a_tab_makes_no_column(cli: Cli, runs: Path) -> None:
    alter(runs / "run1" / "run.json", put("started", "a\tb\tc"))
    assert len({line.count("\t") for line in cli("runs").stdout.splitlines()}) == 1


# --- weights ----------------------------------------------------------------------------------------------------------

State = dict[str, torch.Tensor]
CHANGES: dict[str, tuple[Callable[[State, str], Any], str]] = {
    "another shape": (lambda state, name: state.update({name: torch.zeros(3, 5)}), "F32 [3, 5]"),
    "another type": (lambda state, name: state.update({name: state[name].double()}), "F64"),
    "one too few": (lambda state, name: state.pop(name), "missing"),
    "one too many": (lambda state, name: state.update({"surprise": torch.zeros(2)}), "surprise is not a tensor"),
    "not a number": (lambda state, name: state[name].fill_(float("nan")), "not finite"),
    "infinite": (lambda state, name: state[name].fill_(float("inf")), "not finite"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_are_signed_and_do_not_fit(cli: Cli, runs: Path, change: str) -> None:
    """Well-signed weights of other names, shapes or types than the model's, or not finite, are refused in words."""
    file = runs / "run1" / "model.safetensors"
    state = load_file(file)
    apply, words = CHANGES[change]
    apply(state, sorted(state)[0])
    weights.save(file, state, json.loads((runs / "run1" / "run.json").read_text())["config"])
    refuse(cli, ["eval", "run1"], 1, ["model.safetensors", words], kind="run")


def test_no_tensor_is_read_before_all_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gigabytes of tensors under a sound header are refused by their shape: not one is read."""
    size, config = 1 << 33, vae().to_json()
    header = {"x": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}
    written = json.dumps(
        header | {"__metadata__": {"format": "vaectl", "config": json.dumps(config), "sha256": "0"}}
    ).encode()
    file = tmp_path / "model.safetensors"
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(written)) + written)
        out.truncate(8 + len(written) + size)
    with pytest.raises(RunError, match="x is not a tensor of the model"):
        weights.read(file, config, {"y": torch.zeros(2)})
    with pytest.raises(RunError, match=r"x is F32 \[2147483648\]; expected F32 \[2\]"):
        weights.read(file, config, {"x": torch.zeros(2, device="meta")})


def test_a_model_larger_than_memory_is_refused(cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To use it, it is in memory two times, and to train it four times."""
    size = sum(tensor.numel() * 4 for tensor in load_file(runs / "run1" / "model.safetensors").values())
    monkeypatch.setattr(builder, "memory", lambda: 2 * size)
    assert cli("eval", "run1").exit_code == 0
    refuse(cli, ["train", "--from", "run1", "--dry-run"], 1, ["4 times over"], "--hidden-dims")
    monkeypatch.setattr(builder, "memory", lambda: 2 * size - 1)
    refuse(cli, ["eval", "run1"], 1, ["run.json", "2 times over"], kind="run")


def test_memory_is_that_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(runtime, "CONTAINER_LIMIT", limit)
    physical = runtime.memory()
    for text, found in (("max\n", physical), ("1048576\n", 1 << 20), (f"{1 << 60}\n", physical)):
        limit.write_text(text)
        assert runtime.memory() == found


@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_memory_is_what_a_limit_of_the_process_leaves(kind: str) -> None:
    code = f"""
import resource
from vaectl.system.runtime import memory
_, hard = resource.getrlimit(resource.{kind})
resource.setrlimit(resource.{kind}, (3 << 30, hard))
print(memory())
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1 << 30 < int(process.stdout) < 3 << 30


def test_a_blueprint_is_the_model_without_memory() -> None:
    """Names, types and shapes are those of the model that is built, and a model of a petabyte costs nothing."""
    from vaectl.config.recipes import RECIPES
    from vaectl.data.info import DataInfo

    info = DataInfo("x", (1, 8, 8), "bytes", "", {"train": 10, "validation": 1, "test": 1}, "")
    for recipe in RECIPES.values():
        spec = builder.complete(recipe())
        model, plan = builder.build(spec, info)[0].state_dict(), builder.blueprint(spec, info).state_dict()
        assert {name: (t.shape, t.dtype) for name, t in model.items()} == {
            name: (t.shape, t.dtype) for name, t in plan.items()
        }
    flat = RECIPES["vamp-vae"]().flat() | {"latent_dim": 16384, "encoder.hidden_dims": [16384] * 64}
    from vaectl.config.spec import Spec

    huge = builder.complete(Spec.from_flat(flat))
    with pytest.raises(VaectlError, match="parameters need"):
        builder.blueprint(huge, DataInfo("x", (1, 8192, 8192), "bytes", "", info.sizes, ""))


# --- the readers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NaN", "NaN"),
        ("-Infinity", "Infinity"),
        ("1e999", "too large"),
        (str(2**63), "too large"),
        ("9" * 5000, "too large"),
        ('{"a": 1, "a": 2}', "duplicate key"),
        ("[" * (LEVELS + 1) + "]" * (LEVELS + 1), "levels"),
        ("[" * 100_000, "levels"),
        ('{"a":' * 900 + "1" + "}" * 900, "levels"),
        ("\ufeff{}", "BOM"),
        ("", "value"),
        ("{", "name"),
    ],
    ids=lambda value: value[:12],
)
def test_json_that_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(text)


def test_json_that_is_taken() -> None:
    assert parse_json('{"a": [1, -2.5, null, true], "b": {"a": "x"}}') == {"a": [1, -2.5, None, True], "b": {"a": "x"}}
    assert parse_json(str(2**63 - 1)) == 2**63 - 1
    assert parse_json("[" * LEVELS + "]" * LEVELS)


def test_no_more_is_read_than_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"12345")
    assert read_text(file, 5) == "12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_text(file, 4)
    with pytest.raises(OSError, match="not a regular file"):
        read_text(Path("/dev/zero"), 5)
    file.write_bytes(b"\xff\xfe{\x00}\x00")
    with pytest.raises(ValueError, match="utf-8"):
        read_text(file, 100)


def test_sizes_as_people_read_them() -> None:
    assert [size_text(n) for n in (5, 1 << 18, 3 << 29, 5 << 40, 1 << 60)] == [
        "5 bytes", "256 KiB", "1.5 GiB", "5 TiB", "1,048,576 TiB",
    ]  # fmt: skip


def test_within_a_folder(tmp_path: Path) -> None:
    """Links that stay in the folder are followed, links that leave it are not, and a loop is no way out."""
    home = tmp_path / "home"
    (home / "in").mkdir(parents=True)
    (home / "stays").symlink_to("in")
    (home / "leaves").symlink_to("..")
    (home / "in" / "deep").symlink_to("../../other")
    (home / "loop").symlink_to("loop")
    assert path_within(home, "stays/a") == home / "stays" / "a"
    assert path_within(home, "loop") == home / "loop"
    for name in ("leaves", "leaves/a", "in/deep", "stays/deep"):
        with pytest.raises(RunError, match="is a link"):
            path_within(home, name)


# --- configs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.toml", b"x = 1\n" * CONFIG_BYTES, "larger than 256 KiB"),
        ("a.json", b" " * CONFIG_BYTES + b"{}", "larger than 256 KiB"),
        ("a.toml", b".".join([b"a"] * 30_000) + b" = 1", "dots"),
        ("a.toml", b".".join([b"a"] * 90) + b" = 1", "levels"),
        ("a.toml", b"a = " + b"[" * 5000 + b"]" * 5000, "levels"),
        ("a.json", b'{"a":' * 200 + b"1" + b"}" * 200, "levels"),
        ("a.json", b'{"beta": 1, "beta": 2}', "duplicate key"),
        ("a.toml", b"beta = 1\nbeta = 2", "a.toml"),
        ("a.toml", b"latent_dim = " + b"9" * 4000, "latent_dim"),
        ("a.json", b'{"hidden_dims": [' + b"8," * 5000 + b"8]}", "hidden_dims"),
        ("a.json", b'{"model": "' + b"x" * 9000 + b'"}', "model"),
        ("a.json", "{}".encode("utf-16"), "a.json"),
    ],
)
def test_configs_that_are_refused(cli: Cli, name: str, content: bytes, words: str) -> None:
    """Too large, too deep, with a key twice or a value that is absurd: exit 1 or 2, in a short sentence."""
    Path(name).write_bytes(content)
    result = cli("train", "-c", name, "--dry-run")
    assert result.exit_code in (1, 2), result.output
    assert words in result.stderr
    assert "internal error" not in result.stderr
    assert len(result.stderr) < 1000


@pytest.mark.parametrize("kind", ["sparse", "a pipe", "a folder", "a device"])
def test_configs_that_are_no_regular_file(cli: Cli, kind: str) -> None:
    STRANGE[kind](Path("a.toml"))
    result = cli("train", "-c", "a.toml", "--dry-run")
    assert result.exit_code == 1
    assert "a.toml" in result.stderr


def test_comments_may_have_dots(cli: Cli) -> None:
    Path("a.toml").write_text("# " + "." * 500 + "\nbeta = 4\n")
    assert tomllib.loads(Path("a.toml").read_text()) == {"beta": 4}
    assert cli("train", "-c", "a.toml", "--dataset", "digits", "--dry-run").exit_code == 0


# --- data -------------------------------------------------------------------------------------------------------------

IMAGES = "train-images-idx3-ubyte"


@pytest.mark.parametrize("kind", ["sparse", "a pipe", "a folder", "a device"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_that_are_none(cli: Cli, isolated: Path, kind: str, suffix: str) -> None:
    """A pipe, a folder, a device or a terabyte of nothing in the place of an IDX file exits 1 and is named."""
    raw = write_mnist(isolated / "data")
    (raw / IMAGES).unlink()
    STRANGE[kind](raw / (IMAGES + suffix))
    result = cli("train", "--dataset", "mnist", "--dry-run")
    assert result.exit_code == 1
    assert IMAGES in result.stderr


def test_idx_files_beyond_the_limit(cli: Cli, isolated: Path) -> None:
    raw = write_mnist(isolated / "data")
    (raw / IMAGES).write_bytes(idx_file((1 << 21, 32, 32), body=b"x"))
    refuse(cli, ["train", "--dataset", "mnist"], 1, [IMAGES, "1 GiB"], kind="data")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "TRAIN", (60, 1))
    monkeypatch.setattr(glyphs, "TEST", (20, 2))


def _bomb(path: Path) -> None:
    """An archive whose images are a gigabyte, packed into a megabyte."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("train_images.npy", "w") as out:
        np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": (1 << 30,)})
        for _ in range(64):
            out.write(bytes(1 << 20))


def _objects(path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, ("executed",))

    np.savez(path, train_images=np.array([pickle.dumps(Evil()), Evil()], dtype=object))


def _longer(path: Path) -> None:
    """The right header, and then more than it says."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("train_images.npy", "w") as out:
        np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": (60, 28, 28)})
        out.write(bytes(1 << 24))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("damage", [_bomb, _objects, _longer, sparse, pipe])
def test_a_hostile_cache_of_glyphs(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """A zip bomb, pickled objects, more than the header says, a terabyte or a pipe: noted, not run, made again."""
    path = tmp_path / "glyphs" / f"glyphs-v{glyphs.VERSION}.npz"
    made = glyphs.load_or_generate(tmp_path, pytest.fail)
    damage(path)
    notes: list[str] = []
    again = glyphs.load_or_generate(tmp_path, notes.append)
    assert np.array_equal(made[0].images, again[0].images)
    assert len(notes) == 1
    assert not Path("executed").exists()
    glyphs.load_or_generate(tmp_path, pytest.fail)


@pytest.mark.usefixtures("small")
def test_glyphs_are_not_kept_where_only_a_record_says_so(tmp_path: Path) -> None:
    glyphs.load_or_generate(tmp_path, pytest.fail, keep=False)
    assert not list(tmp_path.iterdir())


def test_limits_are_those_that_are_documented() -> None:
    found = [CONFIG_BYTES, HEADER_BYTES, RECORD_BYTES, SERIES_BYTES, LEVELS]
    assert found == [256 << 10, 1 << 20, 16 << 20, 64 << 20, 16]
