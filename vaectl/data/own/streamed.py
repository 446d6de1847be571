"""A split that is read when it is needed, so that memory does not grow with its examples.

Shapes: ``N`` examples, ``B`` batch, ``X`` data shape (C, H, W).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaectl.data.base import scaled
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
    """

    source: Rows
    positions: np.ndarray
    labels: Tensor
    device: torch.device = CPU
    grey: Rows | None = None

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

    @property
    def factors(self) -> Mapping[str, np.ndarray]:
        """Empty: a streamed source has no known factors."""
        return {}

    def batch(self, index: Tensor | slice) -> Tensor:
        """The examples at ``index`` as the model sees them: float32 (B, *X), in [0, 1] unless they are real."""
        positions = self.positions[index if isinstance(index, slice) else index.cpu().numpy()]
        with closing(self._read(self.source, [positions])) as batches:
            return scaled(next(batches).to(self.device))

    def batches(self, size: int) -> Iterator[Tensor]:
        """All examples in order, ``size`` at a time; the last batch may be smaller."""
        with closing(self._read(self.source, self._chunks(self.positions, size))) as batches:
            for stored in batches:
                yield scaled(stored.to(self.device))

    def feed(self, order: Tensor, size: int, start: int = 0) -> Generator[Tensor]:
        """The stored examples of each batch; a step gets them complete."""
        positions = self.positions[order.cpu().numpy()][start * size :]
        with closing(self._read(self.grey or self.source, self._chunks(positions, size))) as batches:
            for stored in batches:
                yield stored.to(self.device)

    def training_batch(self, given: Tensor, rows: slice = slice(None)) -> Tensor:
        """Select ``rows`` of a batch from ``feed``, or of a new binary draw of it."""
        if self.grey is None:
            return scaled(given[rows])
        # draw all of them, as a resident split does
        return torch.bernoulli(scaled(given))[rows]

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
        return dataclasses.replace(self, positions=self.positions[:n], labels=self.labels[:n])

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

        with closing(ahead(read, pieces())) as results:
            parts: list[np.ndarray] = []
            for stored, last in results:
                parts.append(stored)
                if last:
                    yield torch.from_numpy(np.concatenate(parts) if len(parts) > 1 else parts[0])
                    parts = []
