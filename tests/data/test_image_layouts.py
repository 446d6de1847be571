"""Folders as people have them: splits one level down, stray folders, pages, transparency, links; and what is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.image_files import everything, labels, load, pets, pictures, save
from vaectl.data import loading
from vaectl.data.base import Loading
from vaectl.errors import DataError, SettingError


def said(notes: list[str], *words: str) -> bool:
    return any(all(word in note for word in words) for note in notes)


# --- splits and classes -----------------------------------------------------------------------------------------------


def test_splits_one_level_down(tmp_path: Path) -> None:
    pets(tmp_path / "d" / "data")
    notes: list[str] = []
    loaded = load(tmp_path / "d", notes)
    assert dict(loaded.info.sizes) == {"train": 13, "validation": 1, "test": 4}
    assert loaded.info.classes == ("cat", "dog")
    assert said(notes, "data in it is read")
    assert loaded.info.fingerprint == load(tmp_path / "d" / "data").info.fingerprint


def test_a_folder_in_a_folder_of_its_name(tmp_path: Path) -> None:
    """One class alone is no class, unless it is said of other data than the run's."""
    save(tmp_path / "cats" / "cats", pictures(12))
    loaded = load(tmp_path / "cats")
    assert loaded.info.classes == ()
    assert labels(loaded) == [-1] * 12
    assert loaded.files["test"] == [f"cats/{row:03}.png" for row in range(12)]
    other = loading.load(str(tmp_path / "cats"), Loading(tmp_path, lenient=True))
    assert other.info.classes == ("cats",)
    assert labels(other) == [0] * 12
    # which a run before had as a class
    assert other.info.fingerprint == loaded.info.fingerprint


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("seg_train", "seg_test"),
        ("train_images", "test_images"),
        ("train2017", "val2017"),
        ("MNIST-Train", "MNIST-Test"),
    ],
)
def test_splits_with_a_prefix_or_a_suffix(tmp_path: Path, train: str, test: str) -> None:
    root = pets(tmp_path / "d")
    (root / "train").rename(root / train)
    (root / "test").rename(root / test)
    save(root / "seg_pred", pictures(3))
    notes: list[str] = []
    loaded = load(root, notes)
    part = "validation" if "val" in test else "test"
    assert loaded.info.sizes[part] == 4
    assert sum(loaded.info.sizes.values()) == 18
    assert loaded.info.classes == ("cat", "dog")
    assert said(notes, f"{train} is the train split", f"{test} is the {part} split")
    assert said(notes, "seg_pred ignored")


def test_two_domains_are_two_classes(tmp_path: Path) -> None:
    """As CycleGAN's data have them."""
    for number, (name, count) in enumerate({"trainA": 8, "trainB": 6, "testA": 2, "testB": 3}.items()):
        save(tmp_path / "d" / name, pictures(count, seed=number))
    notes: list[str] = []
    loaded = load(tmp_path / "d", notes)
    assert loaded.info.classes == ("A", "B")
    assert loaded.test.labels.tolist() == [0, 0, 1, 1, 1]
    assert said(notes, "trainA, trainB are read as classes", "--classes")
    assert sum(load(tmp_path / "d", classes=("A",)).info.sizes.values()) == 10


def test_names_that_only_look_like_a_split(tmp_path: Path) -> None:
    """A train needs a test of the same name around it."""
    for name in ("training_set", "contest", "interval"):
        save(tmp_path / "d" / name, pictures(5))
    assert load(tmp_path / "d").info.classes == ("contest", "interval", "training_set")


def test_splits_that_are_not_looked_for_are_said(tmp_path: Path) -> None:
    """Test images are never trained on in silence."""
    pets(tmp_path / "d" / "a")
    pets(tmp_path / "d" / "b")
    notes: list[str] = []
    loaded = load(tmp_path / "d", notes)
    assert loaded.info.classes == ("a", "b")
    assert said(notes, "a/test", "a/train", "read as train images")
    notes.clear()
    save(tmp_path / "e" / "cat", pictures(5))
    save(tmp_path / "e" / "test", pictures(5))
    load(tmp_path / "e", notes)
    assert said(notes, "test are called as splits are")
    notes.clear()
    load(pets(tmp_path / "f"), notes)
    assert not said(notes, "called")


