"""Bad input: an error that names it, the right exit code, no traceback, and nothing half-written."""

from __future__ import annotations

import functools
import gzip
import json
import os
import shlex
import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.testing
from safetensors.torch import load_file, save_file

from tests.conftest import Cli
from tests.support.idx import idx_file, mnist_files, write_mnist
from tests.support.refusals import Record, alter, drop, put, refuse

pytestmark = pytest.mark.usefixtures("offline")

ABSURD = "9" * 400
LONG = "x" * 300
built = functools.cache(typer.main.get_command)


@pytest.fixture(autouse=True)
def built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build the commands once: that is most of what a refused command line costs."""
    monkeypatch.setattr(typer.testing, "_get_command", built, raising=False)


@dataclass(frozen=True)
class Case:
    """A command line, the exit code due, what the error must name, and what the hint must."""

    line: str
    code: int
    names: str
    hint: str | None = None

    def __str__(self) -> str:
        return self.line if len(self.line) < 80 else self.line[:77] + "..."


def table(*cases: Case) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=str)


# --- numbers ----------------------------------------------------------------------------------------------------------

WHOLE = ("-1", "nan", "inf", "2.5", "", ABSURD)
REAL = ("-1", "nan", "inf", "", "1e99")
# flag -> values that it must refuse, in a command line that is fine without it
NUMERIC: dict[str, dict[str, Sequence[str]]] = {
    "train --dataset digits --hidden-dims 8 --epochs 1 --dry-run": {
        "--latent-dim": (*WHOLE, "0", "1000000"),
        "--hidden-dims": (*WHOLE, "0", "8,0", "8,-4", "8,,4", "8,nan", "8;4", "100000", ",".join(["8"] * 200)),
        "--warmup-epochs": (*WHOLE, "10000000"),
        "--epochs": (*WHOLE, "0", "10000000"),
        "--batch-size": (*WHOLE, "0", "10000000"),
        "--patience": (*WHOLE, "10000000"),
        "--seed": (*WHOLE, "4294967296"),
        "--validation-fraction": (*REAL, "1", "0.95", "2"),
        "--beta": (*REAL, "1e7"),
        "--lr": (*REAL, "0", "1000"),
        "--weight-decay": (*REAL, "1000"),
        "--grad-clip": (*REAL, "1e7"),
    },
    "eval run1": {"--seed": (*WHOLE, "4294967296")},
    "sample run1 -o out.png": {
        "--num-samples": (*WHOLE, "0", "10000000"),
        "--temperature": (*REAL, "11"),
        "--columns": (*WHOLE, "0", "10000000"),
        "--seed": (*WHOLE, "4294967296"),
    },
    "embed run1 --draw -o out.npz": {"--seed": (*WHOLE, "4294967296")},
    "plot-latent run1 -o out.png": {
        "--points": (*WHOLE, "0", "1", "10000000"),
        "--dims": (*WHOLE, "0,0", "0,2", "0,1,0", "0,-1", "0;1", "0,", ","),
    },
    "plot-latent run1 --kind traversal -o out.png": {"--seed": (*WHOLE, "4294967296")},
    "compare run1 run2 -o out.png": {"--seed": (*WHOLE, "4294967296")},
    "runs": {"--limit": (*WHOLE, "0", "10000000")},
}


def numbers() -> list[Any]:
    """NUMERIC as parameters."""
    cases = []
    for line, flags in NUMERIC.items():
        for flag, values in flags.items():
            for value in values:
                shown = value if len(value) < 20 else f"{value[:8]}...({len(value)})"
                cases.append(pytest.param(line, flag, value, id=f"{line.split()[0]} {flag}={shown}"))
    return cases


@pytest.mark.parametrize(("line", "flag", "value"), numbers())
def test_numbers_out_of_range_are_usage_errors(
    cli: Cli, request: pytest.FixtureRequest, line: str, flag: str, value: str
) -> None:
    """Zero, negative, NaN, infinite, absurd, fractional and empty values of a numeric flag exit 2 and name the flag."""
    if "run1" in line:
        request.getfixturevalue("runs")
    refuse(cli, [*line.split(), f"{flag}={value}"], 2, [flag], kind="usage")


@table(
    Case("sample run1 -n 10001 -o a.png", 2, "-n 10001", ".npz"),
    Case("sample run1 --reconstruct -n 301 -o a.png", 2, "-n 301"),
    Case("sample run1 --interpolate -n 5000 -o a.png", 2, "-n 5000"),
    Case("plot-latent run1 --dims 2", 2, "--dims"),
    Case("plot-latent run2 --dims 0,1,2", 2, "--dims"),
    Case("plot-latent run2 --kind traversal --dims 3", 2, "--dims"),
)
def test_numbers_that_the_run_cannot_serve(cli: Cli, runs: Path, case: Case) -> None:
    """A number that is fine in itself but more than the run or its data have exits 2."""
    refuse(cli, shlex.split(case.line), case.code, [case.names], case.hint)


# --- names ------------------------------------------------------------------------------------------------------------

PLAIN = "train --dataset digits --dry-run"
DRY = "train --dataset digits --hidden-dims 8 --epochs 1 --dry-run"


@table(
    # the nearest name is due for runs, data sets, models, options and config keys
    Case("train --dataset mnits --dry-run", 2, "--dataset", "mnist"),
    Case("train --dataset fashon-mnist --dry-run", 2, "--dataset", "fashion-mnist"),
    Case(f"{DRY} --model vea", 2, "--model", "vae"),
    Case(f"{DRY} --model betta-vae", 2, "--model", "beta-vae"),
    Case(f"{DRY} --model=", 2, "--model"),
    Case(f"{DRY} --network mpl", 2, "--network", "mlp"),
    Case(f"{DRY} --likelihood bernouli", 2, "--likelihood", "bernoulli"),
    Case(f"{DRY} --posterior-scale softpluss", 2, "--posterior-scale"),
    Case(f"{DRY} --epoch 3", 2, "--epoch", "--epochs"),
    Case(f"{DRY} --latent-dims 3", 2, "--latent-dims", "--latent-dim"),
    Case("runs --sotr id", 2, "--sotr", "--sort"),
    Case("trian", 2, "trian", "train"),
    Case("--runs-dri x runs", 2, "--runs-dri", "--runs-dir"),
    Case("embed run1 --dataset digit -o a.npz", 2, "--dataset", "digits"),
    Case("eval run1 --split tset", 2, "--split"),
    Case("eval run1 --checkpoint bset", 2, "--checkpoint"),
    Case("sample run1 --mode maen", 2, "--mode"),
    Case("sample run1 --checkpoint bset", 2, "--checkpoint"),
    Case("embed run1 --split every", 2, "--split"),
    Case("embed run1 --checkpoint bset", 2, "--checkpoint"),
    Case("plot-latent run1 --kind scater", 2, "--kind"),
    Case("plot-latent run1 --checkpoint bset", 2, "--checkpoint"),
    Case("runs --sort name", 2, "--sort"),
    # machine and output flags
    Case(f"{DRY} --device gpu", 2, "--device"),
    Case(f"{DRY} --device cuda:x", 2, "--device"),
    Case(f"{DRY} --device cuda:-1", 2, "--device"),
    Case(f"{DRY} --device cuda:{'9' * 30}", 2, "--device"),
    Case(f"{DRY} --device cpu:1", 2, "--device"),
    Case(f"{DRY} --progress fancy", 2, "--progress"),
    Case("eval run1 --device gpu", 2, "--device"),
    Case("sample run1 --device gpu", 2, "--device"),
    Case("embed run1 --device gpu", 2, "--device"),
    Case("plot-latent run1 --device gpu", 2, "--device"),
    Case("compare run1 run2 --device gpu", 2, "--device"),
    Case("runs --progress fancy", 2, "--progress"),
    Case("runs --device cpu", 2, "--device"),
)
def test_unknown_names_are_usage_errors(cli: Cli, runs: Path, case: Case) -> None:
    """A name that does not exist exits 2; data sets, models, options and commands suggest the nearest."""
    refuse(cli, shlex.split(case.line), case.code, [case.names], case.hint, kind="usage")


@table(
    Case(f"{DRY} --precision fp16", 2, "--precision"),
    Case(f"{DRY} --network convolution", 2, "--network"),
    Case(f"{DRY} --likelihood vmf", 2, "--likelihood"),
    Case(f"{DRY} --model vqvae2", 2, "--model", "vq-vae"),
)
def test_features_that_are_not_there_are_not_accepted(cli: Cli, runs: Path, case: Case) -> None:
    """What later issues name is refused, not ignored."""
    refuse(cli, shlex.split(case.line), case.code, [case.names], case.hint, kind="usage")


@table(
    Case("runs --all --limit 3", 2, "--limit"),
    Case("runs run1 --sort elbo", 2, "--sort"),
    Case("runs run1 --all", 2, "--all"),
    Case("sample run1 --reconstruct --interpolate", 2, "--interpolate"),
    Case("sample run1 --reconstruct --temperature 0.5", 2, "--temperature"),
    Case("sample run1 --columns 3 -o a.npy", 2, "--columns"),
    Case("sample run1 --data-dir .", 2, "--data-dir"),
    Case("sample run1 --force", 2, "--force"),
    Case("embed run1 --force", 2, "--force"),
    Case("embed run1 --seed 3 -o a.npz", 2, "--seed"),
    Case("plot-latent run1 --force", 2, "--force"),
    Case("plot-latent run1 --seed 3", 2, "--seed"),
    Case("plot-latent run1 --kind manifold -n 10", 2, "-n"),
    Case("compare run1 run2 --force", 2, "--force"),
    Case("compare run1 run2 --seed 3", 2, "--seed"),
    Case("compare run1", 2, "compare"),
    Case("compare run1 1", 2, "compare"),
    Case("compare run1 latest~1", 2, "compare"),
    Case("eval", 2, "RUN"),
    Case("eval run1 run2", 2, "run2"),
    Case("train run1", 2, "run1"),
    Case(f"{DRY} --beta 2 --set objective.beta=3", 2, "beta"),
    Case(f"{DRY} --beta 2 --set beta=3", 2, "beta"),
    Case(f"{DRY} --batch-size 2 --set batch-size=3", 2, "batch"),
    Case(f"{DRY} --set beta=2 --set beta=3", 2, "beta"),
)
def test_flags_that_contradict_each_other(cli: Cli, runs: Path, case: Case) -> None:
    """A flag that would have no effect, or two that cannot both hold, exit 2."""
    refuse(cli, shlex.split(case.line), case.code, [case.names], case.hint, kind="usage")


@pytest.mark.parametrize("line", ["train --dry-run", "eval run1", "runs", "compare run1 run2"])
def test_quiet_excludes_json_and_verbose(cli: Cli, runs: Path, line: str) -> None:
    """-q with -v or --json exits 2; with --json the error is still one document."""
    refuse(cli, [*line.split(), "--quiet", "--verbose"], 2, ["--quiet"])
    result = cli(*line.split(), "--quiet", "--json")
    assert result.exit_code == 2
    assert "--quiet" in json.loads(result.stdout)["error"]["message"]


@table(
    Case(f"{PLAIN} --set beta", 2, "--set"),
    Case(f"{PLAIN} --set =3", 2, "--set"),
    Case(f"{PLAIN} --set ''", 2, "--set"),
    Case(f"{PLAIN} --set objective.bta=3", 2, "objective.bta", "beta"),
    Case(f"{PLAIN} --set objectve.beta=3", 2, "objectve.beta", "objective.beta"),
    Case(f"{PLAIN} --set ltent_dim=3", 2, "ltent_dim", "latent_dim"),
    Case(f"{PLAIN} --set decoder=mlp", 2, "decoder"),
    Case(f"{PLAIN} --prior vampire", 2, "--prior", "vamp"),
    Case(f"{PLAIN} --prior vamp --free-bits 1", 2, "'vamp'", "--free-bits 0"),
    Case(f"{PLAIN} --prior standard --set prior.components=3", 2, "prior.components"),
    Case(f"{PLAIN} --prior vamp --set prior.components=0", 2, "prior.components"),
    Case(f"{PLAIN} --prior vamp --set prior.weights=equal", 2, "prior.weights"),
    Case(f"{PLAIN} --set objective.beta.x=3", 2, "objective.beta.x"),
    Case(f"{PLAIN} --set objective.name=elbow", 2, "objective.name", "elbo"),
    Case(f"{PLAIN} --set prior.name=standrd", 2, "prior.name", "standard"),
    Case(f"{PLAIN} --set prior.scale=2", 2, "prior.scale"),
    Case(f"{PLAIN} --set posterior.name=5", 2, "posterior.name"),
    Case(f"{PLAIN} --set posterior.scale=[1]", 2, "posterior.scale"),
    Case(f"{PLAIN} --set objective.beta=null", 2, "objective.beta"),
    Case(f"{PLAIN} --set objective.beta=true", 2, "objective.beta"),
    Case(f"{PLAIN} --set objective.beta=[1]", 2, "objective.beta"),
    Case(f"{PLAIN} --set 'objective.beta={{}}'", 2, "objective.beta"),
    Case(f"{PLAIN} --set objective.beta=NaN", 2, "objective.beta"),
    Case(f"{PLAIN} --set objective.beta=1e999", 2, "objective.beta"),
    Case(f"{PLAIN} --set training.epochs=0", 2, "training.epochs"),
    Case(f"{PLAIN} --set training.epochs={'9' * 5000}", 2, "training.epochs"),
    Case(f"{PLAIN} --set training.epoch=3", 2, "training.epoch", "training.epochs"),
    Case(f"{PLAIN} --set encoder.hidden_dims=[]", 2, "encoder.hidden_dims"),
    Case(f"{PLAIN} --set encoder.hidden_dims=[[8]]", 2, "encoder.hidden_dims"),
    Case(f"{PLAIN} --set 'encoder.hidden_dims={{}}'", 2, "encoder.hidden_dims"),
    Case(f"{PLAIN} --set hidden_dims=null", 2, "hidden_dims"),
    Case(f"{PLAIN} --set model=[1]", 2, "model"),
    Case(f"{PLAIN} --set 'model={{}}'", 2, "model"),
    Case(f"{PLAIN} --set model=1", 2, "vae, beta-vae"),
    Case(f"{PLAIN} --set latent_dim={'[' * 3000}", 2, "latent_dim"),
)
def test_bad_assignments_are_usage_errors(cli: Cli, isolated: Path, case: Case) -> None:
    """--set checks path, type and bounds of what it is given, and suggests the nearest option."""
    refuse(cli, shlex.split(case.line), case.code, [case.names], case.hint, kind="usage")


# --- run names and references -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../x", "..", ".", "", "a/b", "/tmp/x", ".hidden", "-x", "_x", "a b", "a\n", "a\tb", "x" * 65, "ümlaut", "latest",
     "42", "a\\b", "a:b", "~"],
)  # fmt: skip
def test_run_names_that_are_no_ids(cli: Cli, isolated: Path, name: str) -> None:
    """A name that could leave the runs folder, hide there or be mistaken for a reference exits 2."""
    refuse(cli, [*DRY.replace("--dry-run", "").split(), f"--name={name}"], 2, ["--name"])


def test_a_name_that_is_taken(cli: Cli, runs: Path) -> None:
    """An existing id is an error that exits 1, a run's or any other folder's, and the run is untouched."""
    (runs / "notes").mkdir()
    for name in ("run1", "notes"):
        refuse(cli, ["train", "--dataset", "digits", "--epochs", 1, "--name", name], 1, [name], "--name", kind="run")


TAKES_A_RUN = (
    "eval {}", "sample {} -o a.png", "embed {} -o a.npz", "plot-latent {} -o a.png", "runs {}", "compare {} run2",
    "compare run2 {}", "train --from {} --dry-run",
)  # fmt: skip


MISSES = ("77", "latest~2", "run", LONG, "latest~", "latest~-1", "latest~" + "9" * 50, "9" * 50, "*")


PATHS = ("./nowhere", "../x", "..", "/dev/null/x", f"./{LONG}")
REFERENCES = {"run11": "run1", **dict.fromkeys(PATHS, "run.json"), **dict.fromkeys(MISSES, "vaectl runs")}


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda value: value[:20])
def test_a_run_that_is_not_there(cli: Cli, runs: Path, reference: str) -> None:
    """A miss exits 1, names the reference, and suggests the nearest id or how to list them."""
    for line in ("eval {}", "train --from {} --dry-run"):
        arguments = [word.format(reference) for word in line.split()]
        refuse(cli, arguments, 1, [reference], REFERENCES[reference], kind="run")


@pytest.mark.parametrize("line", TAKES_A_RUN)
def test_every_command_refuses_a_run_that_is_not_there(cli: Cli, runs: Path, line: str) -> None:
    for reference in ("run11", "../x"):
        refuse(cli, line.format(reference).split(), 1, [reference], REFERENCES[reference], kind="run")


def test_a_miss_says_what_the_contract_says(cli: Cli, runs: Path) -> None:
    result = cli("eval", "run11")
    assert "error: no run 'run11' in ./runs" in result.stderr.splitlines()
    assert "hint: did you mean 'run1'? list them with: vaectl runs" in result.stderr.splitlines()


def test_a_miss_among_no_runs_says_how_to_train_one(cli: Cli, isolated: Path) -> None:
    refuse(cli, ["eval", "run1"], 1, ["run1"], "vaectl train", kind="run")


@pytest.mark.parametrize(
    "place", ["/dev/null/x", "/proc/self/x", "file", f"{LONG}"], ids=["null", "proc", "file", "long"]
)
def test_a_runs_folder_that_cannot_be_made(cli: Cli, isolated: Path, place: str) -> None:
    """train says which folder it cannot make a run in."""
    (isolated / "file").touch()
    refuse(cli, ["--runs-dir", place, *DRY.replace("--dry-run", "").split()], 1, [place], kind="run")


@pytest.mark.parametrize("place", ["file", f"{LONG}"], ids=["file", "long"])
def test_a_runs_folder_that_cannot_be_listed(cli: Cli, isolated: Path, place: str) -> None:
    """``runs`` on something that is no folder is an error, unlike on a folder that is not there yet."""
    (isolated / "file").touch()
    refuse(cli, ["--runs-dir", place, "runs"], 1, [place])


# --- config files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "names", "hint"),
    [
        ("a.toml", b"beta = ", "a.toml", None),
        ("a.toml", b"\xff\xfe\x00", "a.toml", None),
        ("a.toml", b"bta = 2", "bta", "beta"),
        ("a.toml", b"[objective]\nbta = 2", "objective.bta", "beta"),
        ("a.toml", b"[objectve]\nbeta = 2", "objectve.beta", "objective.beta"),
        ("a.toml", b"[training]\nepoch = 2", "training.epoch", "training.epochs"),
        ("a.toml", b"[objective.beta]\nx = 2", "objective.beta.x", None),
        ("a.toml", b"latent_dim = 'two'", "latent_dim", None),
        ("a.toml", b"latent_dim = 1979-05-27", "latent_dim", None),
        ("a.toml", b"latent_dim = nan", "latent_dim", None),
        ("a.toml", b"lr = -inf", "lr", None),
        ("a.toml", b"epochs = 0", "epochs", None),
        ("a.toml", b"dataset = 'mnits'", "dataset", "mnist"),
        ("a.toml", b"model = 'vea'", "model", "vae"),
        ("a.toml", b"model = [1]", "model", None),
        ("a.toml", b"beta = 1\n[objective]\nbeta = 2", "beta", None),
        ("a.toml", b"beta = 1\nbeta = 2", "a.toml", None),
        ("a.json", b"", "a.json", None),
        ("a.json", b'{"beta": 2', "a.json", None),
        ("a.json", b"[1, 2]", "a.json", None),
        ("a.json", b"null", "a.json", None),
        ("a.json", b'{"beta": NaN}', "beta", None),
        ("a.json", b'{"beta": null}', "beta", None),
        ("a.json", b'{"objective": {"name": "elbow"}}', "objective.name", "elbo"),
        ("a.json", b'{"": 2}', "a.json", None),
        ("a.json", b"[" * 100_000, "a.json", None),
        ("a.json", b'{"a":' * 900 + b"1" + b"}" * 900, "a.json", None),
        ("a.yaml", b"beta: 2", "a.yaml", ".toml"),
        ("config", b"beta = 2", "config", ".toml"),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else None,
)
def test_damaged_config_files(
    cli: Cli, isolated: Path, name: str, content: bytes, names: str, hint: str | None
) -> None:
    """A config file that does not parse, or has an unknown key or a bad value, exits 2; keys get a suggestion."""
    (isolated / name).write_bytes(content)
    refuse(cli, ["train", "--config", name, "--dry-run"], 2, [names, name], hint, kind="usage")


@pytest.mark.parametrize(
    "name", ["none.toml", "folder.toml", "/dev/null/x.toml", f"{LONG}.toml"], ids=lambda name: name[:20]
)
def test_config_files_that_cannot_be_read(cli: Cli, isolated: Path, name: str) -> None:
    (isolated / "folder.toml").mkdir()
    refuse(cli, ["train", "--config", name, "--dry-run"], 1, ["--config", name])


# --- output paths -----------------------------------------------------------------------------------------------------

WRITES = {
    "eval run1": (".json",),
    "sample run1": (".png", ".npz", ".npy"),
    "embed run1": (".npz", ".csv", ".parquet"),
    "plot-latent run1": (".png", ".svg", ".pdf"),
    "compare run1 run2": (".html", ".png", ".md", ".json"),
}
PLACES = {
    "exists": ("old{}", "--force"),
    "folder": ("folder{}", None),
    "missing folder": ("nowhere/out{}", "mkdir"),
    "not writable": ("/proc/self/out{}", None),
    "below a file": ("/dev/null/out{}", None),
    "too long": (LONG + "{}", None),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("line", WRITES)
def test_output_paths_that_cannot_be_written(cli: Cli, runs: Path, isolated: Path, line: str, place: str) -> None:
    """An output that exists, is a folder, or lies where nothing can be written exits 1 before any work is done."""
    suffix = WRITES[line][0]
    (isolated / f"old{suffix}").write_text("old")
    (isolated / f"folder{suffix}").mkdir()
    path, hint = PLACES[place]
    refuse(cli, [*line.split(), "-o", path.format(suffix)], 1, [path.format(suffix)], hint, kind="output")
    if place != "exists":  # force does not help
        refuse(cli, [*line.split(), "-f", "-o", path.format(suffix)], 1, [path.format(suffix)], kind="output")


@pytest.mark.parametrize("name", ["out.xyz", "out", "out.", ".png", "", "out.png.gz", "out.jpeg"])
@pytest.mark.parametrize("line", WRITES)
def test_unknown_formats_list_the_allowed(cli: Cli, runs: Path, line: str, name: str) -> None:
    """An unknown suffix, or none, exits 2, and the hint lists every format of the command."""
    refuse(cli, [*line.split(), "-o", name], 2, ["-o"], ", ".join(WRITES[line]), kind="usage")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("line", WRITES)
def test_read_only_folders(cli: Cli, runs: Path, isolated: Path, line: str) -> None:
    folder = isolated / "locked"
    folder.mkdir(mode=0o555)
    path = folder / f"out{WRITES[line][0]}"
    refuse(cli, [*line.split(), "-o", path], 1, [str(path)], kind="output")


# --- data -------------------------------------------------------------------------------------------------------------


def _corrupt_gzip(raw: Path) -> None:
    file = raw / "train-images-idx3-ubyte"
    packed = bytearray(gzip.compress(file.read_bytes()))
    packed[len(packed) // 2] ^= 0xFF
    file.unlink()
    file.with_name(file.name + ".gz").write_bytes(packed)


def _truncated_gzip(raw: Path) -> None:
    file = raw / "train-images-idx3-ubyte"
    packed = gzip.compress(file.read_bytes())
    file.unlink()
    file.with_name(file.name + ".gz").write_bytes(packed[: len(packed) // 2])


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    def damage(raw: Path) -> None:
        file = raw / name
        if file.exists() and not name.endswith(".gz"):
            file.unlink()
        plain = raw / name.removesuffix(".gz")
        if name.endswith(".gz") and plain.exists():
            plain.unlink()
        file.write_bytes(content)

    return damage


def _folder(raw: Path) -> None:
    (raw / "t10k-labels-idx1-ubyte").unlink()
    (raw / "t10k-labels-idx1-ubyte").mkdir()


IMAGES, LABELS, TEST = "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"
DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (_write(IMAGES, idx_file((24, 8, 8))[:-10]), IMAGES),
    "too long": (_write(IMAGES, idx_file((24, 8, 8)) + b"x"), IMAGES),
    "empty": (_write(IMAGES, b""), IMAGES),
    "header only": (_write(IMAGES, idx_file((24, 8, 8), body=b"")), IMAGES),
    "half a header": (_write(IMAGES, idx_file((24, 8, 8))[:9]), IMAGES),
    "wrong magic": (_write(IMAGES, idx_file((24, 8, 8), magic=0xD00)), IMAGES),
    "a web page": (_write(IMAGES, b"<!doctype html><title>404</title>"), IMAGES),
    "absurd size": (_write(IMAGES, idx_file((0xFFFFFFFF,) * 3, body=b"")), IMAGES),
    "no images": (_write(IMAGES, idx_file((0, 8, 8))), "train"),
    "no pixels": (_write(IMAGES, idx_file((24, 0, 0))), "train"),
    "other count of labels": (_write(LABELS, idx_file((23,))), "train"),
    "labels for images": (_write(IMAGES, idx_file((24,))), "train"),
    "test images of another size": (_write(TEST, idx_file((12, 7, 7))), "MNIST"),
    "corrupt gzip": (_corrupt_gzip, f"{IMAGES}.gz"),
    "truncated gzip": (_truncated_gzip, f"{IMAGES}.gz"),
    "no gzip": (_write(f"{IMAGES}.gz", idx_file((24, 8, 8))), f"{IMAGES}.gz"),
    "folder for a file": (_folder, "t10k-labels-idx1-ubyte"),
}


@pytest.mark.parametrize("dataset", ["mnist", "auto"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_idx_files(cli: Cli, isolated: Path, damage: str, dataset: str) -> None:
    """Damaged data exit 1 and name the file, and no run is left; auto substitutes nothing for damaged files."""
    raw = write_mnist(isolated / "data")
    apply, names = DAMAGE[damage]
    apply(raw)
    arguments = ["train", "--dataset", dataset, "--data-dir", "data", "--epochs", 1, "--hidden-dims", 4]
    refuse(cli, arguments, 1, [names], kind="data")


@pytest.mark.parametrize(
    ("place", "hint"),
    [("none", "mkdir"), ("file", None), ("/dev/null/x", None), (LONG, None)],
    ids=lambda v: str(v)[:12],
)
@pytest.mark.parametrize("dataset", ["mnist", "auto", "kmnist"])
def test_a_data_directory_that_is_none(cli: Cli, isolated: Path, dataset: str, place: str, hint: str | None) -> None:
    """A data directory that is missing or is a file exits 1 and is named; it is not made."""
    (isolated / "file").touch()
    refuse(cli, ["train", "--dataset", dataset, "--data-dir", place, "--epochs", 1], 1, ["--data-dir", place], hint)


@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist", "kmnist"])
def test_a_data_set_that_cannot_be_downloaded(cli: Cli, isolated: Path, dataset: str) -> None:
    """A named data set is never substituted: without files and network it exits 1, and leaves no empty folders."""
    (isolated / "data").mkdir()
    arguments = ["train", "--dataset", dataset, "--data-dir", "data", "--epochs", 1]
    refuse(cli, arguments, 1, ["could not be downloaded"], "--dataset glyphs", kind="data")


def test_a_missing_data_directory_of_the_environment(cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VAECTL_DATA_DIR is checked like the flag."""
    monkeypatch.setenv("VAECTL_DATA_DIR", "nowhere")
    refuse(cli, ["train", "--dataset", "mnist", "--epochs", 1], 1, ["nowhere"], "mkdir", kind="data")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_data_directory_that_cannot_be_read(cli: Cli, isolated: Path) -> None:
    write_mnist(isolated / "data")
    (isolated / "data").chmod(0)
    try:
        refuse(cli, ["train", "--dataset", "mnist", "--data-dir", "data", "--epochs", 1], 1, ["data"], kind="data")
    finally:
        (isolated / "data").chmod(0o755)


