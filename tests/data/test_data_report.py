"""The data report: what it says of data whose numbers are known, and where it is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Cli
from vaectl.data import loading
from vaectl.data.base import Loading
from vaectl.data.loading import reported
from vaectl.data.report import Report, fitting
from vaectl.model.likelihoods import LIKELIHOODS


def report(path: Path, **options: Any) -> Report:
    return reported(loading.load(str(path), Loading(Path("nowhere")), **options))


def known() -> np.ndarray:
    """60 images of 4 x 5 bytes: ten copies of one, and a border of 5 pixels that is the same everywhere."""
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 5), dtype=np.uint8)
    images[:10] = images[0]
    images[:, 0] = 7
    images[11, 1, 0], images[11, 1, 1] = 0, 255
    return images


def test_the_report_counts_what_is_there(tmp_path: Path) -> None:
    images = known()
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(60) % 3 + 5)
    found = report(tmp_path / "x.npz")
    assert found.sizes == {"train": 50, "validation": 4, "test": 6}
    assert (found.shape, found.support, found.stored, found.binary) == ((1, 4, 5), "bytes", "uint8", False)
    assert (found.low, found.high) == (0.0, 1.0)
    assert found.mean == pytest.approx(images.mean() / 255)
    assert found.std == pytest.approx(images.std() / 255)
    assert found.constant_pixels == 5
    assert found.duplicates == 9
    assert found.classes == {"5": 20, "6": 20, "7": 20}
    assert (found.left_out, found.streamed) == (0, False)
    assert json.loads(json.dumps(found.to_json()))["classes"] == {"5": 20, "6": 20, "7": 20}


def test_test_examples_that_are_trained_on_are_counted(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 5), dtype=np.uint8)
    test = np.concatenate((images[:4], 255 - images[:3]))
    np.savez(tmp_path / "x.npz", x_train=images, x_test=test)
    found = report(tmp_path / "x.npz")
    assert (found.test_in_train, found.duplicates) == (4, 4)
    assert any("4 test examples are also training examples" in text for _, text in found.rows())


def test_the_columns_of_a_table_are_named_with_their_ranges(tmp_path: Path) -> None:
    rows = "\n".join(f"{20 + i % 50},{i / 7:.3f},{'true' if i % 3 else 'false'}" for i in range(60))
    (tmp_path / "t.csv").write_text(f"age,rate,member\n{rows}\n")
    text = dict(report(tmp_path / "t.csv").rows())["columns"]
    assert text == "age 20 to 69, rate 0 to 8.429, member true or false"
    (tmp_path / "w.csv").write_text(
        ",".join(f"c{i}" for i in range(11)) + "\n" + "".join("1.5," * 10 + "2\n" for _ in "ab" * 9)
    )
    assert dict(report(tmp_path / "w.csv").rows())["columns"].endswith("c7 1.5 to 1.5 and 3 more")
    assert report(tmp_path / "t.csv").to_json()["columns"][0] == ["age", "whole", 20.0, 69.0]


def test_the_report_of_a_built_in_set_is_of_its_examples() -> None:
    loaded = loading.load("digits", Loading(Path("nowhere")))
    found = reported(loaded)
    pixels = np.concatenate(
        [loaded.split(name).batch(slice(None)).x.numpy() for name in ("train", "validation", "test")]
    )
    assert found.mean == pytest.approx(pixels.mean(), rel=1e-5)
    assert found.constant_pixels == int((pixels.reshape(len(pixels), -1).std(0) == 0).sum())
    assert sum(found.classes.values()) == 1797


FITS = {
    ("binary", (1, 4, 4)): "bernoulli",
    ("bytes", (1, 4, 4)): "bernoulli",
    ("bytes", (3, 4, 4)): "discretized-logistic",
    ("unit", (1, 4, 4)): "gaussian",
    ("real", (1, 1, 9)): "gaussian",
}


@pytest.mark.parametrize(("support", "shape"), FITS)
def test_a_likelihood_that_is_named_takes_such_data(support: str, shape: tuple[int, int, int]) -> None:
    names, why = fitting(support, shape)
    assert names[0] == FITS[support, shape]
    assert why
    for name in names:
        member: Any = LIKELIHOODS[name]
        assert support in member.measures
    assert fitting("unit", (1, 4, 4), ends=True)[0][0] == "continuous-bernoulli"


def test_values_at_both_ends_are_told(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.save(tmp_path / "ends.npy", random.beta(0.1, 0.1, (50, 4, 4)))
    np.save(tmp_path / "middle.npy", random.beta(5, 5, (50, 4, 4)))
    assert report(tmp_path / "ends.npy").likelihoods[0] == "continuous-bernoulli"
    assert report(tmp_path / "middle.npy").likelihoods[0] == "gaussian"


def test_constant_pixels_of_real_data_deserve_a_sentence(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=(50, 6))
    numbers[:, 2] = 3.0
    np.save(tmp_path / "x.npy", numbers)
    found = report(tmp_path / "x.npy")
    assert found.constant_pixels == 1
    assert any("floor" in text for name, text in found.rows() if name == "constant")


SMALL = ("--epochs", 1, "--hidden-dims", 8, "--latent-dim", 2)


def test_the_report_is_shown_where_it_is_wanted(cli: Cli, tmp_path: Path) -> None:
    """--dry-run shows it of any data; a training of own data too, and of built-in data with -v alone."""
    np.save(tmp_path / "x.npy", known())
    dry = cli("train", "--dataset", "digits", "--dry-run", "--json", *SMALL)
    assert json.loads(dry.stdout)["report"]["sizes"]["test"] == 300
    table = cli("train", "--dataset", "x.npy", "--dry-run", *SMALL)
    assert "duplicates" in table.stdout
    assert not (tmp_path / "runs").exists()
    own = cli("train", "--dataset", "x.npy", *SMALL)
    assert "data: duplicates  9 exact" in own.stderr
    quiet, loud = (cli("train", "--dataset", "digits", *flag, *SMALL) for flag in ((), ("-v",)))
    assert "data: values" not in quiet.stderr
    assert "data: values" in loud.stderr


def test_a_dry_run_that_is_refused_shows_the_report_first(cli: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "real.npy", np.random.default_rng(0).normal(size=(50, 6)))
    refused = cli("train", "--dataset", "real.npy", "--dry-run", *SMALL)
    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert 0 <= refused.stderr.find("data: likelihood") < refused.stderr.find("error: ")
    document = cli("train", "--dataset", "real.npy", "--dry-run", "--json", *SMALL)
    assert list(json.loads(document.stdout)) == ["error"]
