"""Pictures of a model in training: reconstructions, samples, the latent space."""

from __future__ import annotations

import torch

from vaectl.data.base import Data
from vaectl.data.examples import given_for
from vaectl.evaluation import latents
from vaectl.model.vae import VAE
from vaectl.output.grids import encode_png, grid, pairs
from vaectl.system.runtime import seeded
from vaectl.training.events import Pictured, Tell, Trained
from vaectl.training.trainer import Epoch

TILES, SAMPLES, POINTS = 8, 64, 2000


class Pictures:
    """Draws the pictures of each epoch, and the latent space at the end, and tells them.

    Args:
        model: The model in training.
        data: Its data, on its device. Examples are of the validation split, or of the test split where that is empty.
        tell: Told a ``Pictured`` event.
    """

    def __init__(self, model: VAE, data: Data, tell: Tell) -> None:
        self._model, self._train, self._info, self._tell = model, data.train, data.info, tell
        self._examples = data.validation if len(data.validation) else data.test

    def on(self, event: object) -> None:
        """Draw what belongs to an event."""
        if isinstance(event, Epoch):
            self._tell(Pictured(event.step, self._of_epoch()))
        elif isinstance(event, Trained):
            self._tell(Pictured(event.step, {"Latent": self._latent_space(event.model)}))

    @torch.no_grad()
    def _of_epoch(self) -> dict[str, bytes]:
        """Eight examples above their reconstructions at the posterior mean, and 64 samples of the same seed."""
        batch, span = self._examples.first(TILES).batch(slice(None)), self._info.range
        reconstructed = self._model.decode(self._model.encode(batch).mean, batch.given).mean
        with seeded(0):
            samples = self._model.sample(SAMPLES, given=given_for(self._examples, SAMPLES)).mean
        return {
            "Reconstruction": encode_png(grid(pairs(batch.x, reconstructed, TILES), TILES, span=span)),
            "Samples": encode_png(grid(samples, TILES, span=span)),
        }

    def _latent_space(self, model: VAE) -> bytes:
        """A scatter of the latents of up to 2,000 examples; principal components are fitted to training examples."""
        from vaectl.output import (
            plots,  # with matplotlib, which a training without an end needs as little as its first step
        )

        examples = self._examples.first(POINTS)
        view = latents.view_of(model, examples, self._train)
        labels = examples.labels.cpu().numpy()
        return plots.encode(
            plots.scatter(view.points, labels, view.axes, "posterior means", self._info.classes), ".png"
        )
