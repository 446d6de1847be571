"""Attribute vectors: from the mean latent of examples without an attribute to that with it.

Shapes: ``N`` examples, ``B`` batch, ``A`` attributes, ``S`` weights, ``D`` latent, ``X`` data shape.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaectl.data.examples import Examples
from vaectl.data.info import DataInfo
from vaectl.errors import DataError, UsageError, amount, nearest
from vaectl.evaluation import latents
from vaectl.evaluation.metrics import EVALUATION_BATCH
from vaectl.evaluation.reconstruction import VALUES
from vaectl.model.vae import VAE, evaluating
from vaectl.system.runtime import at_once

# attributes at once: all combinations of them are counted
MOST = 8
# names that an error lists
LISTED = 20


@dataclass(frozen=True)
class Attribute:
    """An attribute of examples.

    Attributes:
        name: Its name.
        values: 1 for examples that have it, 0 for others, -1 if it is not known, int8 (N,).
    """

    name: str
    values: np.ndarray


@dataclass(frozen=True)
class Direction:
    """The vector of an attribute.

    Attributes:
        name: Name of the attribute.
        vector: Mean latent of examples with it minus that of those without, float64 (D,).
        having, lacking: Numbers of these examples.
    """

    name: str
    vector: np.ndarray
    having: int
    lacking: int


@dataclass(frozen=True)
class Edits:
    """A batch of examples, edited with growing weights.

    Attributes:
        originals: The examples (B, *X), in the data's units.
        images: The likelihood at each weight (B, S, *X), in the data's units.
        z: The latents at the last weight (B, D).
    """

    originals: Tensor
    images: Tensor
    z: Tensor


def attribute(text: str, info: DataInfo, examples: Examples) -> Attribute:
    """The attribute that a text names: a class by name or number, a factor, or ``factor=value``.

    A factor of two values is had where it is the larger one; of more values, where it is above the median.

    Raises:
        UsageError: There is no such attribute.
    """
    name, _, value = text.partition("=")
    labels, factors = examples.labels.cpu().numpy(), examples.factors
    if text in factors or text in (classes := _classes(info, labels)):
        values = _of_factor(factors[text]) if text in factors else np.where(labels < 0, -1, labels == classes[text])
        return Attribute(text, values.astype(np.int8))
    if value and name in factors:
        known = factors[name].astype(np.float64)
        try:
            number = float(value)
        except ValueError:
            number = np.nan
        if (known == number).any():
            return Attribute(text, np.where(np.isnan(known), -1, known == number).astype(np.int8))
        some = np.unique(known[np.isfinite(known)])
        listing = ", ".join(f"{each:g}" for each in some[:LISTED]) + (", ..." if len(some) > LISTED else "")
        raise UsageError(f"{text!r:.100} is no value of {name}; its values: {listing}")
    names = [*factors, *(info.classes or classes)]
    if not names:
        raise UsageError(f"{info.name} has neither classes nor factors, so it has no attribute {text!r:.100}")
    listing = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
    raise UsageError(f"{info.name} has no attribute {text!r:.100}; it has {listing}", hint=nearest(text, names))


def _classes(info: DataInfo, labels: np.ndarray) -> dict[str, int]:
    """The label of each class, by number and by name: a class may be called 3, and then 3 is not the fourth."""
    known = range(len(info.classes)) if info.classes else [label for label in np.unique(labels).tolist() if label >= 0]
    return {str(label): label for label in known} | {name: label for label, name in enumerate(info.classes)}


def _of_factor(factor: np.ndarray) -> np.ndarray:
    values = factor.astype(np.float64)
    known = values[np.isfinite(values)]
    if not len(known):
        return np.full(len(values), -1)
    least = known.max() if len(np.unique(known)) == 2 else np.nextafter(np.median(known), np.inf)
    return np.where(np.isfinite(values), values >= least, -1)


@torch.no_grad()
def directions(
    model: VAE,
    examples: Examples,
    attributes: Sequence[Attribute],
    *,
    progress: Callable[[int], None] = lambda examples: None,
) -> list[Direction]:
    """The vectors of attributes, from the posterior means of examples, in one pass.

    Of several attributes each vector is the mean over the combinations of the others, so that one does not carry
    another along with which it often occurs.

    Args:
        model: The model, on the device of the examples.
        examples: The examples (N), as a rule those of the training split.
        attributes: At most ``MOST`` attributes of these examples.
        progress: Called with the number of examples done.

    Raises:
        DataError: No two examples differ in an attribute alone.

    References:
        Autoencoding beyond pixels using a learned similarity metric (Larsen et al., 2016), section 4.2,
        https://arxiv.org/abs/1512.09300;
        Sampling Generative Networks (White, 2016), section 3, for balancing, https://arxiv.org/abs/1609.04468
    """
    # the number of an example's combination: bit i for attribute i; -1 if one of them is not known
    table = np.stack([each.values for each in attributes]).astype(np.int64)  # (A, N)
    cells = np.where((table >= 0).all(0), (table << np.arange(len(table))[:, None]).sum(0), -1)  # (N,)
    wide = model.space.shape[0]
    sums, counts, done = np.zeros((1 << len(table), wide)), np.zeros(1 << len(table), np.int64), 0
    for part in latents.encodings(model, examples, progress=progress):
        means, cell = part.mean.double().numpy(), cells[done : done + len(part.mean)]
        np.add.at(sums, cell[cell >= 0], means[cell >= 0])
        np.add.at(counts, cell[cell >= 0], 1)
        done += len(means)
    return [_direction(each, 1 << index, sums, counts) for index, each in enumerate(attributes)]


def _direction(attribute: Attribute, bit: int, sums: np.ndarray, counts: np.ndarray) -> Direction:
    """The vector of the attribute that has a bit, from the sums (cells, D) and the counts (cells,) of combinations."""
    cells = np.arange(len(counts))
    without = cells[(cells & bit == 0) & (counts > 0) & (counts[cells | bit] > 0)]
    having, lacking = int((attribute.values == 1).sum()), int((attribute.values == 0).sum())
    if not len(without):
        rows = f"{amount(having, 'row')} with it and {amount(lacking, 'row')} without it"
        others = " and with the other attributes alike" if having and lacking else ""
        raise DataError(f"no vector of {attribute.name}: there are {rows}, and both kinds are needed{others}")
    with_it, without_it = (sums[cell] / counts[cell][:, None] for cell in (without | bit, without))
    return Direction(attribute.name, (with_it - without_it).mean(0), having, lacking)


@torch.no_grad()
def edits(
    model: VAE,
    examples: Examples,
    vector: np.ndarray,
    weights: Sequence[float],
    mode: str = "mean",
    *,
    seed: int = 0,
    progress: Callable[[int], None] = lambda examples: None,
) -> Generator[Edits]:
    """Decode posterior means plus a vector with growing weights, one batch of examples at a time.

    torch's random stream is restored after the last batch, or when ``close`` is called.

    Args:
        model: The model, on the device of the examples.
        examples: The examples, in order.
        vector: The vector (D,).
        weights: Factors of the vector (S,).
        mode: A key of ``reconstruction.VALUES``.
        seed: Seed of the mode ``draw``.
        progress: Called with the number of examples done.
    """
    done = 0
    with evaluating(model, seed):
        for batch in examples.batches(at_once(EVALUATION_BATCH, examples.shape)):
            mean = model.encode(batch).mean
            step = torch.from_numpy(vector).to(mean)
            parts = [VALUES[mode](model.decode(mean + weight * step, batch.given)) for weight in weights]
            images = torch.stack(parts, 1).float().cpu()
            yield Edits(batch.x.cpu(), images, (mean + weights[-1] * step).cpu())
            done += len(batch)
            progress(done)


def combined(directions: Sequence[Direction], weights: Mapping[str, float]) -> np.ndarray:
    """The sum of vectors, each multiplied by its weight (D,)."""
    total: np.ndarray = np.sum([weights[each.name] * each.vector for each in directions], axis=0)
    return total