def test_a_test_set_without_classes_has_no_labels(tmp_path: Path) -> None:
    """As Tiny ImageNet's, whose test images are in one folder."""
    root = pets(tmp_path / "d")
    save(root / "validation" / "images", pictures(3))
    notes: list[str] = []
    loaded = load(root, notes)
    assert loaded.info.classes == ("cat", "dog")
    assert loaded.validation.labels.tolist() == [-1] * 3
    assert said(notes, "validation images are all in images")
    flat = pets(tmp_path / "flat")
    save(flat / "val", pictures(3))
    assert load(flat, notes).validation.labels.tolist() == [-1] * 3
    assert said(notes, "validation images are in no class folder")


def test_what_is_rare_is_what_is_odd(tmp_path: Path) -> None:
    root = save(tmp_path / "photos", pictures(40))
    save(root / "edited", pictures(1, seed=9))
    notes: list[str] = []
    loaded = load(root, notes)
    assert sum(loaded.info.sizes.values()) == 41
    assert loaded.info.classes == ()
    assert said(notes, "most images are outside of its sub-folders", "1 image in edited are read")
    few = pets(tmp_path / "few")
    save(few / "train", pictures(3))
    with pytest.raises(DataError, match=r"3 of 21 images .*000\.png: is outside the class folders") as caught:
        load(few)
    assert "--skip-bad" in (caught.value.hint or "")


def test_most_are_never_to_be_skipped(tmp_path: Path) -> None:
    root = save(tmp_path / "photos", pictures(4))
    for number in range(5):
        (root / f"bad{number}.png").write_bytes(b"x")
    with pytest.raises(DataError, match="5 of 9") as caught:
        load(root)
    assert "--skip-bad" not in (caught.value.hint or "")
    (root / "bad0.png").unlink()
    with pytest.raises(DataError, match="4 of 8") as caught:
        load(root)
    assert "--skip-bad" in (caught.value.hint or "")


@pytest.mark.parametrize("whole", [False, True])
def test_a_folder_of_links_says_what_to_do(tmp_path: Path, whole: bool) -> None:
    elsewhere = save(tmp_path / "elsewhere", pictures(9))
    root = tmp_path / "photos"
    root.mkdir()
    if whole:
        (root / "cat").symlink_to(elsewhere)
    else:
        for file in elsewhere.iterdir():
            (root / file.name).symlink_to(file)
    with pytest.raises(DataError, match="is a link that leads out of the folder, to") as caught:
        load(root)
    assert "cp -rL photos" in (caught.value.hint or "")
    assert "--skip-bad" not in (caught.value.hint or "")


# --- pages and frames -------------------------------------------------------------------------------------------------


