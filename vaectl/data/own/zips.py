"""A zip archive is opened by what it holds: images, or arrays."""

from __future__ import annotations

from pathlib import Path

from vaectl.data.own.archives import open_npz
from vaectl.data.own.folder import open_members
from vaectl.data.own.listing import is_picture
from vaectl.data.own.source import Reading, Source
from vaectl.data.own.stores import ZipStore


def open_zip(path: Path, reading: Reading) -> Source:
    """Open a zip archive of images as if it were unpacked, or one of ``.npy`` arrays as ``.npz``.

    Raises:
        DataError: The archive is damaged, or holds neither.
        SettingError: An option does not apply to these data.
    """
    store = ZipStore(path)
    names = [member.name for member in store.members()]
    if any(name.endswith(".npy") for name in names) and not any(map(is_picture, names)):
        return open_npz(path, reading)
    return open_members(path, store, reading)
