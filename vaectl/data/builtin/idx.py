"""MNIST and its siblings: IDX files, read where they lie or downloaded with checksums.

Shapes: ``N`` images of 28 x 28.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import math
import os
import struct
import urllib.request
import zlib
from pathlib import Path

import numpy as np

from vaectl.data.base import Raw, Store
from vaectl.errors import DataError
from vaectl.system.files import beside
from vaectl.system.reading import open_regular, size_text

TIMEOUT_SECONDS = 15
# of the four files of a torchvision class, in its order: what is read where it lies needs no torchvision, whose import
# takes as long as torch's
ARCHIVES = tuple(
    f"{split}-{kind}-idx{dims}-ubyte.gz" for split in ("train", "t10k") for kind, dims in (("images", 3), ("labels", 1))
)
# pixels of a file, and how many are read at once
MAX_BYTES, CHUNK_BYTES = 1 << 30, 1 << 20


class UnavailableError(DataError):
    """The files are not in the data directory and could not be downloaded."""


def load_idx(name: str, store: Store) -> Raw:
    """The data set of a torchvision class from ``directory/NAME/raw``; what is missing there is downloaded.

    Args:
        name: The class: ``MNIST``, or one derived from it.
        store: Where the files are, and whom to tell.

    Raises:
        UnavailableError: A file is neither there nor to be had.
        DataError: A file is damaged or cannot be read.
    """
    folder = store.directory / name / "raw"
    arrays = []
    for archive in ARCHIVES:
        file = folder / archive
        plain = file.with_suffix("")
        if not plain.exists() and not file.exists():
            if not store.keeps:
                raise DataError(
                    f"no {archive} in {folder}, where the run's record says that its data are",
                    hint="name a folder of data sets with --data-dir; what is missing there is downloaded",
                )
            _download(name, file, store)
        arrays.append(_read_idx(plain if plain.exists() else file))
    train_images, train_labels, test_images, test_labels = arrays
    for images, labels, part in ((train_images, train_labels, "train"), (test_images, test_labels, "t10k")):
        if images.ndim != 3 or labels.shape != (len(images),) or len(images) == 0:
            raise DataError(f"{folder}: the {part} files hold images {images.shape} and labels {labels.shape}")
    if train_images.shape[1:] != test_images.shape[1:] or 0 in train_images.shape:
        raise DataError(f"{folder}: the train files hold images {train_images.shape} and t10k {test_images.shape}")
    return Raw(train_images[:, None], train_labels, test_images[:, None], test_labels)


def present(name: str, directory: Path) -> bool:
    """Whether all four files of a torchvision class lie in the data directory, gzipped or not."""
    folder = directory / name / "raw"
    return all((folder / archive).exists() or (folder / archive[:-3]).exists() for archive in ARCHIVES)


def _read_idx(file: Path) -> np.ndarray:
    damaged = f"{file} is damaged"
    hint = f"delete it to have it downloaded again: rm {file}"
    try:
        with open_regular(file) as stored, gzip.open(stored) if file.suffix == ".gz" else stored as stream:
            header = stream.read(4)
            if len(header) < 4 or header[:3] != b"\0\0\x08" or not 1 <= header[3] <= 3:
                raise DataError(f"{damaged}: it is no IDX file of bytes", hint=hint)
            dims = header[3]
            if len(sizes := stream.read(4 * dims)) < 4 * dims:
                raise DataError(f"{damaged}: its header is cut short", hint=hint)
            shape = struct.unpack(f">{dims}I", sizes)
            size = math.prod(shape)
            if size > MAX_BYTES:
                raise DataError(f"{damaged}: {shape} are more than {size_text(MAX_BYTES)}", hint=hint)
            # as it comes, because a gzip file may claim much and hold little, or hold much more than it claims
            content = bytearray()
            while len(content) <= size and (part := stream.read(min(CHUNK_BYTES, size + 1 - len(content)))):
                content += part
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{damaged}: {error}", hint=hint) from None
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}") from None
    if len(content) != size:
        held = f"{len(content)} bytes" if len(content) < size else "more bytes"
        raise DataError(f"{damaged}: {held} where {shape} needs {size}", hint=hint)
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _download(name: str, file: Path, store: Store) -> None:
    from torchvision import datasets

    dataset: type[datasets.MNIST] = getattr(datasets, name)
    md5 = dict(dataset.resources)[file.name]
    problems = []
    for mirror in dataset.mirrors:
        try:
            _fetch(mirror + file.name, file, md5, store)
            return
        except (OSError, ValueError, http.client.HTTPException) as error:
            problems.append(str(getattr(error, "reason", error)))
    raise UnavailableError(
        f"no {file.name} in {file.parent}, and it could not be downloaded: {'; '.join(dict.fromkeys(problems))}",
        hint=f"put the IDX files into {file.parent}, or use --dataset glyphs, which is built in",
    )


def _fetch(url: str, file: Path, md5: str, store: Store) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "vaectl"})
    digest = hashlib.md5(usedforsecurity=False)
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        total = int(response.headers.get("Content-Length") or 0)
        file.parent.mkdir(parents=True, exist_ok=True)
        with beside(file) as part:
            with part.open("wb") as out:
                done = 0
                while chunk := response.read(1 << 16):
                    out.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    store.progress(f"{file.parent.parent.name} {file.name}", done, total)
            if digest.hexdigest() != md5:
                raise ValueError(f"the checksum of {url} is {digest.hexdigest()}, not {md5}")
            os.replace(part, file)
