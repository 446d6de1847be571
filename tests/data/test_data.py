"""Data sets: files used as they are, downloads with checksums, splits that keep apart, damage that is named."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.server
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets
from torchvision.transforms import v2

from tests.support.idx import FILES, idx_file, mnist_files, write_mnist
from tests.support.toys import toy_data
from vaectl.config.recipes import vae
from vaectl.config.spec import Training
from vaectl.data import base, loading
from vaectl.data.base import Loading, Raw, split_data
from vaectl.data.batch import Batch
from vaectl.data.builtin import idx
from vaectl.data.info import DataInfo
from vaectl.errors import DataError, SettingError
from vaectl.model.builder import build
from vaectl.training.trainer import fit

SMALL = mnist_files(60, 20, 28)


def toy_raw() -> Raw:
    """Arrays of grey images that have some black and some white pixels."""
    whole = toy_data(validation_fraction=0.0)
    arrays = [value.numpy().copy() for s in (whole.train, whole.test) for value in (s.images, s.labels)]
    for images in arrays[::2]:
        images[:, :, 0] = 0
        images[:, :, 1] = 255
    return Raw(*arrays)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A local mirror that serves the small MNIST, with its checksums; the first mirror in the list is dead."""
    served = tmp_path / "served"
    served.mkdir()
    resources = []
    for name, content in SMALL.items():
        archive = gzip.compress(content, mtime=0)
        (served / f"{name}.gz").write_bytes(archive)
        resources.append((f"{name}.gz", hashlib.md5(archive).hexdigest()))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, directory=str(served), **kwargs)  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{running.server_port}/"
        monkeypatch.setattr(datasets.MNIST, "resources", resources)
        monkeypatch.setattr(datasets.MNIST, "mirrors", [address + "dead/", address])
        yield served
        running.shutdown()


@pytest.fixture
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    """No mirror answers."""
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])


@pytest.mark.parametrize("zipped", [True, False])
def test_files_in_the_directory_are_used_as_they_are(tmp_path: Path, no_mirror: None, zipped: bool) -> None:
    """Gzipped or not, without the network, and nothing is written beside them."""
    raw = write_mnist(tmp_path, SMALL, packed=zipped)
    before = sorted(raw.iterdir())
    loaded = loading.load("mnist", Loading(tmp_path), validation_fraction=0.25)
    assert loaded.info.sizes == {"train": 45, "validation": 15, "test": 20}
    assert loaded.info.shape == (1, 28, 28)
    assert sorted(raw.iterdir()) == before


def test_both_forms_have_one_fingerprint(tmp_path: Path) -> None:
    prints = set()
    for zipped in (True, False):
        write_mnist(tmp_path / str(zipped), SMALL, packed=zipped)
        prints.add(loading.load("mnist", Loading(tmp_path / str(zipped))).info.fingerprint)
    assert len(prints) == 1


def test_download_checks_and_reports(server: Path, tmp_path: Path) -> None:
    """From the second mirror when the first is dead; progress ends at the size; a second load needs no server."""
    steps: list[tuple[str, int, int]] = []
    request = Loading(tmp_path / "data", progress=lambda *step: steps.append(step))
    first = loading.load("mnist", request)
    raw = tmp_path / "data" / "MNIST" / "raw"
    assert sorted(file.name for file in raw.iterdir()) == sorted(f"{name}.gz" for name in FILES)
    assert {what for what, _, _ in steps} == {f"MNIST {name}.gz" for name in FILES}
    sizes = {f"MNIST {file.name}": file.stat().st_size for file in raw.iterdir()}
    assert all(max(done for what, done, _ in steps if what == name) == size for name, size in sizes.items())
    for file in server.iterdir():
        file.unlink()
    assert loading.load("mnist", request).info == first.info


def test_a_download_with_a_wrong_checksum_is_refused(server: Path, tmp_path: Path) -> None:
    """Nothing of it stays."""
    (server / f"{FILES[0]}.gz").write_bytes(b"something else")
    with pytest.raises(DataError, match="checksum"):
        loading.load("mnist", Loading(tmp_path / "data"))
    assert not list((tmp_path / "data" / "MNIST" / "raw").iterdir())


