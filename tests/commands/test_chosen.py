"""Examples that a person chooses: ``--rows``, ``--label``, ``--pair`` and ``--dataset`` mean the same everywhere."""

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
from tests.support.shell import complete
from vaectl.commands.shared.chosen import MOST_ROWS, Choice
from vaectl.data.base import Split
from vaectl.data.own.rows import ArrayRows
from vaectl.data.own.streamed import StreamedSplit
from vaectl.data.taking import side_by_side, taken
from vaectl.errors import UsageError
from vaectl.runs.run import Run


def own_digits(isolated: Path) -> np.ndarray:
    """Digits as own data, with labels: uint8 (30, 8, 8)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images: np.ndarray = (digits.images[:30] / 16 * 255).astype(np.uint8)
    np.savez(isolated / "own.npz", images=images, labels=digits.target[:30])
    return images


def pets(isolated: Path) -> Path:
    """A folder of 8 images in two classes, with names."""
    for number, image in enumerate(own_digits(isolated)[:8]):
        place = isolated / "pets" / ("cat", "dog")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.png")
    return isolated / "pets"


@pytest.mark.parametrize(
    ("text", "rows"), [("3,17", (3, 17)), ("0-3", (0, 1, 2, 3)), ("5, 2-3 ,5", (5, 2, 3, 5)), ("0", (0,))]
)
def test_rows_that_a_text_names(text: str, rows: tuple[int, ...]) -> None:
    assert Choice.of(text, None).rows == rows


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1.5", "1,,2", f"0-{MOST_ROWS}", "0-99999999999999"])
def test_texts_that_name_no_rows(text: str) -> None:
    with pytest.raises(UsageError, match="--rows"):
        Choice.of(text, None)


@pytest.mark.parametrize("streamed", [False, True])
def test_examples_are_taken_in_any_order(streamed: bool) -> None:
    """Also twice; labels, rows and factors go with them."""
    images = np.random.RandomState(0).randint(0, 256, (9, 1, 4, 4), np.uint8)
    labels, kinds = torch.arange(9) % 3, {"kind": np.arange(9) * 10}
    split: Split | StreamedSplit = Split(torch.from_numpy(images), labels, torch.arange(9), factors=kinds)
    if streamed:
        split = StreamedSplit(ArrayRows(images, "channels first", "bytes"), np.arange(9), labels, factors=kinds)
    some = taken(split, torch.tensor([7, 2, 7]))
    assert torch.equal(some.batch(slice(0, 3)).x, torch.from_numpy(images[[7, 2, 7]]) * (1 / 255))
    assert some.labels.tolist() == [1, 2, 1]
    assert some.rows.tolist() == [7, 2, 7]
    assert some.factors["kind"].tolist() == [70, 20, 70]
    both = side_by_side([some, split])
    assert torch.equal(both.batch(slice(0, 2)).x, torch.from_numpy(images[[7, 0]]) * (1 / 255))


def test_rows_are_reconstructed_in_their_order(cli: Cli, runs: Path, isolated: Path) -> None:
    own_digits(isolated)
    ok(cli, "reconstruct", "run1", "own.npz", "-o", "all.npz")
    document = ok(cli, "reconstruct", "run1", "own.npz", "--rows", "9,3-4", "-o", "some.npz")
    assert document["n"] == 3
    assert [line["example"] for line in document["examples"]] == ["row 9", "row 3", "row 4"]
    every, some = arrays_of("all.npz"), arrays_of("some.npz")
    assert some["row"].tolist() == [9, 3, 4]
    assert np.array_equal(some["originals"], every["originals"][[9, 3, 4]])
    assert np.abs(some["images"].astype(int) - every["images"][[9, 3, 4]]).max() <= 1  # another batch
    pair = ok(cli, "reconstruct", "run1", "own.npz", "--pair", 9, 3, "-o", "pair.npz")
    assert pair["n"] == 2
    assert np.array_equal(arrays_of("pair.npz")["originals"], some["originals"][:2])
    text = cli("reconstruct", "run1", "--rows", "5,0").stdout
    assert "2 reconstructions by run1 of rows 5, 0 of the test split of digits" in text


def test_rows_are_those_that_embed_names(cli: Cli, isolated: Path) -> None:
    """Own data that are divided keep the rows of their file, which have gaps in a split."""
    own_digits(isolated)
    assert cli("train", "--dataset", "own.npz", "--epochs", 1, "--hidden-dims", 8, "-q").exit_code == 0
    ok(cli, "embed", "run1", "-o", "z.npz")
    rows = arrays_of("z.npz")["row"].tolist()
    last = rows[-1]
    ok(cli, "reconstruct", "run1", "--rows", last, "-o", "r.npz")
    assert np.array_equal(arrays_of("r.npz")["originals"][0], own_digits(isolated)[last])
    gone = next(row for row in range(30) if row not in rows)
    refuse(
        cli, ["reconstruct", "run1", "--rows", str(gone)], 2,
        [f"the test split of own.npz has no row {gone}", f"{len(rows)} rows, from {rows[0]} to {last}, with gaps"],
    )  # fmt: skip


def test_a_class_is_chosen_by_name_or_number(cli: Cli, runs: Path, isolated: Path) -> None:
    pets(isolated)
    by_name = ok(cli, "reconstruct", "run1", "pets", "--label", "dog", "-o", "a.npz")
    by_number = ok(cli, "reconstruct", "run1", "pets", "--label", "1", "-o", "b.npz")
    assert by_name["n"] == by_number["n"] == 4
    assert {line["example"].split("/")[0] for line in by_name["examples"]} == {"dog"}
    assert np.array_equal(arrays_of("a.npz")["images"], arrays_of("b.npz")["images"])
    ok(cli, "sample", "run1", "--reconstruct", "--label", 7, "-n", 5, "-o", "sevens.npz")
    assert arrays_of("sevens.npz")["labels"].tolist() == [7] * 5
    result = cli("sample", "run1", "--reconstruct", "--label", "cat", "--dataset", "pets")
    assert "4 reconstructions of run1 from class cat of all of pets" in result.stdout


def test_a_person_says_what_is_interpolated(cli: Cli, runs: Path, isolated: Path) -> None:
    images = own_digits(isolated)
    own = ("--dataset", "own.npz", "--columns", 5)
    assert ok(cli, "sample", "run1", "--interpolate", *own, "--pair", 3, 8, "-o", "pair.npz")["n"] == 5
    assert ok(cli, "sample", "run1", "--interpolate", *own, "--rows", "3,8,1,2", "-o", "rows.npz")["n"] == 10
    for name, row in (("a.npy", 3), ("b.npy", 8)):
        np.save(name, images[row : row + 1])
    files = ("--pair", "./a.npy", "./b.npy", "--columns", 5)
    document = ok(cli, "sample", "run1", "--interpolate", *files, "-o", "files.npz")
    assert document["n"] == 5
    pair, rows, two = arrays_of("pair.npz"), arrays_of("rows.npz"), arrays_of("files.npz")
    assert np.array_equal(pair["images"], two["images"])
    assert np.array_equal(pair["z"], two["z"])
    assert np.allclose(pair["z"], rows["z"][:5])
    with torch.no_grad():
        x = torch.from_numpy(images[[3, 8], None]) * (1 / 255)
        ends = Run.open("run1").load_model().encode(x).mean.numpy()
    assert np.allclose(pair["z"][[0, -1]], ends, atol=1e-5)
    assert np.allclose(pair["z"][2], ends.mean(0), atol=1e-5)
    text = cli("sample", "run1", "--interpolate", *files).stdout
    assert "5 interpolations in lines of 5 of run1 from ./a.npy and ./b.npy" in text
    ok(cli, "reconstruct", "run1", "--pair", "./a.npy", "./b.npy", "-o", "out")
    assert sorted(path.name for path in (isolated / "out").iterdir()) == ["a.npy.png", "b.npy.png"]


def test_a_pair_of_pictures(cli: Cli, runs: Path, isolated: Path) -> None:
    from PIL import Image

    for name, place in (("a", 3), ("b", 12)):
        pixels = np.zeros((20, 20, 3), np.uint8)
        pixels[4:16, place : place + 5] = 250
        Image.fromarray(pixels).save(isolated / f"{name}.png")
    line = ("sample", "run1", "--interpolate", "--pair", "a.png", "b.png", "-o", "l.npz")
    assert ok(cli, *line)["n"] == 8
    assert arrays_of("l.npz")["images"].shape == (8, 1, 8, 8)


def test_chosen_rows_are_not_shuffled(cli: Cli, runs: Path) -> None:
    for seed in (0, 1):
        ok(cli, "sample", "run1", "--reconstruct", "--rows", "9,3", "--seed", seed, "-o", f"{seed}.npz")
    a, b = arrays_of("0.npz"), arrays_of("1.npz")
    assert np.array_equal(a["originals"], b["originals"])
    ok(cli, "reconstruct", "run1", "--rows", "9,3", "-o", "r.npz")
    assert np.array_equal(np.rint(a["originals"][:, 0] * 255), arrays_of("r.npz")["originals"])


def test_a_traversal_begins_where_a_person_says(cli: Cli, runs: Path, isolated: Path) -> None:
    pets(isolated)
    assert ok(cli, "plot-latent", "run1", "--kind", "traversal", "--rows", 17)["row"] == 17
    document = ok(cli, "plot-latent", "run1", "--kind", "traversal", "--label", 7)
    ok(cli, "embed", "run1", "-o", "z.npz")
    place = arrays_of("z.npz")["row"].tolist().index(document["row"])
    assert arrays_of("z.npz")["label"][place] == 7
    own = ok(cli, "plot-latent", "run1", "--kind", "traversal", "--dataset", "pets", "--rows", 2, "-o", "t.svg")
    assert (own["dataset"], own["split"], own["row"]) == ("pets", "all", 2)
    assert "test_image" in ok(cli, "plot-latent", "run1", "--kind", "traversal")
    assert "dataset" not in ok(cli, "plot-latent", "run1")


def test_the_title_of_a_traversal_names_its_row(
    cli: Cli, runs: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaectl.output import plots

    pets(isolated)
    titles, sheet = list[str](), plots.sheet

    def watched(image: Any, title: str, **options: Any) -> Any:
        titles.append(title)
        return sheet(image, title, **options)

    monkeypatch.setattr(plots, "sheet", watched)
    ok(cli, "plot-latent", "run1", "--kind", "traversal", "--rows", 17)
    ok(cli, "plot-latent", "run1", "--kind", "traversal", "--dataset", "pets", "--label", "dog", "--seed", 3)
    assert "traversals from row 17 of the test split of digits (class " in titles[0]
    assert "of all of pets, dog/" in titles[1]
    assert ".png (class dog)" in titles[1]


def test_own_data_in_a_scatter(cli: Cli, runs: Path, isolated: Path) -> None:
    own_digits(isolated)
    document = ok(cli, "plot-latent", "run2", "--dataset", "own.npz", "-o", "s.png")
    assert (document["n"], document["dataset"]) == (30, "own.npz")
    # on the plane of the run's own training examples, so that both can be compared
    assert document["explained_variance"] == ok(cli, "plot-latent", "run2", "-o", "own.png")["explained_variance"]


def test_codes_of_own_data(cli: Cli, isolated: Path) -> None:
    own_digits(isolated)
    train = ("--model", "vq-vae", "--dataset", "digits", "--epochs", 1, "--prior-epochs", 0, "--codes", 8)
    assert cli("train", *train, "-q").exit_code == 0
    assert ok(cli, "plot-latent", "run1", "--kind", "codes", "--dataset", "own.npz")["n"] == 30
    ok(cli, "sample", "run1", "--interpolate", "--pair", 1, 2)


def test_rows_of_a_table(cli: Cli, isolated: Path) -> None:
    with (isolated / "t.csv").open("w") as file:
        file.write("age,rate\n")
        file.writelines(f"{a:.3f},{b:.3f}\n" for a, b in np.random.RandomState(0).randn(60, 2))
    common = ("--likelihood", "gaussian", "--latent-dim", 2, "--hidden-dims", 8, "--epochs", 1)
    assert cli("train", "--dataset", "t.csv", *common, "-q").exit_code == 0
    ok(cli, "reconstruct", "run1", "t.csv", "--rows", "5,2", "-o", "r.csv")
    with (isolated / "r.csv").open() as file:
        assert [row["row"] for row in csv.DictReader(file)] == ["5", "2"]
    ok(cli, "sample", "run1", "--interpolate", "--dataset", "t.csv", "--pair", 5, 2, "-o", "line.csv")


def test_names_of_classes_are_offered(cli: Cli, isolated: Path) -> None:
    pets(isolated)
    assert cli("train", "--dataset", "pets", "--epochs", 1, "--hidden-dims", 8, "-q").exit_code == 0
    assert complete("vaectl reconstruct run1 --label ") == ["cat", "dog"]
    assert complete("vaectl sample run1 --label d") == ["dog"]
    assert complete("vaectl plot-latent run9 --label ") == []
    assert complete("vaectl reconstruct --label ") == []


@pytest.mark.parametrize(
    ("line", "code", "names"),
    [
        ("reconstruct run1 --rows 300", 2, ["the test split of digits has no row 300", "300 rows, from 0 to 299"]),
        ("reconstruct run1 --rows x", 2, ["--rows must be rows such as 3,17 or 0-9; got 'x'"]),
        ("reconstruct run1 --rows 3 --label 7", 2, ["--rows and --label cannot be given together"]),
        ("reconstruct run1 --label 12", 2, ["--label names '12'", "the test split of digits", "0, 1, 2, 3"]),
        ("reconstruct run1 pets --label bird", 2, ["--label names 'bird'", "all of pets", "cat, dog"]),
        ("reconstruct run1 bare.npy --label 1", 2, ["--label is for data with labels", "bare.npy has none"]),
        ("reconstruct run1 --pair 3 x.npy", 2, ["--pair must be two rows or two files; got '3' and 'x.npy'"]),
        ("reconstruct run1 --pair nothing never", 2, ["--pair: 'nothing' is neither a row nor a file"]),
        ("reconstruct run1 --pair bare.npy bare.npy", 1, ["--pair: bare.npy has 3 examples"]),
        ("reconstruct run1 --pair gone.npy bare.npy", 1, ["gone.npy does not exist"]),
        ("reconstruct run1 pets --pair one.npy one.npy", 2, ["--pair of two files", "pets was given"]),
        ("reconstruct run1 split.npz --rows 1", 2, ["split.npz has several splits"]),
        ("sample run1 --rows 1", 2, ["--rows is for --reconstruct and --interpolate"]),
        ("sample run1 --label 1", 2, ["--label is for --reconstruct and --interpolate"]),
        ("sample run1 --dataset pets", 2, ["--dataset is for --reconstruct and --interpolate"]),
        ("sample run1 --interpolate --rows 1,2,3", 2, ["--rows must name an even number of rows", "got 3"]),
        ("sample run1 --reconstruct --rows 1,2 -n 3", 2, ["-n 3: rows 1, 2 of the test split of digits has 2"]),
        ("sample run1 --interpolate --rows 1,2 -n 9", 2, ["-n 9: 4 examples are needed for 2 lines"]),
        ("plot-latent run1 --rows 1", 2, ["--rows is for --kind traversal"]),
        ("plot-latent run1 --kind traversal --rows 1,2", 2, ["--rows names where a traversal begins, one row"]),
        ("plot-latent run1 --kind traversal --rows 1 --seed 2", 2, ["--rows", "--seed"]),
        ("plot-latent run1 --kind manifold --dataset pets", 2, ["--dataset is not for --kind manifold"]),
    ],
)
def test_what_cannot_be_chosen(cli: Cli, runs: Path, isolated: Path, line: str, code: int, names: list[str]) -> None:
    images = own_digits(isolated)
    pets(isolated)
    np.save("bare.npy", images[:3])
    np.save("one.npy", images[:1])
    np.savez("split.npz", x_train=images[:20], x_test=images[20:])
    result = cli(*line.split())
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    (error,) = [text for text in result.stderr.splitlines() if text.startswith("error: ")]
    assert all(name in error for name in names), error
