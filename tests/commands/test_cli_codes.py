"""Every command on runs whose latents are grids of codes, and on convolutional networks, as a person types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.conftest import Cli, interrupt_at
from vaectl.cli import app

VQ = ("train", "--model", "vq-vae", "--dataset", "digits", "--network", "conv", "--width", "8", "--codes", "32",
      "--latent-dim", "4", "--set", "prior.width=16", "--set", "prior.depth=1", "--batch-size", "128")  # fmt: skip


@pytest.fixture(scope="session")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on digits: run1 a VQ-VAE with a fitted prior, run2 one without, run3 a convolutional VAE. Read them only."""
    folder = tmp_path_factory.mktemp("coded") / "runs"
    vae = ("train", "--dataset", "digits", "--network", "conv", "--width", "8", "--latent-dim", "4", "--epochs", "2")
    for command in ((*VQ, "--epochs", "4", "--prior-epochs", "3"), (*VQ, "--epochs", "2", "--prior-epochs", "0"), vae):
        result = CliRunner().invoke(app, ["--runs-dir", str(folder), *command, "-q"])
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def runs(coded: Path, isolated: Path) -> Path:
    return Path(shutil.copytree(coded, isolated / "runs"))


def document(cli: Cli, *arguments: object) -> dict[str, Any]:
    result = cli(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def document_list(cli: Cli, *arguments: object) -> list[dict[str, Any]]:
    return json.loads(cli(*arguments, "--json").stdout)  # type: ignore[no-any-return]


def error(cli: Cli, *arguments: object) -> tuple[int, str, str]:
    result = cli(*arguments, "--json")
    found = json.loads(result.stdout)["error"]
    return result.exit_code, found["message"], found["hint"] or ""


def test_train_shows_both_stages(cli: Cli) -> None:
    """One header and table; the second stage is announced, keeps the reconstruction, and ends the run."""
    result = cli(*VQ, "--epochs", "2", "--prior-epochs", "2")
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    (title,) = [line for line in lines if line.startswith("run1 ")]
    assert "conv 1x8x8-8-16-4, 2x2 of 32 codes" in title
    (stage,) = [place for place, line in enumerate(lines) if "only the transformer prior" in line]
    rows = [line.split() for line in lines if line.lstrip()[:2] in ("1/", "2/", "3/", "4/")]
    assert [row[0] for row in rows] == ["1/4", "2/4", "3/4", "4/4"]
    assert lines[stage - 1].split() == rows[1]
    assert "from epoch 3 on" in lines[stage]
    assert float(rows[1][3]) == pytest.approx(4 * np.log(32), abs=0.01)
    assert "/32" in result.stdout
    history = [json.loads(line) for line in Path("runs/run1/metrics.jsonl").read_text().splitlines()]
    assert history[3]["recon"] == pytest.approx(history[2]["recon"], rel=1e-3)
    assert history[3]["validation"]["kl"] < history[1]["validation"]["kl"]
    assert {"codes_used", "codes", "perplexity"} <= history[0]["validation"].keys()


def test_eval_says_the_rate_and_the_use_of_codes(cli: Cli, runs: Path) -> None:
    fitted, unfitted = (document(cli, "eval", run)["metrics"] for run in ("run1", "run2"))
    assert unfitted["rate_bits"] == pytest.approx(20)
    assert unfitted["uniform_bits"] == fitted["uniform_bits"] == 20
    assert fitted["rate_bits"] < 19
    assert fitted["rate_bits"] == pytest.approx(fitted["kl"] / np.log(2))
    for metrics in (fitted, unfitted):
        assert 1 <= metrics["perplexity"] <= metrics["codes_used"] <= metrics["codes"] == 32
        assert 0 < metrics["mse"] < 0.2
        assert "active_units" not in metrics
        assert "mutual_information" not in metrics
    text = cli("eval", "run1").stdout
    assert "20.0 if all codes were equally likely" in text
    assert "of 32" in text
    vae = document(cli, "eval", "run3")["metrics"]
    assert "codes_used" not in vae
    assert vae["rate_bits"] == pytest.approx(vae["kl"] / np.log(2))


def test_the_error_of_reconstructions_is_that_of_the_pixels(cli: Cli, runs: Path) -> None:
    """``mse`` is the mean square of originals less reconstructions as sample writes them."""
    document(cli, "sample", "run1", "--reconstruct", "-n", 300, "-o", "all.npz")
    arrays = np.load("all.npz")
    found = np.square(arrays["images"] - arrays["originals"]).mean()
    assert document(cli, "eval", "run1")["metrics"]["mse"] == pytest.approx(found, rel=1e-4)


def test_samples_of_codes(cli: Cli, runs: Path) -> None:
    """The same seed gives the same images, another one others; temperature 0 one image; and the other kinds."""
    for name, options in {
        "a": (), "b": (), "c": ("--seed", 1), "cold": ("--temperature", 0), "hot": ("--temperature", 3)
    }.items():  # fmt: skip
        document(cli, "sample", "run1", "-n", 6, "-o", f"{name}.npy", *options)
    arrays = {name: np.load(f"{name}.npy") for name in ("a", "b", "c", "cold", "hot")}
    assert all(array.shape == (6, 1, 8, 8) for array in arrays.values())
    assert np.array_equal(arrays["a"], arrays["b"])
    assert not np.array_equal(arrays["a"], arrays["c"])
    assert (arrays["cold"] == arrays["cold"][0]).all()
    assert len(np.unique(arrays["hot"], axis=0)) == 6
    for kind in ("--reconstruct", "--interpolate"):
        document(cli, "sample", "run1", kind, "-n", 8, "-o", f"{kind}.png")
        with Image.open(f"{kind}.png") as picture:
            assert picture.size[0] > 100
    fitted, unfitted = cli("sample", "run1", "-n", 2), cli("sample", "run2", "-n", 2)
    assert "warning" not in fitted.stderr
    assert "noise" in unfitted.stderr
    assert "--resume run2 --prior-epochs 30" in unfitted.stderr


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_embed_gives_indices_and_vectors(cli: Cli, runs: Path, suffix: str) -> None:
    found = document(cli, "embed", "run1", "-o", f"codes{suffix}")
    assert (found["n"], found["grid"], found["codes"]) == (300, [2, 2], 32)
    if suffix == ".npz":
        arrays = dict(np.load("codes.npz"))
        assert {name: array.shape for name, array in arrays.items()} == {
            "row": (300,), "label": (300,), "codes": (300, 2, 2), "z": (300, 16)
        }  # fmt: skip
        codebook = load_file(runs / "run1/model.safetensors")["encoder.head.codebook"].numpy()
        vectors = arrays["z"].reshape(300, 4, 2, 2)
        assert np.allclose(vectors.transpose(0, 2, 3, 1), codebook[arrays["codes"]])
        used = document(cli, "eval", "run1")["metrics"]["codes_used"]
        assert len(np.unique(arrays["codes"])) == used
    elif suffix == ".csv":
        header = Path("codes.csv").read_text().splitlines()[0].split(",")
        assert header == ["row", "label", *(f"codes{i}" for i in range(4)), *(f"z{i}" for i in range(16))]
    assert error(cli, "embed", "run1", "--draw", "-o", "x.npz")[0] == 2


def test_pictures_of_codes(cli: Cli, runs: Path) -> None:
    """The use of codes and the scatter are drawn; what needs a prior that factorises is refused with what to use."""
    found = document(cli, "plot-latent", "run1", "--kind", "codes", "-o", "use.png")
    metrics = document(cli, "eval", "run1")["metrics"]
    assert (found["n"], found["grid"]) == (300, [2, 2])
    assert found["codes_used"] == metrics["codes_used"]
    assert found["perplexity"] == pytest.approx(metrics["perplexity"])
    assert document(cli, "plot-latent", "run1", "--kind", "codes", "-n", 5, "-o", "few.png")["n"] == 5
    assert Path("use.png").stat().st_size > 10_000
    document(cli, "plot-latent", "run1", "-o", "scatter.png")
    for kind in ("manifold", "traversal"):
        code, _, hint = error(cli, "plot-latent", "run1", "--kind", kind)
        assert (code, "codes" in hint) == (2, True)
    code, message, hint = error(cli, "plot-latent", "run3", "--kind", "codes")
    assert (code, "run3 has no codes" in message, "scatter" in hint) == (2, True, True)
    assert error(cli, "plot-latent", "run1", "--kind", "codes", "--dims", "0,1")[0] == 2


def test_compare_of_codes_and_vectors(cli: Cli, runs: Path) -> None:
    """Error and rate of both stand side by side; counts that mean different things are shown and not ranked."""
    found = document(cli, "compare", "run3", "run1", "-o", "report.html")
    rows = {row["name"]: row for row in found["metrics"]}
    assert {"mse", "rate_bits", "active_units", "codes_used", "perplexity"} <= rows.keys()
    assert rows["mse"]["direction"] == "lower"
    assert rows["mse"]["delta_se"][1] > 0
    assert rows["mse"]["verdict"][1] in ("better", "worse", "≈")
    assert rows["rate_bits"]["verdict"] == [None, None]
    assert rows["active_units"]["values"][1] is None
    assert rows["codes_used"]["values"][0] is None
    assert rows["active_units"]["verdict"][1] is None
    assert Path("report.html").stat().st_size > 50_000
    text = cli("compare", "run1", "run2").stdout
    assert "of 32" in text
    assert "active" not in text
    listed = {row["id"]: row for row in document_list(cli, "runs")}
    assert (listed["run1"]["model"], listed["run1"]["epochs"], listed["run1"]["best_epoch"]) == ("vq-vae", 7, 7)


def test_a_prior_is_fitted_afterwards(cli: Cli, runs: Path) -> None:
    """--resume --prior-epochs fits a prior to a finished run, leaves its codes as they are, and can be raised."""
    before = load_file(runs / "run2/model.safetensors")
    result = document(cli, "train", "--resume", "run2", "--prior-epochs", 2)
    assert result["status"] == "completed"
    after = load_file(runs / "run2/model.safetensors")
    assert not before["prior.fitted"]
    assert after["prior.fitted"]
    assert all((before[name] == after[name]).all() for name in before if not name.startswith("prior."))
    assert result["metrics"]["rate_bits"] < 20
    more = document(cli, "train", "--resume", "run2", "--prior-epochs", 3)
    assert len(Path("runs/run2/metrics.jsonl").read_text().splitlines()) == 5
    assert more["metrics"]["kl"] < result["metrics"]["kl"]
    code, message, hint = error(cli, "train", "--resume", "run2", "--epochs", 9)
    assert (code, "--epochs cannot change any more" in message, "--prior-epochs" in hint) == (2, True, True)
    code, message, _ = error(cli, "train", "--resume", "run2", "--prior-epochs", 2)
    assert (code, "at least the 3" in message) == (2, True)
    code, message, _ = error(cli, "train", "--resume", "run3", "--prior-epochs", 2)
    assert (code, message.startswith("--prior-epochs fits the prior")) == (2, True)


@pytest.mark.parametrize("batch", [5, 15, 23, 27, 32])
def test_both_stages_resume_to_the_same_files(
    cli: Cli, batch: int, coded: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in either stage or at their border and resumed, the files are those of a run in one piece."""
    command = (*VQ, "--epochs", "2", "--prior-epochs", "1")  # 11 batches an epoch
    assert cli(*command, "--name", "whole", "-q").exit_code == 0
    interrupt_at(monkeypatch, batch)
    assert cli(*command, "--name", "parts", "-q").exit_code == 130
    monkeypatch.undo()
    monkeypatch.chdir(isolated)
    assert cli("train", "--resume", "parts", "-q").exit_code == 0
    for name in ("model.safetensors", "last.safetensors"):
        assert Path("runs/whole", name).read_bytes() == Path("runs/parts", name).read_bytes()


def test_the_doctor_names_a_codebook_that_collapsed(cli: Cli) -> None:
    """Without revival few of many codes are in use, and the flag to try brings them back."""
    found = document(
        cli, *VQ, "--codes", 100, "--epochs", 3, "--prior-epochs", 0, "--set", "posterior.revive=0", "--lr", 1e-4
    )
    names = {finding["name"]: finding for finding in found["findings"]}
    assert "codebook collapse" in names
    assert "posterior.revive" in names["codebook collapse"]["try"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--model", "vq-vae", "--beta", "2"), "--beta"),
        (("--model", "vq-vae", "--prior", "standard"), "--prior uniform or transformer"),
        (("--model", "vq-vae", "--objective", "elbo"), "--objective vq"),
        (("--model", "vq-vae", "--prior", "uniform", "--prior-epochs", "2"), "--prior-epochs"),
        (("--model", "fsq-vae", "--beta", "2"), "--beta"),
        (("--model", "fsq-vae", "--warmup-epochs", "2"), "--warmup-epochs"),
        (("--network", "conv", "--width", "1024", "--depth", "8", "--dry-run"), "lower --width"),
        (("--model", "vq-vae", "--codes", "1"), "--codes"),
        (("--model", "vq-vae", "--commitment", "-1"), "--commitment"),
        (("--codes", "64"), "--codes"),
        (("--commitment", "1"), "--commitment"),
        (("--width", "64"), "--width"),
        (("--network", "conv", "--hidden-dims", "64"), "--hidden-dims"),
        (("--network", "conv", "--depth", "9"), "--depth"),
        (("--network", "conv", "--width", "0"), "--width"),
        (("--prior-epochs", "3"), "--prior-epochs"),
        (("--objective", "vq"), "--objective"),
        (("--prior", "transformer"), "--prior"),
    ],
)
def test_flags_that_do_not_go_together_are_named(cli: Cli, arguments: tuple[str, ...], named: str) -> None:
    code, message, hint = error(cli, "train", "--dataset", "digits", *arguments)
    assert code == (1 if "1024" in arguments else 2)
    assert named in f"{message} {hint}"
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "options",
    [("--network", "conv", "--width", "4"), ("--network", "resnet", "--width", "4", "--depth", "1")],
    ids=["conv", "resnet"],
)
def test_every_command_takes_a_convolutional_run(cli: Cli, options: tuple[str, ...]) -> None:
    """Width and depth are what was asked for; pictures of the latent space and all others are drawn."""
    result = document(cli, "train", "--dataset", "digits", "--latent-dim", 2, "--epochs", 1, *options)
    depth = 1 if "resnet" in options else 0
    config = json.loads(Path("runs/run1/config.json").read_text())
    assert (config["encoder"]["width"], config["encoder"]["depth"]) == (4, depth)
    assert config["encoder"] == config["decoder"]
    assert np.isfinite(result["metrics"]["elbo"])
    for kind in ("scatter", "manifold", "traversal"):
        document(cli, "plot-latent", "run1", "--kind", kind)
    for options in ((), ("--reconstruct",), ("--interpolate",)):
        document(cli, "sample", "run1", "-n", 4, *options)
    document(cli, "embed", "run1")
    assert document(cli, "eval", "run1", "--importance-samples", 3)["importance"]["samples"] == 3