def test_too_few_examples_to_hold_any_out(cli: Cli, isolated: Path) -> None:
    raw = write_mnist(isolated / "data")
    (raw / IMAGES).write_bytes(idx_file((1, 8, 8)))
    (raw / LABELS).write_bytes(idx_file((1,)))
    refuse(cli, ["train", "--dataset", "mnist", "--epochs", 1], 1, ["mnist", "validation"], kind="data")


@pytest.mark.parametrize("line", ["eval noise", "sample noise --reconstruct -o a.png", "embed noise -o a.npz",
                                  "plot-latent noise -o a.png"])  # fmt: skip
def test_data_that_changed_since_training(cli: Cli, isolated: Path, line: str) -> None:
    """Data that are not those of the run exit 1: their fingerprint differs."""
    raw = write_mnist(isolated / "data")
    train = ("train", "--dataset", "mnist", "--epochs", 1, "--hidden-dims", 4, "--name", "noise")
    assert cli(*train).exit_code == 0
    (raw / TEST).write_bytes(idx_file((12, 8, 8), body=bytes(12 * 64)))
    refuse(cli, line.split(), 1, ["fingerprint"], "--data-dir", kind="data")


@table(
    Case("embed run1 --dataset mnist --data-dir big -o a.npz", 1, "mnist has images of shape (1, 12, 12)"),
    Case("embed run1 --dataset kmnist --data-dir big -o a.npz", 1, "could not be downloaded"),
    Case("embed run1 --dataset mnist --data-dir none -o a.npz", 1, "--data-dir"),
    Case("eval run1 --data-dir none", 1, "--data-dir"),
    Case("sample run1 --interpolate --data-dir none -o a.png", 1, "--data-dir"),
    Case("plot-latent run1 --data-dir none -o a.png", 1, "--data-dir"),
    Case("compare run1 run2 --data-dir none -o a.png", 1, "--data-dir"),
    Case("compare run1 run2 --data-dir none", 1, "--data-dir"),
)
def test_data_that_do_not_fit_the_run(cli: Cli, runs: Path, isolated: Path, case: Case) -> None:
    """Another shape, or a directory that is not there, exits 1."""
    write_mnist(isolated / "big", mnist_files(side=12))
    refuse(cli, shlex.split(case.line), case.code, [case.names], case.hint, kind="data")


