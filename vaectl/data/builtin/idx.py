"""MNIST and related data sets: IDX files, read if present, else downloaded with checksums.

Shapes: ``N`` images of 28 x 28.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import queue
import threading
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from vaectl.data.base import Loading, Raw
from vaectl.data.idx import read_array, read_header
from vaectl.data.info import ACCOUNT_BYTES
from vaectl.errors import DataError
from vaectl.system.files import beside
from vaectl.system.reading import check_packed, check_size, open_regular, size_text

# how long a server has for each answer; and all servers together to begin one, where another data set can be taken
TIMEOUT_SECONDS, DECISION_SECONDS = 15, 5
# the four files of a torchvision class, in its order; listed here because importing torchvision takes as long as torch,
# and files that are present do not need it
ARCHIVES = tuple(
    f"{split}-{kind}-idx{dims}-ubyte.gz" for split in ("train", "t10k") for kind, dims in (("images", 3), ("labels", 1))
)
# names of the classes, as torchvision has them; the digits of MNIST need none
CLASSES = {
    "FashionMNIST": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    "KMNIST": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}  # fmt: skip
# limit for the pixels of a file
MAX_BYTES = 1 << 30


class UnavailableError(DataError):
    """The files are not in the data directory and could not be downloaded."""


def load_idx(name: str, loading: Loading) -> Raw:
    """Load the data set of a torchvision class from ``directory/NAME/raw``; missing files are downloaded.

    Args:
        name: The class: ``MNIST``, or one derived from it.
        loading: The data directory and the callbacks.

    Raises:
        UnavailableError: A file is missing and cannot be downloaded.
        DataError: A file is damaged or cannot be read.
    """
    folder = loading.directory / name / "raw"
    arrays, until = [], time.monotonic() + DECISION_SECONDS if loading.hurried else None
    for archive in ARCHIVES:
        file = folder / archive
        plain = file.with_suffix("")
        if not plain.exists() and not file.exists():
            if not loading.keeps:
                raise DataError(
                    f"no {archive} in {folder}, the data directory in the run's record",
                    hint="name a data directory with --data-dir; missing files are downloaded there",
                )
            _download(name, file, loading, until)
            until = None  # a server has answered
        arrays.append(_read_idx(plain if plain.exists() else file))
    train_images, train_labels, test_images, test_labels = arrays
    for images, labels, part in ((train_images, train_labels, "train"), (test_images, test_labels, "t10k")):
        if images.ndim != 3 or labels.shape != (len(images),) or len(images) == 0:
            raise DataError(f"{folder}: the {part} files hold images {images.shape} and labels {labels.shape}")
    if train_images.shape[1:] != test_images.shape[1:] or 0 in train_images.shape:
        raise DataError(f"{folder}: the train files hold images {train_images.shape} and t10k {test_images.shape}")
    count = len(train_images) + len(test_images)
    check_size(f"the account of the {count:,} images in {folder}", count * ACCOUNT_BYTES)
    classes = CLASSES.get(name, ())
    return Raw(train_images[:, None], train_labels, test_images[:, None], test_labels, classes=classes)


def present(name: str, directory: Path) -> bool:
    """Whether all four files of a torchvision class are in the data directory, gzipped or not."""
    folder = directory / name / "raw"
    return all((folder / archive).exists() or (folder / archive[:-3]).exists() for archive in ARCHIVES)


def _read_idx(file: Path) -> np.ndarray:
    damaged = f"{file} is damaged"
    hint = f"delete it to have it downloaded again: rm {file}"
    try:
        with open_regular(file) as stored, gzip.open(stored) if file.suffix == ".gz" else stored as stream:
            header = read_header(stream)
            if header.dtype != np.uint8:
                raise ValueError("it is not an IDX file of bytes")
            if header.size > MAX_BYTES:
                raise ValueError(f"shape {header.shape} is more than {size_text(MAX_BYTES)}")
            if file.suffix == ".gz":
                check_packed(header.size, file.stat().st_size)
            return read_array(stream, header)
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError, MemoryError) as error:
        raise DataError(f"{damaged}: {error}", hint=hint) from None
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}") from None


def _download(name: str, file: Path, loading: Loading, until: float | None) -> None:
    """Download a file from the first mirror that has it, which must begin to answer before ``until`` if that is set."""
    from torchvision import datasets

    dataset: type[datasets.MNIST] = getattr(datasets, name)
    md5 = dict(dataset.resources)[file.name]
    problems = []
    for mirror in dataset.mirrors:
        seconds = TIMEOUT_SECONDS if until is None else until - time.monotonic()
        if seconds <= 0:
            problems.append(f"no server answered within {DECISION_SECONDS} seconds, after which auto takes glyphs")
            break
        try:
            _fetch(mirror + file.name, file, md5, loading, seconds)
            return
        except (OSError, ValueError, http.client.HTTPException) as error:
            problems.append(str(getattr(error, "reason", error)))
    raise UnavailableError(
        f"no {file.name} in {file.parent}, and it could not be downloaded: {'; '.join(dict.fromkeys(problems))}",
        hint=f"put the IDX files into {file.parent}, or use the built-in --dataset glyphs",
    )


def _fetch(url: str, file: Path, md5: str, loading: Loading, seconds: float) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "vaectl"})
    digest = hashlib.md5(usedforsecurity=False)
    with _answer(request, seconds) as response:
        total = int(response.headers.get("Content-Length") or 0)
        file.parent.mkdir(parents=True, exist_ok=True)
        with beside(file) as part:
            with part.open("wb") as out:
                done = 0
                while chunk := response.read(1 << 16):
                    out.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    if done > MAX_BYTES:
                        raise ValueError(f"{url} is larger than {size_text(MAX_BYTES)}")
                    loading.progress(f"{file.parent.parent.name} {file.name}", done, total)
            if digest.hexdigest() != md5:
                raise ValueError(f"the checksum of {url} is {digest.hexdigest()}, not {md5}")
            os.replace(part, file)


def _answer(request: urllib.request.Request, seconds: float) -> Any:
    """The response to a request, which must begin within some seconds.

    A thread waits for it, because no limit applies while the system looks up a server's name.

    Raises:
        OSError: There is no answer, or a refusal.
    """
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    late = threading.Event()

    def ask() -> None:
        try:
            response = urllib.request.urlopen(request, timeout=seconds)
        except Exception as error:  # raised again where it is waited for
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            answers.put(error)
        else:
            if late.is_set():
                response.close()
            answers.put(response)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        late.set()
        raise TimeoutError(f"no answer within {seconds:.0f} seconds") from None
    if not isinstance(answer, Exception):
        return answer
    try:
        raise answer
    finally:
        del answer  # its traceback holds this frame
