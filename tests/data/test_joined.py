"""Several splits as one, in memory and streamed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.own import folder, load, pictures
from vaectl.config.spec import SPLITS
from vaectl.data.joined import joined
from vaectl.errors import DataError


@pytest.mark.parametrize("storage", ["resident", "stream"])
def test_splits_follow_one_another(isolated: Path, storage: str) -> None:
    data = load(folder(isolated / "p", pictures(20)), storage=storage, validation_fraction=0.2)
    whole = joined(data, SPLITS)
    parts = [data.split(name) for name in SPLITS]
    x = torch.cat([part.batch(slice(None)).x for part in parts])
    assert len(whole) == 20
    assert torch.equal(torch.cat([batch.x for batch in whole.batches(7)]), x)
    order = torch.tensor([19, 3, 0, 15, 3])
    assert torch.equal(whole.batch(order).x, x[order])
    assert torch.equal(whole.labels, torch.cat([part.labels for part in parts]))
    assert joined(data, ["test"]) is data.test


def test_a_bad_example_of_a_chain_is_named_by_its_own_file(isolated: Path) -> None:
    root = folder(isolated / "p", pictures(20))
    data = load(root, storage="stream", validation_fraction=0.2)
    whole = joined(data, SPLITS)
    last = data.files["test"][int(data.test.rows[-1])]
    (root / last).write_bytes(b"")
    with pytest.raises(DataError, match=last):
        whole.batch(torch.tensor([19]))


def test_empty_splits_do_not_count(isolated: Path) -> None:
    np.save(isolated / "x.npy", pictures(9))
    data = load(isolated / "x.npy", validation_fraction=0)
    assert joined(data, ["validation", "test"]) is data.test
    assert len(joined(data, ["validation"])) == 0
