"""Data sets as the rest of vaectl uses them, and splits whose examples are held in memory.

Shapes: ``N`` examples of a split, ``B`` batch, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaectl.config.spec import Part
from vaectl.config.values import Binarize
from vaectl.data.batch import Batch
from vaectl.data.examples import Examples, edge_of
from vaectl.data.info import DataInfo
from vaectl.data.report import Report
from vaectl.errors import DataError, amount

SCALING = "uint8 / 255"
# images binarised at once; their uniform random numbers take eight times their memory
CHUNK = 1000


@dataclass(frozen=True)
class Loading:
    """How a data set is loaded: the directory of its files, the demands of a model, and the callbacks.

    Attributes:
        directory: The data directory, in torchvision's layout (``MNIST/raw/...-ubyte``, gzipped or not).
        keeps: Whether downloaded and generated files are kept there; they are not if only a run's record names the
            directory, because the user did not ask for it.
        support: The kind of numbers to read own data as, because a model needs it; None if their values decide.
        shape: Shape (C, H, W) of an example of a model, or None; rows of a table that were one row of pixels stay so.
        columns: Names of the columns of a table that a model needs, in its order, or None.
        lenient: Whether an option without effect is ignored rather than an error: grey levels of images without colour,
            0 and 1 of binary ones, labels that do not exist. A model applies its run's options to other data so.
        hurried: Whether a download is given up for another data set unless a server answers within a few seconds.
        divided: Whether own data without splits are divided; false if nothing is trained on them.
        by_class: Whether they may be divided by class; runs of earlier versions never did.
        most: How many images a folder can have at most, if it is known to be what a run was trained on.
        note: Called with a sentence for the user.
        progress: Called with (name, bytes done, total bytes or 0 if unknown) during a download.
    """

    directory: Path
    keeps: bool = True
    support: str | None = None
    shape: tuple[int, ...] | None = None
    columns: tuple[str, ...] | None = None
    lenient: bool = False
    divided: bool = True
    by_class: bool = True
    hurried: bool = False
    most: int | None = None
    note: Callable[[str], None] = lambda sentence: None
    progress: Callable[[str, int, int], None] = lambda what, done, total: None


@dataclass(frozen=True)
class Raw:
    """A built-in source's arrays: images uint8 (N, C, H, W) and labels int64 (N,) of the training and the test set.

    Attributes:
        train_factors, test_factors: Known factors of the images by name (N,): integers for kinds, or real numbers.
        scaling: The scaling of stored numbers, and earlier changes of the images, in words.
        classes: Names of the labels 0, 1, ...; empty if they have none.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    train_factors: Mapping[str, np.ndarray] = field(default_factory=dict)
    test_factors: Mapping[str, np.ndarray] = field(default_factory=dict)
    scaling: str = SCALING
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """The examples of a split in memory, as stored; a batch is one gather and one conversion.

    Attributes:
        images: uint8 (N, *X), 0 and 255 for binary data; or real numbers, which are not scaled.
        labels: int64 (N,), -1 if there is none.
        rows: Row of each example in the source's training, validation or test array, int64 (N,).
        grey: Grey levels, uint8 or float32 (N, *X), from which training draws new binary images; None if it trains on
            ``images``.
        factors: Known factors of the examples by name (N,); never on a device.
        given: Numbers that a model is conditioned on, float32 (N, C), or None.
        observed: Which values were observed, bool (N, *X); None if all were. A missing value is stored as 0.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    grey: Tensor | None = None
    factors: Mapping[str, np.ndarray] = field(default_factory=dict)
    given: Tensor | None = None
    observed: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, X."""
        return tuple(self.images.shape[1:])

    @property
    def device(self) -> torch.device:
        """The device of the images."""
        return self.images.device

    def batch(self, index: Tensor | slice) -> Batch:
        """The examples at ``index`` as the model sees them, values in [0, 1] unless they are real."""
        given, observed = (None if t is None else _rows(t, index) for t in (self.given, self.observed))
        return Batch(scaled(_rows(self.images, index)), given, observed)

    def feed(self, order: Tensor, size: int, start: int = 0) -> Generator[tuple[Tensor, ...]]:
        """Yield the indices of each batch's examples, which the step gathers."""
        for begin in range(start * size, len(order), size):
            yield (order[begin : begin + size],)

    def training_batch(self, tensors: Sequence[Tensor], rows: slice = slice(None)) -> Batch:
        """The examples of a batch from ``feed`` as training sees them: ``batch``, or a new binary draw of each.

        A draw uses the grey levels as probabilities and torch's global random stream, which ``fit`` seeds for the run.

        References:
            On the Quantitative Analysis of Deep Belief Networks (Salakhutdinov and Murray, 2008), section 6.1, for
            binary images drawn with the grey levels as probabilities, https://doi.org/10.1145/1390156.1390266
        """
        [index] = tensors
        if self.grey is None:
            return self.batch(index[rows])
        # all are drawn, so that the draws do not depend on the selected rows
        draws = torch.bernoulli(scaled(_rows(self.grey, index)))
        given, observed = (None if t is None else _rows(t, index) for t in (self.given, self.observed))
        return Batch(draws, given, observed).rows(rows)

    def batches(self, size: int) -> Iterator[Batch]:
        """All examples in order, ``size`` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))

    def stored(self, size: int) -> Iterator[np.ndarray]:
        """All images in their stored form, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.images[start : start + size].cpu().numpy()

    def to(self, device: torch.device) -> Split:
        """The same split on a device."""
        return self._mapped(lambda t: t.to(device), self.factors)

    def first(self, n: int) -> Split:
        """The first ``n`` examples, or all if there are fewer."""
        return self._mapped(lambda t: t[:n], {name: values[:n] for name, values in self.factors.items()})

    def _mapped(self, change: Callable[[Tensor], Tensor], factors: Mapping[str, np.ndarray]) -> Split:
        grey, given, observed = (None if t is None else change(t) for t in (self.grey, self.given, self.observed))
        return Split(
            change(self.images), change(self.labels), change(self.rows), grey, factors, given=given, observed=observed
        )


