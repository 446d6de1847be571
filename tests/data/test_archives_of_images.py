"""Zip and tar archives of images are read as the folder would be; damage and bombs are refused by name."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.image_files import everything, load, pets, pictures, save, tarred, zipped
from vaectl.data.own.pictures import stores
from vaectl.errors import DataError


@pytest.mark.parametrize("kind", ["deflated", "stored", "tar"])
@pytest.mark.parametrize("storage", ["resident", "stream"])
def test_an_archive_is_the_folder_that_it_holds(tmp_path: Path, kind: str, storage: str) -> None:
    """Splits, classes, labels and every bit."""
    root = pets(tmp_path / "pets")
    (root / "train" / "notes.txt").write_text("good pets")
    if kind == "tar":
        path = tarred(root, tmp_path / "pets.tar")
    else:
        path = zipped(root, tmp_path / "pets.zip", zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED)
    ours, theirs = load(path, storage=storage), load(root)
    assert ours.info.fingerprint == theirs.info.fingerprint
    assert (ours.info.sizes, ours.info.classes) == (theirs.info.sizes, ("cat", "dog"))
    assert ours.files["test"] == theirs.files["test"] == [
        "test/cat/000.png", "test/cat/001.png", "test/dog/000.png", "test/dog/001.png"
    ]  # fmt: skip
    for split in ("train", "validation", "test"):
        assert torch.equal(ours.split(split).labels, theirs.split(split).labels)
        assert torch.equal(ours.split(split).batch(slice(None)).x, theirs.split(split).batch(slice(None)).x)


def test_a_zip_as_macos_makes_it(tmp_path: Path) -> None:
    """With one folder, hidden files, and a resource fork of each file."""
    save(tmp_path / "photos" / "photos", pictures(9))
    save(tmp_path / "photos" / "__MACOSX" / "photos", pictures(1))
    (tmp_path / "photos" / "photos" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "photos" / "photos" / "._000.png").write_bytes(b"x")
    notes: list[str] = []
    loaded = load(zipped(tmp_path / "photos", tmp_path / "photos.zip"), notes)
    assert sum(loaded.info.sizes.values()) == 9
    assert loaded.info.classes == ()
    assert any("photos in it is read" in note for note in notes)


def test_a_zip_of_arrays_is_an_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=pictures(9))
    (tmp_path / "x.npz").rename(tmp_path / "x.zip")
    assert load(tmp_path / "x.zip").info.shape == (3, 7, 5)


def png(side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pictures(1, size=(side, side))[0]).save(file, "png")
    return file.getvalue()


def archive(path: Path, **members: bytes) -> Path:
    """Nine good images and others, by name with _ for a dot."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(9):
            file.writestr(f"{number}.png", png())
        for name, content in members.items():
            file.writestr(name.replace("_", "."), content)
    return path


def test_members_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    archive(path, a_png=b"no image", b_png=b"")
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
        file.writestr("../out.png", png())
        file.writestr("/root.png", png())
        file.writestr(zipfile.ZipInfo("c.png"), png(), zipfile.ZIP_BZIP2)
    with pytest.raises(DataError, match="6 of 15 images cannot be used") as caught:
        load(path)
    problems = {"a.png": "is not a readable image", "b.png": "is empty", "link.png": "is a link",
                "../out.png": "leads out", "/root.png": "leads out", "c.png": "by method 12"}  # fmt: skip
    for name, problem in problems.items():
        assert problem in next(part for part in caught.value.message.split("; ") if name in part)
    assert sum(load(path, skip_bad=True).info.sizes.values()) == 9