def stack(path: Path, pages: np.ndarray) -> Path:
    """A TIFF file of several pages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = map(Image.fromarray, pages)
    first.save(path, save_all=True, append_images=others)
    return path


@pytest.mark.parametrize("storage", ["resident", "stream"])
def test_pages_are_examples(tmp_path: Path, storage: str) -> None:
    pages = pictures(48, channels=1)
    for number in range(4):
        stack(tmp_path / "stacks" / f"{number}.tif", pages[12 * number : 12 * number + 12])
    notes: list[str] = []
    loaded = load(tmp_path / "stacks", notes, storage=storage)
    assert said(notes, "48 pages in 4 files")
    assert torch.allclose(everything(loaded)[:, 0], torch.from_numpy(pages) / 255)
    assert loaded.files["test"] == [f"{row // 12}.tif page {row % 12 + 1}" for row in range(48)]


def test_one_file_of_pages_is_a_data_set(tmp_path: Path) -> None:
    pages = pictures(12, channels=1).astype(np.uint16) * 257
    loaded = load(stack(tmp_path / "stack.tif", pages))
    assert loaded.info.shape == (1, 7, 5)
    assert torch.allclose(everything(loaded)[:, 0], torch.from_numpy(pages.astype(np.float32)) / 65535)
    Image.fromarray(pages[0]).save(tmp_path / "one.tif")
    with pytest.raises(DataError, match="is one image"):
        load(tmp_path / "one.tif")


def test_a_page_of_another_size_is_named(tmp_path: Path) -> None:
    images = [Image.fromarray(image) for image in pictures(5, channels=1)]
    images[0].save(tmp_path / "x.tif", save_all=True, append_images=[*images[1:], Image.new("L", (3, 3))])
    with pytest.raises(DataError, match=r"1 of 6 .*x\.tif page 6: is 3 x 3, not 7 x 5"):
        load(tmp_path / "x.tif")


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_frames_of_an_animation_are_counted(tmp_path: Path, suffix: str) -> None:
    root = save(tmp_path / "photos", pictures(9), suffix)
    frames = [Image.fromarray(image) for image in pictures(3, seed=3)]
    frames[0].save(root / f"moving{suffix}", save_all=True, append_images=frames[1:])
    notes: list[str] = []
    assert sum(load(root, notes).info.sizes.values()) == 10
    assert said(notes, "1 animation", "only the first frame is read")


# --- channels and depth -----------------------------------------------------------------------------------------------


def test_a_few_palettes_do_not_give_all_a_transparency(tmp_path: Path) -> None:
    root = save(tmp_path / "photos", pictures(40))
    palette = Image.fromarray(pictures(1)[0]).quantize(8)
    palette.save(root / "palette.png", transparency=0)
    opaque = Image.fromarray(pictures(1)[0]).convert("RGBA")
    opaque.save(root / "opaque.png")
    notes: list[str] = []
    loaded = load(root, notes)
    assert loaded.info.shape == (3, 7, 5)
    assert said(notes, "the transparency of 2 images", "is dropped")
    opaque.putalpha(100)
    opaque.save(root / "opaque.png")
    notes.clear()
    assert load(root, notes).info.shape == (4, 7, 5)
    assert said(notes, "--channels 3 drops the transparency")
    assert load(root, channels=3).info.shape == (3, 7, 5)


def test_grey_colours_are_remarked_on(tmp_path: Path) -> None:
    images = np.repeat(pictures(12, channels=1)[..., None], 3, axis=-1)
    save(tmp_path / "photos", images)
    np.save(tmp_path / "x.npy", images)
    for path in (tmp_path / "photos", tmp_path / "x.npy"):
        notes: list[str] = []
        load(path, notes)
        assert said(notes, "--channels 1")
        notes.clear()
        loaded = load(path, notes, channels=1)
        assert not said(notes, "--channels 1")
        assert torch.allclose(everything(loaded)[:, 0], torch.from_numpy(images[..., 0]) / 255, atol=1 / 255)
    images[3, 0, 0, 0] ^= 1
    notes = []
    load(save(tmp_path / "photos", images), notes)
    assert not said(notes, "--channels")


@pytest.mark.parametrize(("largest", "bits"), [(4095, 12), (1023, 10), (255, 8), (8192, None), (65535, None)])
def test_a_small_part_of_the_depth_is_remarked_on(tmp_path: Path, largest: int, bits: int | None) -> None:
    images = np.random.default_rng(0).integers(0, largest + 1, (12, 7, 5)).astype(np.uint16)
    images[0, 0] = largest
    save(tmp_path / "photos", images)
    np.save(tmp_path / "x.npy", images)
    for path in (tmp_path / "photos", tmp_path / "x.npy"):
        notes: list[str] = []
        load(path, notes)
        if bits is None:
            assert not said(notes, "16 bits")
        elif path.suffix != ".npy" or largest > 255:  # whole numbers to 255 in an array are bytes
            assert said(notes, f"{largest:,} of 65,535", f"have {bits} bits, multiply them by {2 ** (16 - bits)}")


# --- changes ----------------------------------------------------------------------------------------------------------


def sources(tmp_path: Path, images: np.ndarray) -> dict[str, Path]:
    """The same images as a folder and as an array."""
    save(tmp_path / "photos", images)
    np.save(tmp_path / "x.npy", images)
    return {"folder": tmp_path / "photos", "array": tmp_path / "x.npy"}


CHANGES: dict[str, tuple[Mapping[str, object], Callable[[np.ndarray], np.ndarray], str]] = {
    "middle": ({"crop": "center:3"}, lambda x: x[:, 2:5, 1:4], "cropped to 3 x 3 in the middle"),
    "height and width": ({"crop": "center:5,3"}, lambda x: x[:, 1:6, 1:4], "cropped to 5 x 3 in the middle"),
    "box": ({"crop": "1,2,4,3"}, lambda x: x[:, 2:5, 1:5], "cropped to 3 x 4 from row 2 and column 1"),
    "inverted": ({"invert": True}, lambda x: 255 - x, "inverted"),
    "both": ({"crop": "center:3", "invert": True}, lambda x: 255 - x[:, 2:5, 1:4], "in the middle, inverted"),
}


@pytest.mark.parametrize("source", ["folder", "array"])
@pytest.mark.parametrize("kind", CHANGES)
def test_changes_are_what_numpy_does(tmp_path: Path, source: str, kind: str) -> None:
    options, change, text = CHANGES[kind]
    images = pictures(12)
    loaded = load(sources(tmp_path, images)[source], **options)
    expected = torch.from_numpy(change(images).transpose(0, 3, 1, 2).copy()) / 255
    assert torch.allclose(everything(loaded), expected, atol=1e-6)
    assert text in loaded.info.preprocessing


@pytest.mark.parametrize("source", ["folder", "array"])
@pytest.mark.parametrize(
    ("before", "after"), [(1, 3), (2, 1), (2, 3), (3, 1), (4, 1), (4, 3)], ids=lambda channels: str(channels)
)
def test_channels_come_and_go(tmp_path: Path, source: str, before: int, after: int) -> None:
    """Grey is repeated, colours become grey as torchvision has it, and transparency is dropped."""
    from torchvision.transforms.v2 import functional

    images = pictures(12, channels=before)
    loaded = load(sources(tmp_path, images)[source], channels=after)
    stored = torch.from_numpy(images.reshape(12, 7, 5, before).transpose(0, 3, 1, 2).copy())
    light = stored[:, : 1 if before < 3 else 3]
    expected = (
        functional.rgb_to_grayscale(light) if (light.shape[1], after) == (3, 1) else light.expand(-1, after, -1, -1)
    )
    assert torch.allclose(everything(loaded), expected / 255, atol=1e-6)
    assert {1: "in grey", 3: "in colour"}[after] in loaded.info.preprocessing


def test_transparency_is_not_inverted(tmp_path: Path) -> None:
    images = pictures(12, channels=4)
    expected = np.concatenate([255 - images[..., :3], images[..., 3:]], -1).transpose(0, 3, 1, 2)
    for path in sources(tmp_path, images).values():
        assert torch.allclose(everything(load(path, invert=True)), torch.from_numpy(expected.copy()) / 255, atol=1e-6)


def test_sixteen_bits_are_inverted_in_their_units(tmp_path: Path) -> None:
    images = pictures(12, channels=1).astype(np.uint16) * 257
    for path in sources(tmp_path, images).values():
        loaded = load(path, invert=True)
        assert loaded.info.support == "unit"
        assert torch.allclose(everything(loaded)[:, 0], 1 - torch.from_numpy(images.astype(np.float32)) / 65535)


def test_a_crop_brings_images_to_one_size_and_precedes_the_resize(tmp_path: Path) -> None:
    root = save(tmp_path / "photos", pictures(9))
    save(root, pictures(3, size=(9, 4)), first=9)
    loaded = load(root, crop="center:4")
    assert loaded.info.shape == (3, 4, 4)
    assert sum(loaded.info.sizes.values()) == 12
    resized = load(root, crop="center:4", image_size=(2,))
    assert resized.info.shape == (3, 2, 2)
    assert "cropped to 4 x 4 in the middle, resized to 2 x 2" in resized.info.preprocessing
    with pytest.raises(DataError, match=r"3 of 12 .*009\.png: is 9 x 4, smaller than the crop 5 x 5"):
        load(root, crop="center:5")


WRONG: dict[str, tuple[Mapping[str, object], str]] = {
    "too large": ({"crop": "center:8"}, "crop 8 x 8 in the middle is larger than the images: 7 x 5"),
    "box too large": ({"crop": "3,0,3,3"}, "crop 3 x 3 from row 0 and column 3 is larger than the images: 7 x 5"),
    "form": ({"crop": "8"}, "crop must be center:N, center:H,W or X,Y,W,H"),
    "nothing": ({"crop": "center:0"}, "crop must keep at least one pixel"),
    "two channels": ({"channels": 2}, "channels must be 1 for grey or 3 for colour; got 2"),
    "against each other": ({"channels": 3, "grayscale": True}, "channels cannot be 3 with --grayscale"),
    "no effect": ({"channels": 3}, "channels 3 changes nothing: the images have 3 channels already"),
}


@pytest.mark.parametrize("source", ["folder", "array"])
@pytest.mark.parametrize("kind", WRONG)
def test_changes_that_cannot_be_are_refused(tmp_path: Path, source: str, kind: str) -> None:
    options, message = WRONG[kind]
    with pytest.raises(SettingError) as caught:
        load(sources(tmp_path, pictures(12))[source], **options)
    assert message in caught.value.message


def test_real_numbers_are_not_inverted(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20, 6, 6)))
    with pytest.raises(SettingError, match=r"data\.invert is for pixels .* x.npy holds real numbers"):
        load(tmp_path / "x.npy", invert=True)
    np.save(tmp_path / "y.npy", np.random.default_rng(0).normal(size=(20, 6)))
    for name in ("invert", "crop", "channels"):
        with pytest.raises(SettingError, match=rf"data\.{name} is for images; y\.npy holds a table"):
            load(tmp_path / "y.npy", **{name: {"invert": True, "crop": "center:2", "channels": 1}[name]})


def test_built_in_sets_are_changed_too() -> None:
    plain = load("digits")
    assert torch.equal(
        load("digits", crop="center:4").test.batch(slice(None)).x, plain.test.batch(slice(None)).x[:, :, 2:6, 2:6]
    )
    assert torch.allclose(load("digits", invert=True).test.batch(slice(None)).x, 1 - plain.test.batch(slice(None)).x)
    assert load("digits", channels=3).info.shape == (3, 8, 8)
    with pytest.raises(SettingError, match="channels 1 changes nothing: the images have one channel already"):
        load("digits", channels=1)


# --- classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["resident", "stream"])
@pytest.mark.parametrize("choice", ["dog", "1"])
def test_classes_with_names_are_numbered_anew(tmp_path: Path, storage: str, choice: str) -> None:
    root = pets(tmp_path / "pets")
    save(root / "train" / "eel", pictures(3, seed=9))
    save(root / "test" / "eel", pictures(1, seed=8))
    notes: list[str] = []
    loaded = load(root, notes, classes=(choice, "eel"), storage=storage)
    assert loaded.info.classes == ("dog", "eel")
    assert dict(loaded.info.sizes) == {"train": 8, "validation": 1, "test": 3}
    assert loaded.test.labels.tolist() == [0, 0, 1]
    assert loaded.files["test"] == ["test/dog/000.png", "test/dog/001.png", "test/eel/000.png"]
    assert torch.equal(loaded.test.batch(slice(None)).x, load(root).test.batch(slice(2, 5)).x)
    assert said(notes, "10 images of other classes left out")
    whole = load(root)
    assert loaded.info.fingerprint != whole.info.fingerprint


def test_numbers_without_names_stay(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=pictures(40, channels=1), labels=np.arange(40) % 4)
    loaded = load(tmp_path / "x.npz", classes=("1", "3"))
    assert set(labels(loaded)) == {1, 3}
    assert len(labels(loaded)) == 20
    with pytest.raises(SettingError, match=r"names '7', which is no class of x\.npz; its classes: 0, 1, 2, 3"):
        load(tmp_path / "x.npz", classes=("7",))
    np.save(tmp_path / "x.npy", pictures(40, channels=1))
    with pytest.raises(SettingError, match=r"is for data with labels; x\.npy has none"):
        load(tmp_path / "x.npy", classes=("7",))


def test_a_bad_image_of_a_class_is_named(tmp_path: Path) -> None:
    root = pets(tmp_path / "pets")
    (root / "train" / "dog" / "002.png").write_bytes((root / "train" / "dog" / "002.png").read_bytes()[:80])
    with pytest.raises(DataError, match=r"1 of 8 images .*train/dog/002\.png: is damaged"):
        load(root, classes=("dog",))
    assert load(root, classes=("cat",)).info.sizes["test"] == 2


def test_classes_of_a_built_in_set() -> None:
    whole, loaded = load("digits"), load("digits", classes=("3", "5"))
    assert set(loaded.test.labels.tolist()) == {3, 5}
    rows = np.isin(whole.test.labels, (3, 5))
    assert torch.equal(loaded.test.batch(slice(None)).x, whole.test.batch(slice(None)).x[torch.from_numpy(rows)])
    with pytest.raises(SettingError, match="no class of digits; its classes: 0, 1, 2"):
        load("digits", classes=("cat",))
