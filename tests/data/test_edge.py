"""The background of images, told by their outermost pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.own import load
from vaectl.data.info import DataInfo
from vaectl.errors import DataError


@pytest.mark.parametrize("storage", ["resident", "stream"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_edge_is_the_mean_of_the_outermost_pixels(isolated: Path, storage: str, channels: int) -> None:
    images = np.zeros((30, 6, 5, channels), np.uint8)
    images[:, 1:-1, 1:-1] = 200  # no edge
    images[:, 0], images[:, -1] = 51, 51
    np.save(isolated / "x.npy", images)
    info = load(isolated / "x.npy", storage=storage).info
    # two lines of five bright pixels, two columns of six of which two are bright
    assert info.edge == pytest.approx(0.2 * (10 + 4) / (10 + 12))


def test_tables_and_real_numbers_have_none(isolated: Path) -> None:
    np.save(isolated / "t.npy", np.random.RandomState(0).rand(30, 6))
    np.save(isolated / "r.npy", np.random.RandomState(0).randn(30, 6, 6))
    assert load(isolated / "t.npy").info.edge is None
    assert load(isolated / "r.npy").info.edge is None


def test_an_older_record_has_none_and_a_damaged_one_is_refused() -> None:
    info = DataInfo("x", (1, 6, 6), "bytes", "", {"train": 1, "validation": 1, "test": 1}, "", edge=0.25)
    document = info.to_json()
    assert DataInfo.from_json(document).edge == 0.25
    assert DataInfo.from_json({k: v for k, v in document.items() if k != "edge"}).edge is None
    for damage in (2, "dark", True, [0]):
        with pytest.raises(DataError, match="damaged"):
            DataInfo.from_json(document | {"edge": damage})
