"""A person's own data brought to the form of a run's: grey or colour, resized, inverted, bytes, and said."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import Cli
from tests.support.marks import some
from tests.support.refusals import refuse
from vaectl.runs.preparing import load_other
from vaectl.runs.run import Run
from vaectl.training.events import Said


def prepared(run: str, path: Path | str) -> tuple[np.ndarray, list[str]]:
    """All examples at a path as a run's model sees them (N, C, H, W), and what is said."""
    notes: list[str] = []
    data = load_other(
        Run.open(run), str(path), None,
        lambda event: notes.append(event.sentence) if isinstance(event, Said) and event.kind == "note" else None,
        divided=False,
    )  # fmt: skip
    return data.train.batch(slice(None)).x.numpy(), notes


def digit(n: int = 0) -> np.ndarray:
    """A digit as the runs have it, uint8 (8, 8), light on dark."""
    from sklearn.datasets import load_digits

    return (load_digits().images[n] / 16 * 255).astype(np.uint8)


def test_a_drawing_in_colour_dark_on_light_becomes_a_digit(runs: Path, isolated: Path) -> None:
    drawn = 255 - digit()
    Image.fromarray(np.stack([drawn] * 3, -1)).resize((80, 80), Image.Resampling.NEAREST).save(isolated / "seven.png")
    x, notes = prepared("run1", isolated / "seven.png")
    assert x.shape == (1, 1, 8, 8)
    # resizing with antialiasing smooths it
    assert np.corrcoef(x.ravel(), digit().ravel())[0, 1] > 0.9
    said = "seven.png: prepared for run1: uint8 / 255, in grey, resized to 8 x 8, inverted"
    assert any(note.startswith(said) and "background is light" in note for note in notes), notes


def test_images_of_the_runs_form_stay_as_they_are(runs: Path, isolated: Path) -> None:
    np.save(isolated / "x.npy", np.stack([digit(n) for n in range(9)]))
    x, notes = prepared("run1", isolated / "x.npy")
    assert np.array_equal((x[:, 0] * 255).round().astype(np.uint8), np.load(isolated / "x.npy"))
    assert not any("prepared" in note for note in notes), notes


@pytest.mark.parametrize("form", ["rows", "16 bits", "unit", "csv", "transparent", "folder of sizes"])
def test_other_forms_of_the_same_images(runs: Path, isolated: Path, form: str) -> None:
    images = np.stack([digit(n) for n in range(9)])
    if form == "rows":
        np.save(isolated / "x.npy", images.reshape(9, 64))
    elif form == "16 bits":
        np.save(isolated / "x.npy", images.astype(np.uint16) * 257)
    elif form == "unit":
        np.save(isolated / "x.npy", images / np.float32(255))
    elif form == "csv":
        np.savetxt(isolated / "x.csv", images.reshape(9, 64), "%d", ",")
    else:
        (isolated / "x").mkdir()
        for number, image in enumerate(images):
            if form == "transparent":
                picture = Image.fromarray(np.stack([image] * 3 + [np.full((8, 8), 255, np.uint8)], -1))
            else:
                picture = Image.fromarray(image).resize((8 * (number + 1),) * 2, Image.Resampling.NEAREST)
            picture.save(isolated / "x" / f"{number}.png")
    path = next(path for path in isolated.iterdir() if path.stem == "x")
    x, _ = prepared("run1", path)
    assert x.shape == (9, 1, 8, 8)
    if form == "folder of sizes":
        assert all(np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9 for one, other in zip(x, images, strict=True))
    else:
        assert np.abs(x[:, 0] * 255 - images).max() <= 1.01


def test_grey_images_for_a_model_of_colours(cli: Cli, isolated: Path) -> None:
    np.save(isolated / "rgb.npy", np.random.RandomState(0).randint(0, 256, (40, 6, 6, 3), np.uint8))
    common = ["--dataset", "rgb.npy", "--likelihood", "gaussian", "--latent-dim", 2, "--hidden-dims", 8, "--epochs", 1]
    assert cli("train", *common, "-q").exit_code == 0
    grey = np.random.RandomState(1).randint(0, 256, (5, 12, 12), np.uint8)
    np.save(isolated / "grey.npy", grey)
    x, notes = prepared("run1", isolated / "grey.npy")
    assert x.shape == (5, 3, 6, 6)
    assert np.array_equal(x[:, 0], x[:, 2])
    assert any("in colour" in note or "3 channels" in note or "colour" in note for note in notes), notes


