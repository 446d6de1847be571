"""The built-in glyphs: deterministic, balanced, MNIST-like, and cached without ever failing for the cache.

Shapes: N images of the sample, each 28 x 28.
"""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from vaectl.data.builtin import glyphs
from vaectl.data.builtin.glyphs import FACTORS, FONTS, Glyphs, generate, load_or_generate


@pytest.fixture(scope="module")
def sample() -> Glyphs:
    return generate(1000, seed=7)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "TRAIN", (60, 1))
    monkeypatch.setattr(glyphs, "TEST", (20, 2))


def same(a: Glyphs, b: Glyphs) -> bool:
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def ink(images: np.ndarray) -> np.ndarray:
    return images.mean((1, 2)) / 255


def factor(sample: Glyphs, name: str) -> np.ndarray:
    return sample.factors[:, FACTORS.index(name)]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def moments(images: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean y, mean x and the second moments yy, xy, xx of the ink, each (N,)."""
    weight = images / images.sum((1, 2), keepdims=True, dtype=np.float64)  # (N, 28, 28)
    grid = np.arange(28) - 13.5
    y, x = (weight * grid[:, None]).sum((1, 2)), (weight * grid).sum((1, 2))
    dy, dx = grid[None, :, None] - y[:, None, None], grid[None, None, :] - x[:, None, None]
    return (y, x, *((weight * product).sum((1, 2)) for product in (dy * dy, dx * dy, dx * dx)))


def test_two_calls_agree_and_two_seeds_do_not() -> None:
    assert same(generate(130, seed=3), generate(130, seed=3))
    assert not np.array_equal(generate(130, seed=3).images, generate(130, seed=4).images)


@pytest.mark.parametrize("chunk", [1, 37, 10_000])
def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    expected = generate(130, seed=3)
    monkeypatch.setattr(glyphs, "CHUNK", chunk)
    assert same(generate(130, seed=3), expected)


def test_shapes_dtypes_and_range(sample: Glyphs) -> None:
    assert [(a.shape, a.dtype) for a in sample] == [
        ((1000, 28, 28), np.uint8),
        ((1000,), np.int64),
        ((1000, len(FACTORS)), np.float32),
    ]
    assert sample.images.min() == 0
    assert sample.images.max() == 255
    assert np.isfinite(sample.factors).all()


def test_labels_are_balanced_and_shuffled(sample: Glyphs) -> None:
    assert np.bincount(sample.labels).tolist() == [100] * 10
    assert np.bincount(generate(23, seed=0).labels, minlength=10).tolist() == [3] * 3 + [2] * 7
    assert not np.array_equal(sample.labels, np.arange(1000) % 10)


def test_every_font_is_used_only_for_what_it_lends(sample: Glyphs) -> None:
    font = factor(sample, "font").astype(int)
    assert set(font) == set(range(len(FONTS)))
    assert all(FONTS[f][2][label] != "." for f, label in zip(font, sample.labels, strict=True))


@pytest.mark.parametrize("n", [1, 3])
def test_few_images(n: int) -> None:
    assert generate(n, seed=0).images.shape == (n, 28, 28)


@pytest.mark.parametrize("n", [0, -5])
def test_no_images_is_an_error(n: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        generate(n, seed=0)


def test_the_images_do_not_depend_on_fonts_or_versions_of_libraries() -> None:
    """Runs record the fingerprint of their data, and published figures are of these images."""
    content = b"".join(array.tobytes() for array in generate(500, seed=2))
    assert hashlib.sha256(content).hexdigest() == "ac565b8505843e97c729b2d61571fd8d7ea0188e653fdcb53706833b51caca4b"


def test_drawing_needs_no_fonts() -> None:
    """matplotlib's fonts change with its versions, and Pillow may be built without FreeType."""
    code = (
        "import sys; sys.modules['matplotlib'] = sys.modules['PIL'] = None; "
        "from vaectl.data.builtin.glyphs import generate; assert generate(20, 1).images.any()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ink_and_grey_levels_are_like_mnist(sample: Glyphs) -> None:
    # MNIST: mean 0.131, 1st and 99th percentile of an image's mean 0.049 and 0.246, 81% of the pixels black.
    each = ink(sample.images)
    assert 0.11 < each.mean() < 0.15
    assert np.percentile(each, 1) > 0.04
    assert np.percentile(each, 99) < 0.28
    assert 0.75 < (sample.images == 0).mean() < 0.85
    assert ((sample.images > 0) & (sample.images < 250)).mean() < 0.17
    assert (sample.images.max((1, 2)) > 128).all()


def test_digits_fill_their_box_and_keep_off_the_edge(sample: Glyphs) -> None:
    strong = sample.images > 127
    rows, columns = strong.any(2), strong.any(1)  # (N, 28)
    extent = [28 - a.argmax(1) - a[:, ::-1].argmax(1) for a in (rows, columns)]
    longer = np.maximum(*extent)
    assert 17 <= np.median(longer) <= 21
    assert np.percentile(longer, 1) >= 14
    assert longer.max() <= 26
    border = np.concatenate([rows[:, [0, -1]], columns[:, [0, -1]]], axis=1)
    assert border.any(1).mean() < 0.005
    y, x, *_ = moments(sample.images)
    assert abs(y.mean()) < 1
    assert abs(x.mean()) < 1
    assert max(y.std(), x.std()) < 2


def test_thickness_is_ink(sample: Glyphs) -> None:
    assert correlation(factor(sample, "thickness"), ink(sample.images)) > 0.5


def test_slant_is_the_slant_that_is_measured(sample: Glyphs) -> None:
    _, _, yy, xy, _ = moments(sample.images)
    assert correlation(np.tan(np.deg2rad(factor(sample, "slant"))), -xy / yy) > 0.5


def test_width_is_the_ratio_of_the_sides(sample: Glyphs) -> None:
    _, _, yy, xy, xx = moments(sample.images)
    upright = (sample.labels == 0) & (np.abs(factor(sample, "slant")) < 15)
    ratio = np.sqrt((xx - xy**2 / yy) / yy)
    assert correlation(factor(sample, "width")[upright], ratio[upright]) > 0.5


@pytest.mark.parametrize("name", FACTORS)
def test_each_factor_changes_the_picture(sample: Glyphs, name: str) -> None:
    factors = sample.factors[:50].copy()
    labels = np.zeros(50, np.int64)  # every font lends a zero
    control = np.random.default_rng(0).standard_normal((50, 3, glyphs.CONTROL, glyphs.CONTROL), np.float32)
    before = glyphs._render(glyphs._atlas(), labels, factors, control)
    column = FACTORS.index(name)
    step = {"font": 1, "slant": 10, "thickness": 0.5, "width": 0.2, "rotation": 6}.get(name, 0.5)
    factors[:, column] = (factors[:, column] + step) % len(FONTS) if name == "font" else factors[:, column] + step
    after = glyphs._render(glyphs._atlas(), labels, factors, control)
    assert (np.abs(after.astype(int) - before).max((1, 2)) > 8).all()


def test_labels_can_be_learnt() -> None:
    train, test = generate(2000, seed=1), generate(500, seed=2)
    neighbours = KNeighborsClassifier(3).fit(train.images.reshape(2000, -1), train.labels)
    assert neighbours.score(test.images.reshape(500, -1), test.labels) > 0.8


@pytest.mark.usefixtures("small")
def test_cache_round_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    made = load_or_generate(tmp_path / "data", notes.append)
    assert [len(split.images) for split in made] == [60, 20]
    assert not np.array_equal(made[0].images[:20], made[1].images)
    assert [p.name for p in (tmp_path / "data" / "glyphs").iterdir()] == [f"glyphs-v{glyphs.VERSION}.npz"]
    monkeypatch.setattr(glyphs, "generate", lambda n, seed: pytest.fail("made again in spite of the cache"))
    loaded = load_or_generate(tmp_path / "data", notes.append)
    assert all(same(a, b) for a, b in zip(made, loaded, strict=True))
    assert notes == []


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def damage_flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_text(path: Path) -> None:
    path.write_text("not an archive")


def damage_lone_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def damage_pickle(path: Path) -> None:
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **arrays | {"train_labels": np.array([object()])})


def damage_shape(path: Path) -> None:
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **arrays | {"test_images": arrays["test_images"][1:]})


