"""Many at once on one folder: every number is given out once, every file is whole, and everything stays readable."""

from __future__ import annotations

import errno
import functools
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from tests.conftest import Cli
from tests.support.idx import write_mnist
from vaectl.commands import eval as eval_module
from vaectl.commands.compare import cli as compare_module
from vaectl.commands.shared import session
from vaectl.data.base import Loading
from vaectl.data.builtin import glyphs
from vaectl.data.builtin.idx import load_idx
from vaectl.errors import OutputError
from vaectl.runs.records import read_record
from vaectl.runs.run import Run
from vaectl.system.files import write_numbered, write_output

ROOT = Path(__file__).parents[2]
CONTENT = "whole " * 10_000


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own; a fork of this one would copy locks that torch's threads hold."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, **pipes, text=True, env=environment)


def finish(processes: list[subprocess.Popen[str]]) -> list[str]:
    """What processes that must succeed printed."""
    outputs = []
    for process in processes:
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        outputs.append(stdout)
    return outputs


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """The results of ``work(0)`` to ``work(count - 1)``, which begin together in threads."""
    barrier = threading.Barrier(count)

    def go(place: int) -> Any:
        barrier.wait()
        return work(place)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(go, range(count)))


def no_links(*arguments: object) -> None:
    """``os.link`` of a file system without hard links."""
    raise OSError(errno.EPERM, "Operation not permitted")


def hidden(folder: Path) -> list[Path]:
    return list(folder.rglob(".*"))


# --- numbered files ---------------------------------------------------------------------------------------------------

WRITE = """
import sys
from pathlib import Path
from vaectl.system.files import write_numbered
for _ in range(8):
    write_numbered(Path(sys.argv[1]), ".png", lambda path: path.write_text("whole " * 10_000))
"""


def check_numbered(folder: Path, count: int) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [f"{n:04d}.png" for n in range(1, count + 1)]
    assert all(path.read_text() == CONTENT for path in folder.iterdir())


def test_processes_write_numbered_files_at_once(tmp_path: Path) -> None:
    """Six processes of eight files each make forty-eight, all whole."""
    finish([start(WRITE, tmp_path / "samples") for _ in range(6)])
    check_numbered(tmp_path / "samples", 48)


@pytest.mark.parametrize("links", [True, False])
def test_threads_write_numbered_files_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """None overwrites another's, also on a file system that has no hard links."""
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    folder = tmp_path / "samples"
    made = at_once(16, lambda place: write_numbered(folder, ".png", lambda path: path.write_text(CONTENT) and None))
    assert len(set(made)) == 16
    check_numbered(folder, 16)


