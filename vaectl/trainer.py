"""The trainer: fit() yields events as it goes; whoever consumes them shows and saves. It opens no files.

Shapes: ``N`` training examples, ``B`` batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass

import torch

from vaectl.data import Data
from vaectl.metrics import evaluate
from vaectl.objectives import Loss, Objective
from vaectl.runtime import seed_streams
from vaectl.spec import Training
from vaectl.vae import VAE


@dataclass(frozen=True)
class Step:
    """An optimizer step was taken: the ``batch``-th of ``batches`` in its epoch, the ``step``-th of all."""

    epoch: int
    step: int
    batch: int
    batches: int
    examples: int


@dataclass(frozen=True)
class Epoch:
    """An epoch ended. Log quantities are in nats, means over the epoch's examples (or the validation split's).

    Attributes:
        epoch, step: Epochs and optimizer steps so far.
        loss: The objective, as it was minimised.
        elbo, recon, kl: The bound at beta = 1 and its terms, on training examples while the weights moved.
        beta: Weight of the KL after the last step.
        grad_norm: Mean global L2 norm of the gradient before clipping.
        lr: Learning rate.
        validation: ``elbo`` and its standard error ``elbo_se``, ``recon``, ``kl``, ``loss``, ``active_units`` and the
            parts of the scales that are saturated; empty without a validation split.
        improved: Whether these are the best weights so far.
        best_epoch: The epoch of the best weights.
        seconds: Time of the epoch, validation included.
        images_per_second: Training examples per second of training.
    """

    epoch: int
    step: int
    loss: float
    elbo: float
    recon: float
    kl: float
    beta: float
    grad_norm: float
    lr: float
    validation: Mapping[str, float]
    improved: bool
    best_epoch: int
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class Stopped:
    """Training ended: ``reason`` is completed, patience or diverged; ``problem`` says in words what diverged."""

    reason: str
    epoch: int
    step: int
    best_epoch: int | None
    problem: str = ""


Event = Step | Epoch | Stopped

# what of the validation split's metrics an epoch reports
VALIDATED = ("elbo", "elbo_se", "recon", "kl", "active_units", "posterior_saturation", "likelihood_saturation")


def fit(model: VAE, objective: Objective, data: Data, training: Training) -> Generator[Event, None, None]:
    """Train a model in place, yielding a ``Step`` or ``Epoch`` as each ends and ``Stopped`` last.

    The best epoch is the one of the highest validation ELBO at beta = 1. An epoch at whose end the warm-up is
    complete, or the KL on the target that was set, is always better than another, and only those count for patience.
    Without a validation split the last epoch is the best. torch's global random stream is reseeded.

    Args:
        model: The model, on the device to train on.
        objective: What to minimise.
        data: The data, on the same device.
        training: The settings.
    """
    _, order_seed, noise_seed = seed_streams(training.seed)
    torch.manual_seed(noise_seed)
    order = torch.Generator().manual_seed(order_seed)
    parameters = list(model.parameters())
    device = parameters[0].device
    optimizer = torch.optim.AdamW(parameters, lr=training.lr, weight_decay=training.weight_decay, fused=True)
    n, size = len(data.train), training.batch_size
    batches = -(-n // size)
    sizes = torch.tensor([min(size, n - start) for start in range(0, n, size)], dtype=torch.float64)
    step, best_epoch = 0, None
    best: tuple[bool, float] | None = None
    for epoch in range(1, training.epochs + 1):
        started = time.perf_counter()
        permutation = torch.randperm(n, generator=order).to(device)
        # loss, recon, kl and gradient norm of each batch: kept on the device, read once an epoch
        records = torch.zeros(batches, 4, device=device)
        model.train()
        for batch in range(batches):
            x = data.train.training_batch(permutation[batch * size : (batch + 1) * size])
            draw = model.draw(x, objective.draws)
            loss = objective(draw, step)
            optimizer.zero_grad(set_to_none=True)
            loss.total.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(parameters, training.grad_clip or math.inf)
            # on an accelerator reading a value stalls the queue, so there the epoch's sums are checked instead
            if device.type == "cpu" and not (math.isfinite(loss.total.item()) and math.isfinite(norm.item())):
                yield Stopped("diverged", epoch, step, best_epoch, _problem(loss, step))
                return
            optimizer.step()
            objective.observe(draw)
            with torch.no_grad():
                records[batch] = torch.stack((loss.total, draw.recon.mean(), draw.kl.mean(), norm))
            step += 1
            yield Step(epoch, step, batch + 1, batches, len(x))
        trained = time.perf_counter()
        per_batch = records.cpu().double()  # (batches, 4)
        if not per_batch.isfinite().all():
            yield Stopped("diverged", epoch, step, best_epoch, f"a term is not finite in epoch {epoch}")
            return
        # the last batch may be short, so batches count by their examples
        mean_loss, recon, kl = ((sizes @ per_batch[:, :3]) / n).tolist()
        validation = _validate(model, objective, data, step)
        if validation and not math.isfinite(validation["elbo"]):
            yield Stopped("diverged", epoch, step, best_epoch, f"the validation ELBO is not finite after epoch {epoch}")
            return
        warm = objective.settled(epoch, validation)
        score = (warm, validation["elbo"] if validation else float(epoch))
        improved = best is None or score > best
        if improved:
            best, best_epoch = score, epoch
        assert best_epoch is not None
        yield Epoch(
            epoch=epoch,
            step=step,
            loss=mean_loss,
            elbo=-(recon + kl),
            recon=recon,
            kl=kl,
            beta=objective.beta(step),
            grad_norm=per_batch[:, 3].mean().item(),
            lr=training.lr,
            validation=validation,
            improved=improved,
            best_epoch=best_epoch,
            seconds=time.perf_counter() - started,
            images_per_second=n / (trained - started),
        )
        if training.patience and warm and epoch - max(best_epoch, objective.warmup_epochs) >= training.patience:
            yield Stopped("patience", epoch, step, best_epoch)
            return
    yield Stopped("completed", training.epochs, step, best_epoch)


def _validate(model: VAE, objective: Objective, data: Data, step: int) -> dict[str, float]:
    if len(data.validation) == 0:
        return {}
    result = evaluate(
        model, data.validation, at_mean=False, loss=lambda draw: objective(draw, step), loss_draws=objective.draws
    )
    assert result.loss is not None
    metrics = result.metrics()
    return {name: metrics[name] for name in VALIDATED} | {"loss": result.loss}


def _problem(loss: Loss, step: int) -> str:
    terms = [name for name, values in loss.terms.items() if not bool(values.isfinite().all())]
    verb = "are" if len(terms) > 1 else "is"
    return f"{' and '.join(terms) or 'the gradient'} {verb} not finite at step {step}"
