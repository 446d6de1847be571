"""``edit``: examples along the vectors of attributes, in their own form and units."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import Cli
from tests.support.outcomes import arrays_of, ok
from tests.support.refusals import refuse
from vaectl.runs.run import Run


def photos(isolated: Path, n: int = 40) -> None:
    """A folder of colours with the attributes smiling and age in a table beside them."""
    random = np.random.RandomState(0)
    (isolated / "photos").mkdir()
    with (isolated / "photos/metadata.csv").open("w") as file:
        file.write("file_name,smiling,age\n")
        for number in range(n):
            smiling = number % 2
            pixels = random.randint(0, 100, (8, 8, 3)).astype(np.uint8)
            pixels[5:, :, 0] += np.uint8(120 * smiling)
            Image.fromarray(pixels).save(isolated / f"photos/{number}.png")
            file.write(f"{number}.png,{smiling},{20 + number}\n")


def test_vectors_are_added_to_posterior_means(cli: Cli, runs: Path) -> None:
    ok(cli, "embed", "run1", "--split", "train", "-o", "train.npz")
    train = arrays_of("train.npz")
    vector = train["z"][train["label"] == 7].mean(0) - train["z"][train["label"] != 7].mean(0)
    document = ok(cli, "edit", "run1", "--add", "7:2", "-o", "e.npz")
    [fact] = document["attributes"]
    assert (fact["with"], fact["without"]) == ((train["label"] == 7).sum(), (train["label"] != 7).sum())
    assert fact["length"] == pytest.approx(np.linalg.norm(vector), rel=1e-4)
    ok(cli, "embed", "run1", "-o", "test.npz")
    edited, test = arrays_of("e.npz"), arrays_of("test.npz")
    assert document["n"] == len(test["z"]) == len(edited["images"])
    assert np.allclose(edited["z"], test["z"] + 2 * vector, atol=1e-4)
    ok(cli, "reconstruct", "run1", "-o", "r.npz")
    assert np.array_equal(edited["reconstructions"], arrays_of("r.npz")["images"])
    assert np.array_equal(edited["label"], test["label"])
    ok(cli, "decode", "run1", "e.npz", "-o", "d.npy")  # what it writes comes back
    assert np.abs(np.load("d.npy").astype(int) - edited["images"]).max() <= 1


def test_an_attribute_of_pictures(cli: Cli, isolated: Path) -> None:
    photos(isolated)
    common = ("--likelihood", "gaussian", "--latent-dim", 2, "--hidden-dims", 16, "--epochs", 3)
    assert cli("train", "--dataset", "photos", *common, "-q").exit_code == 0
    text = cli("edit", "run1", "photos", "--add", "smiling:1.5", "--add", "age:-1", "-o", "out").stdout
    assert "40 examples of all of photos edited by run1" in text
    assert "each with the other attributes held equal" in text
    files = sorted(path.name for path in (isolated / "out").iterdir())
    assert files == sorted(f"{number}.png" for number in range(40))
    with Image.open("out/3.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (8, 8))
    ok(cli, "edit", "run1", "photos", "--add", "smiling:1.5", "--rows", "3,5", "-o", "e.npy")
    assert np.load("e.npy").shape == (2, 8, 8, 3)
    assert ok(cli, "edit", "run1", "photos", "--add", "age")["n"] == 8  # of a picture, by default with weight 1
    refuse(cli, ["edit", "run1", "--add", "smilling:1"], 2, ["--add smilling", "it has smiling, age"], "smiling")


def test_the_edit_moves_towards_the_attribute(cli: Cli, isolated: Path) -> None:
    """What smiling adds to these pictures is red below, and no green."""
    photos(isolated, 200)
    common = ("--likelihood", "gaussian", "--latent-dim", 4, "--hidden-dims", 32, "--epochs", 60, "--lr", "0.003")
    assert cli("train", "--dataset", "photos", *common, "-q").exit_code == 0
    ok(cli, "edit", "run1", "photos", "--add", "smiling:1", "-o", "e.npz")
    arrays = arrays_of("e.npz")
    change = arrays["images"].astype(float) - arrays["reconstructions"]
    assert change[:, 5:, :, 0].mean() > 20
    assert abs(change[:, :5].mean()) < 5
    assert abs(change[..., 1].mean()) < 5


def test_rows_of_a_table_stay_rows(cli: Cli, isolated: Path) -> None:
    random = np.random.RandomState(0)
    with (isolated / "t.csv").open("w") as file:
        file.write("age,rate,kind\n")
        for a, b in random.randn(80, 2):
            file.write(f"{round(10 * a + 40)},{b:.4f},{'old' if a > 0 else 'young'}\n")
    flags = ("--dataset", "t.csv", "--label-column", "kind", "--likelihood", "gaussian", "--latent-dim", 2)
    assert cli("train", *flags, "--hidden-dims", 16, "--epochs", 3, "-q").exit_code == 0
    assert ok(cli, "edit", "run1", "t.csv", "--add", "old:1", "-o", "e.csv")["n"] == 80
    with (isolated / "e.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"row", "class", "age", "rate"} <= rows[0].keys()
    assert all(float(row["age"]).is_integer() for row in rows)
    ok(cli, "edit", "run1", "t.csv", "--add", "old:1", "-o", "map.png")
    refuse(
        cli, ["edit", "run1", "t.csv", "--add", "old:1", "-o", "out"], 2, ["-o out", "a folder is for images"], ".csv"
    )


def test_where_results_go(cli: Cli, runs: Path, isolated: Path) -> None:
    assert cli("edit", "run1", "--add", "7", "-q").stdout == "runs/run1/edits/0001.png\n"
    assert ok(cli, "edit", "run1", "--add", "7", "-n", 3, "-o", "e.png")["n"] == 3
    refuse(cli, ["edit", "run1", "--add", "7", "-o", "e.png"], 1, ["-o e.png", "exists"], "--force")
    ok(cli, "edit", "run1", "--add", "7", "-o", "e.png", "--force")
    assert ok(cli, "edit", "run1", "--add", "7", "--label", 1, "-o", "ones.npz")["n"] < 60
    assert set(arrays_of("ones.npz")["label"]) == {1}


def test_the_picture_begins_with_original_and_reconstruction(
    cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaectl.output import grids

    tiles, grid = list[torch.Tensor](), grids.grid

    def watched(images: torch.Tensor, columns: int | None = None, **options: Any) -> np.ndarray:
        tiles.append(images.reshape(-1, columns or 1, *images.shape[1:]))
        return grid(images, columns, **options)

    monkeypatch.setattr(grids, "grid", watched)
    ok(cli, "edit", "run1", "--add", "7:2", "-n", 3, "-o", "e.png")
    [shown] = tiles
    assert shown.shape == (3, 4, 1, 8, 8)
    data = Run.open("run1").load_model()
    with torch.no_grad():
        assert torch.allclose(shown[:, 1], data.reconstruct(shown[:, 0]).mean, atol=1e-6)
    ends = (shown[:, 3] - shown[:, 1]).abs().sum()
    assert 0 < (shown[:, 2] - shown[:, 1]).abs().sum() < ends


def test_codes_are_not_edited(cli: Cli, isolated: Path) -> None:
    train = ("--model", "vq-vae", "--dataset", "digits", "--epochs", 1, "--prior-epochs", 0, "--codes", 8)
    assert cli("train", *train, "-q").exit_code == 0
    refuse(cli, ["edit", "run1", "--add", "7:1"], 2, ["run1 cannot be edited", "grids of codes"], "--model vae")


@pytest.mark.parametrize(
    ("arguments", "code", "names"),
    [
        ([], 2, ["edit needs --add"]),
        (["--add", ":1"], 2, ["--add must be an attribute and its weight", "':1'"]),
        (["--add", "7:nan"], 2, ["--add must be an attribute and its weight", "'7:nan'"]),
        (["--add", "7:1e9"], 2, ["--add must be an attribute and its weight"]),
        (["--add", "7:1", "--add", "7:2"], 2, ["--add 7 was given twice"]),
        (["--add", "bird:1"], 2, ["--add bird", "digits has no attribute 'bird'", "0, 1, 2"]),
        (["--add", "7", "-o", "e.csv"], 2, ["-o e.csv", "run1 makes images"]),
        (["--add", "7", "--rows", "999"], 2, ["no row 999", "300 rows"]),
        (["--add", "7", "--split", "half"], 2, ["--split"]),
    ],
)
def test_what_is_refused(cli: Cli, runs: Path, arguments: list[str], code: int, names: list[str]) -> None:
    refuse(cli, ["edit", "run1", *arguments], code, names, "npz" if "e.csv" in arguments else None)
