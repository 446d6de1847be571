"""Epoch loops over the same work: each is set up with a data set and gives a function that trains one epoch on it.

The work is the net 784-512-256-2 and its mirror with SiLU; BCE summed over pixels plus KL, its mean over a batch of
128; Adam at 1e-3; gradients clipped to a norm of 1. Setting up is not timed. An epoch returns its mean loss in nats,
by which the loops can be seen to train alike.

Shapes: ``B`` batch, ``P`` pixels, ``D`` latent.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torchvision.transforms import v2

from vaectl import recipes, trainer
from vaectl.builder import build
from vaectl.data import Data, Split
from vaectl.spec import Part, Training

PIXELS, HIDDEN, LATENT = 784, (512, 256), 2
BATCH, LR, CLIP = 128, 1e-3, 1.0
ENCODER = (PIXELS, *HIDDEN, 2 * LATENT)
DECODER = (LATENT, *reversed(HIDDEN), PIXELS)

Epoch = Callable[[], float | None]


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
        q = Normal(mean, F.softplus(s) + 1e-6)
        logits = self.decoder(q.rsample())  # (B, P)
        recon = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1).mean()
        prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
        return recon + kl_divergence(q, prior).sum(-1).mean()


def tutorial(data: Data) -> Epoch:
    """What the tutorials show: a DataLoader over PIL images, a plain module, Adam."""
    model = TutorialVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    loader = torch.utils.data.DataLoader(Images(data.train), batch_size=BATCH, shuffle=True)

    def epoch() -> float:
        model.train()
        total = 0.0
        for x, _ in loader:
            optimizer.zero_grad()
            loss = model(x)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            total += loss.item() * len(x)
        return total / len(data.train)

    return epoch


def vaectl(data: Data) -> Epoch:
    """``vaectl.build`` and ``vaectl.fit`` as they are, every event consumed."""
    spec = dataclasses.replace(
        recipes.vae(),
        latent_dim=LATENT,
        encoder=Part("mlp", {"hidden_dims": HIDDEN}),
        decoder=Part("mlp", {"hidden_dims": HIDDEN[::-1]}),
        training=Training(epochs=1, batch_size=BATCH, lr=LR, grad_clip=CLIP),
    )
    model, objective = build(spec, data.info)

    def epoch() -> float:
        events = list(trainer.fit(model, objective, data, spec.training))
        (end,) = (event for event in events if isinstance(event, trainer.Epoch))
        return end.loss

    return epoch


def matmul(data: Data) -> Epoch:
    """The floor: only the fp32 matrix products of the forward and backward passes, as ``torch.mm`` does them."""
    return products(data, torch.mm)


def matmul_onednn(data: Data) -> Epoch | None:
    """The same products through oneDNN, on some CPUs the faster backend; None where torch has it not."""
    if not torch.backends.mkldnn.is_available():
        return None
    linear = torch.ops.mkldnn._linear_pointwise
    return products(data, lambda a, b: linear(a, b.T, None, "none", [], ""))


def products(data: Data, product: Callable[[Tensor, Tensor], Tensor]) -> Epoch:
    shapes = [*itertools.pairwise(ENCODER), *itertools.pairwise(DECODER)]
    layers = [(torch.randn(BATCH, a), torch.randn(b, a), torch.randn(BATCH, b)) for a, b in shapes]

    @torch.no_grad()
    def epoch() -> None:
        for start in range(0, len(data.train), BATCH):
            size = min(BATCH, len(data.train) - start)
            for number, (x, weight, gradient) in enumerate(layers):
                product(x[:size], weight.T)
                product(gradient[:size].T, x[:size])
                if number > 0:  # nobody needs the gradient of the data
                    product(gradient[:size], weight)

    return epoch
