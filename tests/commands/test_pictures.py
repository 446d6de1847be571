"""Pictures that commands write: of tables, of traversals, with names of classes, and in TensorBoard."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import Cli
from tests.support.idx import mnist_files
from vaectl.data.base import Loading
from vaectl.data.builtin.idx import load_idx
from vaectl.output import plots


def latents_of(cli: Cli, split: str) -> dict[str, np.ndarray]:
    """The arrays that ``embed`` writes for run2."""
    assert cli("embed", "run2", "--split", split, "-o", f"{split}.npz").exit_code == 0
    with np.load(f"{split}.npz") as arrays:
        return dict(arrays)


def seen(monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments of each call of a function in ``plots``."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    draw = getattr(plots, name)

    def watched(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs))
        return draw(*args, **kwargs)

    monkeypatch.setattr(plots, name, watched)
    return calls


@pytest.fixture
def table(cli: Cli, isolated: Path) -> Path:
    """A run on a table with six columns and two classes."""
    numbers = np.random.default_rng(0).normal(size=(200, 6))
    lines = [",".join([*(f"{value:.4f}" for value in row), "yes" if row[0] > 0 else "no"]) for row in numbers]
    (isolated / "t.csv").write_text("\n".join(["a,b,c,d,e,f,label", *lines]))
    arguments = ("--likelihood", "gaussian", "--hidden-dims", 8, "--latent-dim", 2, "--epochs", 1, "-q")
    result = cli("train", "--dataset", "t.csv", *arguments)
    assert result.exit_code == 0, result.output
    return isolated


@pytest.mark.parametrize("flags", [(), ("--reconstruct", "-n", 10), ("-n", 300)])
def test_a_picture_of_rows_of_a_table_can_be_read(cli: Cli, table: Path, flags: tuple[object, ...]) -> None:
    """A heat map, where a grid of 64 rows was 3,146 pixels wide and 14 high."""
    result = cli("sample", "run1", *flags, "-o", "a.png")
    assert result.exit_code == 0, result.output
    with Image.open("a.png") as picture:
        width, height = picture.size
    assert width >= 600
    assert 1 / 3 <= width / height <= 3.5


def test_classes_of_a_table_are_named(cli: Cli, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = seen(monkeypatch, "scatter")
    assert cli("plot-latent", "run1", "-o", "a.png").exit_code == 0
    assert calls[0][0][4] == ("no", "yes")


@pytest.mark.parametrize(
    ("name", "first", "last"), [("FashionMNIST", "T-shirt/top", "Ankle boot"), ("KMNIST", "o", "wo"), ("MNIST", "", "")]
)
def test_classes_of_known_data_have_their_names(tmp_path: Path, name: str, first: str, last: str) -> None:
    """Those of torchvision, in its order; digits are their own names."""
    from torchvision import datasets

    folder = tmp_path / name / "raw"
    folder.mkdir(parents=True)
    for file, content in mnist_files().items():
        (folder / f"{file}.gz").write_bytes(gzip.compress(content))
    classes = load_idx(name, Loading(tmp_path)).classes
    if first:
        assert list(classes) == getattr(datasets, name).classes
        assert (classes[0], classes[-1]) == (first, last)
    else:
        assert classes == ()


def test_the_title_of_one_dimension_names_its_scale(cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = seen(monkeypatch, "scatter")
    for dims in ("0", "1,0"):
        assert cli("plot-latent", "run1", "--dims", dims, "-o", f"{dims}.png").exit_code == 0
    (one, options), (two, others) = calls
    assert "posterior mean and scale of z0" in one[3]
    assert (options["equal"], options["prior"]) == (False, None)
    assert "posterior means" in two[3]
    assert (others["equal"], others["prior"]) == (True, (0.0, 0.0))


def test_the_prior_of_principal_components_lies_where_the_latents_are_projected_from(
    cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The latent 0 is not the middle of the components' plane."""
    calls = seen(monkeypatch, "scatter")
    assert cli("plot-latent", "run2", "-o", "a.png").exit_code == 0
    codes, shown = (latents_of(cli, split)["z"].astype(float) for split in ("train", "test"))
    across = calls[0][0][0] - np.array(calls[0][1]["prior"])
    # a projection keeps a straight map from latents, without an offset from 0
    linear, *_ = np.linalg.lstsq(shown, across, rcond=None)
    assert np.allclose(shown @ linear, across, atol=1e-4)
    assert np.abs(codes.mean(0)).max() > 1e-3


def test_only_the_standard_prior_has_circles(cli: Cli, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("--prior", "mixture", "--latent-dim", 2, "--hidden-dims", 8, "--epochs", 1, "-q")
    assert cli("train", "--dataset", "digits", *flags).exit_code == 0
    calls = seen(monkeypatch, "scatter")
    assert cli("plot-latent", "run1", "-o", "a.png").exit_code == 0
    assert calls[0][1]["prior"] is None


def test_a_traversal_shows_what_it_starts_from(cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The original beside it, the step nearest to its own value framed, and how many dimensions there are."""
    calls = seen(monkeypatch, "sheet")
    documents = [
        json.loads(cli("plot-latent", "run2", "--kind", "traversal", "--json", "-o", f"{n}.png", *flags).stdout)
        for n, flags in enumerate([(), (), ("--dims", "2,0")])
    ]
    rows = {document["test_image"] for document in documents}
    assert len(rows) == 1, "the same typical example each time"
    (_, title), options = calls[2]
    assert "2 of 3 dimensions, by KL" in title
    [row] = rows
    assert f"test example {row} (class " in title
    assert "by KL" in calls[0][0][1]
    [(name, _)] = options["beside"]
    assert name == "original"
    codes = latents_of(cli, "test")
    for line, (number, column) in enumerate(options["framed"]):
        values = np.array([float(text) for text in options["x"][1]])
        own = codes["z"][row][documents[2]["dims"][line]]
        assert number == line
        assert abs(values[column] - own) <= np.abs(values - own).min() + 0.06, "labels have one decimal"
    # typical: no other example of its class is nearer to the mean latent of that class
    mine = codes["z"][codes["label"] == codes["label"][row]]
    distances = np.linalg.norm(mine - mine.mean(0), axis=1)
    assert np.linalg.norm(codes["z"][row] - mine.mean(0)) == pytest.approx(distances.min())


def test_pictures_in_tensorboard_are_large_enough(cli: Cli, runs: Path) -> None:
    """About 800 pixels wide, where reconstructions were 466 x 118."""
    events = EventAccumulator(str(runs / "run1" / "tensorboard"), size_guidance={"images": 0}).Reload()
    for tag in ("Reconstruction", "Samples"):
        picture = Image.open(io.BytesIO(events.Images(tag)[-1].encoded_image_string))
        assert 700 <= picture.width <= 1100
        assert picture.height >= 190


@pytest.mark.parametrize(("count", "word"), [(1, "1 sample of"), (2, "2 samples of")])
def test_one_sample_is_no_samples(cli: Cli, runs: Path, count: int, word: str) -> None:
    assert word in cli("sample", "run1", "-n", count).stdout