def test_a_split_that_was_not_held_out(cli: Cli, isolated: Path) -> None:
    """The validation split of a run without one exits 1, and names the split."""
    arguments = ("--epochs", 1, "--hidden-dims", 4, "--validation-fraction", 0)
    assert cli("train", "--dataset", "digits", *arguments).exit_code == 0
    refuse(cli, ["eval", "run1", "--split", "validation"], 1, ["--split validation"], kind="data")
    refuse(cli, ["embed", "run1", "--split", "validation", "-o", "a.npz"], 1, ["--split validation"], kind="data")


# --- damaged runs -----------------------------------------------------------------------------------------------------

READS_A_RUN = (
    "eval run1", "sample run1 -o a.png", "embed run1 -o a.npz", "plot-latent run1 -o a.png", "runs run1",
    "compare run1 run2", "compare run2 run1 -o a.png", "train --from run1 --dry-run",
)  # fmt: skip
NO_RECORDS: dict[str, bytes] = {
    "empty": b"",
    "truncated": b'{"schema": 1, "id": "run1", "sta',
    "a list": b"[]",
    "null": b"null",
    "a number": b"17",
    "binary": bytes(range(256)),
    "not utf-8": b'{"schema": 1, "id": "\xff"}',
    "NaN": b'{"schema": NaN}',
    "deep": b"[" * 100_000,
    "an absurd number": b'{"schema": ' + b"9" * 5000 + b"}",
    "an empty object": b"{}",
    "zeros": bytes(4096),
}


