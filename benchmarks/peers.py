"""Epoch loops of other libraries over the work of ``loops``; a peer that is not installed is absent.

Shapes: ``N`` training examples, ``B`` batch, ``P`` pixels, ``D`` latent.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import tempfile
from typing import Any

from torch import Tensor

from benchmarks.loops import BATCH, CLIP, DECODER, ENCODER, LATENT, LR, PIXELS, mlp
from benchmarks.tables import AbsentError, Work
from vaectl.data.base import Data


def pythae(data: Data) -> Work:
    """pythae's own trainer and VAE on these layers; it holds the data as fp32 tensors and clips no gradient."""
    try:
        from pythae.data.datasets import BaseDataset
        from pythae.models import VAE, VAEConfig
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseEncoder
        from pythae.trainers import BaseTrainer, BaseTrainerConfig
    except ImportError:
        raise AbsentError("pythae is not installed") from None

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = mlp(ENCODER)

        def forward(self, x: Tensor) -> Any:
            mean, log_variance = self.layers(x).chunk(2, dim=-1)  # (B, D) each
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = mlp(DECODER)

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.layers(z).sigmoid())

    model = VAE(VAEConfig((PIXELS,), LATENT, reconstruction_loss="bce"), encoder=Encoder(), decoder=Decoder())
    images = data.train.images.flatten(1).float() / 255  # (N, P)
    with tempfile.TemporaryDirectory() as folder:
        trainer = BaseTrainer(
            model=model,
            train_dataset=BaseDataset(images, data.train.labels),
            training_config=BaseTrainerConfig(
                folder, per_device_train_batch_size=BATCH, learning_rate=LR, num_epochs=1, no_cuda=True
            ),
        )
        trainer.prepare_training()

    def epoch() -> dict[str, float]:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            return {"loss": float(trainer.train_step(1))}

    return epoch


def jax_scan(data: Data) -> Work:
    """JAX with the whole epoch compiled ahead: one ``lax.scan`` over the full batches, then the short one."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        raise AbsentError("jax is not installed") from None
    n, full = len(data.train), len(data.train) // BATCH

    def initial(key: Any, sizes: tuple[int, ...]) -> list[Any]:
        def uniform(key: Any, before: int, *shape: int) -> Any:
            return jax.random.uniform(key, shape, minval=-1, maxval=1) / math.sqrt(before)

        pairs = list(itertools.pairwise(sizes))
        keys = jax.random.split(key, (len(pairs), 2))
        return [(uniform(k[0], a, a, b), uniform(k[1], a, b)) for k, (a, b) in zip(keys, pairs, strict=True)]

    def network(layers: list[Any], x: Any) -> Any:
        for number, (weight, bias) in enumerate(layers):
            x = (jax.nn.silu(x) if number else x) @ weight + bias
        return x

    def objective(weights: Any, x: Any, key: Any) -> Any:
        mean, s = jnp.split(network(weights[0], x), 2, axis=-1)  # (B, D) each
        sigma = jax.nn.softplus(s) + 1e-6
        logits = network(weights[1], mean + sigma * jax.random.normal(key, mean.shape))  # (B, P)
        recon = (jax.nn.softplus(logits) - x * logits).sum(-1)
        kl = (0.5 * (mean**2 + sigma**2 - 1) - jnp.log(sigma)).sum(-1)
        return (recon + kl).mean()

    def train(weights: Any, images: Any, key: Any) -> Any:
        order_key, noise_key = jax.random.split(key)
        order = jax.random.permutation(order_key, n)

        def step(state: Any, index: Any) -> Any:
            weights, first, second, t = state
            x = images[index].astype(jnp.float32) / 255
            loss, grads = jax.value_and_grad(objective)(weights, x, jax.random.fold_in(noise_key, t))
            norm = jnp.sqrt(sum((g**2).sum() for g in jax.tree.leaves(grads)))
            scale = jnp.minimum(1, CLIP / (norm + 1e-6))
            first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * scale * g, first, grads)
            second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * (scale * g) ** 2, second, grads)
            rate, unbias = LR / (1 - 0.9**t), 1 / (1 - 0.999**t)
            moves = jax.tree.map(lambda m, v: rate * m / (jnp.sqrt(v * unbias) + 1e-8), first, second)
            return (jax.tree.map(jnp.subtract, weights, moves), first, second, t + 1), loss * len(index)

        zeros = jax.tree.map(jnp.zeros_like, weights)
        state, losses = jax.lax.scan(step, (weights, zeros, zeros, 1), order[: full * BATCH].reshape(full, BATCH))
        total = losses.sum()
        if n % BATCH:
            state, last = step(state, order[full * BATCH :])
            total += last
        return state[0], total / n

    keys = jax.random.split(jax.random.key(0), 3)
    weights = (initial(keys[0], ENCODER), initial(keys[1], DECODER))
    images = jax.block_until_ready(jnp.asarray(data.train.images.flatten(1).numpy()))  # uint8 (N, P)
    compiled = jax.jit(train).lower(weights, images, keys[2]).compile()
    return lambda: {"loss": float(jax.block_until_ready(compiled(weights, images, keys[2]))[1])}
