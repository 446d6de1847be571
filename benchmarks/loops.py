"""Epoch loops over the same work: each is set up with a data set and gives a function that trains one epoch on it.

The work is the net 784-512-256-2 and its mirror with SiLU; BCE summed over pixels plus KL, its mean over a batch of
128; Adam at 1e-3; gradients clipped to a norm of 1. Setting up is not timed. An epoch tells its mean loss in nats, by
which the loops can be seen to train alike. They run on the device that the data lie on.

Shapes: ``B`` batch, ``P`` pixels, ``D`` latent.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torchvision.transforms import v2

from benchmarks.tables import AbsentError, Work
from vaectl.config import recipes
from vaectl.config.spec import Part, Spec, Training
from vaectl.data.base import Data, Split
from vaectl.model.builder import build
from vaectl.training import trainer

PIXELS, HIDDEN, LATENT = 784, (512, 256), 2
BATCH, LR, CLIP = 128, 1e-3, 1.0
ENCODER = (PIXELS, *HIDDEN, 2 * LATENT)
DECODER = (LATENT, *reversed(HIDDEN), PIXELS)


def device_of(data: Data) -> torch.device:
    return data.train.images.device


class Images(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """As ``torchvision.datasets.MNIST``: a PIL image and its transforms at every access."""

    def __init__(self, split: Split) -> None:
        self.images, self.labels = split.images, split.labels
        self.transform = v2.Compose(
            [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Lambda(lambda image: image.flatten())]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index, 0].numpy())), int(self.labels[index])


def mlp(sizes: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class TutorialVAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp(ENCODER), mlp(DECODER)

    def forward(self, x: Tensor) -> Tensor:
        """The loss of a batch (B, P)."""
        mean, s = self.encoder(x).chunk(2, dim=-1)  # (B, D) each
        q = Normal(mean, F.softplus(s) + 1e-6, validate_args=False)  # which would wait for a GPU
        logits = self.decoder(q.rsample())  # (B, P)
        recon = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1).mean()
        prior = Normal(torch.zeros_like(mean), torch.ones_like(mean), validate_args=False)
        return recon + kl_divergence(q, prior).sum(-1).mean()


def tutorial(data: Data) -> Work:
    """What the tutorials show: a DataLoader over PIL images, a plain module, Adam."""
    model = TutorialVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    loader = torch.utils.data.DataLoader(Images(data.train), batch_size=BATCH, shuffle=True)

    def epoch() -> dict[str, float]:
        model.train()
        total = 0.0
        for x, _ in loader:
            optimizer.zero_grad()
            loss = model(x)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            total += loss.item() * len(x)
        return {"loss": total / len(data.train)}

    return epoch


def eager(data: Data) -> Work:
    """The same module as a careful person writes it by hand: data resident, fused Adam, the loss read once an epoch."""
    device = device_of(data)
    model = TutorialVAE().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    images = data.train.images.flatten(1)  # uint8 (N, P)

    def epoch() -> dict[str, float]:
        total = torch.zeros((), device=device)
        for index in torch.randperm(len(images), device=device).split(BATCH):
            loss = model(images.index_select(0, index).float() / 255)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            total += loss.detach() * len(index)
        return {"loss": total.item() / len(images)}

    return epoch


def default_spec(**settings: Any) -> Spec:
    """The net of this benchmark, with other training settings where they are given."""
    return dataclasses.replace(
        recipes.vae(),
        latent_dim=LATENT,
        encoder=Part("mlp", {"hidden_dims": HIDDEN}),
        decoder=Part("mlp", {"hidden_dims": HIDDEN[::-1]}),
        training=Training(**{"epochs": 1, "batch_size": BATCH, "lr": LR, "grad_clip": CLIP, **settings}),
    )


def vaectl(data: Data, settings: Mapping[str, Any] = {}, options: Mapping[str, Any] = {}) -> Work:
    """``vaectl.build`` and ``vaectl.fit`` as they are, every event consumed.

    Args:
        data: The data.
        settings: Of ``Training``, where they are to be others than those of this benchmark.
        options: Further arguments of ``fit``.
    """
    unknown = settings.keys() - {field.name for field in dataclasses.fields(Training)}
    unknown |= options.keys() - inspect.signature(trainer.fit).parameters.keys()
    if unknown:
        raise AbsentError(f"this vaectl has no {', '.join(sorted(unknown))}")
    return fitting(data, default_spec(**settings), options)


def fitting(data: Data, spec: Spec, options: Mapping[str, Any] = {}) -> Work:
    """A training of a spec from fresh weights; tells the loss of its last epoch."""
    model, objective = build(spec, data.info)
    model, objective = model.to(device_of(data)), objective.to(device_of(data))

    def train() -> dict[str, float]:
        events = trainer.fit(model, objective, data, spec.training, **options)
        *_, end = (event for event in events if isinstance(event, trainer.Epoch))
        return {"loss": end.loss}

    return train
