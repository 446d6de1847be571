"""What the steps of an epoch report, by name: a row for each batch, on the training's device.

Shapes: ``T`` batches of an epoch, ``F`` figures.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# what every step reports, means over its examples; grad_norm is the global norm of the gradient before clipping
REPORTED = ("loss", "recon", "kl", "grad_norm")


class Figures:
    """The figures of an epoch's batches.

    Attributes:
        names: Name of each figure (F): ``REPORTED``, then the objective's own terms, which the first step tells.
        values: By batch (T, F), 0 for batches that are not done.

    Args:
        batches: T.
        device: Where they are kept: reading a value stalls an accelerator, so it is done once an epoch.
    """

    def __init__(self, batches: int, device: torch.device) -> None:
        self.names: tuple[str, ...] = REPORTED
        self.values = torch.zeros(batches, len(REPORTED), device=device)

    def put(self, batch: int, names: tuple[str, ...], report: Tensor) -> None:
        """Keep what a step reported (F,)."""
        self._widen(batch, names)
        self.values[batch] = report

    def clear(self) -> None:
        """Forget all of it, as an epoch begins."""
        self.values.zero_()

    @property
    def finite(self) -> bool:
        """Whether all that every step reports are finite numbers."""
        return bool(self.values[:, : len(REPORTED)].isfinite().all())

    def means(self, sizes: Sequence[int]) -> dict[str, float]:
        """The mean of each figure over the examples of the epoch; of ``grad_norm`` over its batches.

        A term that is unknown for a batch, because an older version of the program did it, is the mean over the others.

        Args:
            sizes: Examples in each batch (T).
        """
        values = self.values.cpu().double()  # (T, F)
        weights = torch.tensor(sizes, dtype=torch.float64)
        count = len(REPORTED) - 1
        means = dict(zip(REPORTED, ((weights @ values[:, :count]) / weights.sum()).tolist(), strict=False))
        means["grad_norm"] = values[:, count].mean().item()
        for name, column in zip(self.names[len(REPORTED) :], values.T[len(REPORTED) :], strict=True):
            known = column.isfinite()
            means[name] = (weights[known] @ column[known] / weights[known].sum()).item()
        return means

    def restore(self, names: Sequence[str], done: Tensor) -> None:
        """Become the figures of which the first batches are ``done`` (t, F).

        Raises:
            ValueError: They have other names, or are not those of so many batches.
        """
        if tuple(names[: len(REPORTED)]) != REPORTED or done.dim() != 2 or done.shape[1] != len(names):
            raise ValueError(
                f"the figures are {', '.join(map(str, names))[:100]}; they must begin with those of a step"
            )
        self.names = tuple(names)
        self.values = self.values.new_zeros(len(self.values), len(names))
        self.values[: len(done)] = done

    def _widen(self, batch: int, names: tuple[str, ...]) -> None:
        if names != self.names:
            more = self.values.new_zeros(len(self.values), len(names) - len(REPORTED))
            more[:batch] = torch.nan
            self.values, self.names = torch.cat((self.values[:, : len(REPORTED)], more), 1), names