def test_auto_takes_mnist_where_it_is_and_says_so(tmp_path: Path, no_mirror: None) -> None:
    write_mnist(tmp_path, SMALL, packed=True)
    notes: list[str] = []
    assert loading.load("auto", Loading(tmp_path, note=notes.append)).info.name == "mnist"
    assert any("MNIST" in note and "found" in note for note in notes)


def test_auto_falls_back_to_glyphs_and_says_why(
    tmp_path: Path, no_mirror: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loading.SOURCES, "glyphs", lambda request: loading.SOURCES["digits"](request))
    notes: list[str] = []
    assert loading.load("auto", Loading(tmp_path, note=notes.append)).info.name == "glyphs"
    assert any("glyphs" in note and "could not be downloaded" in note for note in notes)


def test_mnist_by_name_never_substitutes(tmp_path: Path, no_mirror: None) -> None:
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        loading.load("mnist", Loading(tmp_path))
    assert caught.value.hint is not None


def test_auto_does_not_paper_over_damage(tmp_path: Path, no_mirror: None) -> None:
    """A damaged MNIST is an error that names the file, not a reason to train on something else."""
    raw = write_mnist(tmp_path, SMALL, packed=False)
    (raw / FILES[2]).write_bytes(b"\0\0\x08\x03")
    with pytest.raises(DataError, match=FILES[2]):
        loading.load("auto", Loading(tmp_path))


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0", b"GIF89a" + bytes(100), idx_file((60, 28, 28))[:-1],
     b"\0\0\x08\x03" + b"\xff" * 12, idx_file((60, 28)),
     idx_file((59, 28, 28))],
    ids=["empty", "short", "foreign", "truncated", "enormous", "flat", "one-missing"],
)  # fmt: skip
@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files_are_named(tmp_path: Path, no_mirror: None, content: bytes, zipped: bool) -> None:
    raw = write_mnist(tmp_path, SMALL, packed=False)
    (raw / FILES[0]).unlink()
    name = FILES[0] + (".gz" if zipped else "")
    (raw / name).write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(DataError, match=r"train"):
        loading.load("mnist", Loading(tmp_path))


@pytest.mark.parametrize("cut", [1, 12, 200])
def test_corrupt_gzip_is_named(tmp_path: Path, no_mirror: None, cut: int) -> None:
    raw = write_mnist(tmp_path, SMALL, packed=True)
    archive = raw / f"{FILES[0]}.gz"
    archive.write_bytes(archive.read_bytes()[:-cut])
    with pytest.raises(DataError, match=archive.name):
        loading.load("mnist", Loading(tmp_path))


def test_splits_keep_apart_and_do_not_depend_on_the_run() -> None:
    """Training and validation rows are disjoint and cover the training array; the split is the same every time."""
    loaded, again = toy_data(), toy_data()
    train, held = set(loaded.train.rows.tolist()), set(loaded.validation.rows.tolist())
    assert not train & held
    assert train | held == set(range(300))
    assert torch.equal(loaded.validation.rows, again.validation.rows)


def test_the_fingerprint_is_of_the_arrays() -> None:
    """It does not depend on how much is held out, and any changed pixel changes it."""
    whole = toy_data(validation_fraction=0.0)
    assert toy_data().info.fingerprint == whole.info.fingerprint
    raw = Raw(*(split.numpy().copy() for split in
                     (whole.train.images, whole.train.labels, whole.test.images, whole.test.labels)))  # fmt: skip
    assert split_data("toy", raw, 0.1).info.fingerprint == whole.info.fingerprint
    raw.test_images[3, 0, 2, 2] ^= 1
    assert split_data("toy", raw, 0.1).info.fingerprint != whole.info.fingerprint


def test_a_batch_is_floats_from_zero_to_one() -> None:
    loaded = toy_data()
    x = loaded.train.batch(torch.tensor([4, 2])).x
    assert x.dtype == torch.float32
    assert torch.allclose(x, loaded.train.images[[4, 2]] / 255)


def test_info_survives_json() -> None:
    info = toy_data().info
    assert DataInfo.from_json(info.to_json()) == info


