"""Reconstructions of examples, each with its bound and the terms of it, and decoded codes.

Shapes: ``N`` examples, ``B`` batch, ``D`` latent (flattened), ``h`` and ``w`` sides of a grid of codes, ``X`` data
shape. Log quantities are in nats per example.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaectl.data.examples import Examples
from vaectl.evaluation.metrics import EVALUATION_BATCH
from vaectl.model.distributions.codes import Codebook
from vaectl.model.distributions.pixels import mode_of
from vaectl.model.vae import VAE, evaluating
from vaectl.system.runtime import at_once

# way of making an example of a likelihood -> its value (*N, *X)
VALUES: dict[str, Callable[[Distribution], Tensor]] = {
    "mean": lambda px: px.mean,
    "mode": mode_of,
    "draw": lambda px: px.sample(),
}


@dataclass(frozen=True)
class Reconstructions:
    """A batch of examples and their reconstructions.

    Attributes:
        originals, images: The examples and the likelihood at their posterior means (B, *X), in the data's units.
        values: ``recon``, ``kl`` and ``elbo`` with one draw, as ``metrics.evaluate`` estimates them, float64 (B,).
    """

    originals: Tensor
    images: Tensor
    values: dict[str, Tensor]


@torch.no_grad()
def reconstructions(
    model: VAE,
    split: Examples,
    mode: str = "mean",
    *,
    seed: int = 0,
    progress: Callable[[int], None] = lambda examples: None,
) -> Generator[Reconstructions]:
    """Reconstruct a split in order, one batch at a time, so that memory holds one batch however large the split is.

    torch's random stream is restored after the last batch, or when ``close`` is called.

    Args:
        model: The model, on the split's device.
        split: The examples.
        mode: A key of ``VALUES``.
        seed: Seed of the draws from the posterior, and of the mode ``draw``.
        progress: Called with the number of examples done.
    """
    done = 0
    with evaluating(model, seed):
        for batch in split.batches(at_once(EVALUATION_BATCH, split.shape)):
            draw = model.draw(batch)
            values = {"recon": draw.recon, "kl": draw.kl, "elbo": draw.elbo}
            images = VALUES[mode](model.decode(draw.q.mean, batch.given))
            in_float64 = {name: value.cpu().double() for name, value in values.items()}
            yield Reconstructions(batch.x.cpu(), images.float().cpu(), in_float64)
            done += len(batch)
            progress(done)


@torch.no_grad()
def decoded(
    model: VAE,
    codes: Iterable[Tensor],
    mode: str = "mean",
    *,
    seed: int = 0,
    progress: Callable[[int], None] = lambda examples: None,
) -> Generator[Tensor]:
    """Decode codes part by part; the parts of ``encodings`` become the images of ``reconstructions``, bit for bit.

    torch's random stream is restored after the last part, or when ``close`` is called.

    Args:
        model: The model.
        codes: Latents, float32 (B, D), or indices of a codebook, int64 (B, h, w).
        mode: A key of ``VALUES``.
        seed: Seed of the mode ``draw``.
        progress: Called with the number of codes done.

    Yields:
        Images (B, *X), in the data's units.
    """
    done, device = 0, next(model.parameters()).device
    with evaluating(model, seed):
        for part in codes:
            z, head = part.to(device), model.encoder.head
            if z.is_floating_point():
                z = z.reshape(-1, *model.space.shape)
            else:
                assert isinstance(head, Codebook)
                z = head.vectors(z)
            yield VALUES[mode](model.decode(z)).float().cpu()
            done += len(part)
            progress(done)
