"""``vaectl score``: its table, JSON, files, maps, thresholds and refusals."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPOSITORY, Cli
from tests.support.own import folder, pictures
from tests.support.refusals import refuse, snapshot
from vaectl.evaluation.anomaly.names import SCORES


def document(cli: Cli, *arguments: object) -> dict[str, Any]:
    result = cli("score", *arguments, "--json")
    assert result.exit_code == 0, result.output
    out: dict[str, Any] = json.loads(result.stdout)
    return out


def train(cli: Cli, *arguments: object) -> None:
    result = cli("train", *arguments, "--epochs", "5", "-q")
    assert result.exit_code == 0, result.output


def noisy(place: Path, n: int = 60, spoiled: int = 15) -> None:
    """Digits of which the first are noise, labelled 1."""
    from sklearn.datasets import load_digits

    images = (load_digits().images[:n] / 16 * 255).astype(np.uint8)
    images[:spoiled] = np.random.default_rng(0).integers(0, 256, (spoiled, 8, 8))
    np.savez(place / "noisy.npz", x=images, y=(np.arange(n) < spoiled).astype(np.int64))


def test_the_runs_own_test_split(cli: Cli, runs: Path) -> None:
    before = snapshot(runs)
    result = cli("score", "run1", "-n", "3")
    assert result.exit_code == 0, result.output
    title, header, *rows = result.stdout.splitlines()
    assert title.startswith("run1  digits, test, 300 examples  score ")
    assert header.split() == ["rank", "row", "score", "p-value", "label"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    scores = [float(row.split()[2]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert snapshot(runs) == before
    outcome = document(cli, "run1", "--score", "elbo")
    own = json.loads(cli("eval", "run1", "--json").stdout)["metrics"]
    assert outcome["scores"]["elbo"]["mean"] == pytest.approx(-own["elbo"], abs=4 * own["elbo_se"])
    assert outcome["calibration"] == {"split": "validation", "n": 125}
    assert len(outcome["examples"]) == 10
    assert outcome["threshold"] is outcome["detection"] is outcome["misled"] is None
    assert document(cli, "run1", "--score", "elbo")["examples"] == outcome["examples"]
    assert document(cli, "run1", "--score", "elbo", "--seed", "1")["examples"] != outcome["examples"]


def test_every_score_finds_noise(cli: Cli, runs: Path, isolated: Path) -> None:
    """elbo, bound and recon find noise for certain; with labels 0 and 1, 1 is the anomaly."""
    noisy(isolated)
    outcome = document(cli, "run1", "noisy.npz", "--score", "all", "--anomaly", "1", "-o", "s.csv")
    assert list(outcome["detection"]) == list(outcome["scores"]) == list(SCORES)
    assert outcome["anomalies"] == ["1"]
    for name in ("elbo", "bound", "recon"):
        row = outcome["detection"][name]
        assert row["auroc"] > 0.95
        assert row["auroc_low"] <= row["auroc"] <= row["auroc_high"] <= 1
        assert row["share"] == 0.25
    assert outcome["scores"]["elbo"]["mean"] > outcome["scores"]["elbo"]["normal_mean"]
    text = cli("score", "run1", "noisy.npz", "--score", "all", "--anomaly", "1").stdout
    assert "AUROC" in text
    assert "average precision" in text
    rows = list(csv.DictReader((isolated / "s.csv").read_text().splitlines()))
    assert len(rows) == 60
    assert {*rows[0]} == {"row", "label"} | {f"{kind}_{name}" for kind in ("score", "p") for name in SCORES}
    top = max(rows, key=lambda row: float(row["score_elbo"]))
    assert int(top["row"]) < 15
    assert float(top["p_elbo"]) == pytest.approx(1 / 126)


def test_classes_that_the_run_did_not_see_are_anomalies(cli: Cli, isolated: Path) -> None:
    shade = np.arange(64, dtype=np.uint8).reshape(8, 8)
    random = np.random.default_rng(0)
    for name, image in {"good": shade, "bad": 255 - shade}.items():
        images = np.clip(image + random.integers(0, 9, (40, 8, 8)), 0, 255).astype(np.uint8)
        folder(isolated / "all" / name, images)
        if name == "good":
            folder(isolated / "normal" / name, images)
    train(cli, "--dataset", "normal", "--hidden-dims", "16", "--latent-dim", "2", "--validation-fraction", "0.5")
    outcome = document(cli, "run1", "all", "--score", "recon", "--threshold", "fpr=0.1", "-o", "s.parquet")
    assert outcome["anomalies"] == ["bad"]
    assert outcome["detection"]["recon"]["auroc"] == 1
    assert outcome["threshold"]["flagged"] >= 40
    assert outcome["threshold"]["expected"] == pytest.approx(8)
    assert outcome["examples"][0]["file"].startswith("bad/")
    assert outcome["examples"][0]["class"] == "bad"
    assert "bad/" in cli("score", "run1", "all").stdout


def test_thresholds(cli: Cli, runs: Path) -> None:
    rate = document(cli, "run1", "--threshold", "fpr=0.1", "-n", 300)
    assert rate["threshold"]["rule"] == "p <= 0.1"
    assert rate["threshold"]["flagged"] == sum(row["p"] <= 0.1 for row in rate["examples"])
    assert [row["flagged"] for row in rate["examples"]] == [row["p"] <= 0.1 for row in rate["examples"]]
    # of 300 normal rows about 30, with 125 to calibrate on: a standard deviation of 10
    assert 0 < rate["threshold"]["flagged"] < 70
    middle = rate["examples"][150]["score"]
    above = document(cli, "run1", "--threshold", repr(middle))
    assert above["threshold"]["flagged"] == 150
    assert above["threshold"]["expected"] is None
    assert cli("score", "run1", "--threshold", repr(middle), "-q").stdout == "150\n"
    assert "150 of 300 examples flagged, score > " in cli("score", "run1", "--threshold", repr(middle)).stdout
    assert float(cli("score", "run1", "-q").stdout) == pytest.approx(above["scores"][above["score"]]["mean"], abs=1e-3)


def test_maps_of_digits(cli: Cli, runs: Path, isolated: Path) -> None:
    """One picture for each of the most unusual examples, three panels wide; with a threshold for each flagged one."""
    outcome = document(cli, "run1", "--maps", "out", "-n", 4)
    assert outcome["maps"] == [f"out/{number:04}.png" for number in range(1, 5)]
    for name in outcome["maps"]:
        with Image.open(isolated / name) as picture:
            assert 900 < picture.width < 1200
            assert 300 < picture.height < 700
    refuse(cli, ["score", "run1", "--maps", "out"], 1, ["--maps out", "holds files"], "--force", kind="output")
    flagged = document(cli, "run1", "--maps", "out", "-f", "--threshold", "fpr=0.02")
    assert len(flagged["maps"]) == flagged["threshold"]["flagged"]
    first = (isolated / "out" / "0001.png").read_bytes()
    document(cli, "run1", "--maps", "out", "-f", "--threshold", "fpr=0.02")
    assert (isolated / "out" / "0001.png").read_bytes() == first
    nothing = document(cli, "run1", "--maps", "none", "--threshold", "1e9")
    assert nothing["maps"] == []


def test_colours_have_maps(cli: Cli, isolated: Path) -> None:
    folder(isolated / "rgb", pictures(40, (8, 8)))
    train(cli, "--dataset", "rgb", "--hidden-dims", "8")
    outcome = document(cli, "run1", "rgb/000.png", "--maps", "out", "-o", "s.npz")
    assert outcome["n"] == len(outcome["maps"]) == 1
    assert outcome["misled"] is None
    with np.load(isolated / "s.npz") as values:
        assert values["file"].tolist() == ["000.png"]
        assert values["score_elbo"].shape == (1,)


def test_a_tables_columns_have_contributions_and_bars(cli: Cli, isolated: Path) -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((200, 3)) * (1, 100, 0.01)
    lines = ["a,b,c", *(",".join(f"{v:.6g}" for v in row) for row in values)]
    (isolated / "t.csv").write_text("\n".join(lines) + "\n")
    values[7, 1] = 5000
    lines = ["a,b,c", *(",".join(f"{v:.6g}" for v in row) for row in values[:20])]
    (isolated / "new.csv").write_text("\n".join(lines) + "\n")
    train(cli, "--dataset", "t.csv", "--likelihood", "gaussian", "--hidden-dims", "8", "--latent-dim", "1")
    outcome = document(cli, "run1", "new.csv", "-o", "s.csv", "--maps", "bars", "-n", 2, "--score", "recon")
    assert outcome["examples"][0]["row"] == 7
    rows = list(csv.DictReader((isolated / "s.csv").read_text().splitlines()))
    own = {name: float(rows[7][f"contribution_{name}"]) for name in "abc"}
    assert max(own, key=lambda name: own[name]) == "b"
    assert [Path(name).exists() for name in outcome["maps"]] == [True, True]


def test_codes_are_scored_without_distances(cli: Cli, isolated: Path) -> None:
    train(cli, "--model", "vq-vae", "--dataset", "digits", "--prior-epochs", 0)
    outcome = document(cli, "run1", "--score", "all", "--maps", "out", "-n", 1)
    assert list(outcome["scores"]) == ["elbo", "recon", "kl"]
    assert {*outcome["unavailable"]} == {"bound", "distance", "regret"}
    refuse(cli, ["score", "run1", "--score", "regret"], 2, ["no score regret", "codes"], "elbo, recon, kl")
    assert "no score regret: its latents are codes" in cli("score", "run1", "--score", "all").stderr


def test_simpler_data_are_warned_of(cli: Cli, runs: Path, isolated: Path) -> None:
    """The typical pixels of all digits make an image that none of them is: its bound is higher than theirs."""
    from sklearn.datasets import load_digits

    simple = np.where(load_digits().images.mean(0) > 8, np.uint8(255), np.uint8(0))
    np.save(isolated / "simple.npy", np.repeat(simple[None], 50, 0))
    result = cli("score", "run1", "simple.npy", "--score", "elbo")
    assert "warning: these examples have a higher bound on average than the validation split of run1" in result.stderr
    outcome = document(cli, "run1", "simple.npy", "--score", "elbo")
    assert outcome["misled"]["excess"] > 3 * outcome["misled"]["se"]
    assert outcome["misled"]["instead"] == ["regret"]
    assert "warning" not in cli("score", "run1").stderr


def test_without_validation_examples(cli: Cli, isolated: Path) -> None:
    train(cli, "--dataset", "digits", "--hidden-dims", "8", "--validation-fraction", "0")
    np.save(isolated / "black.npy", np.zeros((9, 8, 8), np.uint8))
    result = cli("score", "run1", "black.npy", "--threshold", "fpr=0.01")
    assert result.exit_code == 0
    assert "p-values come from the test split" in result.stderr
    assert document(cli, "run1", "black.npy")["calibration"] == {"split": "test", "n": 300}
    own = cli("score", "run1")
    assert "no p-values" in own.stderr
    assert "p-value" not in own.stdout
    refuse(cli, ["score", "run1", "--threshold", "fpr=0.1"], 1, ["fpr=0.1", "none left"], "--validation-fraction")


def test_a_run_whose_data_are_gone_still_scores(cli: Cli, isolated: Path) -> None:
    np.save(isolated / "mine.npy", pictures(40, (8, 8), channels=1))
    train(cli, "--dataset", "mine.npy", "--hidden-dims", "8")
    (isolated / "mine.npy").rename(isolated / "new.npy")
    result = cli("score", "run1", "new.npy", "--score", "all", "--json")
    assert result.exit_code == 0, result.output
    assert "warning: no p-values" in result.stderr
    assert {*json.loads(result.stdout)["unavailable"]} == {"distance"}
    refuse(cli, ["score", "run1", "new.npy", "--threshold", "fpr=0.1"], 1, ["mine.npy"], kind="data")


@pytest.mark.parametrize(
    ("arguments", "code", "texts"),
    [
        (["--score", "likelihood"], 2, ["--score", "likelihood", "elbo"]),
        (["--threshold", "fpr=0"], 2, ["--threshold", "fpr=0", "between 0 and 1"]),
        (["--threshold", "fpr=x"], 2, ["--threshold", "'fpr=x'"]),
        (["--threshold", "p=0.1"], 2, ["--threshold", "'p=0.1'"]),
        (["--threshold", "nan"], 2, ["--threshold", "'nan'"]),
        (["--threshold", "fpr=0.001"], 1, ["at least 999 calibration examples", "has 125"]),
        (["--anomaly", "12"], 2, ["--anomaly 12"]),
        (["five.csv"], 1, ["five.csv"]),
        (["empty"], 1, ["empty"]),
        (["gone.npy"], 1, ["gone.npy does not exist"]),
        (["-o", "s.txt"], 2, ["s.txt", ".txt"]),
        (["--maps", "wide.npy"], 1, ["--maps wide.npy", "is a file"]),
        (["--maps", "a/b"], 1, ["--maps a/b", "does not exist"]),
        (["-f"], 2, ["--force"]),
        (["mnits"], 2, ["mnits"]),
    ],
)
def test_what_cannot_be_scored(cli: Cli, runs: Path, isolated: Path, arguments: list[str], code: int, texts: list[str]) -> None:  # fmt: skip # noqa: E501
    np.save(isolated / "wide.npy", np.zeros((9, 8, 9), np.uint8))
    (isolated / "five.csv").write_text("a,b,c,d,e\n" + "0.1,0.2,0.3,0.4,0.5\n" * 9)
    (isolated / "empty").mkdir()
    refuse(cli, ["score", "run1", *arguments], code, texts)


@pytest.mark.slow  # reconstruct tests the same in the usual suite
def test_an_image_from_standard_input(runs: Path, isolated: Path) -> None:
    folder(isolated / "one", pictures(1, (16, 16), channels=1))
    piped = (isolated / "one" / "000.png").read_bytes()
    command = [sys.executable, "-m", "vaectl", "score", "run1", "-", "--json", "--maps", "out"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(command, input=piped, capture_output=True, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout)
    assert (outcome["n"], outcome["calibration"]["split"], len(outcome["maps"])) == (1, "validation", 1)
