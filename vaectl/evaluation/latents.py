"""The latent space of a trained model: encoded data, their projection, and decoded walks.

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
from vaectl.model.distributions.codes import Codebook, Quantized
from vaectl.model.vae import VAE, evaluating
from vaectl.system.runtime import at_once

# principal components are fitted to at most this many examples (more do not change the axes) and, for long latents such
# as grids of codes, to at most this many numbers
FIT_EXAMPLES, FIT_NUMBERS = 20_000, 2**23
# from this many dimensions on, two principal components are computed without the covariance matrix
MANY_DIMENSIONS = 512
# svds requires more points than the singular values that it computes
FEWEST_FOR_SVDS = 4


@dataclass(frozen=True)
class Encodings:
    """The posterior of each example: ``mean``, ``scale`` (standard deviation) and one ``draw``, float32 (N, D) each.

    Grids of codes have ``indices``, int64 (N, h, w), which are empty otherwise. Their posterior is deterministic, so
    ``scale`` and ``draw`` are empty (N, 0).
    """

    mean: Tensor
    scale: Tensor
    draw: Tensor
    indices: Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.int64))


@dataclass(frozen=True)
class View:
    """Latents on a plane.

    Attributes:
        points: float64 (N, 2).
        axes: Names of the two axes.
        explained: Fraction of the variance of training latents on each principal component; empty without components.
        origin: Place of the latent 0; None if the second axis is not a latent but a posterior scale.
    """

    points: np.ndarray
    axes: tuple[str, str]
    explained: tuple[float, ...] = ()
    origin: tuple[float, float] | None = (0.0, 0.0)


@torch.no_grad()
def encodings(
    model: VAE, split: Examples, *, seed: int = 0, progress: Callable[[int], None] = lambda examples: None
) -> Iterator[Encodings]:
    """Encode a split in order, one batch at a time, so that memory holds one batch however large the split is.

    Mean and scale are the same at every call, ``draw`` depends on the seed. torch's random stream is restored after the
    last batch, or when ``close`` is called.
    """
    done = 0
    with evaluating(model, seed):
        for batch in split.batches(at_once(EVALUATION_BATCH, split.shape)):
            q = model.encode(batch)
            indices = q.indices if isinstance(q, Quantized) else torch.empty(len(batch), 0, dtype=torch.int64)
            spread = (torch.empty(len(batch), 0),) * 2 if isinstance(q, Quantized) else (q.stddev, q.sample())
            mean, scale, draw = (value.flatten(1).cpu() for value in (q.mean, *spread))
            yield Encodings(mean, scale, draw, indices.cpu())
            done += len(batch)
            progress(done)


def encode(
    model: VAE, split: Examples, *, seed: int = 0, progress: Callable[[int], None] = lambda examples: None
) -> Encodings:
    """Encode all examples of a split, see ``encodings``."""
    parts = [
        (part.mean, part.scale, part.draw, part.indices)
        for part in encodings(model, split, seed=seed, progress=progress)
    ]
    return Encodings(*(torch.cat(column) for column in zip(*parts, strict=True)))


def view_of(model: VAE, examples: Examples, train: Examples, dims: Sequence[int] | None = None) -> View:
    """The latents of ``examples`` on a plane, if needed on two principal components of the training set's latents.

    The splits may be on any device.
    """
    device, wide = next(model.parameters()).device, math.prod(model.space.shape)
    if dims is None and wide > 2:
        enough = min(FIT_EXAMPLES, max(2, FIT_NUMBERS // wide))
        plane = plane_of(encode(model, train.first(enough).to(device)).mean)
        if plane is not None:  # projected by batch, because all latents of many grids would be gigabytes
            return plane.view([part.mean for part in encodings(model, examples.to(device))])
        dims = (0, 1)
    encoded = encode(model, examples.to(device))
    return view(encoded, encoded.mean, dims)


def view(encoded: Encodings, fit_on: Tensor, dims: Sequence[int] | None = None) -> View:
    """Latents on a plane: the dimensions ``dims``, else the only two, else two principal components of ``fit_on``.

    A single dimension is plotted against its posterior scale.

    Args:
        encoded: The posteriors of the examples to plot (N, D).
        fit_on: Posterior means (M, D) for the principal components, from training examples, so that the axes do not
            depend on the test examples.
        dims: One or two dimensions, or None.

    References:
        On Lines and Planes of Closest Fit to Systems of Points in Space (Pearson, 1901),
        https://doi.org/10.1080/14786440109462720
    """
    latent_dim = encoded.mean.shape[1]
    if dims is None and latent_dim > 2:
        plane = plane_of(fit_on)
        if plane is not None:
            return plane.view([encoded.mean])
        dims = (0, 1)
    first, *second = list(dims) if dims is not None else list(range(latent_dim))
    columns = encoded.mean[:, [first, *second]].double()  # (N, 1 or 2)
    if second:
        return View(columns.numpy(), (f"z{first}", f"z{second[0]}"))
    scale = encoded.scale[:, [first]].double() if encoded.scale.numel() else torch.zeros_like(columns)
    return View(torch.cat((columns, scale), dim=1).numpy(), (f"z{first}", f"posterior scale of z{first}"), origin=None)


@dataclass(frozen=True)
class Plane:
    """The plane of two principal components: through ``mean`` (D,), along ``components`` (2, D)."""

    mean: np.ndarray
    components: np.ndarray
    explained: tuple[float, float]

    def view(self, batches: Iterable[Tensor]) -> View:
        """Project batches of latents (B, D)."""
        points = [(latents.double().numpy() - self.mean) @ self.components.T for latents in batches]
        first, second = self.explained
        axes = (f"PC 1 ({first:.0%} of variance)", f"PC 2 ({second:.0%} of variance)")
        across, up = (self.components @ -self.mean).tolist()
        return View(np.concatenate(points), axes, self.explained, (across, up))


def plane_of(fit_on: Tensor) -> Plane | None:
    """The plane of two principal components of latents (M, D); None if there are no two different ones."""
    if bool((fit_on == fit_on[0]).all()):
        return None
    points = fit_on.double().numpy()
    components, explained = principal_components(points)
    return Plane(points.mean(0), components, explained)


def principal_components(points: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """The two orthogonal directions of largest variance, and the fraction of the variance along each.

    The result is that of scikit-learn's ``PCA``, whose import takes as long as torch's and 80 MB.

    Args:
        points: float64 (M, D) with D > 2, not all the same.

    Returns:
        Unit vectors (2, D), each with its largest component positive, and two fractions from 0 to 1.
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
    """The prior's quantiles by dimension (len(probabilities), D).

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
        given: Numbers that a conditional model is conditioned on at all points (1, C).

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
    model: VAE, latent: Tensor, dims: Sequence[int], steps: int = 11, given: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Decode walks along single dimensions through one latent, over the prior's quantiles.

    Args:
        model: The model.
        latent: The latent (D,).
        dims: The dimensions.
        steps: Steps of a walk.
        given: Numbers that a conditional model is conditioned on (1, C).

    Returns:
        Mean images (len(dims) * steps, *X), one row of ``steps`` for each dimension, and the values (steps, len(dims)).
    """
    values = prior_quantiles(model, torch.linspace(0.01, 0.99, steps), given)[:, list(dims)]  # (steps, len(dims))
    z = latent.repeat(len(dims) * steps, 1)  # (len(dims) * steps, D)
    for row, dim in enumerate(dims):
        z[row * steps : (row + 1) * steps, dim] = values[:, row]
    return _decoded(model, z, given), values