def _rows(values: Tensor, index: Tensor | slice) -> Tensor:
    # index_select copies whole examples, several times faster than indexing with a tensor
    return values[index] if isinstance(index, slice) else values.index_select(0, index)


@dataclass(frozen=True)
class Origin:
    """The origin of loaded data: the data part of a spec, and their directory."""

    part: Part
    directory: Path


@dataclass(frozen=True)
class Data:
    """A data set: its splits (``validation`` is empty if the fraction is 0) and its description.

    A person's own data also have a report on them, and a folder has ``files``: the path of each image within it by row,
    by split. ``origin`` says how to load the data again; None if they were made in Python.
    """

    train: Examples
    validation: Examples
    test: Examples
    info: DataInfo
    report: Report | None = None
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    origin: Origin | None = None

    def split(self, name: str) -> Examples:
        """The split called ``train``, ``validation`` or ``test``."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def to(self, device: torch.device) -> Data:
        """The same data on a device."""
        train, validation, test = (split.to(device) for split in (self.train, self.validation, self.test))
        return Data(train, validation, test, self.info, self.report, self.files, self.origin)


def scaled(stored: Tensor) -> Tensor:
    """Convert stored examples to values as the model sees them, float32."""
    # bit for bit the same as torchvision's v2.ToDtype(torch.float32, scale=True), whose import takes as long as torch's
    return stored * (1 / 255) if stored.dtype == torch.uint8 else stored.to(torch.float32)


def binarized(images: np.ndarray, random: np.random.RandomState, *parts: np.ndarray) -> list[np.ndarray]:
    """Draw each pixel once with its grey level as the probability: uint8 0 or 255 (M, *X) for each part.

    All images are drawn, so that the draw of an image does not depend on how the images are divided.

    Args:
        images: uint8 or, in [0, 1], float32 (N, *X).
        random: Source of uniform numbers; NumPy will never change its stream, so the draws never change.
        parts: Ascending rows of ``images``, int64 (M,) each.
    """
    draws = [np.empty((len(rows), *images.shape[1:]), np.uint8) for rows in parts]
    white = 255 if images.dtype == np.uint8 else 1
    for start in range(0, len(images), CHUNK):
        grey = images[start : start + CHUNK]
        binary = (random.random_sample(grey.shape) * white < grey) * np.uint8(255)
        for out, rows in zip(draws, parts, strict=True):
            low, high = np.searchsorted(rows, (start, start + CHUNK))
            out[low:high] = binary[rows[low:high] - start]
    return draws


def split_data(
    name: str, raw: Raw, validation_fraction: float, binarize: Binarize = "none", binarize_seed: int = 0
) -> Data:
    """Hold out part of the training array for validation, the same rows for every seed of a run.

    Args:
        name: Name of the source.
        raw: Its arrays.
        validation_fraction: Fraction of the training array to hold out.
        binarize: ``none`` keeps grey levels; ``static`` draws every image once; ``dynamic`` draws training images anew
            in every epoch, and images for evaluation once.
        binarize_seed: Seed of images that are drawn once.

    Raises:
        DataError: Nothing would be left to train on.
    """
    count = len(raw.train_images)
    train_rows, validation_rows = held_out(count, validation_fraction)
    if not len(train_rows):
        raise DataError(
            f"{name} has {amount(count, 'training example')}: "
            f"a validation fraction of {validation_fraction} leaves none"
        )
    test_rows = np.arange(len(raw.test_images))
    # the splits are the second copy of the source's arrays, and there is no third one
    if binarize == "none":
        train_images, validation_images = (
            raw.train_images.take(rows, axis=0) for rows in (train_rows, validation_rows)
        )
        test_images = np.require(raw.test_images, requirements=("C", "W"))
    else:
        random = np.random.RandomState(binarize_seed)
        train_images, validation_images = binarized(raw.train_images, random, train_rows, validation_rows)
        [test_images] = binarized(raw.test_images, random, test_rows)

    def split(images: np.ndarray, labels: np.ndarray, factors: Mapping[str, np.ndarray], rows: np.ndarray) -> Split:
        kinds = torch.from_numpy(labels[rows].astype(np.int64))
        selection = {name: values[rows] for name, values in factors.items()}
        return Split(torch.from_numpy(images), kinds, torch.from_numpy(rows), factors=selection)

    train = split(train_images, raw.train_labels, raw.train_factors, train_rows)
    if binarize == "dynamic":
        train = dataclasses.replace(train, grey=torch.from_numpy(raw.train_images.take(train_rows, axis=0)))
    data = {
        "train": train,
        "validation": split(validation_images, raw.train_labels, raw.train_factors, validation_rows),
        "test": split(test_images, raw.test_labels, raw.test_factors, test_rows),
    }
    draw_note = "" if binarize == "none" else f", {drawn_text(binarize_seed)}"
    info = DataInfo(
        name=name,
        shape=raw.train_images.shape[1:],
        support="bytes" if binarize == "none" else "binary",
        fingerprint=_fingerprint(raw),
        sizes={split_name: len(value) for split_name, value in data.items()},
        # for evaluation, which is the same for static and dynamic binarisation
        preprocessing=f"{raw.scaling}{draw_note}",
        classes=raw.classes,
        edge=edge_of(train),
    )
    return Data(data["train"], data["validation"], data["test"], info)


def drawn_text(seed: int) -> str:
    """The text about binary draws in a description of data."""
    return f"one Bernoulli draw with seed {seed}"


def held_out(count: int, fraction: float, stream: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The rows to keep and the rows to hold out, ascending; the same in every run and version.

    Args:
        count: Rows in all.
        fraction: Fraction to hold out; at least one row if it is above 0.
        stream: Number of the random stream, for independent choices.
    """
    size = max(round(count * fraction), 1 if fraction > 0 else 0)
    # NumPy will never change RandomState's stream, so the split is the same in every version
    order = np.random.RandomState(stream).permutation(count)
    return np.sort(order[size:]), np.sort(order[:size])


def _fingerprint(raw: Raw) -> str:
    digest = hashlib.sha256()
    for array in (raw.train_images, raw.train_labels, raw.test_images, raw.test_labels):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