@pytest.mark.parametrize("content", NO_RECORDS)
def test_a_run_json_that_is_none(cli: Cli, runs: Path, content: str) -> None:
    """A run.json that does not parse, or holds no record, exits 1 and is named."""
    (runs / "run1" / "run.json").write_bytes(NO_RECORDS[content])
    refuse(cli, ["runs", "run1"], 1, ["run1/run.json"], kind="run")


@pytest.mark.parametrize("line", READS_A_RUN)
def test_every_command_refuses_a_damaged_or_newer_run_json(cli: Cli, runs: Path, line: str) -> None:
    """Truncated, without a field, or of a newer schema, which is said whatever else the file holds."""
    file = runs / "run1" / "run.json"
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    refuse(cli, line.split(), 1, ["run1/run.json"], kind="run")
    file.write_text(whole)
    alter(file, drop("evaluations"))
    refuse(cli, line.split(), 1, ["run1/run.json", "evaluations"], kind="run")
    file.write_text('{"schema": 2, "surprise": true}')
    refuse(cli, line.split(), 1, ["run1/run.json", "schema 2"], "upgrade", kind="run")


ALTERED: dict[str, Callable[[Record], None]] = {
    **{f"no {name}": drop(name) for name in ("schema", "status", "config", "dataset", "evaluations", "started")},
    "schema is text": put("schema", "1"),
    "schema is true": put("schema", True),
    "schema is infinite": put("schema", 1e999),
    "status is a number": put("status", 3),
    "config is a list": put("config", []),
    "config is empty": put("config", {}),
    "config of a model that is none": put("config.objective", 4),
    "config without a part": drop("config.encoder"),
    "config without a size": drop("config.latent_dim"),
    "config with another key": put("config.surprise", 4),
    "config with a wordy size": put("config.latent_dim", "two"),
    "config with a negative size": put("config.latent_dim", -2),
    "config with a wordy count": put("config.training.epochs", "many"),
    "config with a deep table": put("config.objective.beta", {"x": {"y": 1}}),
    "evaluations is an object": put("evaluations", {}),
    "metrics is a list": put("metrics", []),
    "validation is text": put("validation", "good"),
    "parameters is text": put("parameters", "many"),
    "best_epoch is text": put("best_epoch", "first"),
}


