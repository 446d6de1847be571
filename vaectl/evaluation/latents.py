"""The latent space of a trained model: codes of data, their projection, and decoded walks.

Shapes: ``N`` examples, ``D`` latent (flattened), ``X`` data shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from vaectl.data.batch import Batch
from vaectl.data.examples import Examples
from vaectl.errors import UsageError
from vaectl.evaluation.metrics import EVALUATION_BATCH
from vaectl.model.distributions.codes import Quantized
from vaectl.model.vae import VAE, evaluating
from vaectl.system.runtime import at_once

# training examples that principal components are fitted to: enough for axes that no longer turn; and of codes as long
# as those of a grid so many numbers in all, which bounds the memory
FIT_EXAMPLES, FIT_NUMBERS = 20_000, 2**23
# from so many dimensions on, two principal components are found without the matrix of all covariances
MANY_DIMENSIONS = 512
# svds asks for more singular values than it finds
FEWEST_FOR_SVDS = 4


@dataclass(frozen=True)
class Codes:
    """Posterior of each example: ``mean``, ``scale`` (standard deviation) and one ``draw``, float32 (N, D) each.

    A grid of codes is certain: it has ``indices``, int64 (N, h, w), which are empty otherwise, and neither scale nor
    draw, which are empty (N, 0).
    """

    mean: Tensor
    scale: Tensor
    draw: Tensor
    indices: Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.int64))


@dataclass(frozen=True)
class View:
    """Codes on a plane.

    Attributes:
        points: float64 (N, 2).
        axes: Names of the two axes.
        explained: Part of the training codes' variance on each principal component; empty where none was needed.
    """

    points: np.ndarray
    axes: tuple[str, str]
    explained: tuple[float, ...] = ()


@torch.no_grad()
def encodings(
    model: VAE, split: Examples, *, seed: int = 0, progress: Callable[[int], None] = lambda examples: None
) -> Iterator[Codes]:
    """The posteriors of a split in order, a batch at a time: however many examples there are, memory holds one batch.

    Mean and scale are the same at every call, ``draw`` follows the seed. Until the last batch is taken, or ``close``
    is called, torch's random stream is the seed's.
    """
    done = 0
    with evaluating(model, seed):
        for batch in split.batches(at_once(EVALUATION_BATCH, split.shape)):
            q = model.encode(batch)
            indices = q.indices if isinstance(q, Quantized) else torch.empty(len(batch), 0, dtype=torch.int64)
            spread = (torch.empty(len(batch), 0),) * 2 if isinstance(q, Quantized) else (q.stddev, q.sample())
            mean, scale, draw = (value.flatten(1).cpu() for value in (q.mean, *spread))
            yield Codes(mean, scale, draw, indices.cpu())
            done += len(batch)
            progress(done)


def encode(
    model: VAE, split: Examples, *, seed: int = 0, progress: Callable[[int], None] = lambda examples: None
) -> Codes:
    """The posterior of every example, as ``encodings``."""
    parts = [
        (part.mean, part.scale, part.draw, part.indices)
        for part in encodings(model, split, seed=seed, progress=progress)
    ]
    return Codes(*(torch.cat(column) for column in zip(*parts, strict=True)))


def view_of(model: VAE, shown: Examples, train: Examples, dims: Sequence[int] | None = None) -> View:
    """The codes of ``shown`` on a plane, where needed that of the principal components of the training codes.

    The splits may be on any device.
    """
    device, wide = next(model.parameters()).device, math.prod(model.space.shape)
    if dims is None and wide > 2:
        enough = min(FIT_EXAMPLES, max(2, FIT_NUMBERS // wide))
        plane = plane_of(encode(model, train.first(enough).to(device)).mean)
        if plane is not None:  # projected as they come: whole codes of many grids would be gigabytes
            return plane.view([part.mean for part in encodings(model, shown.to(device))])
        dims = (0, 1)
    codes = encode(model, shown.to(device))
    return view(codes, codes.mean, dims)


def view(codes: Codes, fit_on: Tensor, dims: Sequence[int] | None = None) -> View:
    """Codes on a plane: the dimensions asked for, or the only two, or the principal components of ``fit_on``.

    A single dimension is shown against its posterior scale.

    Args:
        codes: The codes to show (N, D).
        fit_on: Posterior means (M, D) that the principal components are fitted to; training codes, so that the
            picture of test codes owes nothing to them.
        dims: One or two dimensions, or None.

    References:
        On Lines and Planes of Closest Fit to Systems of Points in Space (Pearson, 1901),
        https://doi.org/10.1080/14786440109462720
    """
    latent_dim = codes.mean.shape[1]
    if dims is None and latent_dim > 2:
        plane = plane_of(fit_on)
        if plane is not None:
            return plane.view([codes.mean])
        dims = (0, 1)
    chosen = list(dims) if dims is not None else list(range(latent_dim))
    columns = codes.mean[:, chosen].double()  # (N, 1 or 2)
    if len(chosen) == 2:
        return View(columns.numpy(), (f"z{chosen[0]}", f"z{chosen[1]}"))
    scale = codes.scale[:, chosen].double() if codes.scale.numel() else torch.zeros_like(columns)
    return View(torch.cat((columns, scale), dim=1).numpy(), (f"z{chosen[0]}", f"posterior scale of z{chosen[0]}"))


@dataclass(frozen=True)
class Plane:
    """The plane of two principal components: through ``mean`` (D,), along ``components`` (2, D)."""

    mean: np.ndarray
    components: np.ndarray
    explained: tuple[float, float]

    def view(self, codes: Iterable[Tensor]) -> View:
        """Batches of codes (B, D), projected."""
        points = [(batch.double().numpy() - self.mean) @ self.components.T for batch in codes]
        first, second = self.explained
        axes = (f"PC 1 ({first:.0%} of variance)", f"PC 2 ({second:.0%} of variance)")
        return View(np.concatenate(points), axes, self.explained)


def plane_of(fit_on: Tensor) -> Plane | None:
    """The plane of the principal components of codes (M, D); None where they are all the same, or a single one."""
    if bool((fit_on == fit_on[0]).all()):
        return None
    known = fit_on.double().numpy()
    components, explained = principal_components(known)
    return Plane(known.mean(0), components, explained)


def principal_components(points: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """The two orthogonal directions of most variance, and the part of all variance along each.

    As scikit-learn's ``PCA``, whose import takes as long as torch's and 80 MB.

    Args:
        points: float64 (M, D) with D > 2, not all the same.

    Returns:
        Unit vectors (2, D), each with its largest component positive; and two parts from 0 to 1.
    """
    centred = points - points.mean(0)
    if points.shape[1] < MANY_DIMENSIONS:
        variances, directions = np.linalg.eigh(np.cov(points, rowvar=False))  # ascending; directions (D, D) in columns
        components, parts = directions[:, :-3:-1].T, variances[:-3:-1].clip(0) / variances.sum()  # (2, D), (2,)
    elif len(points) < FEWEST_FOR_SVDS:
        _, scales, components = np.linalg.svd(centred, full_matrices=False)
        components, parts = components[:2], scales[:2] ** 2 / np.square(centred).sum()
    else:
        from scipy.sparse.linalg import svds

        start = np.random.RandomState(0).standard_normal(min(centred.shape))
        _, scales, components = svds(centred, k=2, v0=start)  # ascending
        components, parts = components[::-1], scales[::-1] ** 2 / np.square(centred).sum()
    largest = components[np.arange(2), np.abs(components).argmax(1)]
    first, second = map(float, parts)
    return components * np.sign(largest)[:, None], (first, second)


def prior_quantiles(model: VAE, probabilities: Tensor, given: Tensor | None = None) -> Tensor:
    """The prior's quantiles by dimension, (len(probabilities), D).

    Raises:
        UsageError: The prior does not factorise over dimensions with known quantiles.
    """
    p = model.prior_at(given)
    if not isinstance(p, Independent):
        raise UsageError(
            "this model's prior has no quantiles by dimension", hint="use --kind scatter, or codes of a VQ-VAE"
        )
    base: Distribution = p.base_dist
    shape = (-1, *(1 for _ in base.batch_shape))
    quantiles: Tensor = base.icdf(probabilities.to(base.mean.device).reshape(shape))
    return quantiles.reshape(len(probabilities), -1)


@torch.no_grad()
def manifold(model: VAE, dims: Sequence[int], side: int = 21, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Decode a grid of the prior's quantiles over one or two dimensions, the others at the prior's mean.

    Args:
        model: The model.
        dims: One or two latent dimensions: along the columns, and along the rows from the bottom up.
        side: Grid points along a dimension.
        given: What a conditional model is conditioned on at all points (1, C).

    Returns:
        Mean images (side or side * side, *X), row by row from the top, and the dimensions' values (side, len(dims)).

    References:
        Auto-Encoding Variational Bayes (Kingma and Welling, 2014), figure 4, https://arxiv.org/abs/1312.6114
    """
    values = prior_quantiles(model, torch.linspace(0.02, 0.98, side), given)[:, list(dims)]  # (side, len(dims))
    rows = side if len(dims) == 2 else 1
    z = model.prior_at(given).mean.flatten().repeat(rows * side, 1)  # (rows * side, D)
    z[:, dims[0]] = values[:, 0].repeat(rows)
    if len(dims) == 2:
        z[:, dims[1]] = values[:, 1].flip(0).repeat_interleave(side)
    return _decoded(model, z, given), values


