"""TensorBoard: the events of a training as scalars, and its pictures, in the tutorial's tags."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from vaectl import latents, plots
from vaectl.data import Split
from vaectl.grids import grid, pairs
from vaectl.runtime import seeded
from vaectl.trainer import Epoch
from vaectl.vae import VAE


class TensorBoard:
    """Writes event files; scalars and pictures stand at the optimizer step that they belong to.

    Args:
        directory: Where the event files go; made if missing.
        step: The step at which a training is resumed: later events of earlier files are void. None begins one.
    """

    def __init__(self, directory: Path, step: int | None = None) -> None:
        self._writer = SummaryWriter(str(directory), purge_step=None if step is None else step + 1)

    def epoch(self, event: Epoch) -> None:
        """The scalars of an epoch: losses as minimised, bounds at beta = 1, all in nats per example."""
        values = {
            "Loss/Train": event.loss,
            "Loss/Train/BCE": event.recon,
            "Loss/Train/KLD": event.kl,
            "ELBO/Train": event.elbo,
            "KL/beta": event.beta,
            "GradNorm/Train": event.grad_norm,
            "LearningRate": event.lr,
        }
        if event.validation:
            values |= {
                "Loss/Validation": event.validation["loss"],
                "Loss/Validation/BCE": event.validation["recon"],
                "Loss/Validation/KLD": event.validation["kl"],
                "ELBO/Validation": event.validation["elbo"],
                "ActiveUnits/Validation": event.validation["active_units"],
            }
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, event.step)

    @torch.no_grad()
    def pictures(self, model: VAE, split: Split, step: int) -> None:
        """Eight examples above their reconstructions at the posterior mean, and 64 samples of the same seed."""
        x = split.first(8).batch(slice(None))
        reconstructed = model.decoder(model.encoder(x).mean).mean
        with seeded(0):
            samples = model.sample(64).mean
        self._writer.add_image("Reconstruction", grid(pairs(x, reconstructed, 8), 8), step, dataformats="HWC")
        self._writer.add_image("Samples", grid(samples, 8), step, dataformats="HWC")

    def latent_space(self, model: VAE, split: Split, train: Split, step: int) -> None:
        """A scatter of the codes of up to 2,000 examples; principal components are fitted to training examples."""
        shown = split.first(2000)
        view = latents.view_of(model, shown, train)
        figure = plots.scatter(view.points, shown.labels.cpu().numpy(), view.axes, "posterior means")
        self._writer.add_figure("Latent", figure, step, close=False)

    def flush(self) -> None:
        """Write what is still in memory."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the event files."""
        self._writer.close()
