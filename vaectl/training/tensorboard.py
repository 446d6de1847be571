"""TensorBoard: the events of a training as scalars, and its pictures, in the tutorial's tags.

The events are written at once and by this thread: torch's ``SummaryWriter`` leaves them to another one, which loses
them when the process is killed and shows a traceback of its own when the disk is full.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from vaectl.data.examples import Examples, given_for
from vaectl.evaluation import latents
from vaectl.model.vae import VAE
from vaectl.output.grids import encode_png, grid, pairs
from vaectl.system.files import writing
from vaectl.system.runtime import seeded
from vaectl.training.trainer import Epoch


class TensorBoard:
    """Writes event files; scalars and pictures stand at the optimizer step that they belong to.

    Args:
        directory: Where the event files go; made if missing.
        step: The step at which a training is resumed: later events of earlier files are void. None begins one.
        span: What pictures show as black and as white.
        names: Names of the labels.

    Raises:
        OutputError: An event cannot be written; so do all methods.
    """

    def __init__(
        self,
        directory: Path,
        step: int | None = None,
        *,
        span: tuple[float, float] = (0.0, 1.0),
        names: Sequence[str] = (),
    ) -> None:
        self._span, self._names = span, names
        # the name by which TensorBoard knows event files, and orders them
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self._path = directory / name
        with writing(self._path):
            directory.mkdir(exist_ok=True)
            self._file = self._path.open("ab")
        self._records = RecordWriter(self._file)
        self._add(Event(file_version="brain.Event:2"))
        if step is not None:
            self._add(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

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
            }
            counted = {"ActiveUnits": "active_units", "CodesUsed": "codes_used", "Perplexity": "perplexity"}
            values |= {
                f"{tag}/Validation": event.validation[name] for tag, name in counted.items() if name in event.validation
            }
        values |= {f"Terms/Train/{name}": value for name, value in event.terms.items()}
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._add(Event(step=event.step, summary=Summary(value=scalars)))

    @torch.no_grad()
    def pictures(self, model: VAE, split: Examples, step: int) -> None:
        """Eight examples above their reconstructions at the posterior mean, and 64 samples of the same seed."""
        batch = split.first(8).batch(slice(None))
        x, reconstructed = batch.x, model.decode(model.encode(batch).mean, batch.given).mean
        with seeded(0):
            samples = model.sample(64, given=given_for(split, 64)).mean
        self._picture("Reconstruction", encode_png(grid(pairs(x, reconstructed, 8), 8, span=self._span)), step)
        self._picture("Samples", encode_png(grid(samples, 8, span=self._span)), step)

    def latent_space(self, model: VAE, split: Examples, train: Examples, step: int) -> None:
        """A scatter of the codes of up to 2,000 examples; principal components are fitted to training examples."""
        from vaectl.output import (
            plots,  # with matplotlib, which a training without an end needs as little as its first step
        )

        shown = split.first(2000)
        view = latents.view_of(model, shown, train)
        figure = plots.scatter(view.points, shown.labels.cpu().numpy(), view.axes, "posterior means", self._names)
        self._picture("Latent", plots.encode(figure, ".png"), step)

    def close(self) -> None:
        """Close the event file."""
        with contextlib.suppress(OSError):  # what a full disk had no room for was an error before
            self._file.close()

    def _picture(self, tag: str, png: bytes, step: int) -> None:
        width, height = Image.open(io.BytesIO(png)).size
        image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=png)
        self._add(Event(step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)])))

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        with writing(self._path):
            self._records.write(event.SerializeToString())
            self._records.flush()