def damage_dtype(path: Path) -> None:
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **arrays | {"train_labels": arrays["train_labels"].astype(np.int32)})


def damage_missing(path: Path) -> None:
    with np.load(path) as stored:
        arrays = dict(stored)
    del arrays["test_factors"]
    np.savez(path, **arrays)


DAMAGES = [value for name, value in list(globals().items()) if name.startswith("damage_")]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_cache_is_remade(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    made = load_or_generate(tmp_path, pytest.fail)
    path = tmp_path / "glyphs" / f"glyphs-v{glyphs.VERSION}.npz"
    whole = path.stat().st_size
    damage(path)
    notes: list[str] = []
    again = load_or_generate(tmp_path, notes.append)
    assert all(same(a, b) for a, b in zip(made, again, strict=True))
    assert len(notes) == 1
    assert str(path) in notes[0]
    assert path.stat().st_size == whole
    load_or_generate(tmp_path, pytest.fail)


@pytest.mark.usefixtures("small")
def test_folder_that_cannot_be_made_is_only_noted(tmp_path: Path) -> None:
    # A file in the folder's place: tests may run as root, who may write to a read-only folder.
    blocked = tmp_path / "data"
    blocked.write_text("")
    notes: list[str] = []
    train, test = load_or_generate(blocked, notes.append)
    assert same(train, generate(60, 1))
    assert same(test, generate(20, 2))
    assert len(notes) == 1
    assert "not cached" in notes[0]
    assert str(blocked) in notes[0]


@pytest.mark.usefixtures("small")
def test_failed_write_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(glyphs.np, "savez", full)
    notes: list[str] = []
    load_or_generate(tmp_path, notes.append)
    assert len(notes) == 1
    assert "No space left" in notes[0]
    assert list((tmp_path / "glyphs").iterdir()) == []
