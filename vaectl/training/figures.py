"""The figures that steps report by name: a row for each batch, on the training's device.

Shapes: ``T`` batches of an epoch, ``F`` figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# the figures of every step, means over its examples; grad_norm is the global gradient norm before clipping
REPORTED = ("loss", "recon", "kl", "grad_norm")
# the figure for the loss of an objective's own parameters, the last one if there is any
ADVERSARY_LOSS = "adversary"
# the figures that must be finite, where a step has them; another term may be unknown for batches of an older version
REQUIRED = (*REPORTED, ADVERSARY_LOSS)


def not_finite(names: Sequence[str], report: Tensor) -> set[str]:
    """The names of a step's required figures (F,) that are not finite."""
    values = zip(names, report.tolist(), strict=True)
    return {name for name, value in values if name in REQUIRED and not math.isfinite(value)}


class Figures:
    """The figures of an epoch's batches.

    Attributes:
        names: Name of each figure (F): ``REPORTED``, then, from the first step on, the objective's own terms.
        values: The figures of each batch (T, F), 0 for batches that are not done.

    Args:
        batches: T.
        device: The training's device: reading a value stalls an accelerator, so values are read once per epoch.
    """

    def __init__(self, batches: int, device: torch.device) -> None:
        self.names: tuple[str, ...] = REPORTED
        self.values = torch.zeros(batches, len(REPORTED), device=device)

    def put(self, batch: int, names: tuple[str, ...], report: Tensor) -> None:
        """Store the figures of a step (F,)."""
        self._widen(batch, names)
        self.values[batch] = report

    def clear(self) -> None:
        """Set all figures to 0, as an epoch begins."""
        self.values.zero_()

    @property
    def finite(self) -> bool:
        """Whether all required figures are finite."""
        required = [column for column, name in enumerate(self.names) if name in REQUIRED]
        return bool(self.values[:, required].isfinite().all())

    def means(self, sizes: Sequence[int], first: int = 0) -> dict[str, float]:
        """The mean of each figure over the examples of successive batches; for ``grad_norm`` over the batches.

        Batches for which a term is unknown, because an older version trained them, are left out of its mean.

        Args:
            sizes: Examples in each of ``t`` batches.
            first: The first of these batches.
        """
        values = self.values[first : first + len(sizes)].cpu().double()  # (t, F)
        weights = torch.tensor(sizes, dtype=torch.float64)
        count = len(REPORTED) - 1
        means = dict(zip(REPORTED, ((weights @ values[:, :count]) / weights.sum()).tolist(), strict=False))
        means["grad_norm"] = values[:, count].mean().item()
        for name, column in zip(self.names[len(REPORTED) :], values.T[len(REPORTED) :], strict=True):
            mask = column.isfinite()
            means[name] = (weights[mask] @ column[mask] / weights[mask].sum()).item()
        return means

    def restore(self, names: Sequence[str], done: Tensor) -> None:
        """Restore the figures of the first batches, ``done`` (t, F).

        Raises:
            ValueError: The names do not begin with ``REPORTED``, or do not match the shape of ``done``.
        """
        if tuple(names[: len(REPORTED)]) != REPORTED or done.dim() != 2 or done.shape[1] != len(names):
            raise ValueError(
                f"the figures must begin with {', '.join(REPORTED)}; got {', '.join(map(str, names))[:100]}"
            )
        self.names = tuple(names)
        self.values = self.values.new_zeros(len(self.values), len(names))
        self.values[: len(done)] = done

    def _widen(self, batch: int, names: tuple[str, ...]) -> None:
        if names != self.names:
            more = self.values.new_zeros(len(self.values), len(names) - len(REPORTED))
            more[:batch] = torch.nan
            self.values, self.names = torch.cat((self.values[:, : len(REPORTED)], more), 1), names
