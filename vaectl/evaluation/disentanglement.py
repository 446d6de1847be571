"""The mutual information gap: to what extent each known factor has its own latent dimension.

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
# number of examples encoded at once
EXAMPLES_AT_ONCE = 1000


@dataclass(frozen=True)
class InformationGap:
    """The mutual information of latent dimensions and factors, and the gap between a factor's two best dimensions.

    Attributes:
        names: Name of each factor (F).
        mutual_information: Mutual information of each latent dimension and factor, in nats (D, F).
        entropy: Entropy of each factor, in nats (F,).
    """

    names: tuple[str, ...]
    mutual_information: Floats
    entropy: Floats

    @property
    def gaps(self) -> Floats:
        """The gap of each factor between the two most informative latent dimensions, divided by its entropy (F,).

        Gaps are from 0 to 1. A single latent dimension is compared with one without information.
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
        """The ``mutual_information_gap``, and for each factor its ``gap``, best ``dimension`` and their information."""
        best = self.mutual_information.argmax(0)  # (F,)
        factors = {
            name: {"gap": float(gap), "dimension": int(d), "mutual_information": float(self.mutual_information[d, f])}
            for f, (name, gap, d) in enumerate(zip(self.names, self.gaps, best, strict=True))
        }
        return {"mutual_information_gap": self.mean, "code_bins": CODE_BINS, "factors": factors}


def mutual_information_gap(
    latents: npt.ArrayLike, factors: npt.ArrayLike, names: Sequence[str] | None = None
) -> InformationGap:
    """Compute the mutual information of every latent dimension and factor, and the gap between a factor's two best.

    ``1/F sum_k (I(z_j; v_k) - max_(i != j) I(z_i; v_k)) / H(v_k)``, where j is the dimension with the most information
    about v_k. Latents are put into 20 bins of equal frequency, so that neither the scale of a dimension nor outliers
    matter. The information is estimated from the table of counts: for a dimension without information about a factor of
    V values it is too high by about 19 (V - 1) / 2N nats. Use draws of q(z|x), because the means of a collapsed
    dimension still distinguish examples.

    Args:
        latents: A latent for each example, any real numbers (N, D).
        factors: The factors of each example, integers (N, F).
        names: Name of each factor; by default ``factor 0`` and so on.

    Raises:
        ValueError: The shapes do not match, or the factors are not integers.
        DataError: A latent is not finite, or a factor has only one value.

    References:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), section 4.1, equation 6,
        https://arxiv.org/abs/1802.04942
    """
    # imported here, because only evaluations with known factors need it
    from sklearn.metrics import mutual_info_score

    z, v = np.asarray(latents, np.float64), np.asarray(factors)
    if z.ndim != 2 or v.ndim != 2 or len(z) != len(v) or 0 in (*z.shape, *v.shape):
        raise ValueError(f"latents must be (N, D) and factors (N, F); got {z.shape} and {v.shape}")
    if not np.isfinite(z).all():
        raise DataError("the latents are not all finite")
    if not np.issubdtype(v.dtype, np.integer):
        raise ValueError(f"factors must be integers; got {v.dtype}; use equal_frequency_bins to bin real numbers")
    names = tuple(names) if names is not None else tuple(f"factor {f}" for f in range(v.shape[1]))
    if len(names) != v.shape[1]:
        raise ValueError(f"got {len(names)} names for {v.shape[1]} factors")
    for name, column in zip(names, v.T, strict=True):
        if (column == column[0]).all():
            raise DataError(f"factor '{name}' has only one value, {column[0]}, so its entropy is 0")
    bins = [equal_frequency_bins(column, CODE_BINS) for column in z.T]  # D of (N,)
    information = [[mutual_info_score(column, b) for column in v.T] for b in bins]  # D rows of F
    entropy = [mutual_info_score(column, column) for column in v.T]
    return InformationGap(names, np.array(information, np.float64), np.array(entropy, np.float64))


def equal_frequency_bins(values: npt.ArrayLike, bins: int) -> Integers:
    """The bin, from 0, of each of N values (N,), with bins as equal in size as ties allow.

    Equal values share a bin, that of the middle of their ranks; up to ``bins`` equally frequent values stay separate.
    """
    _, which, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2  # of the ranks of each distinct value, from 0 to N
    bin_of: Integers = np.floor(bins * middle / counts.sum()).astype(np.int64)
    return bin_of[which]


@torch.no_grad()
def disentanglement(model: VAE, split: Examples, *, seed: int = 0) -> InformationGap | None:
    """Compute the mutual information gap from one draw of q(z|x) for every example of a split with known factors.

    Real-valued factors are put into 10 bins of equal frequency.

    Args:
        model: The model, on the split's device.
        split: The examples.
        seed: Seed of the draws.

    Raises:
        DataError: A latent is not finite.

    Returns:
        The gap for the factors with several values in the split, or None if there are none.
    """
    factors = {
        name: values if np.issubdtype(values.dtype, np.integer) else equal_frequency_bins(values, FACTOR_BINS)
        for name, values in split.factors.items()
        if len(np.unique(values)) > 1
    }
    if not factors:
        return None
    with evaluating(model, seed):
        latents = torch.cat(
            [model.encode(batch).sample().flatten(1) for batch in split.batches(at_once(EXAMPLES_AT_ONCE, split.shape))]
        )
    return mutual_information_gap(latents.cpu().numpy(), np.stack([*factors.values()], axis=1), [*factors])
