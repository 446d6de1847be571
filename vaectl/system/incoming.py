"""Standard input as a file, whose format its first bytes tell."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from vaectl.errors import DataError, UsageError
from vaectl.system.reading import data_limit, size_text

# first bytes -> suffix
MARKS = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"\x93NUMPY": ".npy",
    b"PK\x03\x04": ".zip",
    b"PAR1": ".parquet",
    b"ARROW1": ".arrow",
    b"\x89HDF": ".h5",
    b"\x1f\x8b": ".csv.gz",
}
BLOCK = 1 << 20


def received(stream: BinaryIO, folder: Path) -> Path:
    """Write what comes in to a file in a folder, and name it by its format.

    Args:
        stream: Standard input.
        folder: A temporary folder.

    Raises:
        UsageError: Standard input is a terminal.
        DataError: Nothing comes, it is more than ``reading.data_limit``, or its format is unknown.
    """
    if stream.isatty():
        raise UsageError("- is for data that are piped in; standard input is a terminal")
    path, size, limit = folder / "stdin", 0, data_limit()
    with path.open("wb") as file:
        while block := stream.read(BLOCK):
            size += len(block)
            if size > limit:
                raise DataError(f"standard input is longer than {size_text(limit)}", hint="write it to a file first")
            file.write(block)
    if size == 0:
        raise DataError("standard input is empty")
    return path.rename(path.with_name(f"stdin{_suffix(path)}"))


def _suffix(path: Path) -> str:
    with path.open("rb") as file:
        first = file.read(512)
    if first[:4] == b"RIFF" and first[8:12] == b"WEBP":
        return ".webp"
    if first[257:262] == b"ustar":
        return ".tar"
    for mark, suffix in MARKS.items():
        if first.startswith(mark):
            return suffix
    if b"\0" not in first:
        return ".csv"
    raise DataError(
        "standard input has an unknown format", hint="an image, .npy, .npz, .csv, .parquet, .h5, .zip or .tar"
    )
