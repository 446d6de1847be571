"""Pictures of a model in training: reconstructions, samples and the latent space."""

from __future__ import annotations

import torch

from vaectl.data.base import Data
from vaectl.data.examples import given_for
from vaectl.evaluation import latents
from vaectl.model.priors.vectors import StandardNormal
from vaectl.model.vae import VAE
from vaectl.output.grids import encode_png, grid, paired, tile_of_width
from vaectl.system.runtime import seeded
from vaectl.training.events import Pictured, Tell, Trained
from vaectl.training.trainer import Epoch

TILES, SAMPLES, POINTS = 8, 64, 2000
# pixels of a picture's width, about, so that it can be read in TensorBoard
PICTURE_WIDTH = 800


class Pictures:
    """A listener that draws pictures after each epoch and of the latent space at the end.

    Args:
        model: The model in training.
        data: Its data, on its device. Examples come from the validation split, or from the test split if it is empty.
        tell: Called with each ``Pictured`` event.
    """

    def __init__(self, model: VAE, data: Data, tell: Tell) -> None:
        self._model, self._train, self._info, self._tell = model, data.train, data.info, tell
        self._examples = data.validation if len(data.validation) else data.test

    def on(self, event: object) -> None:
        """Draw the pictures for an event."""
        if isinstance(event, Epoch):
            self._tell(Pictured(event.step, self._of_epoch()))
        elif isinstance(event, Trained):
            self._tell(Pictured(event.step, {"Latent": self._latent_space(event.model)}))

    @torch.no_grad()
    def _of_epoch(self) -> dict[str, bytes]:
        """Draw eight examples above their reconstructions at the posterior mean, and 64 samples from a fixed seed."""
        batch, span = self._examples.first(TILES).batch(slice(None)), self._info.range
        reconstructions = self._model.reconstruct(batch).mean
        with seeded(0):
            samples = self._model.sample(SAMPLES, given=given_for(self._examples, SAMPLES)).mean
        tile = tile_of_width(batch.x, TILES, PICTURE_WIDTH)
        return {
            "Reconstruction": encode_png(paired(batch.x, reconstructions, TILES, tile, span)),
            "Samples": encode_png(grid(samples, TILES, tile, span)),
        }

    def _latent_space(self, model: VAE) -> bytes:
        """Draw the latents of up to 2,000 examples; principal components are fitted to training examples."""
        # imported here, because matplotlib is needed only at the end
        from vaectl.output import plots

        examples = self._examples.first(POINTS)
        view = latents.view_of(model, examples, self._train)
        labels = examples.labels.cpu().numpy()
        prior = view.origin if isinstance(model.prior, StandardNormal) else None
        title = f"posterior means of {len(examples)} {self._info.name} examples"
        figure = plots.scatter(
            view.points, labels, view.axes, title, self._info.classes, equal=view.origin is not None, prior=prior
        )
        return plots.encode(figure, ".png")
