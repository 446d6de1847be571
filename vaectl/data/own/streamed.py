"""A split that is read when it is needed, so that memory does not grow with its examples.

Shapes: ``N`` examples, ``B`` batch, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vaectl.data.base import scaled
from vaectl.data.batch import Batch
from vaectl.data.own.ahead import ahead
from vaectl.data.own.rows import BadExampleError, Rows
from vaectl.errors import DataError

# bytes that a thread reads at once
PIECE_BYTES = 1 << 22
CPU = torch.device("cpu")


@dataclass(frozen=True)
class StreamedSplit:
    """Examples that threads read in the order of use, a few batches ahead.

    The caller determines the order and makes every random draw, so training is bit for bit the same as on a ``Split``.

    Attributes:
        source: The source of the examples.
        positions: Row of each example in the source, int64 (N,).
        labels: int64 (N,), -1 if there is none.
        device: The device of the batches.
        grey: Source of the grey levels from which training draws new binary images, with the same rows; None if it
            trains on ``source``.
        given: Numbers that a model is conditioned on, float32 (N, C), held in memory; or None.
        observed: Which values were observed, bool (N, *X), held in memory; None if all were.
        factors: Known factors of the examples by name (N,).
    """

    source: Rows
    positions: np.ndarray
    labels: Tensor
    device: torch.device = CPU
    grey: Rows | None = None
    given: Tensor | None = None
    observed: Tensor | None = None
    factors: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, X."""
        return self.source.shape

    @property
    def rows(self) -> Tensor:
        """Row of each example in the source, int64 (N,)."""
        return torch.from_numpy(self.positions).to(self.device)

    def batch(self, index: Tensor | slice) -> Batch:
        """The examples at ``index`` as the model sees them, values in [0, 1] unless they are real."""
        at = index if isinstance(index, slice) else index.cpu()
        positions = self.positions[at if isinstance(at, slice) else at.numpy()]
        with closing(self._read(self.source, [positions])) as batches:
            return self._batch(scaled(next(batches).to(self.device)), at)

    def batches(self, size: int) -> Iterator[Batch]:
        """All examples in order, ``size`` at a time; the last batch may be smaller."""
        with closing(self._read(self.source, self._chunks(self.positions, size))) as batches:
            for number, stored in enumerate(batches):
                yield self._batch(scaled(stored.to(self.device)), slice(number * size, (number + 1) * size))

    def _batch(self, x: Tensor, index: Tensor | slice) -> Batch:
        given, observed = (None if t is None else t[index].to(self.device) for t in (self.given, self.observed))
        return Batch(x, given, observed)

    def feed(self, order: Tensor, size: int, start: int = 0) -> Generator[tuple[Tensor, ...]]:
        """Yield the stored examples of each batch, then its ``given`` and ``observed`` if there are any."""
        order = order.cpu()[start * size :]
        sources = self._chunks(self.positions[order.numpy()], size)
        with closing(self._read(self.grey or self.source, sources)) as batches:
            for number, stored in enumerate(batches):
                index = order[number * size : (number + 1) * size]
                others = (t[index] for t in (self.given, self.observed) if t is not None)
                yield tuple(t.to(self.device) for t in (stored, *others))

    def training_batch(self, tensors: Sequence[Tensor], rows: slice = slice(None)) -> Batch:
        """The examples of a batch from ``feed``, or a new binary draw of each; only ``rows`` of them."""
        stored, *others = tensors
        given = None if self.given is None else others[0][rows]
        observed = None if self.observed is None else others[-1][rows]
        if self.grey is None:
            return Batch(scaled(stored[rows]), given, observed)
        # all are drawn, as for a split in memory
        return Batch(torch.bernoulli(scaled(stored))[rows], given, observed)

    def stored(self, size: int) -> Iterator[np.ndarray]:
        """All examples in order in their stored form, ``size`` at a time."""
        with closing(self._read(self.source, self._chunks(self.positions, size))) as batches:
            for stored in batches:
                yield stored.numpy()

    def to(self, device: torch.device) -> StreamedSplit:
        """The same split with its batches on a device."""
        return dataclasses.replace(self, labels=self.labels.to(device), device=device)

    def first(self, n: int) -> StreamedSplit:
        """The first ``n`` examples, or all if there are fewer."""
        given, observed = (None if t is None else t[:n] for t in (self.given, self.observed))
        factors = {name: values[:n] for name, values in self.factors.items()}
        return dataclasses.replace(
            self, positions=self.positions[:n], labels=self.labels[:n], given=given, observed=observed, factors=factors
        )

    @staticmethod
    def _chunks(positions: np.ndarray, size: int) -> Iterator[np.ndarray]:
        return (positions[start : start + size] for start in range(0, len(positions), size))

    @staticmethod
    def _read(source: Rows, chunks: Iterable[np.ndarray]) -> Generator[Tensor]:
        """The stored examples of each chunk of rows, read in pieces by threads."""
        bytes_each = source.dtype.itemsize * int(np.prod(source.shape))
        at_once = max(1, PIECE_BYTES // max(1, bytes_each))

        def pieces() -> Iterator[tuple[np.ndarray, bool]]:
            for chunk in chunks:
                for start in range(0, max(1, len(chunk)), at_once):
                    yield chunk[start : start + at_once], start + at_once >= len(chunk)

        def read(piece: tuple[np.ndarray, bool]) -> tuple[np.ndarray, bool]:
            try:
                return source.read(piece[0]), piece[1]
            except BadExampleError as error:
                name = source.name(error.row)
                hint = "the data have changed since they were first read"
                raise DataError(f"{name} {error.problem}", hint=hint) from None

        with closing(ahead(read, pieces(), at_once * bytes_each)) as results:
            parts: list[np.ndarray] = []
            for stored, last in results:
                parts.append(stored)
                if last:
                    yield torch.from_numpy(np.concatenate(parts) if len(parts) > 1 else parts[0])
                    parts = []