@pytest.mark.parametrize(
    "change", [{"shape": [1, 28]}, {"shape": [1, 28, 10**9]}, {"sizes": {}}, {"name": 3}, {"more": 1}]
)
def test_a_damaged_description_is_an_error(change: dict[str, object]) -> None:
    with pytest.raises(DataError):
        DataInfo.from_json(toy_data().info.to_json() | change)


def test_digits_are_the_real_ones() -> None:
    loaded = loading.load("digits", Loading(Path("nowhere")), validation_fraction=0.1)
    assert loaded.info.sizes == {"train": 1347, "validation": 150, "test": 300}
    assert loaded.info.shape == (1, 8, 8)
    assert set(loaded.test.labels.tolist()) == set(range(10))
    assert loaded.train.images.max() == 255


def test_a_fraction_that_leaves_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="leaves none"):
        toy_data(train=1, validation_fraction=0.9)


def test_real_mnist_is_what_the_field_knows(mnist: Path) -> None:
    """60,000 + 10,000 images, and the entropy floor of grey-level cross-entropy on the test set: 45.53 nats."""
    loaded = loading.load("mnist", Loading(mnist))
    assert loaded.info.sizes == {"train": 55000, "validation": 5000, "test": 10000}
    x = loaded.test.batch(slice(None)).x.double()
    floor = -(torch.special.xlogy(x, x) + torch.special.xlogy(1 - x, 1 - x)).sum((1, 2, 3)).mean()
    assert floor.item() == pytest.approx(45.53, abs=0.005)


def test_the_files_are_those_of_torchvision() -> None:
    """What is found and read without torchvision is what its classes would download."""
    for dataset in (datasets.MNIST, datasets.FashionMNIST, datasets.KMNIST):
        assert tuple(name for name, _ in dataset.resources) == idx.ARCHIVES


def test_bytes_become_what_torchvision_makes_of_them() -> None:
    """All 256 of them, to the last bit, and the stored bytes stay as they are."""
    loaded = toy_data(validation_fraction=0.0)
    stored = torch.arange(256, dtype=torch.uint8).reshape(16, 1, 4, 4)
    split = dataclasses.replace(loaded.train, images=stored.clone())
    expected = v2.ToDtype(torch.float32, scale=True)(stored)
    assert torch.equal(split.batch(slice(None)).x, expected)
    assert torch.equal(split.batch(torch.arange(16)).x, expected)
    assert torch.equal(split.images, stored)


def test_the_timeout_is_short() -> None:
    """Offline a person waits seconds, not minutes, for the fall-back."""
    assert idx.TIMEOUT_SECONDS <= 15


def test_static_binarisation_draws_every_pixel_once_with_its_grey_level() -> None:
    """Pixels become 0 or 1, the same at every load and held-out fraction, with the grey level as probability."""
    raw = toy_raw()
    grey, once, again = (split_data("toy", raw, 0.25, kind) for kind in ("none", "static", "static"))
    for name in ("train", "validation", "test"):
        x, p = once.split(name).batch(slice(None)).x, grey.split(name).batch(slice(None)).x
        assert set(x.unique().tolist()) == {0.0, 1.0}
        assert torch.equal(x, again.split(name).batch(slice(None)).x)
        deviation = (x - p).mean() / ((p * (1 - p)).mean() / p.numel()) ** 0.5
        assert abs(deviation) < 4.5
        assert (x[p == 0] == 0).all()
        assert (x[p == 1] == 1).all()
    assert torch.equal(split_data("toy", raw, 0.0, "static").test.images, once.test.images)
    assert not torch.equal(split_data("toy", raw, 0.25, "static", 1).test.images, once.test.images)
    index = torch.arange(5)
    assert torch.equal(once.train.training_batch((index,)).x, once.train.batch(index).x)


def test_the_draws_are_one_stream_of_numpys() -> None:
    """The training array's numbers come first, then the test array's: published runs were evaluated on these pixels."""
    raw = toy_raw()
    stream = np.random.RandomState(7)
    train, test = (
        np.where(stream.random_sample(images.shape) * 255 < images, 255, 0)
        for images in (raw.train_images, raw.test_images)
    )
    for kind in ("static", "dynamic"):
        data = split_data("toy", raw, 0.25, kind, 7)
        for split, whole in ((data.train, train), (data.validation, train), (data.test, test)):
            assert np.array_equal(split.images.numpy(), whole[split.rows.numpy()])


