"""CIFAR-10 and SVHN through torchvision: found, downloaded, missing and damaged, on small files of their kind."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import pickle
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import io as scipy_io
from torchvision import datasets

from vaectl.data import loading
from vaectl.data.base import Loading
from vaectl.data.builtin.idx import UnavailableError
from vaectl.data.builtin.vision import CIFAR10_CLASSES
from vaectl.errors import DataError

DEAD = "http://127.0.0.1:9/none"


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def images(n: int, seed: int) -> np.ndarray:
    """uint8 (n, 3, 32, 32)."""
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server with a CIFAR-10 of 20 and 6 images and an SVHN of 12 and 5, whose sums torchvision then asks for."""
    folder = tmp_path / "served"
    folder.mkdir()
    batches = {name: pickle.dumps({"data": images(10, seed).reshape(10, -1), "labels": [i % 10 for i in range(10)]})
               for seed, name in enumerate(("data_batch_1", "data_batch_2"))}  # fmt: skip
    test = {"test_batch": pickle.dumps({"data": images(6, 9).reshape(6, -1), "labels": list(range(6))})}
    meta = pickle.dumps({"label_names": list(CIFAR10_CLASSES)})
    with tarfile.open(folder / "cifar.tar.gz", "w:gz") as archive:
        for name, content in {**batches, **test, "batches.meta": meta}.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    splits = {}
    for split, n in (("train", 12), ("test", 5)):
        made = {"X": images(n, n).transpose(2, 3, 1, 0), "y": np.arange(1, n + 1)[:, None] % 10 + 1}
        scipy_io.savemat(folder / f"{split}_32x32.mat", made)
        splits[split] = md5((folder / f"{split}_32x32.mat").read_bytes())
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{running.server_port}"
        monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}/cifar.tar.gz")
        monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5((folder / "cifar.tar.gz").read_bytes()))
        monkeypatch.setattr(datasets.CIFAR10, "train_list", [[name, md5(content)] for name, content in batches.items()])
        monkeypatch.setattr(datasets.CIFAR10, "test_list", [[name, md5(content)] for name, content in test.items()])
        monkeypatch.setattr(datasets.CIFAR10, "meta",
                            {"filename": "batches.meta", "key": "label_names", "md5": md5(meta)})  # fmt: skip
        listed = {
            split: [f"{address}/{split}_32x32.mat", f"{split}_32x32.mat", check] for split, check in splits.items()
        }
        monkeypatch.setattr(datasets.SVHN, "split_list", listed)
        yield folder
        running.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *args: object) -> None: ...


@pytest.mark.parametrize(("name", "sizes"), [("cifar10", (20, 6)), ("svhn", (12, 5))])
def test_what_is_missing_is_downloaded_and_then_used_as_it_is(
    served: Path, tmp_path: Path, name: str, sizes: tuple[int, int]
) -> None:
    """The images to the bit, with the labels' names; a second load needs no server."""
    request = Loading(tmp_path / "data")
    loaded = loading.load(name, request, validation_fraction=0.0)
    assert loaded.info.shape == (3, 32, 32)
    assert loaded.info.support == "bytes"
    assert (loaded.info.sizes["train"], loaded.info.sizes["test"]) == sizes
    expected = np.concatenate((images(10, 0), images(10, 1))) if name == "cifar10" else images(12, 12)
    assert torch.allclose(loaded.train.batch(slice(None)).x, torch.from_numpy(expected) / 255)
    assert len(loaded.info.classes) == 10
    assert set(loaded.train.labels.tolist()) <= set(range(10))
    for file in served.iterdir():
        file.unlink()
    assert loading.load(name, request, validation_fraction=0.0).info == loaded.info
    assert loading.load(name, request, grayscale=True, image_size=(8,)).info.shape == (1, 8, 8)


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
def test_what_cannot_be_had_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(datasets.CIFAR10, "url", DEAD)
    dead = {split: [DEAD, file, check] for split, (_, file, check) in datasets.SVHN.split_list.items()}
    monkeypatch.setattr(datasets.SVHN, "split_list", dead)
    with pytest.raises(UnavailableError, match="could not be downloaded"):
        loading.load(name, Loading(tmp_path))
    with pytest.raises(DataError, match="run's record"):
        loading.load(name, Loading(tmp_path, keeps=False))


def test_a_changed_file_is_not_opened(served: Path, tmp_path: Path) -> None:
    """The sum is checked before anything is unpickled."""
    request = Loading(tmp_path / "data")
    loading.load("cifar10", request)
    batch = tmp_path / "data" / "cifar-10-batches-py" / "data_batch_1"
    batch.write_bytes(b"cos\nsystem\n(S'touch touched'\ntR.")
    with pytest.raises(DataError):
        loading.load("cifar10", Loading(tmp_path / "data", keeps=False))
    assert not Path("touched").exists()