@pytest.mark.parametrize("change", ALTERED)
def test_a_run_json_that_was_altered(cli: Cli, runs: Path, change: str) -> None:
    """A field that is missing or of a wrong type exits 1, and the file is named."""
    alter(runs / "run1" / "run.json", ALTERED[change])
    for line in ("eval run1", "runs run1", "train --from run1 --dry-run"):
        refuse(cli, line.split(), 1, ["run.json"], kind="run")


COMPUTES = ("eval run1", "sample run1 --reconstruct -o a.png", "embed run1 -o a.npz", "plot-latent run1 -o a.png",
            "plot-latent run1 --kind traversal -o a.png", "compare run1 run2 -o a.png")  # fmt: skip
UNFIT: dict[str, Callable[[Record], None]] = {
    "another latent size": put("config.latent_dim", 3),
    "another layer size": put("config.encoder.hidden_dims", [32, 17]),
    "another kind of scale": put("config.posterior.scale", "log-variance"),
    "a scale that is none": put("config.posterior.scale", "soft"),
    "an option that is none": put("config.encoder.depth", 3),
    "a layer size that is none": put("config.encoder.hidden_dims", "wide"),
    "a network that is none": put("config.encoder.name", "unet"),
    "a likelihood that is none": put("config.likelihood.name", "categorical"),
    "a held-out part that is none": put("config.data.validation_fraction", "some"),
    "no units where they are not the usual ones": drop("config.encoder.hidden_dims"),
    "an absurd held-out part": put("config.data.validation_fraction", 7.5),
    "no data": put("dataset", {}),
    "data without a shape": drop("dataset.shape"),
    "data of a wordy shape": put("dataset.shape", "small"),
    "data of another shape": put("dataset.shape", [1, 9, 9]),
    "data of an absurd shape": put("dataset.shape", [65536, 65536, 65536]),
    "data of no size": put("dataset.sizes", {"train": -1, "validation": 0, "test": 0}),
    "data of another kind of number": put("dataset.support", "complex"),
    "data of another kind of name": put("dataset.name", ["digits"]),
}