def test_a_draw_does_not_depend_on_how_images_are_divided() -> None:
    """Parts are drawn as the whole would be, across the borders of what is drawn at once."""
    images = np.random.default_rng(0).integers(0, 256, (2 * base.CHUNK + 10, 1, 2, 2), dtype=np.uint8)
    rows = np.random.default_rng(1).permutation(len(images))
    parts = np.sort(rows[:900]), np.sort(rows[900:]), np.arange(0)
    [whole] = base.binarized(images, np.random.RandomState(5), np.arange(len(images)))
    uniform = np.random.RandomState(5).random_sample(images.shape)
    assert np.array_equal(whole, np.where(uniform * 255 < images, 255, 0))
    for part, drawn in zip(parts, base.binarized(images, np.random.RandomState(5), *parts), strict=True):
        assert np.array_equal(drawn, whole[part])


@pytest.mark.parametrize("kind", ["none", "static"])
def test_splitting_holds_the_images_once_more(kind: base.Binarize) -> None:
    """Beside the source's arrays there is one array of each split and no other, but for what is drawn at once."""
    images, labels = np.zeros((30_000, 1, 28, 28), np.uint8), np.zeros(30_000, np.uint8)
    raw = Raw(images, labels, images[:1000], labels[:1000])
    tracemalloc.start()
    try:
        split_data("toy", raw, 1 / 12, kind)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    drawn = 3 * 8 * images[: base.CHUNK].size if kind == "static" else 0  # uniform numbers, and what is made of them
    assert peak < 1.1 * images.nbytes + drawn


def test_dynamic_binarisation_trains_on_fresh_draws_and_evaluates_on_fixed_ones() -> None:
    """What is evaluated is what static binarisation evaluates; each training batch is a new draw of the grey levels."""
    raw = toy_raw()
    grey, static, dynamic = (split_data("toy", raw, 0.25, kind) for kind in ("none", "static", "dynamic"))
    for name in ("train", "validation", "test"):
        assert torch.equal(dynamic.split(name).batch(slice(None)).x, static.split(name).batch(slice(None)).x)
    assert dynamic.info == static.info
    assert dynamic.info.support == "binary"
    assert dynamic.info.preprocessing != grey.info.preprocessing
    torch.manual_seed(0)
    draws = torch.stack([dynamic.train.training_batch((torch.arange(10),)).x for _ in range(400)])
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    p = grey.train.batch(slice(0, 10)).x
    assert (draws.mean(0) - p).abs().max() < 5 * 0.5 / 400**0.5
    assert dynamic.train.first(3).grey is not None
    assert dynamic.train.to(torch.device("cpu")).grey is not None


def test_every_epoch_of_dynamic_binarisation_sees_other_images_and_repeats_by_seed() -> None:
    spec = dataclasses.replace(vae(), latent_dim=2, training=Training(epochs=2, batch_size=50))
    data = split_data("toy", toy_raw(), 0.0, "dynamic")
    seen: list[torch.Tensor] = []

    class Watched(type(data.train)):  # type: ignore[misc]
        def training_batch(self, tensors: Sequence[torch.Tensor], rows: slice = slice(None)) -> Batch:
            batch, [index] = super().training_batch(tensors, rows), tensors
            x = batch.x
            seen.append(torch.zeros(len(self), *x.shape[1:]).index_copy(0, index, x))
            return batch

    for _ in range(2):
        watched = Watched(**{f.name: getattr(data.train, f.name) for f in dataclasses.fields(data.train)})
        model, objective = build(spec, data.info)
        # not fast: a step that is recorded asks its split for no batch again
        list(fit(model, objective, dataclasses.replace(data, train=watched), spec.training, fast=False))
    steps = len(seen) // 4
    first, second, *again = (sum(seen[i * steps : (i + 1) * steps]) for i in range(4))
    assert isinstance(first, torch.Tensor)
    assert not torch.equal(first, second)
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])


def test_a_seed_without_binarisation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="--binarize"):
        loading.load("digits", Loading(tmp_path), binarize_seed=3)
