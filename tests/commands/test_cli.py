"""The commands on small data: every happy path."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from safetensors import safe_open
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import Cli
from tests.support.idx import mnist_files, write_mnist
from vaectl.config.spec import SPLITS

TRAIN = ("train", "--dataset", "digits", "--hidden-dims", "16", "--latent-dim", "2")
EPOCH_KEYS = {
    "epoch", "step", "loss", "elbo", "recon", "kl", "beta", "grad_norm", "lr", "validation", "seconds",
    "images_per_second",
}  # fmt: skip
RUN_KEYS = {
    "schema", "id", "status", "argv", "config", "sources", "dataset", "versions", "git_commit", "device", "parameters",
    "started", "finished", "best_epoch", "metrics", "evaluations",
}  # fmt: skip
MAGIC = {".png": b"\x89PNG\r\n\x1a\n", ".pdf": b"%PDF-", ".svg": b"<?xml"}


def ok(cli: Cli, *arguments: object) -> str:
    """What a command that must succeed prints on stdout."""
    result = cli(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def ok_json(cli: Cli, *arguments: object) -> Any:
    """The document of a command that must succeed under --json."""
    return json.loads(ok(cli, *arguments, "--json"))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


# --- train ------------------------------------------------------------------------------------------------------------


def test_train_leaves_a_complete_run(cli: Cli, isolated: Path) -> None:
    """The README's promise: one command leaves weights, history, metadata and event files."""
    result = cli("train", "--dataset", "digits", "--epochs", 2, "--latent-dim", 2, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert {"run", "status", "path", "best_epoch", "metrics", "seconds"} <= document.keys()
    record = read(isolated / "runs" / "run1" / "run.json")
    assert (document["model"], document["seed"], document["parameters"]) == ("vae", 0, record["parameters"])
    assert {"elbo", "recon", "kl"} <= document["metrics"].keys()
    assert document["status"] == "completed"
    assert document["run"] == "run1"
    assert Path(document["path"]).resolve() == isolated / "runs" / "run1"
    run = isolated / "runs" / "run1"
    for name in ("run.json", "config.json", "metrics.jsonl", "model.safetensors", "last.safetensors", "train.log"):
        assert (run / name).is_file(), name
    assert any((run / "tensorboard").iterdir())
    assert listing(isolated) - {"runs"} == {str(path.relative_to(isolated)) for path in (isolated / "runs").rglob("*")}
    assert not [name for name in listing(isolated) if Path(name).name.startswith(".")]


def test_run_json_says_all_that_the_contract_lists(runs: Path) -> None:
    """run.json holds settings with sources, data, versions, times and results."""
    record = read(runs / "run1" / "run.json")
    assert record.keys() >= RUN_KEYS
    assert (record["id"], record["status"]) == ("run1", "completed")
    assert record["sources"]["latent_dim"] == "flag"
    assert record["sources"]["training.lr"] == "default"
    assert record["dataset"].keys() >= {"name", "fingerprint", "shape", "support", "sizes"}
    assert record["dataset"]["shape"] == [1, 8, 8]
    assert record["dataset"]["sizes"].keys() == set(SPLITS)
    assert record["versions"].keys() >= {"python", "vaectl", "torch"}
    assert record["metrics"]["elbo"] == pytest.approx(-(record["metrics"]["recon"] + record["metrics"]["kl"]))
    assert record["started"] <= record["finished"]
    assert read(runs / "run1" / "config.json") == record["config"]


def test_metrics_jsonl_has_one_row_an_epoch(runs: Path) -> None:
    """metrics.jsonl has the contract's keys, and the best epoch is the one of the highest validation ELBO."""
    rows = [json.loads(line) for line in (runs / "run2" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert row.keys() == EPOCH_KEYS
        assert row["validation"].keys() >= {"elbo", "recon", "kl", "active_units"}
        assert row["elbo"] == pytest.approx(-(row["recon"] + row["kl"]))
        assert row["loss"] == pytest.approx(row["recon"] + 4 * row["kl"], rel=1e-4)
    best = max(rows, key=lambda row: row["validation"]["elbo"])
    assert read(runs / "run2" / "run.json")["best_epoch"] == best["epoch"]


def test_an_objectives_own_terms_are_shown_logged_and_kept(cli: Cli) -> None:
    """With -v a line after each epoch's row names them; metrics.jsonl and train.log hold the same numbers."""
    result = cli(*TRAIN, "--model", "beta-tcvae", "--epochs", 2, "-v")
    assert result.exit_code == 0, result.stderr
    run, lines = Path("runs/run1"), result.stderr.splitlines()
    log = (run / "train.log").read_text(encoding="utf-8").splitlines()
    for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        assert row.keys() == EPOCH_KEYS | {"terms"}
        assert row["terms"].keys() == {"mutual_information", "total_correlation", "kl_by_dimension"}
        line = "  " + "   ".join(f"{name} {value:.2f}" for name, value in row["terms"].items())
        assert all(text[text.index(line) - 1].split()[0] == f"{row['epoch']}/2" for text in (lines, log))
    assert "total_correlation" not in cli(*TRAIN, "--model", "beta-tcvae", "--epochs", 1).stderr


def test_weights_carry_the_config_in_their_header(runs: Path) -> None:
    with safe_open(runs / "run1" / "model.safetensors", framework="pt") as stored:
        assert json.loads(stored.metadata()["config"]) == read(runs / "run1" / "config.json")


def test_tensorboard_reads_the_contracts_tags(runs: Path) -> None:
    """The tutorial's tags, their validation twins and the three pictures, read by TensorBoard itself."""
    found = EventAccumulator(str(runs / "run1" / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    tags = found.Tags()
    wanted = {f"Loss/{split}{term}" for split in ("Train", "Validation") for term in ("", "/BCE", "/KLD")}
    assert set(tags["scalars"]) >= wanted | {"KL/beta", "GradNorm/Train"}
    assert set(tags["images"]) >= {"Reconstruction", "Samples", "Latent"}
    rows = [json.loads(line) for line in (runs / "run1" / "metrics.jsonl").read_text().splitlines()]
    steps = [json.loads(line) for line in (runs / "run1" / "steps.jsonl").read_text().splitlines()]
    for tag, key, expected in (
        ("Loss/Train", "loss", steps),
        ("Loss/Train/BCE", "recon", steps),
        ("Loss/Train/KLD", "kl", steps),
        ("KL/beta", "beta", steps),
        ("ELBO/Train", "elbo", rows),
    ):
        events = found.Scalars(tag)
        assert [event.step for event in events] == [row["step"] for row in expected], tag
        assert [event.value for event in events] == pytest.approx([row[key] for row in expected], rel=1e-5), tag


def test_two_equal_runs_are_bitwise_equal_and_another_seed_is_not(cli: Cli, runs: Path) -> None:
    """``train -c runs/run1/config.json`` repeats run1 bit for bit; ``--seed`` on top of it makes another run."""
    again = ok_json(cli, "train", "-c", runs / "run1" / "config.json")
    other = ok_json(cli, "train", "-c", runs / "run1" / "config.json", "--seed", 1)
    first = load_file(runs / "run1" / "model.safetensors")
    second = load_file(runs / again["run"] / "model.safetensors")
    third = load_file(runs / other["run"] / "model.safetensors")
    assert first.keys() == second.keys() == third.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], third[name]) for name in first)
    assert read(runs / again["run"] / "config.json") == read(runs / "run1" / "config.json")
    assert again["metrics"] == read(runs / "run1" / "run.json")["metrics"]


def test_dry_run_creates_nothing(cli: Cli, isolated: Path) -> None:
    """--dry-run shows config, sources, data and size in all three forms, and leaves no file or folder."""
    document = ok_json(cli, *TRAIN, "--dry-run")
    assert document.keys() >= {"config", "sources", "dataset", "parameters"}
    assert document["config"]["encoder"]["hidden_dims"] == [16]
    assert int(ok(cli, *TRAIN, "--dry-run", "-q")) == document["parameters"]
    text = ok(cli, *TRAIN, "--dry-run")
    for path in document["sources"]:
        assert path in text
    assert listing(isolated) == set()


@pytest.mark.parametrize("columns", ["80", ""])
def test_tables_in_a_pipe_are_not_padded(cli: Cli, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    """A line ends where its text ends; blanks to the width of the widest row would wrap where they are read."""
    monkeypatch.setenv("COLUMNS", columns)
    lines = ok(cli, *TRAIN, "--dry-run").splitlines()
    assert all(lines)
    assert [line for line in lines if line != line.rstrip()] == []


def resolved(cli: Cli, *arguments: object) -> tuple[dict[str, Any], dict[str, str]]:
    """The config, nested, and its sources by path, of a dry run."""
    document = ok_json(cli, "train", "--dry-run", *arguments)
    return document["config"], document["sources"]


FLAGS: dict[str, tuple[object, tuple[str, str], object]] = {
    "--validation-fraction": (0.25, ("data", "validation_fraction"), 0.25),
    "--latent-dim": (5, ("", "latent_dim"), 5),
    "--hidden-dims": ("24,12", ("encoder", "hidden_dims"), [24, 12]),
    "--posterior-scale": ("log-variance", ("posterior", "scale"), "log-variance"),
    "--beta": (2.5, ("objective", "beta"), 2.5),
    "--warmup-epochs": (3, ("objective", "warmup_epochs"), 3),
    "--epochs": (7, ("training", "epochs"), 7),
    "--batch-size": (32, ("training", "batch_size"), 32),
    "--lr": (0.01, ("training", "lr"), 0.01),
    "--weight-decay": (0.1, ("training", "weight_decay"), 0.1),
    "--grad-clip": (0, ("training", "grad_clip"), 0),
    "--precision": ("bf16", ("training", "precision"), "bf16"),
    "--patience": (2, ("training", "patience"), 2),
    "--log-every": (25, ("training", "log_every"), 25),
    "--on-nonfinite": ("rollback", ("training", "on_nonfinite"), "rollback"),
    "--seed": (3, ("training", "seed"), 3),
    "--model": ("beta-vae", ("", "model"), "beta-vae"),
    "--binarize": ("dynamic", ("data", "binarize"), "dynamic"),
    "--activation": ("tanh", ("decoder", "activation"), "tanh"),
    "--prior": ("mixture", ("prior", "name"), "mixture"),
    "--likelihood": ("laplace", ("likelihood", "name"), "laplace"),
    "--objective": ("iwae", ("objective", "name"), "iwae"),
    "--free-bits": (2, ("objective", "free_bits"), 2),
}


@pytest.mark.parametrize("flag", FLAGS)
def test_every_training_flag_changes_the_resolved_config(cli: Cli, flag: str) -> None:
    """Each flag changes its value in the config and its source to 'flag'."""
    given, (part, name), value = FLAGS[flag]
    plain, sources_before = resolved(cli, "--dataset", "digits")
    config, sources = resolved(cli, "--dataset", "digits", flag, given)

    def at(document: dict[str, Any]) -> Any:
        return (document[part] if part else document)[name]

    path = f"{part}.{name}".lstrip(".")
    assert at(plain) != value
    assert at(config) == value
    assert (sources_before[path], sources[path]) == ("default", "flag")


@pytest.mark.parametrize(
    "change",
    ["--binarize static", "--binarize dynamic", "--activation tanh", "--prior mixture", "--prior vamp",
     "--likelihood laplace", "--objective iwae", "--objective tc", "--objective capacity", "--objective kl-target",
     "--free-bits 2", "--beta-schedule cosine", "--beta-schedule sigmoid", "--beta-schedule cyclical"],
)  # fmt: skip
def test_a_flag_that_changes_the_model_or_its_loss_changes_what_is_learned(cli: Cli, change: str) -> None:
    """Two runs that differ in the flag alone, trained with one seed, reach different bounds on the test set."""
    # a target's objectives have another warm-up or none
    warmup = [] if change.startswith("--objective") else ["--warmup-epochs", 1]
    plain, changed = (ok_json(cli, *TRAIN, "--epochs", 3, *warmup, *extra) for extra in ([], change.split()))
    assert plain["metrics"]["recon"] != changed["metrics"]["recon"]


@pytest.mark.parametrize(("flag", "value"), [("--network", "mlp"), ("--likelihood", "bernoulli"), ("--model", "vae")])
def test_a_flag_that_repeats_the_default_is_recorded_as_a_flag(cli: Cli, flag: str, value: str) -> None:
    name = {"--network": "encoder.name", "--likelihood": "likelihood.name", "--model": "model"}[flag]
    assert resolved(cli, "--dataset", "digits", flag, value)[1][name] == "flag"


def test_hidden_dims_of_the_decoder_mirror_the_encoders(cli: Cli) -> None:
    config, _ = resolved(cli, "--dataset", "digits", "--hidden-dims", "48,24,12")
    assert config["encoder"]["hidden_dims"] == [48, 24, 12]
    assert config["decoder"]["hidden_dims"] == [12, 24, 48]


def test_beta_vae_is_a_vae_with_more_weight_on_the_kl(cli: Cli) -> None:
    """The recipe's beta is a default: a --beta beside --model wins."""
    assert resolved(cli, "--dataset", "digits", "--model", "beta-vae")[0]["objective"]["beta"] == 4
    config, _ = resolved(cli, "--dataset", "digits", "--model", "beta-vae", "--beta", 6)
    assert config["objective"]["beta"] == 6


CONFIG = {"beta": 2.5, "hidden_dims": [20, 10], "latent_dim": 4, "training": {"lr": 0.01}, "dataset": "digits"}
TOML = 'beta = 2.5\nhidden-dims = [20, 10]\nlatent_dim = 4\ndataset = "digits"\n[training]\nlr = 0.01\n'


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_config_file_sets_short_names_and_paths(cli: Cli, isolated: Path, suffix: str) -> None:
    """TOML and JSON say the same; keys are the flags' names (with dashes or underscores) or tables of parts."""
    file = isolated / f"settings{suffix}"
    file.write_text(TOML if suffix == ".toml" else json.dumps(CONFIG))
    config, sources = resolved(cli, "--config", file)
    assert config["objective"]["beta"] == 2.5
    assert config["encoder"]["hidden_dims"] == [20, 10]
    assert config["decoder"]["hidden_dims"] == [10, 20]
    assert config["latent_dim"] == 4
    assert config["training"]["lr"] == 0.01
    given = {"data.name", "objective.beta", "encoder.hidden_dims", "decoder.hidden_dims", "latent_dim", "training.lr"}
    assert {path for path, source in sources.items() if source == "config"} == given


def test_flags_win_over_config_over_from_over_defaults(cli: Cli, runs: Path, isolated: Path) -> None:
    """Precedence, layer by layer, and each value's source in run.json."""
    file = isolated / "settings.toml"
    file.write_text("beta = 3\nepochs = 2\nlr = 0.002\n")
    document = ok_json(cli, "train", "--from", "run2", "-c", file, "--epochs", 1, "--set", "training.lr=0.004")
    record = read(runs / document["run"] / "run.json")
    config, sources = record["config"], record["sources"]
    assert (config["training"]["epochs"], sources["training.epochs"]) == (1, "flag")
    assert (config["training"]["lr"], sources["training.lr"]) == (0.004, "flag")
    assert (config["objective"]["beta"], sources["objective.beta"]) == (3, "config")
    assert (config["latent_dim"], sources["latent_dim"]) == (3, "from")
    assert (config["data"]["name"], sources["data.name"]) == ("digits", "from")
    assert sources.keys() >= {"training.weight_decay", "prior.name"}
    assert resolved(cli, "--dataset", "digits")[1]["training.weight_decay"] == "default"


def test_from_takes_settings_but_no_weights(cli: Cli, runs: Path) -> None:
    """A run --from another repeats it: the same settings and seed give the same weights from scratch."""
    document = ok_json(cli, "train", "--from", "latest~1")
    first = load_file(runs / "run1" / "model.safetensors")
    second = load_file(runs / document["run"] / "model.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("assignment", "part", "name", "value"),
    [
        ("objective.beta=4", "objective", "beta", 4),
        ("beta=4", "objective", "beta", 4),
        ("encoder.hidden_dims=[12, 6]", "encoder", "hidden_dims", [12, 6]),
        ("decoder.hidden_dims=12,6", "decoder", "hidden_dims", [12, 6]),
        ("posterior.scale=log-variance", "posterior", "scale", "log-variance"),
        ("training.batch_size=64", "training", "batch_size", 64),
        ("batch-size=64", "training", "batch_size", 64),
    ],
)
def test_set_reaches_any_option_of_any_part(cli: Cli, assignment: str, part: str, name: str, value: object) -> None:
    config, sources = resolved(cli, "--dataset", "digits", "--set", assignment)
    assert config[part][name] == value
    assert sources[f"{part}.{name}"] == "flag"


def test_set_may_be_given_again(cli: Cli) -> None:
    config, _ = resolved(cli, "--dataset", "digits", "--set", "objective.beta=2", "--set", "objective.warmup_epochs=1")
    assert (config["objective"]["beta"], config["objective"]["warmup_epochs"]) == (2, 1)


def test_name_gives_the_run_its_id_and_numbers_go_on(cli: Cli, isolated: Path) -> None:
    """A named run is found by its name; the next unnamed one is one above the highest number so far."""
    assert ok(cli, *TRAIN, "--epochs", 1, "--name", "beta-0.5_x", "-q") == "beta-0.5_x\n"
    assert ok(cli, *TRAIN, "--epochs", 1, "--name", "run7", "-q") == "run7\n"
    assert ok(cli, *TRAIN, "--epochs", 1, "-q") == "run8\n"
    assert ok(cli, "runs", "beta-0.5_x", "-q") == "beta-0.5_x\n"
    assert {path.name for path in (isolated / "runs").iterdir()} == {"beta-0.5_x", "run7", "run8"}


def test_patience_stops_early(cli: Cli, isolated: Path) -> None:
    """Training ends ``patience`` epochs after the best one, and the best one's weights are the run's."""
    document = ok_json(cli, *TRAIN, "--epochs", 60, "--lr", 0.05, "--patience", 1)
    rows = [json.loads(line) for line in (isolated / "runs" / "run1" / "metrics.jsonl").read_text().splitlines()]
    assert document["status"] == "completed"
    assert len(rows) < 60
    assert document["best_epoch"] == len(rows) - 1
    elbos = [row["validation"]["elbo"] for row in rows]
    assert max(elbos) == elbos[document["best_epoch"] - 1]


def test_training_without_a_validation_split(cli: Cli, isolated: Path) -> None:
    """--validation-fraction 0 trains on everything; the last epoch is the best."""
    document = ok_json(cli, *TRAIN, "--epochs", 2, "--validation-fraction", 0)
    record = read(isolated / "runs" / "run1" / "run.json")
    assert record["dataset"]["sizes"] == {"train": 1497, "validation": 0, "test": 300}
    assert document["best_epoch"] == 2
    rows = [json.loads(line) for line in (isolated / "runs" / "run1" / "metrics.jsonl").read_text().splitlines()]
    assert [row["validation"] for row in rows] == [None, None]
    ok(cli, "runs", "run1")
    ok(cli, "eval", "run1")


def test_a_warm_up_that_cannot_finish_is_a_warning(cli: Cli) -> None:
    result = cli(*TRAIN, "--epochs", 2, "--warmup-epochs", 4, "--dry-run", "--json")
    assert result.exit_code == 0
    json.loads(result.stdout)
    assert any(line.startswith("warning:") and "--warmup-epochs" in line for line in result.stderr.splitlines())


def test_collapse_is_said_in_words(cli: Cli) -> None:
    """A run none of whose latent dimensions is active warns and names flags to try."""
    result = cli(*TRAIN, "--epochs", 1, "--beta", 1000)
    assert result.exit_code == 0
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning:")]
    assert any("collapse" in line for line in warnings)
    assert any("--beta" in line for line in warnings)


def test_divergence_exits_3_and_keeps_the_last_good_weights(cli: Cli, isolated: Path) -> None:
    """A loss that stops being finite ends the run as failed, names flags to try, and leaves what was good."""
    arguments = ("--epochs", 5, "--posterior-scale", "log-variance", "--lr", 30, "--grad-clip", 0)
    result = cli(*TRAIN, *arguments, "--json")
    assert result.exit_code == 3, result.output
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "diverged"
    assert "--lr" in error["hint"]
    # gradients were not clipped at all, so a lower limit is no advice
    assert "lower --grad-clip" not in error["hint"]
    record = read(isolated / "runs" / "run1" / "run.json")
    assert record["status"] == "failed"
    if record["best_epoch"] is not None:
        assert (isolated / "runs" / "run1" / "model.safetensors").is_file()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
def test_idx_files_in_the_data_directory_are_used_as_they_are(cli: Cli, isolated: Path, packed: bool) -> None:
    """IDX files with or without .gz are read where they lie, and nothing is added beside them."""
    folder = isolated / "data"
    write_mnist(folder, packed=packed)
    before = listing(folder)
    document = ok_json(cli, "train", "--dataset", "mnist", "--dry-run", "--hidden-dims", 8)
    assert document["dataset"]["shape"] == [1, 8, 8]
    assert document["dataset"]["sizes"] == {"train": 22, "validation": 2, "test": 12}
    assert listing(folder) == before


def test_auto_takes_mnist_where_it_is_and_says_so(cli: Cli, isolated: Path) -> None:
    """auto finds MNIST in --data-dir, says so on stderr, and the run's config names what auto came to."""
    folder = isolated / "elsewhere"
    write_mnist(folder)
    result = cli("train", "--data-dir", folder, "--epochs", 1, "--hidden-dims", 8, "--latent-dim", 2, "--json")
    assert result.exit_code == 0, result.output
    json.loads(result.stdout)
    assert "mnist" in result.stderr.lower()
    assert read(isolated / "runs" / "run1" / "config.json")["data"]["name"] == "mnist"
    # the run remembers where its data are
    assert ok_json(cli, "eval", "run1")["n"] == 12


def test_data_directory_of_the_environment(cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(isolated / "elsewhere")
    monkeypatch.setenv("VAECTL_DATA_DIR", str(isolated / "elsewhere"))
    document = ok_json(cli, "train", "--dataset", "mnist", "--dry-run", "--hidden-dims", 8)
    assert document["dataset"]["name"] == "mnist"


def test_a_data_set_with_a_single_test_image(cli: Cli, isolated: Path) -> None:
    """One test image has no standard error: null in JSON, and no reason to fail."""
    write_mnist(isolated / "data", mnist_files(test=1))
    document = ok_json(cli, "train", "--dataset", "mnist", "--epochs", 1, "--hidden-dims", 8, "--latent-dim", 2)
    assert document["status"] == "completed"
    assert document["metrics"]["elbo_se"] is None
    ok(cli, "eval", "run1")
    ok(cli, "runs")


# --- eval -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_eval_measures_every_split_and_checkpoint(cli: Cli, runs: Path, split: str, checkpoint: str) -> None:
    """The bound is the sum of its terms, on the whole split, and the result is kept in run.json."""
    document = ok_json(cli, "eval", "run1", "--split", split, "--checkpoint", checkpoint)
    metrics = document["metrics"]
    assert (document["run"], document["split"], document["checkpoint"]) == ("run1", split, checkpoint)
    assert document["n"] == {"train": 1372, "validation": 125, "test": 300}[split]
    assert metrics.keys() >= {"elbo", "elbo_se", "recon", "kl", "active_units"}
    assert metrics["elbo"] == pytest.approx(-(metrics["recon"] + metrics["kl"]))
    assert metrics["kl"] == pytest.approx(sum(document["kl_per_dim"]))
    kept = read(runs / "run1" / "run.json")["evaluations"]
    mine = [entry for entry in kept if (entry["split"], entry["checkpoint"]) == (split, checkpoint)]
    assert [entry["metrics"] for entry in mine] == [metrics]


def test_eval_agrees_with_training(cli: Cli, runs: Path) -> None:
    """The test metrics that train reported, and its validation ELBO, come out of eval again."""
    record = read(runs / "run1" / "run.json")
    assert ok_json(cli, "eval", "run1")["metrics"] == record["metrics"]
    again = ok_json(cli, "eval", "run1", "--split", "validation")["metrics"]["elbo"]
    assert again == pytest.approx(record["validation"]["elbo"], rel=1e-6)


def test_eval_seed_changes_only_what_is_sampled(cli: Cli, runs: Path) -> None:
    first, again, other = (ok_json(cli, "eval", "run1", "--seed", seed)["metrics"] for seed in (0, 0, 1))
    assert first == again
    assert first["elbo"] != other["elbo"]
    assert first["kl"] == other["kl"]
    assert len(read(runs / "run1" / "run.json")["evaluations"]) == 2


def test_eval_writes_what_it_prints(cli: Cli, runs: Path, isolated: Path) -> None:
    """-o holds the document of --json, and --force overwrites it."""
    file = isolated / "metrics.json"
    assert ok_json(cli, "eval", "run2", "-o", file) == read(file)
    ok(cli, "eval", "run2", "--split", "train", "-o", file, "--force")
    assert read(file)["split"] == "train"
    assert listing(isolated) - listing_of_runs(isolated) == {"metrics.json"}


def listing_of_runs(folder: Path) -> set[str]:
    return {name for name in listing(folder) if name.partition("/")[0] == "runs"}


# --- sample -----------------------------------------------------------------------------------------------------------


def arrays(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        found: np.ndarray = np.load(path)
        return found
    with np.load(path) as stored:
        return np.asarray(stored["images"])


def test_sample_writes_pictures_and_arrays_of_the_same_images(cli: Cli, runs: Path, isolated: Path) -> None:
    """.png, .npy and .npz hold the same images; -n is honoured in each."""
    for suffix in (".png", ".npy", ".npz"):
        document = ok_json(cli, "sample", "run1", "-n", 9, "-o", f"out{suffix}")
        assert (document["run"], document["path"], document["n"]) == ("run1", f"out{suffix}", 9)
    images = arrays(isolated / "out.npy")
    assert images.shape == (9, 1, 8, 8)
    assert images.dtype == np.float32
    assert 0 <= images.min() <= images.max() <= 1
    assert np.array_equal(images, arrays(isolated / "out.npz"))
    # the picture's tiles are the array's images, enlarged by a whole factor with a border between
    sheet = pixels(isolated / "out.png")
    side = (sheet.shape[0] - 2) // 3 - 2
    factor = side // 8
    assert sheet.shape == (3 * (side + 2) + 2, 3 * (side + 2) + 2, 3)
    for index, image in enumerate(images):
        y, x = (2 + (index // 3) * (side + 2)), (2 + (index % 3) * (side + 2))
        tile = sheet[y : y + side : factor, x : x + side : factor, 0]
        assert np.array_equal(tile, np.rint(image[0] * 255).astype(np.uint8))


def test_sample_follows_its_seed(cli: Cli, runs: Path, isolated: Path) -> None:
    """The same seed gives the same file, another seed other pixels, whatever ran before."""
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        ok(cli, "sample", "run1", "--seed", seed, "-o", f"{name}.png")
    a, b, c = ((isolated / f"{name}.png").read_bytes() for name in "abc")
    assert a == b
    assert not np.array_equal(pixels(isolated / "a.png"), pixels(isolated / "c.png"))
    assert c != a


def test_more_samples_of_a_seed_keep_the_array_shape(cli: Cli, runs: Path, isolated: Path) -> None:
    ok(cli, "sample", "run1", "-n", 2500, "-o", "many.npy")
    assert arrays(isolated / "many.npy").shape == (2500, 1, 8, 8)


@pytest.mark.parametrize(
    "change",
    [
        ("--temperature", 0.3),
        ("--columns", 4),
        ("--mode", "mode"),
        ("--mode", "draw"),
        ("--reconstruct",),
        ("--interpolate",),
        ("-n", 63),
        ("--checkpoint", "last"),
    ],
    ids=lambda change: " ".join(map(str, change)),
)
def test_every_flag_of_sample_changes_the_picture(cli: Cli, trained: Path, change: Sequence[object]) -> None:
    """No flag of sample is accepted and ignored."""
    folder = Path(shutil.copytree(trained, "runs"))
    if "last" in change:  # the fixture's last epoch may be its best one
        result = cli("train", *("--dataset", "digits", "--epochs", 40, "--lr", 0.05, "--hidden-dims", 8, "-q"))
        assert result.exit_code == 0, result.output
        record = read(folder / "run3" / "run.json")
        assert record["best_epoch"] < 40
    run = "run3" if "last" in change else "run1"
    ok(cli, "sample", run, "-o", "plain.png")
    ok(cli, "sample", run, "-o", "changed.png", *change)
    assert not np.array_equal(pixels("plain.png"), pixels("changed.png"))


def test_temperature_zero_is_the_priors_mean(cli: Cli, runs: Path, isolated: Path) -> None:
    ok(cli, "sample", "run1", "--temperature", 0, "-n", 5, "-o", "cold.npy")
    images = arrays(isolated / "cold.npy")
    assert np.allclose(images, images[:1])


def test_mode_draw_gives_binary_images_of_a_bernoulli(cli: Cli, runs: Path, isolated: Path) -> None:
    ok(cli, "sample", "run1", "--mode", "draw", "-n", 5, "-o", "drawn.npy")
    assert set(np.unique(arrays(isolated / "drawn.npy"))) == {0.0, 1.0}


def test_reconstructions_come_with_their_originals(cli: Cli, runs: Path, isolated: Path) -> None:
    """The .npz of --reconstruct pairs originals (test images, to the bit) with reconstructions and labels."""
    document = ok_json(cli, "sample", "run1", "--reconstruct", "-n", 10, "-o", "pairs.npz")
    assert document["n"] == 10
    with np.load(isolated / "pairs.npz") as stored:
        images, originals, labels = stored["images"], stored["originals"], stored["labels"]
    assert images.shape == originals.shape == (10, 1, 8, 8)
    assert labels.shape == (10,)
    assert set(np.rint(originals * 255).ravel()) <= set(np.rint(np.arange(17) * 255 / 16))
    assert not np.array_equal(images, originals)


def test_interpolations_have_as_many_steps_as_columns(cli: Cli, runs: Path, isolated: Path) -> None:
    document = ok_json(cli, "sample", "run1", "--interpolate", "-n", 12, "--columns", 6, "-o", "lines.npy")
    assert document["n"] == 12
    assert arrays(isolated / "lines.npy").shape == (12, 1, 8, 8)


def test_without_o_samples_are_numbered(cli: Cli, runs: Path) -> None:
    """The default is the next free number in the run's own folder; -q prints only the path."""
    for number in (1, 2):
        printed = ok(cli, "sample", "run1", "-n", 4, "-q")
        assert Path(printed.strip()).resolve() == (runs / "run1" / "samples" / f"{number:04d}.png").resolve()
    assert {path.name for path in (runs / "run1" / "samples").iterdir()} == {"0001.png", "0002.png"}
    (runs / "run1" / "samples" / "0041.png").touch()
    assert ok(cli, "sample", "run1", "-n", 4, "-q").strip().endswith("0042.png")


def test_force_overwrites(cli: Cli, runs: Path, isolated: Path) -> None:
    (isolated / "old.png").write_bytes(b"old")
    ok(cli, "sample", "run1", "-o", "old.png", "-f")
    assert (isolated / "old.png").read_bytes().startswith(MAGIC[".png"])


# --- embed ------------------------------------------------------------------------------------------------------------


def codes(path: Path) -> dict[str, np.ndarray]:
    """The codes of an embed file, as the arrays of the .npz."""
    if path.suffix == ".npz":
        with np.load(path) as stored:
            return dict(stored)
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            header, *rows = list(csv.reader(file))
        table = {name: np.array([float(row[i]) for row in rows]) for i, name in enumerate(header)}
    else:
        stored = parquet.read_table(path)
        table = {name: stored[name].to_numpy() for name in stored.column_names}
    stacked = {
        name: np.stack([table[f"{prefix}{i}"] for i in range(3)], axis=1)
        for name, prefix in (("z", "z"), ("scale", "scale"))
    }
    return {"label": table["label"], "row": table["row"], **stacked}


def test_embed_formats_agree(cli: Cli, runs: Path, isolated: Path) -> None:
    """.npz, .csv and .parquet hold the same codes, scales, labels and rows, to the bit."""
    for suffix in (".npz", ".csv", ".parquet"):
        document = ok_json(cli, "embed", "run2", "-o", f"codes{suffix}")
        assert (document["run"], document["n"], document["latent_dim"]) == ("run2", 300, 3)
    npz = codes(isolated / "codes.npz")
    assert npz["z"].shape == npz["scale"].shape == (300, 3)
    assert (npz["scale"] > 0).all()
    assert list(npz["row"]) == list(range(300))
    for suffix in (".csv", ".parquet"):
        other = codes(isolated / f"codes{suffix}")
        for name in npz:
            assert np.array_equal(npz[name], other[name].astype(npz[name].dtype)), (suffix, name)


def test_embed_is_deterministic_and_draw_follows_its_seed(cli: Cli, runs: Path, isolated: Path) -> None:
    """The posterior mean is the same at every call; --draw samples about it by the seed."""
    for name, flags in {
        "mean": (), "again": (), "draw": ("--draw",), "same": ("--draw", "--seed", 0), "other": ("--draw", "--seed", 1),
    }.items():  # fmt: skip
        ok(cli, "embed", "run1", "-o", f"{name}.npz", *flags)
    found = {name: codes(isolated / f"{name}.npz") for name in ("mean", "again", "draw", "same", "other")}
    assert (isolated / "mean.npz").read_bytes() == (isolated / "again.npz").read_bytes()
    assert np.array_equal(found["draw"]["z"], found["same"]["z"])
    assert not np.array_equal(found["mean"]["z"], found["draw"]["z"])
    assert not np.array_equal(found["draw"]["z"], found["other"]["z"])
    standard = (found["draw"]["z"] - found["mean"]["z"]) / found["mean"]["scale"]
    assert standard.std() == pytest.approx(1, abs=0.15)
    assert np.array_equal(found["mean"]["scale"], found["draw"]["scale"])


@pytest.mark.parametrize(("split", "n"), [("train", 1372), ("validation", 125), ("test", 300)])
def test_embed_takes_any_split(cli: Cli, runs: Path, isolated: Path, split: str, n: int) -> None:
    assert ok_json(cli, "embed", "run1", "--split", split, "-o", "codes.npz")["n"] == n
    rows = codes(isolated / "codes.npz")["row"]
    assert len(set(rows.tolist())) == n
    assert rows.max() < (300 if split == "test" else 1497)


def test_train_and_validation_rows_are_apart(cli: Cli, runs: Path, isolated: Path) -> None:
    rows = []
    for split in ("train", "validation"):
        ok(cli, "embed", "run1", "--split", split, "-o", f"{split}.npz")
        rows += codes(isolated / f"{split}.npz")["row"].tolist()
    assert sorted(rows) == list(range(1497))


def test_embed_takes_another_data_set_of_the_same_shape(cli: Cli, runs: Path, isolated: Path) -> None:
    """--dataset encodes other data with the run's model; the run's own name is the default."""
    folder = isolated / "elsewhere"
    write_mnist(folder)
    document = ok_json(cli, "embed", "run1", "--dataset", "mnist", "--data-dir", folder, "-o", "other.npz")
    assert document["n"] == 12
    ok(cli, "embed", "run1", "--dataset", "digits", "-o", "named.npz")
    ok(cli, "embed", "run1", "-o", "default.npz")
    assert (isolated / "named.npz").read_bytes() == (isolated / "default.npz").read_bytes()


def test_embed_without_o_numbers_its_files(cli: Cli, runs: Path) -> None:
    first, second = (Path(ok(cli, "embed", "run1", "-q").strip()) for _ in range(2))
    assert (first.name, second.name) == ("0001.npz", "0002.npz")
    assert first.is_file()


# --- plot-latent ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_plot_latent_writes_each_format(cli: Cli, runs: Path, isolated: Path, suffix: str) -> None:
    """The file is what its suffix says, whole, and the same at every call."""
    for name in ("plot", "again"):
        document = ok_json(cli, "plot-latent", "run1", "-n", 50, "-o", f"{name}{suffix}")
    assert document["kind"] == "scatter"
    assert document["n"] == 50
    content = (isolated / f"plot{suffix}").read_bytes()
    assert content.startswith(MAGIC[suffix])
    assert content == (isolated / f"again{suffix}").read_bytes()


@pytest.mark.parametrize("run", ["run1", "run2"])
@pytest.mark.parametrize("kind", ["scatter", "manifold", "traversal"])
def test_plot_latent_draws_each_kind_for_two_and_three_dimensions(cli: Cli, runs: Path, kind: str, run: str) -> None:
    document = ok_json(cli, "plot-latent", run, "--kind", kind, "-o", "plot.png")
    assert (document["run"], document["kind"], document["path"]) == (run, kind, "plot.png")
    picture = pixels("plot.png")
    assert picture.std() > 10
    if kind == "traversal":
        assert document["kl"] == sorted(document["kl"], reverse=True)


def test_more_than_two_dimensions_say_the_explained_variance(cli: Cli, runs: Path) -> None:
    """Three dimensions are projected by PCA, and text and JSON say how much of the variance is shown."""
    document = ok_json(cli, "plot-latent", "run2", "-o", "a.png")
    first, second = document["explained_variance"]
    assert 1 >= first >= second >= 0
    text = ok(cli, "plot-latent", "run2", "-o", "b.png")
    assert f"{first + second:.1%}" in text
    assert not ok_json(cli, "plot-latent", "run1", "-o", "c.png")["explained_variance"]


@pytest.mark.parametrize("kind", ["scatter", "manifold", "traversal"])
def test_dims_choose_what_is_drawn(cli: Cli, runs: Path, kind: str) -> None:
    """--dims changes the picture and is told back."""
    for name, dims in (("a", "0,1"), ("b", "2,1"), ("c", "2")):
        document = ok_json(cli, "plot-latent", "run2", "--kind", kind, "--dims", dims, "-o", f"{name}.png")
        if kind == "scatter":
            assert not document["explained_variance"]
            assert document["axes"][0] == f"z{dims[0]}"
        else:
            assert sorted(document["dims"]) == sorted(map(int, dims.split(",")))
    a, b, c = (pixels(f"{name}.png") for name in "abc")
    assert not np.array_equal(a, b)
    assert not np.array_equal(b, c)


def test_points_and_seed_change_their_pictures(cli: Cli, runs: Path) -> None:
    ok(cli, "plot-latent", "run1", "-n", 50, "-o", "a.png")
    ok(cli, "plot-latent", "run1", "-n", 200, "-o", "b.png")
    assert not np.array_equal(pixels("a.png"), pixels("b.png"))
    arguments = ("plot-latent", "run1", "--kind", "traversal")
    images = [ok_json(cli, *arguments, "--seed", seed, "-o", f"{seed}.png")["test_image"] for seed in (0, 1)]
    assert images[0] != images[1]
    assert not np.array_equal(pixels("0.png"), pixels("1.png"))


def test_a_one_dimensional_model(cli: Cli, isolated: Path) -> None:
    """One latent dimension trains, evaluates and plots in every kind."""
    ok(cli, "train", "--dataset", "digits", "--epochs", 1, "--hidden-dims", 8, "--latent-dim", 1)
    for kind in ("scatter", "manifold", "traversal"):
        ok(cli, "plot-latent", "run1", "--kind", kind, "-o", f"{kind}.png")
        assert pixels(isolated / f"{kind}.png").std() > 0
    assert len(ok_json(cli, "eval", "run1")["kl_per_dim"]) == 1


def test_plot_latent_without_o_numbers_its_files(cli: Cli, runs: Path) -> None:
    paths = [Path(ok(cli, "plot-latent", "run1", "-n", 20, "-q").strip()) for _ in range(2)]
    assert [path.name for path in paths] == ["0001.png", "0002.png"]
    assert paths[0].resolve().parent == (runs / "run1" / "plots").resolve()


# --- compare ----------------------------------------------------------------------------------------------------------


def test_the_two_fixture_runs_compare(cli: Cli, runs: Path) -> None:
    result = cli("compare", "run1", "run2", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["comparable"] is True


def test_compare_json_has_the_contracts_keys(cli: Cli, runs: Path) -> None:
    """Baseline, differing settings and metrics with paired differences whose signs and verdicts agree."""
    document = ok_json(cli, "compare", "run1", "run2")
    assert document.keys() >= {"baseline", "runs", "comparable", "reasons", "config_diff", "metrics"}
    assert (document["baseline"], document["runs"], document["reasons"]) == ("run1", ["run1", "run2"], [])
    expected = {"latent_dim": [2, 3], "objective.beta": [1, 4], "objective.warmup_epochs": [1, 0]}
    assert document["config_diff"] == expected
    metrics = {metric["name"]: metric for metric in document["metrics"]}
    for name, metric in metrics.items():
        assert metric.keys() >= {"name", "unit", "direction", "values", "delta", "delta_se", "verdict"}
        stored = [read(runs / run / "run.json")["metrics"][name] for run in ("run1", "run2")]
        assert metric["values"] == pytest.approx(stored)
        assert metric["delta"][0] is None
        assert metric["delta"][1] == pytest.approx(stored[1] - stored[0], abs=1e-4)
    sign = {"higher": 1, "lower": -1}
    for name in ("elbo", "recon"):
        delta, se = metrics[name]["delta"][1], metrics[name]["delta_se"][1]
        gain = delta * sign[metrics[name]["direction"]]
        expected_verdict = "≈" if abs(delta) <= 2 * se else "better" if gain > 0 else "worse"
        assert metrics[name]["verdict"][1] == expected_verdict
    assert metrics["kl"]["direction"] is None
    assert metrics["kl"]["verdict"] == [None, None]


def test_compare_text_shows_differences_only_unless_all(cli: Cli, runs: Path) -> None:
    """The text names what differs; --all adds the settings that are the same."""
    text = ok(cli, "compare", "run1", "run2")
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("  ")}
    assert [float(cell) for cell in rows["beta"][:2]] == [1, 4]
    assert rows["latent_dim"][:2] == ["2", "3"]
    assert "batch_size" not in rows
    assert re.search(r"\b3 of \d+ differ", text)
    assert "↑" in text
    assert "↓" in text
    assert any(word in text for word in ("better", "worse", "≈"))
    assert "batch_size" in ok(cli, "compare", "run1", "run2", "--all")


def test_compare_of_a_run_with_its_equal_says_nearly_equal(cli: Cli, runs: Path) -> None:
    """Two equal runs differ in no setting and no metric is better or worse."""
    shutil.copytree(runs / "run1", runs / "run3")
    document = ok_json(cli, "compare", "run1", "run3")
    assert document["config_diff"] == {}
    verdicts = {metric["name"]: metric["verdict"][1] for metric in document["metrics"]}
    assert verdicts["elbo"] == verdicts["recon"] == verdicts["active_units"] == "≈"


def test_the_first_run_is_the_baseline_of_three(cli: Cli, runs: Path) -> None:
    shutil.copytree(runs / "run1", runs / "run3")
    document = ok_json(cli, "compare", "run2", "run1", "run3")
    assert document["baseline"] == "run2"
    elbo = document["metrics"][0]
    assert elbo["delta"][0] is None
    assert elbo["delta"][1] == elbo["delta"][2] == pytest.approx(elbo["values"][1] - elbo["values"][0], abs=1e-4)
    assert len(ok(cli, "compare", "run2", "run1", "run3", "-q").split()) == 3


@pytest.mark.parametrize("suffix", [".html", ".png", ".md", ".json"])
def test_compare_writes_a_report(cli: Cli, runs: Path, isolated: Path, suffix: str) -> None:
    """Each format holds what it should: pictures in .html and .png, tables in .html and .md, the document in .json."""
    document = ok_json(cli, "compare", "run1", "run2", "-o", f"report{suffix}")
    content = (isolated / f"report{suffix}").read_bytes()
    if suffix == ".json":
        assert json.loads(content) == document
    elif suffix == ".png":
        assert content.startswith(MAGIC[".png"])
        assert pixels(isolated / "report.png").std() > 10
    else:
        text = content.decode("utf-8")
        assert "latent_dim" in text
        assert "run1" in text
        assert "run2" in text
        assert ("data:image/svg+xml;base64," in text) == (suffix == ".html")
    assert listing(isolated) - listing_of_runs(isolated) == {f"report{suffix}"}


def test_the_seed_of_a_report_changes_its_pictures(cli: Cli, runs: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        ok(cli, "compare", "run1", "run2", "-o", f"{name}.png", "--seed", seed)
    assert np.array_equal(pixels("a.png"), pixels("b.png"))
    assert not np.array_equal(pixels("a.png"), pixels("c.png"))


def test_verdicts_are_withheld_with_the_reason_when_the_data_differ(cli: Cli, runs: Path, isolated: Path) -> None:
    """A run on other data is shown beside, but nothing is called better or worse, and why is said."""
    folder = isolated / "elsewhere"
    write_mnist(folder, mnist_files(test=300))
    arguments = ("--epochs", 1, "--hidden-dims", 8, "--latent-dim", 2, "--name", "noise")
    ok(cli, "train", "--dataset", "mnist", "--data-dir", folder, *arguments)
    document = ok_json(cli, "compare", "run1", "noise")
    assert document["comparable"] is False
    assert any("run1" in reason and "noise" in reason for reason in document["reasons"])
    assert all(verdict is None for metric in document["metrics"] for verdict in metric["verdict"])
    assert all(None not in metric["values"] for metric in document["metrics"])
    text = ok(cli, "compare", "run1", "noise")
    assert document["reasons"][0] in text
    assert "better" not in text
    assert "worse" not in text
    ok(cli, "compare", "run1", "noise", "-o", "report.html")
    assert document["reasons"][0] in (isolated / "report.html").read_text(encoding="utf-8")


def test_compare_evaluates_a_run_that_has_not_been(cli: Cli, runs: Path) -> None:
    """A run without a kept evaluation (an interrupted one, say) is evaluated, and the result kept."""
    record = read(runs / "run1" / "run.json")
    expected = record["metrics"]["elbo"]
    (runs / "run1" / "run.json").write_text(json.dumps(record | {"evaluations": [], "metrics": {}}))
    document = ok_json(cli, "compare", "run1", "run2")
    assert document["metrics"][0]["values"][0] == pytest.approx(expected)
    assert read(runs / "run1" / "run.json")["evaluations"]


# --- runs -------------------------------------------------------------------------------------------------------------


def ids(cli: Cli, *arguments: object) -> list[str]:
    """The ids that ``vaectl runs`` lists, by --json, piped text and -q, which must agree."""
    found = [row["id"] for row in ok_json(cli, "runs", *arguments)]
    lines = ok(cli, "runs", *arguments).splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == found
    assert ok(cli, "runs", *arguments, "-q").split() == found
    return found


def test_runs_piped_is_tab_separated(cli: Cli, runs: Path) -> None:
    """Piped, the list is a header and one line a run, of as many tab-separated cells."""
    header, *lines = ok(cli, "runs").splitlines()
    assert header.split("\t")[:2] == ["id", "status"]
    assert len(lines) == 2
    assert all(line.count("\t") == header.count("\t") for line in lines)
    assert lines[0].split("\t")[:4] == ["run1", "completed", "digits", "vae"]


def test_runs_json_is_an_array(cli: Cli, runs: Path) -> None:
    rows = ok_json(cli, "runs")
    assert [row["id"] for row in rows] == ["run1", "run2"]
    assert rows[1]["beta"] == 4
    assert rows[1]["latent_dim"] == 3
    assert rows[0]["test_elbo"] == read(runs / "run1" / "run.json")["metrics"]["elbo"]


@pytest.mark.parametrize("arguments", [(), ("--json",), ("-q",)])
def test_no_runs_is_no_error(cli: Cli, arguments: Sequence[str]) -> None:
    """An empty list: an empty array, or nothing on stdout."""
    text = ok(cli, "runs", *arguments)
    assert json.loads(text) == [] if "--json" in arguments else text == ""


def test_runs_sort_and_limit(cli: Cli, runs: Path) -> None:
    """--sort orders, --limit keeps the newest or the best, --all shows what the default hides."""
    for number in range(3, 26):
        shutil.copytree(runs / "run1", runs / f"run{number}")
    path = runs / "run9" / "run.json"
    record = read(path)
    record["validation"]["elbo"] = -1.0
    record["finished"] = record["started"]
    path.write_text(json.dumps(record))
    everything = ids(cli, "--all")
    assert everything == [f"run{number}" for number in range(1, 26)]
    assert ids(cli) == everything[-20:]
    assert ids(cli, "--limit", 3) == ["run23", "run24", "run25"]
    assert ids(cli, "--limit", 1000) == everything
    assert ids(cli, "--sort", "id", "--all") == everything
    assert ids(cli, "--sort", "elbo", "--limit", 1) == ["run9"]
    elbos = [row["val_elbo"] for row in ok_json(cli, "runs", "--sort", "elbo", "--all")]
    assert elbos == sorted(elbos, reverse=True)
    seconds = [row["seconds"] for row in ok_json(cli, "runs", "--sort", "time", "--all")]
    assert seconds == sorted(seconds)
    assert "5 more" in cli("runs").stderr


def test_runs_shows_one_run(cli: Cli, runs: Path) -> None:
    """One run: its record as JSON, its settings in text, its id under -q."""
    document = ok_json(cli, "runs", "run2")
    assert document.keys() >= RUN_KEYS
    assert document["id"] == "run2"
    text = ok(cli, "runs", "run2")
    for part in ("run2", "completed", "objective.beta", "digits"):
        assert part in text
    assert ok(cli, "runs", "run2", "-q") == "run2\n"


@pytest.mark.parametrize("reference", ["run1", "1", "latest~1", "runs/run1", "./runs/run1", "runs/run1/", "{absolute}"])
def test_a_run_is_an_id_a_number_a_path_or_latest(cli: Cli, runs: Path, reference: str) -> None:
    """Every form of a reference names the same run, on commands that read and that compute."""
    reference = reference.format(absolute=runs / "run1")
    assert ok(cli, "runs", reference, "-q") == "run1\n"
    assert ok_json(cli, "eval", reference)["run"] == "run1"
    assert ok_json(cli, "compare", "latest", reference)["runs"] == ["run2", "run1"]


def test_latest_is_the_run_that_started_last(cli: Cli, runs: Path) -> None:
    """latest goes by the start, not by the name; latest~0 is latest."""
    record = read(runs / "run1" / "run.json")
    shutil.copytree(runs / "run1", runs / "aaa")
    (runs / "aaa" / "run.json").write_text(json.dumps(record | {"id": "aaa", "started": "2999-01-01T00:00:00+00:00"}))
    assert ok(cli, "runs", "latest", "-q") == ok(cli, "runs", "latest~0", "-q") == "aaa\n"
    assert ok(cli, "runs", "latest~2", "-q") == "run1\n"


def test_latest_of_runs_that_started_in_one_second(cli: Cli, runs: Path) -> None:
    """Of runs that started at the same time the higher number is the later one, whatever was done to them since."""
    started = read(runs / "run1" / "run.json")["started"]
    for run in ("run2", "run1"):  # run1 is written last
        record = read(runs / run / "run.json")
        (runs / run / "run.json").write_text(json.dumps(record | {"started": started}))
        ok(cli, "eval", run)
    assert ok(cli, "runs", "latest", "-q") == "run2\n"
    assert ok(cli, "runs", "latest~1", "-q") == "run1\n"


def test_no_prefix_of_an_id_is_taken_for_it(cli: Cli, runs: Path) -> None:
    (runs / "run1").rename(runs / "run10")
    assert cli("runs", "run1").exit_code == 1
    assert ok(cli, "runs", "run10", "-q") == "run10\n"


def test_a_run_whose_process_died_is_crashed(cli: Cli, runs: Path) -> None:
    """A run.json that says running, with no process behind it, is shown as crashed."""
    path = runs / "run1" / "run.json"
    path.write_text(json.dumps(read(path) | {"status": "running", "finished": None}))
    assert ok_json(cli, "runs")[0]["status"] == "crashed"
    assert ok_json(cli, "runs", "run1")["status"] == "crashed"


def test_a_damaged_run_does_not_hide_the_others(cli: Cli, runs: Path) -> None:
    (runs / "run1" / "run.json").write_text("{")
    rows = ok_json(cli, "runs")
    assert {row["id"]: row["status"] for row in rows} == {"run1": "damaged", "run2": "completed"}


def test_runs_dir_may_be_anywhere(cli: Cli, runs: Path, isolated: Path) -> None:
    """--runs-dir names another folder, for reading and for new runs."""
    runs.rename(isolated / "others")
    assert ok(cli, "--runs-dir", "others", "runs", "-q").split() == ["run1", "run2"]
    assert ok(cli, "--runs-dir", "deep/er", *TRAIN, "--epochs", 1, "-q") == "run1\n"
    assert (isolated / "deep" / "er" / "run1" / "run.json").is_file()
    assert not (isolated / "runs").exists()