@pytest.mark.parametrize("change", UNFIT)
def test_a_run_json_that_does_not_fit_its_weights_or_data(cli: Cli, runs: Path, change: str) -> None:
    """An altered config or data description exits 1 and names run.json, wherever the model or the data are needed."""
    alter(runs / "run1" / "run.json", UNFIT[change])
    refuse(cli, ["eval", "run1"], 1, ["run.json"], kind="run")
    if "shape" not in change:  # runs of different shapes have no common picture, which is a usage error
        refuse(cli, ["compare", "run1", "run2", "-o", "a.png"], 1, ["run.json"], kind="run")


@pytest.mark.parametrize("line", COMPUTES)
def test_a_run_of_an_unknown_data_set(cli: Cli, runs: Path, line: str) -> None:
    """A data set that this vaectl does not know is the run's fault, not a flag's: exit 1, run.json is named."""
    for name in ("nothing", "auto"):
        alter(runs / "run1" / "run.json", put("dataset.name", name))
        refuse(cli, line.split(), 1, ["run.json"])


@pytest.mark.parametrize("line", COMPUTES)
def test_another_fingerprint_is_other_data(cli: Cli, runs: Path, line: str) -> None:
    alter(runs / "run1" / "run.json", put("dataset.fingerprint", "0" * 64))
    refuse(cli, line.split(), 1, ["fingerprint"], kind="data")