def claim(path: Path, name: bytes, size: int) -> None:
    """Change the size that the list of a zip archive claims for a member."""
    content = bytearray(path.read_bytes())
    start = content.rindex(b"PK\1\2", 0, content.rindex(name))
    struct.pack_into("<I", content, start + 24, size)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("size", "problem"), [(1 << 30, "cannot be the"), (1 << 29, "the limit for a packed file is 256 MiB")]
)
def test_a_member_that_claims_too_much_is_not_unpacked(tmp_path: Path, size: int, problem: str) -> None:
    path = archive(tmp_path / "x.zip", bomb_png=b"\0" * (1 << 20) if size == 1 << 30 else b"\0" * (600 << 20))
    if size == 1 << 30:
        claim(path, b"bomb.png", size)
    with pytest.raises(DataError, match=rf"bomb\.png: .*{problem}"):
        load(path)


def test_a_member_never_unpacks_to_more_than_it_claims(tmp_path: Path) -> None:
    """A list that says a thousand bytes, and 200 MiB of zeros packed: zipfile would unpack all of them."""
    import tracemalloc

    path = archive(tmp_path / "x.zip", bomb_png=b"\0" * (200 << 20))
    claim(path, b"bomb.png", 1000)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"1 of 10 .*bomb\.png"):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


def test_the_list_of_an_archive_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for number in range(30_000):
            file.writestr(f"{number:040}.png", b"")
    monkeypatch.setenv("VAECTL_MAX_BYTES", "16M")
    with pytest.raises(DataError, match=r"the list of the files in .* would take .* of memory"):
        load(tmp_path / "x.zip")


@pytest.mark.parametrize("content", [b"", b"PK\3\4" + b"x" * 99, b"no archive" * 200])
@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_what_is_no_archive_is_an_error_that_names_it(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"x.{suffix}").write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.{suffix} is (damaged|empty)"):
        load(tmp_path / f"x.{suffix}")


@pytest.mark.parametrize("suffix", ["tar.gz", "tgz", "tar"])
def test_compressed_archives_are_to_be_unpacked(tmp_path: Path, suffix: str) -> None:
    with tarfile.open(tmp_path / f"x.{suffix}", "w:gz") as file:
        file.add(save(tmp_path / "photos", pictures(9)), "photos")
    with pytest.raises(DataError, match="compressed") as caught:
        load(tmp_path / f"x.{suffix}")
    assert "unpack" in (caught.value.hint or "")


def test_a_torn_tar_is_named(tmp_path: Path) -> None:
    """Cut off within a member, or noise in the place of a header, after which tarfile lists nothing, unsaid."""
    path = tarred(save(tmp_path / "photos", pictures(9, size=(40, 40))), tmp_path / "x.tar")
    whole = path.read_bytes()
    with tarfile.open(path) as file:
        last = file.getmembers()[-1]
    path.write_bytes(whole[: last.offset_data + 100])
    with pytest.raises(DataError, match="damaged or no tar archive: unexpected end of data"):
        load(path)
    path.write_bytes(whole[: last.offset] + b"\7" * 512 + whole[last.offset + 512 :])
    with pytest.raises(DataError, match="is damaged"):
        load(path)


def test_a_tar_has_no_links_and_no_way_out(tmp_path: Path) -> None:
    root = save(tmp_path / "photos", pictures(9))
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        file.add(root, "photos")
        file.add(root / "000.png", "../out.png")
        link = tarfile.TarInfo("photos/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    with pytest.raises(DataError, match="2 of 11 images") as caught:
        load(tmp_path / "x.tar")
    assert "leads out of the archive" in caught.value.message
    assert "is a link" in caught.value.message


def test_a_header_of_a_tar_has_a_limit(tmp_path: Path) -> None:
    """A long name that claims a gigabyte, in a sparse file."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    with (tmp_path / "x.tar").open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(2 << 30)
    with pytest.raises(DataError, match="a header is longer than 1 MiB"):
        load(tmp_path / "x.tar")


def test_large_members_are_unpacked_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And give the same pixels."""
    root = save(tmp_path / "photos", pictures(12))
    expected = everything(load(root))
    monkeypatch.setattr(stores, "LARGE_BYTES", 10)
    assert torch.equal(everything(load(zipped(root, tmp_path / "x.zip"))), expected)
