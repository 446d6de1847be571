"""CIFAR-10 and SVHN, read and downloaded by torchvision, which checks their MD5 sums.

Shapes: ``N`` images of 3 x 32 x 32.
"""

from __future__ import annotations

import contextlib
import http.client
import io
from typing import Any

import numpy as np

from vaectl.data.base import Loading, Raw
from vaectl.data.builtin.idx import UnavailableError
from vaectl.errors import DataError

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


def load_cifar10(loading: Loading) -> Raw:
    """Load CIFAR-10 from ``directory/cifar-10-batches-py``, or download it if it is missing.

    References:
        Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009),
        https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf
    """
    arrays = []
    for train in (True, False):
        dataset = _opened("CIFAR10", loading, train=train)
        # (N, 32, 32, 3) -> (N, 3, 32, 32)
        arrays += [np.ascontiguousarray(np.asarray(dataset.data).transpose(0, 3, 1, 2)), np.array(dataset.targets)]
    return _raw("cifar10", arrays, CIFAR10_CLASSES)


def load_svhn(loading: Loading) -> Raw:
    """Load the cropped digits of SVHN from ``directory/train_32x32.mat`` and ``test_32x32.mat``, or download them.

    References:
        Reading Digits in Natural Images with Unsupervised Feature Learning (Netzer et al., 2011),
        http://ufldl.stanford.edu/housenumbers/nips2011_housenumbers.pdf
    """
    arrays = []
    for split in ("train", "test"):
        dataset = _opened("SVHN", loading, split=split)
        arrays += [np.ascontiguousarray(dataset.data), np.asarray(dataset.labels)]
    return _raw("svhn", arrays, tuple(map(str, range(10))))


def _opened(name: str, loading: Loading, **part: Any) -> Any:
    """Open a torchvision data set, or download it if it is missing and ``loading.keeps``.

    Raises:
        UnavailableError: The data set is missing and cannot be downloaded.
        DataError: It is missing and must not be downloaded into this directory, or it cannot be read.
    """
    from torchvision import datasets

    dataset = getattr(datasets, name)
    try:
        return dataset(loading.directory, **part)
    except RuntimeError:  # raised by torchvision for missing files and wrong checksums
        pass
    except OSError as error:
        raise DataError(f"cannot read {name} in {loading.directory}: {error.strerror or error}") from None
    if not loading.keeps:
        raise DataError(
            f"no {name} in {loading.directory}, the data directory in the run's record",
            hint="name a data directory with --data-dir; missing files are downloaded there",
        )
    loading.note(f"dataset: downloading {name} to {loading.directory}")
    try:
        # torchvision prints its own progress
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return dataset(loading.directory, download=True, **part)
    except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", error))
        raise UnavailableError(
            f"no {name} in {loading.directory}, and it could not be downloaded: {reason}",
            hint=f"put torchvision's files of {name} into {loading.directory}, or use the built-in --dataset glyphs",
        ) from None


def _raw(name: str, arrays: list[np.ndarray], classes: tuple[str, ...]) -> Raw:
    train, train_labels, test, test_labels = arrays
    for images, labels in ((train, train_labels), (test, test_labels)):
        if images.dtype != np.uint8 or images.shape[1:] != (3, 32, 32) or labels.shape != (len(images),):
            raise DataError(f"{name}: its files hold images {images.shape} and labels {labels.shape}")
    return Raw(train, train_labels.astype(np.int64), test, test_labels.astype(np.int64), classes=classes)