def test_a_model_of_zeros_and_ones_gets_them(cli: Cli, isolated: Path) -> None:
    np.save(isolated / "b.npy", np.random.RandomState(0).rand(60, 6, 6) > 0.5)
    common = ["--dataset", "b.npy", "--latent-dim", 2, "--hidden-dims", 8, "--epochs", 1]
    assert cli("train", *common, "-q").exit_code == 0
    grey = np.random.RandomState(1).randint(0, 256, (5, 6, 6), np.uint8)
    np.save(isolated / "grey.npy", grey)
    for storage in ("resident", "stream"):
        x, notes = prepared("run1", isolated / "grey.npy")
        assert np.array_equal(x[:, 0], grey >= 128), storage
        assert any("1 from one half on, else 0" in note for note in notes), notes


def test_columns_in_another_order_are_found_by_name(cli: Cli, isolated: Path) -> None:
    values = np.random.RandomState(0).randn(60, 3) * [1, 10, 100]
    np.savetxt(isolated / "t.csv", values, delimiter=",", header="a,b,c", comments="")
    np.savetxt(isolated / "u.csv", values[:, [2, 0, 1]], delimiter=",", header="c,a,b", comments="")
    common = ["--dataset", "t.csv", "--likelihood", "gaussian", "--latent-dim", 2, "--hidden-dims", 8, "--epochs", 1]
    assert cli("train", *common, "-q").exit_code == 0
    one, other = (prepared("run1", isolated / name)[0] for name in ("t.csv", "u.csv"))
    assert np.array_equal(one, other)
    np.savetxt(isolated / "v.csv", values[:, :2], delimiter=",", header="a,b", comments="")
    refuse(cli, ["reconstruct", "run1", "v.csv"], 1, ["v.csv", "'c'"])


@pytest.mark.parametrize("what", some(["image", "array", "table"], 3))
def test_standard_input(cli: Cli, runs: Path, isolated: Path, what: str) -> None:
    content = io.BytesIO()
    if what == "image":
        Image.fromarray(digit()).save(content, "PNG")
    elif what == "array":
        np.save(content, digit()[None])
    else:
        np.savetxt(content, digit().reshape(1, 64), "%d", ",")
    command = [sys.executable, "-m", "vaectl", "reconstruct", "run1", "-", "-o", "r.npy", "--json"]
    process = subprocess.run(command, input=content.getvalue(), capture_output=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["n"] == 1
    model = Run.open("run1").load_model()
    with torch.no_grad():
        expected = model.reconstruct(torch.from_numpy(digit()[None, None] / np.float32(255))).mean.numpy()[0, 0]
    assert np.abs(np.load(isolated / "r.npy")[0] - expected * 255).max() <= 0.51


@pytest.mark.parametrize("content", [b"", b"\0\1\2\3" * 300])
def test_standard_input_that_is_no_data(runs: Path, isolated: Path, content: bytes) -> None:
    command = [sys.executable, "-m", "vaectl", "reconstruct", "run1", "-"]
    process = subprocess.run(command, input=content, capture_output=True, timeout=120, check=False)
    assert process.returncode == 1
    assert process.stderr.decode().startswith("error: standard input ")


def test_what_cannot_be_prepared_is_refused_by_name(cli: Cli, runs: Path, isolated: Path) -> None:
    np.save(isolated / "t.npy", np.random.RandomState(0).randn(9, 5))
    np.save(isolated / "many.npy", np.zeros((9, 7, 8, 8), np.uint8))
    np.save(isolated / "real.npy", np.random.RandomState(0).randn(9, 8, 8) * 100)
    (isolated / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    refuse(cli, ["reconstruct", "run1", "t.npy"], 1, ["t.npy has rows of 5 numbers", "run1 takes images"])
    refuse(cli, ["reconstruct", "run1", "many.npy"], 1, ["many.npy"])
    refuse(cli, ["reconstruct", "run1", "real.npy"], 1, ["real.npy has real data; run1 takes bytes data"])
    refuse(cli, ["reconstruct", "run1", "torn.png"], 1, ["torn.png"])
