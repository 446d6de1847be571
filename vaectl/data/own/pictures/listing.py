"""Lists the image files below a folder, or among the members of an archive."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from vaectl.config.datasets import PICTURES
from vaectl.data.own.pictures.stores import Member
from vaectl.errors import DataError

# limits for a walk: levels; and entries that are no images, beside so many for each image
DEEPEST, MOST_OTHERS, OTHERS_EACH = 32, 100_000, 10
# folders among which an image is looked for
MOST_FOLDERS = 100
# what macOS adds to an archive, and leaves in the folder that it is unpacked to
JUNK = "__MACOSX"


def is_picture(name: str) -> bool:
    """Whether a file is one of an image by its name."""
    return os.path.splitext(name)[1].lower() in PICTURES  # noqa: PTH122 - a string, as there may be millions


class Listing(Protocol):
    """Files by folder. Paths are relative to the root, whose own path is empty; hidden files are left out.

    Attributes:
        bad: Name and problem of each listed entry that cannot be used.
        ignored: Number of listed files that are no images.
    """

    bad: list[tuple[str, str]]
    ignored: int

    def folders(self, folder: str) -> list[str]:
        """The sorted names of the folders directly in a folder."""

    def files(self, folder: str) -> list[str]:
        """The sorted names of the files directly in a folder."""

    def may_enter(self, folder: str) -> bool:
        """Whether a folder is no link, and on the file system of the root."""

    def has_images(self, folder: str) -> bool:
        """Whether there is an image below a folder, or there are too many folders to look for one."""

    def images(self, folder: str) -> list[str]:
        """List the images below a folder: their paths, sorted folder by folder.

        Raises:
            DataError: The folder cannot be read, or is none of images.
        """


def _any_image(listing: Listing, folder: str) -> bool:
    """Whether there is an image below a folder, or there are too many folders to look for one."""
    folders, seen = [(folder, 0)], 0
    while folders and seen < MOST_FOLDERS:
        current, depth = folders.pop()
        seen += 1
        if not listing.may_enter(current):
            continue
        if any(map(is_picture, listing.files(current))):
            return True
        if depth < DEEPEST:
            folders += [(posixpath.join(current, name), depth + 1) for name in listing.folders(current)]
    return bool(folders)


class FolderListing:
    """Lists a folder: on its file system, never through a link that leads out, within limits.

    Args:
        root: The folder.
        most: How many images there can be at most, or None.
    """

    def __init__(self, root: Path, most: int | None) -> None:
        self._root, self._most = root, most
        self._home, self._device = os.path.realpath(root), root.stat().st_dev
        self._images, self._others = 0, 0
        self.bad: list[tuple[str, str]] = []
        self.ignored = 0

    def folders(self, folder: str) -> list[str]:
        """List as ``Listing.folders`` does."""
        return [entry.name for entry in self._entries(folder) if entry.is_dir()]

    def files(self, folder: str) -> list[str]:
        """List as ``Listing.files`` does."""
        return [entry.name for entry in self._entries(folder) if not entry.is_dir()]

    def may_enter(self, folder: str) -> bool:
        """Answer as ``Listing.may_enter`` does."""
        path = self._root / folder
        return not path.is_symlink() and path.stat().st_dev == self._device

    def has_images(self, folder: str) -> bool:
        """Answer as ``Listing.has_images`` does, by the first one that comes."""
        return _any_image(self, folder)

    def images(self, folder: str, depth: int = 0) -> list[str]:
        """List as ``Listing.images`` does."""
        if depth > DEEPEST:
            raise DataError(f"{self._root / folder}: folders are nested more than {DEEPEST} levels deep")
        images = []
        for entry in self._entries(folder):
            name = os.path.join(folder, entry.name)  # noqa: PTH118 - a string, as there may be millions
            is_image = is_picture(entry.name)
            self._count(is_image)
            if entry.is_symlink() and not self._may_follow(entry, name, is_image=is_image):
                continue
            if entry.is_dir():
                if entry.stat().st_dev == self._device:
                    images += self.images(name, depth + 1)
                else:
                    self.bad.append((name, "is a folder on another file system"))
            elif not is_image:
                self.ignored += 1
            elif not os.path.exists(entry.path) or not stat.S_ISREG(entry.stat().st_mode):
                self.bad.append((name, "is not a regular file"))
            else:
                images.append(name)
        return images

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._root / folder) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".") and entry.name != JUNK]
        except OSError as error:
            raise DataError(f"cannot read {self._root / folder}: {error.strerror}") from None
        return sorted(visible, key=lambda entry: entry.name)

    def _count(self, is_image: bool) -> None:
        """Count an entry, and give up a folder that is obviously not one of images."""
        self._images, self._others = self._images + is_image, self._others + (not is_image)
        if self._others > MOST_OTHERS + OTHERS_EACH * self._images:
            raise DataError(
                f"{self._root} is no folder of images: of its first {self._images + self._others:,} files and folders "
                f"{self._images:,} are images",
                hint="name the folder in which the images are",
            )
        if self._most is not None and self._images > self._most:
            raise DataError(
                f"{self._root} holds more than {self._most:,} images, many more than there were in training"
            )

    def _may_follow(self, entry: os.DirEntry[str], name: str, *, is_image: bool) -> bool:
        """Whether a link leads to a file within the root; else it is bad if an image or a folder is behind it."""
        target = os.path.realpath(entry.path)
        if os.path.commonpath([self._home, target]) != self._home:
            if is_image or os.path.isdir(target):
                self.bad.append((name, f"is a link that leads out of the folder, to {target}"))
            return False
        if os.path.isdir(target):
            self.bad.append((name, "is a link to a folder"))
            return False
        return True


class MemberListing:
    """Lists the members of an archive as if they were unpacked into a folder.

    Args:
        path: The archive.
        members: Its files.
        most: How many images there can be at most, or None.

    Raises:
        DataError: There are more images.
    """

    def __init__(self, path: Path, members: Iterable[Member], most: int | None) -> None:
        self._path = path
        self._problems = dict[str, str]()
        self._inside: dict[str, tuple[set[str], set[str]]] = {"": (set(), set())}
        self.bad: list[tuple[str, str]] = []
        self.ignored, count = 0, 0
        for member in members:
            steps = member.name.split("/")
            if steps[0] == JUNK or any(step.startswith(".") and step != ".." for step in steps if step != "."):
                continue
            if steps[0] == "" or ".." in steps:
                self.bad.append((member.name, "has a path that leads out of the archive"))
                continue
            if member.problem is not None:
                self._problems[member.name] = member.problem
            count += is_picture(member.name)
            self._add(member.name)
        if most is not None and count > most:
            raise DataError(f"{path} holds more than {most:,} images, many more than there were in training")

    def _add(self, name: str) -> None:
        folder, _, base = name.rpartition("/")
        if folder.count("/") > DEEPEST:
            raise DataError(f"{self._path}: folders are nested more than {DEEPEST} levels deep")
        missing = folder not in self._inside
        self._inside.setdefault(folder, (set(), set()))[1].add(base)
        while missing:
            folder, _, base = folder.rpartition("/")
            missing = folder not in self._inside
            self._inside.setdefault(folder, (set(), set()))[0].add(base)

    def folders(self, folder: str) -> list[str]:
        """List as ``Listing.folders`` does."""
        return sorted(self._inside[folder][0])

    def files(self, folder: str) -> list[str]:
        """List as ``Listing.files`` does."""
        return sorted(self._inside[folder][1])

    def may_enter(self, folder: str) -> bool:
        """Answer as ``Listing.may_enter`` does."""
        return folder in self._inside

    def has_images(self, folder: str) -> bool:
        """Answer as ``Listing.has_images`` does."""
        return _any_image(self, folder)

    def images(self, folder: str) -> list[str]:
        """List as ``Listing.images`` does."""
        folders, files = self._inside[folder]
        images = []
        for entry in sorted(folders | files):
            name = posixpath.join(folder, entry)
            if entry in folders:
                images += self.images(name)
            elif not is_picture(entry):
                self.ignored += 1
            elif name in self._problems:
                self.bad.append((name, self._problems[name]))
            else:
                images.append(name)
        return images
