"""The commands at the edges: sizes of one, no validation split, upper-case suffixes, options that cannot matter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Cli
from vaectl.runs.run import Run

TRAIN = ("train", "--dataset", "digits", "--hidden-dims", "8", "--epochs", 2)


def test_without_a_validation_split_the_last_epoch_is_the_best(cli: Cli, isolated: Path) -> None:
    """Every command works on such a run, and nothing pretends to a validation figure."""
    document = json.loads(cli(*TRAIN, "--latent-dim", 3, "--validation-fraction", 0, "--json").stdout)
    assert document["best_epoch"] == 2
    assert document["validation"] == {}
    assert cli(*TRAIN, "--latent-dim", 2).exit_code == 0
    (row,) = [row for row in json.loads(cli("runs", "--json").stdout) if row["id"] == "run1"]
    assert row["val_elbo"] is None
    assert row["test_elbo"] is not None
    assert cli("eval", "run1", "--split", "validation").exit_code == 1
    for line in ("eval 1", "sample 1", "embed 1", "plot-latent 1", "plot-latent 1 --kind traversal", "compare 1 2",
                 "compare 1 2 -o a.html", "runs", "runs 1"):  # fmt: skip
        assert cli(*line.split()).exit_code == 0, line


@pytest.mark.parametrize("latent_dim", [1, 100])
def test_a_validation_split_of_one_and_unusual_latent_dimensions(cli: Cli, isolated: Path, latent_dim: int) -> None:
    """One validation example, one latent dimension, and more than there are pixels."""
    result = cli(*TRAIN, "--latent-dim", latent_dim, "--validation-fraction", 1e-6, "--batch-size", 1496)
    assert result.exit_code == 0, result.stderr
    for kind in ("scatter", "manifold", "traversal"):
        assert cli("plot-latent", 1, "--kind", kind, "-o", f"{kind}.png").exit_code == 0


@pytest.mark.parametrize(("command", "name"), [("sample", "a.NPY"), ("sample", "a.NPZ"), ("embed", "a.NPZ"),
                                               ("sample", "a.PNG"), ("plot-latent", "a.SVG")])  # fmt: skip
def test_upper_case_suffixes_write_whole_files(cli: Cli, runs: Path, isolated: Path, command: str, name: str) -> None:
    assert cli(command, "run1", "-o", name).exit_code == 0
    assert [path.name for path in isolated.iterdir() if path.is_file()] == [name]
    assert (isolated / name).stat().st_size > 1000
    if name.endswith((".NPY", ".NPZ")):
        with (isolated / name).open("rb") as file:
            assert len(np.load(file)) >= 1


def test_interpolations_are_as_many_as_asked_for(cli: Cli, runs: Path, isolated: Path) -> None:
    assert cli("sample", "run1", "--interpolate", "-n", 7, "--columns", 3, "-o", "a.npy").exit_code == 0
    assert np.load(isolated / "a.npy").shape == (7, 1, 8, 8)


def test_chunks_do_not_change_samples(cli: Cli, runs: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpolations and reconstructions are the same in chunks of any size."""
    from vaectl.commands.sample import making

    for kind in ("--interpolate", "--reconstruct"):
        for size in (1000, 16):
            monkeypatch.setattr(making, "CHUNK", size)
            assert cli("sample", "run1", kind, "-n", 40, "-o", f"{size}.npy", "-f").exit_code == 0
        assert np.allclose(np.load("1000.npy"), np.load("16.npy"), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((*TRAIN, "--patience", 3, "--validation-fraction", 0), "--patience"),
        (("eval", "run1", "-f"), "--force"),
        (("plot-latent", "run1", "--kind", "manifold", "--data-dir", "nowhere"), "--data-dir"),
    ],
)
def test_options_that_cannot_matter_are_refused(
    cli: Cli, runs: Path, arguments: tuple[object, ...], named: str
) -> None:
    result = cli(*arguments)
    assert result.exit_code in (1, 2)
    assert result.stderr.startswith("error: ")
    assert named in result.stderr


def test_the_run_records_the_command_line(cli: Cli, isolated: Path) -> None:
    """As it was given, with the options before the command."""
    assert cli("--runs-dir", "elsewhere", *TRAIN, "-q").exit_code == 0
    record = json.loads((isolated / "elsewhere" / "run1" / "run.json").read_text())
    assert record["argv"] == ["--runs-dir", "elsewhere", *map(str, TRAIN), "-q"]


def test_the_environment_names_the_data_directory(cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And an error about it names the variable, not a flag that nobody typed."""
    monkeypatch.setenv("VAECTL_DATA_DIR", "nowhere")
    for arguments in ((*TRAIN,), ("eval", "run1")):
        result = cli(*arguments)
        assert result.exit_code == 1
        assert "error: VAECTL_DATA_DIR nowhere does not exist" in result.stderr


def test_figures_of_older_weights_are_made_anew(cli: Cli, runs: Path) -> None:
    """compare evaluates again where the weights are not those that were evaluated."""
    run = Run.open("run1", runs)
    record = json.loads((run.path / "run.json").read_text())
    record["evaluations"][0]["weights"] = "other"
    record["evaluations"][0]["metrics"]["elbo"] = -1.0
    (run.path / "run.json").write_text(json.dumps(record))
    result = cli("compare", "run1", "run2", "--json")
    (elbo,) = [metric for metric in json.loads(result.stdout)["metrics"] if metric["name"] == "elbo"]
    assert elbo["values"][0] == pytest.approx(run.record["metrics"]["elbo"])
    assert "evaluating" in result.stderr


def test_a_damaged_history_does_not_stop_an_evaluation(cli: Cli, runs: Path, isolated: Path) -> None:
    """eval warns of it, judges without it, and writes its result."""
    file = runs / "run1" / "metrics.jsonl"
    file.write_text("{torn\n" + file.read_text())
    result = cli("eval", "run1", "-o", "out.json")
    assert result.exit_code == 0, result.output
    assert "warning:" in result.stderr
    assert "metrics.jsonl" in result.stderr
    assert json.loads((isolated / "out.json").read_text())["metrics"]["elbo"] < 0
