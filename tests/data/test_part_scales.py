"""Parts of one data set on different scales are met before training, whatever holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vaectl.data import loading
from vaectl.data.base import Loading
from vaectl.errors import DataError

RANDOM = np.random.default_rng(0)
UNIT = RANDOM.random((40, 6, 5)).astype(np.float32)
BYTES = RANDOM.integers(0, 256, (20, 6, 5))


def notes_of(path: Path, **options: Any) -> list[str]:
    notes: list[str] = []
    loading.load(str(path), Loading(Path("nowhere"), note=notes.append), **options)
    return [note for note in notes if "same scale" in note]


def parts(path: Path, train: np.ndarray, test: np.ndarray) -> Path:
    np.savez(path, x_train=train, x_test=test)
    return path


@pytest.mark.parametrize("storage", ["resident", "stream"])
@pytest.mark.parametrize(
    ("train", "test"),
    [(UNIT, BYTES.astype(np.float32)), (UNIT, BYTES.astype(np.uint8)), (BYTES.astype(np.uint8), UNIT[:20]),
     (BYTES.astype(np.uint8), (BYTES > 127).astype(np.uint8)), (UNIT.reshape(40, -1), BYTES.reshape(20, -1)),
     ((UNIT * 65535).astype(np.uint16), BYTES.astype(np.uint16))],
)  # fmt: skip
def test_parts_on_different_scales_are_refused(
    tmp_path: Path, train: np.ndarray, test: np.ndarray, storage: str
) -> None:
    """F5: the error names both ranges."""
    with pytest.raises(DataError, match=r"its parts are on different scales: train goes from .*; test from") as caught:
        notes_of(parts(tmp_path / "x.npz", train, test), storage=storage)
    assert "same scale" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("train", "test", "remarks"),
    [(UNIT, UNIT[:9], 0), (UNIT, UNIT * 4, 1), (UNIT, UNIT * 2 - 1, 1), (UNIT, UNIT + 5, 1), (UNIT, UNIT * 2, 0),
     (UNIT, BYTES[:1].astype(np.float32), 0), (UNIT, np.zeros((9, 6, 5)), 0), (BYTES.astype(np.uint8), BYTES, 0)],
)  # fmt: skip
def test_parts_on_perhaps_different_scales_are_remarked_on(
    tmp_path: Path, train: np.ndarray, test: np.ndarray, remarks: int
) -> None:
    assert len(notes_of(parts(tmp_path / "x.npz", train, test))) == remarks


def test_a_few_large_numbers_are_not_another_scale(tmp_path: Path) -> None:
    """Counts with a long tail, which the test part happens to lack."""
    counts = np.random.default_rng(1).lognormal(size=(400, 8))
    counts[7, 3] = 1e6
    assert len(notes_of(parts(tmp_path / "x.npz", counts, counts[100:150]))) <= 1


def test_folders_are_compared_too(tmp_path: Path) -> None:
    """A test folder of images of 0 and 1 beside a training folder of 0 to 255."""
    for part, images in (("train", BYTES.astype(np.uint8)), ("test", (BYTES > 127).astype(np.uint8))):
        (tmp_path / "set" / part).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / "set" / part / f"{number}.png")
    with pytest.raises(DataError, match="different scales"):
        notes_of(tmp_path / "set")