STRANGE: dict[str, Callable[[Record], None]] = {
    "a null evaluation": put("evaluations", [None, 3, "x", {}]),
    "an evaluation without metrics": lambda record: record["evaluations"][0].pop("metrics"),
    "a wordy metric": lambda record: record["evaluations"][0]["metrics"].update(elbo="good"),
    "a null metric": lambda record: record["evaluations"][0]["metrics"].update(elbo=None),
    "an infinite metric": lambda record: record["evaluations"][0]["metrics"].update(elbo=1e999),
    "a fractional count": lambda record: record["evaluations"][0]["metrics"].update(active_units=1.5),
    "a KL too few": lambda record: record["evaluations"][0].update(kl_per_dim=[1.0]),
    "a KL too many": lambda record: record["evaluations"][0].update(kl_per_dim=[1.0] * 9),
    "no KL": lambda record: record["evaluations"][0].update(kl_per_dim=[]),
    "a null KL": lambda record: record["evaluations"][0].update(kl_per_dim=[None, None]),
    "another count of examples": lambda record: record["evaluations"][0].update(n=7),
    "an infinite validation": put("validation", {"elbo": 1e999, "kl": -1e999}),
    "a wordy validation": put("validation", {"elbo": "good"}),
    "a status that is none": put("status", "asleep"),
    "a time that is none": put("started", "yesterday"),
    "an end that is none": put("finished", "tomorrow"),
    "another id": put("id", "../../x"),
    "sources that are none": put("sources", {"latent_dim": []}),
    "a data directory that is gone": put("data_directory", "/nowhere/\u0000"),
    "an absurd epoch": put("best_epoch", 10**30),
    "a wordy beta": put("config.objective.beta", "strong"),
}
LOOKS = (
    "runs", "runs --json", "runs run1", "runs run1 --json", "compare run1 run2", "compare run1 run2 --json",
    "eval run1", "plot-latent run1 --kind traversal -f -o a.png",
    "plot-latent run1 --kind traversal --dims 1 -f -o a.png", "train --from run1 --dry-run",
)  # fmt: skip


@pytest.mark.parametrize("change", STRANGE)
def test_strange_values_in_a_run_json_never_crash(cli: Cli, runs: Path, change: str) -> None:
    """Values of the right type that make no sense are shown, repaired or refused: never an internal error."""
    file = runs / "run1" / "run.json"
    whole = file.read_text()
    for line in LOOKS:
        file.write_text(whole)
        alter(file, STRANGE[change])
        result = cli(*line.split())
        shown = f"{line}: {result.output}"
        assert "Traceback" not in result.output, shown
        assert "internal error" not in result.output, shown
        assert result.exit_code in (0, 1) or line.startswith(("train", "plot-latent")), shown
        assert bool(result.exit_code) == any(text.startswith("error: ") for text in result.stderr.splitlines()), shown
        if "--json" in line:
            json.loads(result.stdout, parse_constant=pytest.fail)