@torch.no_grad()
def traversal(
    model: VAE, code: Tensor, dims: Sequence[int], steps: int = 11, given: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Decode walks along single dimensions through one latent (D,), over the prior's quantiles.

    Args:
        model: The model.
        code: The latent.
        dims: The dimensions.
        steps: Steps of a walk.
        given: What a conditional model is conditioned on (1, C).

    Returns:
        Mean images (len(dims) * steps, *X), one row of ``steps`` for each dimension, and the values (steps, len(dims)).
    """
    values = prior_quantiles(model, torch.linspace(0.01, 0.99, steps), given)[:, list(dims)]  # (steps, len(dims))
    z = code.repeat(len(dims) * steps, 1)  # (len(dims) * steps, D)
    for row, dim in enumerate(dims):
        z[row * steps : (row + 1) * steps, dim] = values[:, row]
    return _decoded(model, z, given), values


@torch.no_grad()
def interpolate(model: VAE, start: Batch, end: Batch, steps: int) -> Distribution:
    """The likelihood along straight lines between posterior means of two batches, batch shape (B * steps,).

    A conditional model is conditioned on what the starts are.
    """
    a, b = model.encode(start).mean, model.encode(end).mean  # (B, *Z)
    weight = torch.linspace(0, 1, steps, device=a.device).reshape(-1, *(1 for _ in a.shape[1:]))  # (steps, 1, ...)
    z = (a[:, None] * (1 - weight) + b[:, None] * weight).flatten(0, 1)  # (B * steps, D)
    return model.decode(z, None if start.given is None else start.given.repeat_interleave(steps, 0))


def _decoded(model: VAE, z: Tensor, given: Tensor | None) -> Tensor:
    """Mean images (N, *X) of latents (N, D), all conditioned on the same (1, C)."""
    images: Tensor = model.decode(z, None if given is None else given.expand(len(z), -1)).mean
    return images