def test_a_process_killed_while_it_writes_leaves_no_numbered_file(tmp_path: Path) -> None:
    """kill -9 within the write: the number is not taken, and what is left has a hidden name."""
    code = """
import os, signal, sys
from pathlib import Path
from vaectl.system.files import write_numbered
def half(path):
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
write_numbered(Path(sys.argv[1]), ".png", half)
"""
    process = start(code, tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
    assert write_numbered(tmp_path, ".png", lambda path: path.touch()).name == "0001.png"


def test_a_failed_write_takes_no_number(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_numbered(tmp_path / "samples", ".png", fail)
    assert list((tmp_path / "samples").iterdir()) == []


# --- one output -------------------------------------------------------------------------------------------------------

CLAIM = """
import sys
from pathlib import Path
from vaectl.errors import OutputError
from vaectl.system.files import check_output, write_output
path = Path(sys.argv[1])
check_output(path, [".npy"], force=False)
print("checked", flush=True)
sys.stdin.readline()
try:
    write_output(path, lambda target: target.write_text(f"{sys.argv[2]} " * 10_000), force=False)
    print("written")
except OutputError as error:
    print(error.message)
"""


def test_of_processes_with_one_output_one_wins(tmp_path: Path) -> None:
    """All have checked that the file is not there before the first writes it; the others say that it exists."""
    target = tmp_path / "same.npy"
    processes = [start(CLAIM, target, place) for place in range(8)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "checked\n"
    outputs = [process.communicate("go\n", timeout=120)[0].strip() for process in processes]
    assert sorted(outputs) == [f"-o {target} exists"] * 7 + ["written"]
    assert target.read_text() == f"{outputs.index('written')} " * 10_000
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("links", [True, False])
def test_of_threads_with_one_output_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    target = tmp_path / "same.txt"

    def claim(place: int) -> bool:
        try:
            write_output(target, lambda path: path.write_text(f"{place} {CONTENT}") and None, force=False)
        except OutputError:
            return False
        return True

    won = at_once(16, claim)
    assert won.count(True) == 1
    assert target.read_text() == f"{won.index(True)} {CONTENT}"
    assert list(tmp_path.iterdir()) == [target]


def test_a_name_that_was_reserved_in_vain_is_free_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without hard links an empty file holds the place: it goes if the rename fails."""

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        write_output(tmp_path / "a.txt", lambda path: path.touch(), force=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "flag", "name"),
    [
        ("sample run1 -n 4", "-o", "a.png"),
        ("sample run1 -n 4", "-o", "a.npy"),
        ("embed run1", "-o", "a.csv"),
        ("plot-latent run1", "-o", "a.svg"),
        ("eval run1", "-o", "a.json"),
        ("eval run1", "--per-example", "a.npz"),
        ("compare run1 run2", "-o", "a.md"),
        ("compare run1 run2", "-o", "a.json"),
    ],
)
def test_an_output_that_appears_meanwhile_is_kept(
    cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch, line: str, flag: str, name: str
) -> None:
    """Another process made the file after this one had checked that it was not there; --force takes its place."""
    for module in (session, eval_module, compare_module):
        monkeypatch.setattr(module, "check_output", lambda *arguments, **options: None)
    Path(name).write_text("another's")
    result = cli(*line.split(), flag, name)
    assert result.exit_code == 1, result.output
    assert f"error: {flag} {name} exists" in result.stderr
    assert "--force" in result.stderr
    assert Path(name).read_text() == "another's"
    assert not hidden(Path())
    assert cli(*line.split(), flag, name, "--force").exit_code == 0
    assert Path(name).read_bytes() != b"another's"


def test_a_link_that_leads_nowhere_is_an_existing_output(cli: Cli, runs: Path) -> None:
    Path("a.npy").symlink_to("nowhere")
    result = cli("sample", "run1", "-n", "4", "-o", "a.npy")
    assert result.exit_code == 1
    assert "-o a.npy exists" in result.stderr
    assert Path("a.npy").is_symlink()


# --- one run, many writers and readers --------------------------------------------------------------------------------

EVALUATE = """
import sys
from pathlib import Path
from vaectl.runs.run import Run
run, place = Run.open("run1", Path(sys.argv[1])), int(sys.argv[2])
kept = run.evaluations()[0]
for i in range(10):
    seed = 100 + 10 * place + i
    split = ("train", "validation", "test")[seed % 3]
    run.add_evaluation({**kept, "split": split, "seed": seed}, {"elbo": [float(seed)]})
"""
REWRITE = """
import sys
from pathlib import Path
from vaectl.runs.run import Run
run = Run.open("run1", Path(sys.argv[1]))
print("ready", flush=True)
while True:
    run.update(git_commit="x" * 4_000)
    run.update(git_commit=None)
"""


def test_processes_add_evaluations_at_once(runs: Path) -> None:
    """Six processes of ten evaluations each: all sixty are kept beside the one that was there."""
    before = Run.open("run1", runs).evaluations()
    finish([start(EVALUATE, runs, place) for place in range(6)])
    run = Run.open("run1", runs)
    assert {kept["seed"] for kept in run.evaluations()} == {0, *range(100, 160)}
    assert len(run.evaluations()) == len(before) + 60
    for split in ("train", "validation", "test"):
        newest = [kept for kept in run.evaluations() if kept["split"] == split][-1]
        assert run.per_example(split, "best") == {"elbo": [float(newest["seed"])]}
    assert not hidden(runs)


def test_runs_are_readable_while_one_is_rewritten(cli: Cli, runs: Path) -> None:
    """The list, a run, and their JSON, again and again."""
    process = start(REWRITE, runs)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(20):
            read_record(runs / "run1")
            for line in ("runs", "runs run1", "runs --json", "runs run1 --json", "compare run1 run2 --json"):
                result = cli(*line.split())
                assert result.exit_code == 0, result.output
                if "--json" in line:
                    json.loads(result.stdout)
                else:
                    assert "damaged" not in result.output
                    assert "/." not in result.output
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


COMMANDS = """
import contextlib, io, json, sys
from vaectl.cli import app
for line in sys.argv[1:]:
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout):
        try:
            app([*line.split(), "--json"], prog_name="vaectl")
        except SystemExit as end:
            if end.code:
                raise
    print(json.dumps(json.loads(stdout.getvalue())), flush=True)
"""
LINES = (
    "eval run1 --seed {}",
    "sample run1 -n 16 --seed {}",
    "eval run1 --split validation --importance-samples {}",
    "sample run1 -n 16 --reconstruct --seed {}",
    "embed run1 --draw --seed {}",
    "plot-latent run1 --kind traversal --seed {}",
    "compare run1 run2 -o report{}.md",
)


def test_commands_on_one_run_at_once(cli: Cli, runs: Path, isolated: Path) -> None:
    """A training, and two processes with every command that writes into run1: all succeed and nothing is lost."""
    ours, theirs = ([line.format(seed) for line in LINES] for seed in (1, 2))
    training = "train --dataset digits --hidden-dims 16 --latent-dim 2 --epochs 12"
    processes = [start(COMMANDS, *lines) for lines in (ours, [*theirs[1:], theirs[0]], [training])]
    # meanwhile the list is always readable, the run in training included
    while any(process.poll() is None for process in processes):
        for line in ("runs --json", "runs latest --json"):
            result = cli(*line.split())
            assert result.exit_code == 0, result.output
            json.loads(result.stdout)
        time.sleep(0.1)
    outputs = [[json.loads(line) for line in output.splitlines()] for output in finish(processes)]
    assert outputs[2][0]["status"] == "completed"
    kept = {
        (item["split"], item["seed"], (item["importance"] or {}).get("samples"))
        for item in Run.open("run1", runs).evaluations()
    }
    assert kept == {("test", 0, None), ("test", 1, None), ("test", 2, None), ("validation", 0, 1), ("validation", 0, 2)}
    paths = [document["path"] for output in outputs[:2] for document in output if "path" in document]
    assert len(set(paths)) == 8
    for folder, names in (("samples", 4), ("plots", 2), ("embeddings", 2)):
        suffix = ".npz" if folder == "embeddings" else ".png"
        found = sorted(path.name for path in (runs / "run1" / folder).iterdir())
        assert found == [f"{n:04d}{suffix}" for n in range(1, names + 1)]
    for path in paths:
        if path.endswith(".png"):
            with Image.open(path) as image:
                image.load()
        else:
            with np.load(path) as codes:
                assert len(codes["z"]) == 300
    assert all("elbo" in (isolated / f"report{seed}.md").read_text() for seed in (1, 2))
    assert not hidden(isolated)


# --- one data directory -----------------------------------------------------------------------------------------------


def test_glyphs_are_cached_by_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All get the same glyphs, nobody is told of a damaged cache, and one whole file is left."""
    monkeypatch.setattr(glyphs, "TRAIN", (40, 1))
    monkeypatch.setattr(glyphs, "TEST", (20, 2))
    said: list[str] = []
    made = at_once(4, lambda place: glyphs.load_or_generate(tmp_path, said.append))
    made.append(glyphs.load_or_generate(tmp_path, said.append))
    assert said == []
    for train, test in made:
        assert np.array_equal(train.images, made[0][0].images)
        assert np.array_equal(test.images, made[0][1].images)
    assert [path.name for path in (tmp_path / "glyphs").iterdir()] == [f"glyphs-v{glyphs.VERSION}.npz"]


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Files of a small MNIST, and their checksums, that torchvision's class finds at a server of this machine."""
    raw = write_mnist(tmp_path / "offered", packed=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(raw))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        resources = [
            (path.name, hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest())
            for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
            for path in raw.glob(f"{name}-ubyte.gz")
        ]
        mirrors = [f"http://127.0.0.1:{server.server_address[1]}/"]
        monkeypatch.setattr(datasets.MNIST, "mirrors", mirrors)
        monkeypatch.setattr(datasets.MNIST, "resources", resources)
        yield dict(resources)
        server.shutdown()
        thread.join()


def test_a_data_set_is_downloaded_by_many_at_once(tmp_path: Path, mirror: dict[str, str]) -> None:
    """All succeed, whoever comes first, and four whole files are left."""
    directory = tmp_path / "data"
    directory.mkdir()
    loaded = at_once(6, lambda place: load_idx("MNIST", Loading(directory)))
    for raw in loaded:
        assert np.array_equal(raw.train_images, loaded[0].train_images)
        assert raw.train_images.shape == (24, 1, 8, 8)
    files = sorted((directory / "MNIST" / "raw").iterdir())
    assert [path.name for path in files] == sorted(mirror)
    for path in files:
        assert hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == mirror[path.name]
