"""The mutual information gap: how far each known factor has a latent dimension to itself.

Shapes: ``N`` examples, ``D`` latent (flattened), ``F`` factors. Mutual information and entropy are in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vaectl.data.examples import Examples
from vaectl.errors import DataError
from vaectl.model.vae import VAE, evaluating
from vaectl.system.runtime import at_once

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CODE_BINS = 20
FACTOR_BINS = 10
# examples encoded at once
EXAMPLES_AT_ONCE = 1000


@dataclass(frozen=True)
class InformationGap:
    """How much each latent dimension says of each factor, and by how much the best of them leads.

    Attributes:
        names: Name of each factor (F).
        mutual_information: Of each latent dimension and factor, in nats (D, F).
        entropy: Of each factor, in nats (F,).
    """

    names: tuple[str, ...]
    mutual_information: Floats
    entropy: Floats

    @property
    def gaps(self) -> Floats:
        """By factor, from 0 to 1 (F,): the lead of the most informative latent dimension over the next, by entropy.

        A single latent dimension leads over one that says nothing.
        """
        nothing = np.zeros((1, len(self.names)))
        ordered = np.sort(np.concatenate((nothing, self.mutual_information)), axis=0)  # (1 + D, F), rising over D
        gaps: Floats = (ordered[-1] - ordered[-2]) / self.entropy
        return gaps

    @property
    def mean(self) -> float:
        """The mutual information gap: the mean over factors."""
        return float(self.gaps.mean())

    def to_json(self) -> dict[str, Any]:
        """The ``mutual_information_gap``, and by factor its ``gap``, and its best ``dimension`` and what that says."""
        best = self.mutual_information.argmax(0)  # (F,)
        factors = {
            name: {"gap": float(gap), "dimension": int(d), "mutual_information": float(self.mutual_information[d, f])}
            for f, (name, gap, d) in enumerate(zip(self.names, self.gaps, best, strict=True))
        }
        return {"mutual_information_gap": self.mean, "code_bins": CODE_BINS, "factors": factors}


def mutual_information_gap(
    codes: npt.ArrayLike, factors: npt.ArrayLike, names: Sequence[str] | None = None
) -> InformationGap:
    """The mutual information of every latent dimension and factor, and the gap between a factor's two best.

    ``1/F sum_k (I(z_j; v_k) - max_(i != j) I(z_i; v_k)) / H(v_k)``, j the dimension that says most of v_k. Codes are
    put into 20 bins of equal frequency, so that neither the scale of a dimension nor a few far codes decide. The
    information is that of the table of counts: where a dimension says nothing of a factor of V values it is too high by
    about 19 (V - 1) / 2N nats. Give draws of q(z|x): the means of a dimension that has collapsed still tell examples
    apart.

    Args:
        codes: A code for each example, any real numbers (N, D).
        factors: What each example was made from, integers (N, F).
        names: Name of each factor, ``factor 0`` and so on where there are none.

    Raises:
        ValueError: The shapes do not go together, or the factors are not integers.
        DataError: A code is not finite, or a factor has one value only, so that there is nothing to know of it.

    References:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), section 4.1, equation 6,
        https://arxiv.org/abs/1802.04942
    """
    # here, because every evaluation comes by and only those with known factors need it
    from sklearn.metrics import mutual_info_score

    z, v = np.asarray(codes, np.float64), np.asarray(factors)
    if z.ndim != 2 or v.ndim != 2 or len(z) != len(v) or 0 in (*z.shape, *v.shape):
        raise ValueError(f"codes must be (N, D) and factors (N, F); got {z.shape} and {v.shape}")
    if not np.isfinite(z).all():
        raise DataError("the codes are not all finite")
    if not np.issubdtype(v.dtype, np.integer):
        raise ValueError(f"factors must be integers; got {v.dtype}; equal_frequency_bins makes them of real numbers")
    names = tuple(names) if names is not None else tuple(f"factor {f}" for f in range(v.shape[1]))
    if len(names) != v.shape[1]:
        raise ValueError(f"{v.shape[1]} factors have {len(names)} names")
    for name, column in zip(names, v.T, strict=True):
        if (column == column[0]).all():
            raise DataError(f"factor '{name}' has one value only, {column[0]}: there is nothing to know of it")
    bins = [equal_frequency_bins(column, CODE_BINS) for column in z.T]  # D of (N,)
    information = [[mutual_info_score(column, b) for column in v.T] for b in bins]  # D rows of F
    entropy = [mutual_info_score(column, column) for column in v.T]
    return InformationGap(names, np.array(information, np.float64), np.array(entropy, np.float64))


def equal_frequency_bins(values: npt.ArrayLike, bins: int) -> Integers:
    """The bin, from 0, of each of N values (N,), as many in each as ties allow: equal values are never parted.

    A value's bin is that of the middle of its ranks: up to ``bins`` values that are equally frequent stay apart.
    """
    _, which, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2  # of the ranks of each distinct value, from 0 to N
    bin_of: Integers = np.floor(bins * middle / counts.sum()).astype(np.int64)
    return bin_of[which]


@torch.no_grad()
def disentanglement(model: VAE, split: Examples, *, seed: int = 0) -> InformationGap | None:
    """The mutual information gap of one draw of q(z|x) for every example of a split, whose factors must be known.

    Factors that are real numbers are put into 10 bins of equal frequency.

    Args:
        model: The model, on the split's device.
        split: The examples.
        seed: Seed of the draws.

    Raises:
        DataError: A code is not finite.

    Returns:
        The gap of the factors that have several values in the split, or None where there are none.
    """
    known = {
        name: values if np.issubdtype(values.dtype, np.integer) else equal_frequency_bins(values, FACTOR_BINS)
        for name, values in split.factors.items()
        if len(np.unique(values)) > 1
    }
    if not known:
        return None
    with evaluating(model, seed):
        codes = torch.cat(
            [model.encode(batch).sample().flatten(1) for batch in split.batches(at_once(EXAMPLES_AT_ONCE, split.shape))]
        )
    return mutual_information_gap(codes.cpu().numpy(), np.stack([*known.values()], axis=1), [*known])
