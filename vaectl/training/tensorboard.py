"""TensorBoard: the figures of a training as scalars, and its pictures, under the tutorial's tags.

This thread writes the events at once. torch's ``SummaryWriter`` leaves them to another thread, which loses them when
the process is killed and prints a traceback when the disk is full.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import time
from pathlib import Path

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from vaectl.system.files import writing
from vaectl.training.events import Pictured
from vaectl.training.trainer import Epoch, Logged, RolledBack


class TensorBoard:
    """A listener that writes event files, with scalars and pictures at their optimizer steps.

    Args:
        directory: The folder for event files, created if missing.
        step: The step from which a training is resumed; TensorBoard drops later events of earlier files. None for a
            new training.

    Raises:
        OutputError: An event cannot be written. Every method may raise this.
    """

    def __init__(self, directory: Path, step: int | None = None) -> None:
        # TensorBoard finds and orders event files by such names
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self._path = directory / name
        with writing(self._path):
            directory.mkdir(exist_ok=True)
            self._file = self._path.open("ab")
        self._records = RecordWriter(self._file)
        self._add(Event(file_version="brain.Event:2"))
        if step is not None:
            self._begin_after(step)

    def on(self, event: object) -> None:
        """Write the scalars of steps or of an epoch, or pictures; drop the events after a step returned to."""
        if isinstance(event, Logged | Epoch):
            values = _of_steps(event) if isinstance(event, Logged) else _of_epoch(event)
            self._write(event.step, [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        elif isinstance(event, RolledBack):
            self._begin_after(event.step)
        elif isinstance(event, Pictured):
            for tag, png in event.pictures.items():
                width, height = Image.open(io.BytesIO(png)).size
                image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=png)
                self._write(event.step, [Summary.Value(tag=tag, image=image)])

    def close(self) -> None:
        """Close the event file."""
        with contextlib.suppress(OSError):  # a full disk has already raised an error
            self._file.close()

    def _begin_after(self, step: int) -> None:
        self._add(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def _write(self, step: int, values: list[Summary.Value]) -> None:
        self._add(Event(step=step, summary=Summary(value=values)))

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        with writing(self._path):
            self._records.write(event.SerializeToString())
            self._records.flush()


def _of_steps(event: Logged) -> dict[str, float]:
    """The figures of training steps by tag, in nats per example; the terms of the bound are at beta = 1."""
    return {
        "Loss/Train": event.loss,
        "Loss/Train/BCE": event.recon,
        "Loss/Train/KLD": event.kl,
        "KL/beta": event.beta,
        "GradNorm/Train": event.grad_norm,
        "LearningRate": event.lr,
        **{f"Terms/Train/{name}": value for name, value in event.terms.items()},
    }


def _of_epoch(event: Epoch) -> dict[str, float]:
    """The figures of an epoch by tag, in nats per example: losses, and bounds at beta = 1."""
    values = {"ELBO/Train": event.elbo}
    if event.validation:
        values |= {
            "Loss/Validation": event.validation["loss"],
            "Loss/Validation/BCE": event.validation["recon"],
            "Loss/Validation/KLD": event.validation["kl"],
            "ELBO/Validation": event.validation["elbo"],
        }
        counts = {"ActiveUnits": "active_units", "CodesUsed": "codes_used", "Perplexity": "perplexity"}
        values |= {
            f"{tag}/Validation": event.validation[name] for tag, name in counts.items() if name in event.validation
        }
    return values