@torch.no_grad()
def between(model: VAE, start: Batch, end: Batch, steps: int) -> tuple[Tensor, Tensor | None]:
    """Points on straight lines between the posterior means of two batches.

    Returns:
        Latents (B * steps, *Z), and the numbers that a conditional model is conditioned on there, (B * steps, C) or
        None: those of ``start``.
    """
    a, b = model.encode(start).mean, model.encode(end).mean  # (B, *Z)
    weight = torch.linspace(0, 1, steps, device=a.device).reshape(-1, *(1 for _ in a.shape[1:]))  # (steps, 1, ...)
    z = (a[:, None] * (1 - weight) + b[:, None] * weight).flatten(0, 1)  # (B * steps, D)
    return z, None if start.given is None else start.given.repeat_interleave(steps, 0)


def interpolate(model: VAE, start: Batch, end: Batch, steps: int) -> Distribution:
    """The likelihood along straight lines between the posterior means of two batches, batch shape (B * steps,).

    A conditional model is conditioned on the ``given`` of ``start``.
    """
    with torch.no_grad():
        return model.decode(*between(model, start, end, steps))


def indices_of(model: VAE, z: Tensor) -> Tensor:
    """The indices in the codebook (n, h, w) of codes (n, D, h, w); none (n, 0) if latents are real vectors."""
    head = model.encoder.head
    return head.nearest(z) if isinstance(head, Codebook) else torch.empty(len(z), 0, dtype=torch.int64)


def _decoded(model: VAE, z: Tensor, given: Tensor | None) -> Tensor:
    """Decode latents (N, D), all conditioned on the same ``given`` (1, C), to mean images (N, *X)."""
    images: Tensor = model.decode(z, None if given is None else given.expand(len(z), -1)).mean
    return images
