"""``reconstruct``: a person's own examples through the model, in their own form and units."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import Cli
from tests.support.refusals import refuse, snapshot
from vaectl.runs.run import Run


def digits(n: int = 12) -> np.ndarray:
    """uint8 (n, 8, 8)."""
    from sklearn.datasets import load_digits

    return (load_digits().images[:n] / 16 * 255).astype(np.uint8)


def drawings(root: Path, n: int = 6) -> Path:
    for number, image in enumerate(digits(n)):
        place = root / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.bmp")
    return root


def test_the_values_are_those_of_eval(cli: Cli, runs: Path, isolated: Path) -> None:
    np.save(isolated / "x.npy", digits(30))
    assert cli("eval", "run1", "--dataset", "x.npy", "--per-example", "v.csv", "-q").exit_code == 0
    result = cli("reconstruct", "run1", "x.npy", "-o", "r.csv", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    with (isolated / "v.csv").open() as file, (isolated / "r.csv").open() as other:
        judged, rows = list(csv.DictReader(file)), list(csv.DictReader(other))
    assert [float(row["elbo"]) for row in rows] == pytest.approx([float(row["elbo"]) for row in judged], abs=1e-4)
    assert document["n"] == len(rows) == 30
    assert document["metrics"]["elbo"] == pytest.approx(np.mean([float(row["elbo"]) for row in rows]))
    assert document["examples"][3]["example"] == "row 3"
    assert document["examples"][3]["recon"] == pytest.approx(float(rows[3]["recon"]), rel=1e-5)


def test_a_folder_becomes_a_folder_of_the_same_names(cli: Cli, runs: Path, isolated: Path) -> None:
    drawings(isolated / "own")
    result = cli("reconstruct", "run1", "own", "-o", "out")
    assert result.exit_code == 0, result.output
    files = sorted(snapshot(isolated / "out", folders=False))
    assert files == [*(f"a/{number}.png" for number in (0, 2, 4)), *(f"b/{number}.png" for number in (1, 3, 5))]
    assert "a/4.bmp" in result.stdout
    assert cli("reconstruct", "run1", "own", "-o", "r.npz", "-q").exit_code == 0
    with np.load(isolated / "r.npz") as arrays:
        place = [str(name) for name in arrays["file"]].index("b/3.bmp")
        assert arrays["images"].dtype == np.uint8
        assert arrays["images"].shape == (6, 8, 8)
        with Image.open(isolated / "out/b/3.png") as picture, Image.open(isolated / "own/b/3.bmp") as original:
            assert np.array_equal(np.asarray(picture), arrays["images"][place])
            assert np.array_equal(np.asarray(original), arrays["originals"][place])


def test_an_array_becomes_an_array_of_its_form(cli: Cli, runs: Path, isolated: Path) -> None:
    np.save(isolated / "x.npy", digits(9))
    assert cli("reconstruct", "run1", "x.npy", "-o", "r.npy", "-q").exit_code == 0
    assert cli("reconstruct", "run1", "x.npy", "--mode", "mode", "-o", "m.npy", "-q").exit_code == 0
    means, modes = np.load(isolated / "r.npy"), np.load(isolated / "m.npy")
    assert (means.shape, means.dtype) == ((9, 8, 8), np.uint8)
    assert set(np.unique(modes)) <= {0, 255}  # a Bernoulli's
    model = Run.open("run1").load_model()
    with torch.no_grad():
        expected = model.reconstruct(torch.from_numpy(digits(9)[:, None] / np.float32(255))).mean[:, 0].numpy()
    assert np.abs(means - 255 * expected).max() <= 0.5 + 1e-3


def test_colours_keep_their_axes(cli: Cli, isolated: Path) -> None:
    images = np.random.RandomState(0).randint(0, 256, (40, 6, 5, 3), np.uint8)
    np.save(isolated / "x.npy", images)
    common = ["--dataset", "x.npy", "--likelihood", "gaussian", "--latent-dim", 2, "--hidden-dims", 8, "--epochs", 1]
    assert cli("train", *common, "-q").exit_code == 0
    assert cli("reconstruct", "run1", "x.npy", "-o", "r.npy", "-q").exit_code == 0
    assert np.load(isolated / "r.npy").shape == (40, 6, 5, 3)
    assert cli("reconstruct", "run1", "x.npy", "-o", "pairs.png", "-n", 5, "-q").exit_code == 0
    assert cli("reconstruct", "run1", "-o", "out", "-q").exit_code == 0  # its own test split
    files = sorted((isolated / "out").iterdir())
    assert len(files) == 4
    with Image.open(files[0]) as picture:
        assert (picture.mode, picture.size) == ("RGB", (5, 6))


def test_a_table_comes_back_with_its_columns(cli: Cli, isolated: Path) -> None:
    values = np.random.RandomState(0).randn(90, 2) * np.array([10.0, 1e-3]) + np.array([40.0, 0.1])
    with (isolated / "t.csv").open("w") as file:
        file.write("age,rate,kind\n")
        file.writelines(f"{round(a)},{b:.6f},{'old' if a > 40 else 'young'}\n" for a, b in values)
    common = ["--dataset", "t.csv", "--label-column", "kind", "--likelihood", "gaussian", "--latent-dim", 2]
    assert cli("train", *common, "--hidden-dims", 16, "--epochs", 2, "-q").exit_code == 0
    assert cli("reconstruct", "run1", "t.csv", "-o", "r.csv", "-q").exit_code == 0
    with (isolated / "r.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 90
    assert {"age", "rate", "class", "elbo"} <= rows[0].keys()
    assert all(float(row["age"]).is_integer() and 10 < float(row["age"]) < 70 for row in rows)
    assert all(0.09 < float(row["rate"]) < 0.11 for row in rows)
    assert cli("reconstruct", "run1", "t.csv", "-o", "map.png", "-q").exit_code == 0
    refuse(cli, ["reconstruct", "run1", "t.csv", "-o", "out"], 2, ["-o out", "a folder is for images"], ".csv")


def test_codes_reconstruct_too(cli: Cli, isolated: Path) -> None:
    common = ["--model", "vq-vae", "--dataset", "digits", "--epochs", 1, "--prior-epochs", 0, "--codes", 8]
    assert cli("train", *common, "-q").exit_code == 0
    result = cli("reconstruct", "run1", "-n", 4, "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["examples"]) == 4


def test_nothing_half_written_stays(cli: Cli, runs: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vaectl.output import folders

    drawings(isolated / "own")
    save, calls = folders.save_image, []

    def full(image: np.ndarray, path: Path) -> None:
        calls.append(path)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        save(image, path)

    monkeypatch.setattr(folders, "save_image", full)
    result = cli("reconstruct", "run1", "own", "-o", "out")
    assert result.exit_code == 1
    assert "cannot write out/" in result.stderr
    assert "No space left" in result.stderr
    assert sorted(path.name for path in isolated.iterdir()) == ["own", "runs"]


def test_an_existing_folder_is_not_overwritten_unless_forced(cli: Cli, runs: Path, isolated: Path) -> None:
    drawings(isolated / "own")
    (isolated / "out/a").mkdir(parents=True)
    (isolated / "out/a/0.png").write_text("mine")
    refuse(cli, ["reconstruct", "run1", "own", "-o", "out"], 1, ["-o out is a folder that holds files"], "--force")
    (isolated / "out/other.txt").write_text("stays")
    assert cli("reconstruct", "run1", "own", "-o", "out", "--force", "-q").exit_code == 0
    assert (isolated / "out/other.txt").read_text() == "stays"
    assert (isolated / "out/a/0.png").read_bytes().startswith(b"\x89PNG")


def test_names_that_would_meet_are_kept_apart(isolated: Path) -> None:
    from vaectl.output.folders import save_images

    pixels = np.zeros((1, 2, 2), np.uint8)
    names = ["a/1.png", "a/1.jpg", "a/1.JPG", "../../x.png", "/etc/y.png", "v1.2 page 3", "a/1.png"]
    assert save_images([(name, pixels) for name in names], isolated / "out") == 7
    assert sorted(snapshot(isolated / "out", folders=False)) == sorted(
        ["a/1.png", "a/1.jpg.png", "a/1-2.png", "x.png", "etc/y.png", "v1.2 page 3.png", "a/1.png.png"]
    )


@pytest.mark.parametrize(
    ("arguments", "code", "names"),
    [
        (["gone"], 2, ["gone"]),
        (["./gone"], 1, ["gone does not exist"]),
        (["deep.npy"], 1, ["(7, 8, 8)", "(1, 8, 8)"]),
        (["empty"], 1, ["empty holds no images"]),
        (["x.npy", "-o", "r.gif"], 2, ["unknown format '.gif'"]),
        (["x.npy", "-o", "no/where"], 1, ["the folder no does not exist"]),
        (["x.npy", "--mode", "median"], 2, ["--mode"]),
        (["x.npy", "--split", "validation", "-n", "0"], 2, ["-n"]),
    ],
)
def test_what_is_refused(
    cli: Cli, runs: Path, isolated: Path, arguments: list[str], code: int, names: list[str]
) -> None:
    np.save(isolated / "x.npy", digits())
    np.save(isolated / "deep.npy", np.zeros((9, 8, 9, 7), np.uint8))
    (isolated / "empty").mkdir()
    refuse(cli, ["reconstruct", "run1", *arguments], code, names)