HISTORIES = (
    "", "x", "{}", "[]\n[]", "\x00" * 50, '{"validation": {}}\n{"validation": 3}',
    '{"validation": {"elbo": "x", "kl": null}, "epoch": 1}', '{"validation": {"elbo": NaN, "kl": 1}, "epoch": 1}',
)  # fmt: skip


@pytest.mark.parametrize("content", HISTORIES)
def test_strange_histories_never_crash(cli: Cli, runs: Path, content: str) -> None:
    """A metrics.jsonl that was altered is left out or refused by name."""
    (runs / "run1" / "metrics.jsonl").write_text(content)
    for line in ("runs run1", "compare run1 run2", "compare run1 run2 -o a.png", "eval run1"):
        result = cli(*line.split())
        assert result.exit_code in (0, 1), result.output
        for word in ("Traceback", "internal error"):
            assert word not in result.output, line
        if result.exit_code:
            assert "metrics.jsonl" in result.stderr


PER_EXAMPLE = (
    "",
    "{",
    "[]",
    "null",
    '{"seed": 0}',
    '{"elbo": 3}',
    '{"elbo": ["x"]}',
    '{"elbo": [1]}',
    '{"elbo": [1e999]}',
)


@pytest.mark.parametrize("content", PER_EXAMPLE)
def test_strange_per_example_values_never_crash(cli: Cli, runs: Path, content: str) -> None:
    """Per-example values that were altered are made again or left out."""
    for line in ("compare run1 run2 --json", "eval run1 --json"):
        (runs / "run1" / "evaluations" / "test-best.json").write_text(content)
        result = cli(*line.split())
        assert result.exit_code == 0, result.output
        json.loads(result.stdout, parse_constant=pytest.fail)


# --- damaged weights --------------------------------------------------------------------------------------------------


def _flip(position: float) -> Callable[[Path, Path], None]:
    def damage(file: Path, runs: Path) -> None:
        content = bytearray(file.read_bytes())
        content[int(position * (len(content) - 1))] ^= 0x10
        file.write_bytes(content)

    return damage


def _cut(keep: float) -> Callable[[Path, Path], None]:
    def damage(file: Path, runs: Path) -> None:
        content = file.read_bytes()
        file.write_bytes(content[: int(keep * len(content))])

    return damage


def _content(content: bytes) -> Callable[[Path, Path], None]:
    return lambda file, runs: file.write_bytes(content) and None


def _foreign(file: Path, runs: Path) -> None:
    save_file({"weight": torch.zeros(3)}, file)


def _foreign_half(file: Path, runs: Path) -> None:
    save_file({"weight": torch.zeros(3, dtype=torch.bfloat16)}, file, metadata={"format": "vaectl"})


def _unsigned(file: Path, runs: Path) -> None:
    """The run's own tensors and config, without the checksum."""
    config = json.loads((file.parent / "config.json").read_text())
    save_file(load_file(file), file, metadata={"format": "vaectl", "config": json.dumps(config)})


def _other_run(file: Path, runs: Path) -> None:
    shutil.copy(runs / "run2" / "model.safetensors", file)


def _pickle(file: Path, runs: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, file)


def _a_folder(file: Path, runs: Path) -> None:
    file.unlink()
    file.mkdir()


def _gone(file: Path, runs: Path) -> None:
    file.unlink()


WEIGHTS: dict[str, Callable[[Path, Path], None]] = {
    "truncated": _cut(0.6),
    "truncated in its header": _cut(0.01),
    "empty": _content(b""),
    "zeros": _content(bytes(5000)),
    "text": _content(b"not weights"),
    "an absurd header": _content(b"\xff" * 8 + b"{}"),
    "an empty header": _content(struct.pack("<Q", 2) + b"{}"),
    "a bit flipped in its length": _flip(0),
    "a bit flipped in its header": _flip(0.05),
    "a bit flipped in a tensor": _flip(0.7),
    "its last bit flipped": _flip(1),
    "longer": lambda file, runs: file.write_bytes(file.read_bytes() + b"x") and None,
    "foreign": _foreign,
    "foreign bfloat16": _foreign_half,
    "without a checksum": _unsigned,
    "of another run": _other_run,
    "a pickle": _pickle,
    "a folder": _a_folder,
    "gone": _gone,
}


@pytest.mark.parametrize("damage", WEIGHTS)
def test_damaged_weights(cli: Cli, runs: Path, damage: str) -> None:
    """Weights that are truncated, altered, foreign or another run's exit 1 and are named; none are used."""
    WEIGHTS[damage](runs / "run1" / "model.safetensors", runs)
    refuse(cli, ["eval", "run1"], 1, ["model.safetensors"], kind="run")


@pytest.mark.parametrize("line", COMPUTES)
def test_every_command_refuses_damaged_weights(cli: Cli, runs: Path, line: str) -> None:
    """Truncated, bit-flipped, and of another run."""
    file = runs / "run1" / "model.safetensors"
    whole = file.read_bytes()
    for damage in (_cut(0.6), _flip(0.7), _other_run):
        file.write_bytes(whole)
        damage(file, runs)
        refuse(cli, line.split(), 1, ["model.safetensors"], kind="run")


@pytest.mark.parametrize("line", ["sample run1", "embed run1", "plot-latent run1"])
def test_damaged_weights_leave_no_empty_folder_behind(cli: Cli, runs: Path, line: str) -> None:
    """Without -o the run's own output folder is not made for a command that then fails."""
    _flip(0.7)(runs / "run1" / "model.safetensors", runs)
    refuse(cli, line.split(), 1, ["model.safetensors"], kind="run")


def test_the_last_weights_are_checked_like_the_best(cli: Cli, runs: Path) -> None:
    _flip(0.7)(runs / "run1" / "last.safetensors", runs)
    refuse(cli, ["eval", "run1", "--checkpoint", "last"], 1, ["last.safetensors"], kind="run")
    assert cli("eval", "run1").exit_code == 0
