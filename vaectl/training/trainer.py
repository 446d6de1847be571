"""The trainer: fit() yields events, whose consumers show and save; it opens no files."""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass

import torch

from vaectl.config.spec import Spec, Training
from vaectl.data.base import Data
from vaectl.errors import UsageError
from vaectl.evaluation.metrics import evaluate
from vaectl.model.builder import build
from vaectl.model.objectives import Objective
from vaectl.model.objectives.base import BOUND
from vaectl.model.vae import VAE
from vaectl.parallel.distributed import ALONE, Processes
from vaectl.system.runtime import use_true_fp32
from vaectl.training.figures import ADVERSARY_LOSS, REPORTED, not_finite
from vaectl.training.state import TrainState
from vaectl.training.step import TrainStep


@dataclass(frozen=True)
class Step:
    """An optimizer step was taken: the ``batch``-th of ``batches`` in its epoch, the ``step``-th of all."""

    epoch: int
    step: int
    batch: int
    batches: int
    examples: int


@dataclass(frozen=True)
class Logged:
    """The figures of the last ``log_every`` steps are reported, or of all steps of an epoch that has fewer.

    Attributes:
        epoch, step: The epoch and the number of optimizer steps so far; ``Step`` follows for the same step.
        steps: The number of steps that the figures are means over, all of this epoch.
        loss, recon, kl: The minimised loss and the terms of the bound at beta = 1, in nats per example.
        beta: Weight of the KL after the last step.
        terms: The objective's own terms by name, in nats per example.
        grad_norm: Mean global L2 norm of the gradient before clipping.
        lr: Learning rate.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    recon: float
    kl: float
    beta: float
    terms: Mapping[str, float]
    grad_norm: float
    lr: float


@dataclass(frozen=True)
class Epoch:
    """An epoch ended. Log quantities are in nats, means over the epoch's examples (or the validation split's).

    Attributes:
        epoch, step: Epochs and optimizer steps so far.
        loss: The minimised loss.
        elbo, recon, kl: The bound at beta = 1 and its terms, on training examples while the weights changed.
        beta: Weight of the KL after the last step.
        terms: The objective's own terms by name, in nats, on training examples while the weights changed.
        grad_norm: Mean global L2 norm of the gradient before clipping.
        lr: Learning rate, which a rollback lowers.
        validation: ``elbo`` and its standard error ``elbo_se``, ``recon``, ``kl``, ``loss``, ``active_units`` (for
            codes ``codes_used``, ``codes`` and ``perplexity``) and the fractions of saturated scales; empty without a
            validation split.
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
    terms: Mapping[str, float]
    improved: bool
    best_epoch: int
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class RolledBack:
    """Training returned to its last good state with a lower learning rate, because of a ``problem`` in an epoch.

    Attributes:
        epoch, step: The epoch that begins again, and its first step.
        problem: A sentence that names the value that was not finite.
        lr: The learning rate from now on.
        rollbacks: Number of rollbacks so far.
    """

    epoch: int
    step: int
    problem: str
    lr: float
    rollbacks: int


@dataclass(frozen=True)
class PriorBegan:
    """The second stage begins, which fits the prior alone to the latents of the best weights so far.

    Attributes:
        epoch, step: Epochs and optimizer steps so far.
        best_epoch: The epoch of those weights.
        last_epoch: The epoch after which training ends, unless it is stopped early.
    """

    epoch: int
    step: int
    best_epoch: int | None
    last_epoch: int


@dataclass(frozen=True)
class Stopped:
    """Training ended: ``reason`` is completed, patience or diverged; ``problem`` describes a divergence."""

    reason: str
    epoch: int
    step: int
    best_epoch: int | None
    problem: str = ""


Event = Step | Logged | Epoch | RolledBack | PriorBegan | Stopped

# copies of the weights in memory: the weights, their gradients, and Adam's two moments
TRAINING_COPIES = 4
# the metrics of the validation split that an epoch reports
VALIDATED = (
    "elbo", "elbo_se", "recon", "kl", "active_units", "codes_used", "codes", "perplexity", "uniform_bits",
    "posterior_saturation", "likelihood_saturation",
)  # fmt: skip


def prepare(spec: Spec, data: Data, device: torch.device) -> TrainState:
    """The state before the first step of a training, with model and objective on the device.

    Raises:
        UsageError, VaectlError: As ``build``.
    """
    use_true_fp32(device)
    # when training on an accelerator, the host's memory has only the weights
    model, objective = build(spec, data.info, copies=TRAINING_COPIES if device.type == "cpu" else 1)
    return TrainState(model.to(device), objective.to(device), spec.training, len(data.train))


def fit(
    model: VAE,
    objective: Objective,
    data: Data,
    training: Training,
    state: TrainState | None = None,
    *,
    processes: Processes = ALONE,
    fast: bool = True,
) -> Generator[Event, None, None]:
    """Train a model in place, yielding a ``Step`` or ``Epoch`` as each ends and ``Stopped`` last.

    Every ``training.log_every`` steps a ``Logged`` with their figures comes before the ``Step``.

    The best epoch has the highest validation ELBO at beta = 1. A settled epoch (after the warm-up, or with the KL at
    its target) is always better than an unsettled one, and only settled epochs count for patience. Without a validation
    split the last epoch is the best. If ``training.prior_epochs`` is above 0, a second stage follows: it begins with
    ``PriorBegan``, from the best weights so far, and changes only the prior. torch's global random stream is reseeded.

    Args:
        model: The model, on the device to train on.
        objective: The objective to minimise, on the same device.
        data: The data, on the same device.
        training: The settings.
        state: The state of a training of this model and objective, to continue it; None begins one.
        processes: The processes that each call this with equal arguments, to share every batch.
        fast: Whether steps are repeated from a recording of the first one, with the same results (see ``replay``), for
            which the parts must follow the rules of ``ModelPart``.

    Raises:
        UsageError: There are several processes, and the objective needs a whole batch in one.
    """
    if processes.world > 1 and objective.needs_pairs:
        raise UsageError(
            f"{type(objective).__name__} compares the examples of a batch with each other and needs one process; "
            f"got {processes.world}"
        )
    state = TrainState(model, objective, training, len(data.train)) if state is None else state
    state.training = training
    state.enter()
    try:
        yield from _fit(state, data, processes, fast)
    finally:
        state.leave()


def _fit(state: TrainState, data: Data, processes: Processes, fast: bool) -> Generator[Event, None, None]:
    training = state.training
    problem, step = "", TrainStep(state, data.train, processes, fast=fast)
    while not (reason := "diverged" if problem else state.end):
        if state.prior_is_due:
            state.begin_prior()
            step = TrainStep(state, data.train, processes, fast=fast)
            yield PriorBegan(state.epoch, state.step, state.best_epoch, state.last_epoch)
        if training.on_nonfinite == "rollback" and state.batch == 0:
            state.keep()
        problem = yield from _epoch(state, data, processes, step)
        if problem and training.on_nonfinite == "rollback" and state.rollbacks < training.max_rollbacks:
            state.roll_back(training.rollback_factor)
            yield RolledBack(state.epoch + 1, state.step, problem, state.lr, state.rollbacks)
            problem = ""
    yield Stopped(reason, state.epoch + bool(problem), state.step, state.best_epoch, problem)


def _epoch(state: TrainState, data: Data, processes: Processes, step: TrainStep) -> Generator[Event, None, str]:
    """Train the rest of an epoch and return a sentence about a value that was not finite, or an empty string."""
    model, stage = state.model, state.stage
    order, size = state.begin_epoch(), state.training.batch_size
    model.train(not stage.fits_prior)  # while the prior is fitted, nothing else changes, running means included
    # closed, so that threads that read ahead end, too
    with closing(data.train.feed(order, size, state.batch)) as batches:
        for tensors in batches:
            report = step(tensors)
            # reading a value stalls an accelerator, where the epoch's figures are checked instead
            if state.device.type == "cpu" and (wrong := not_finite(step.names, report)):
                return _problem(wrong, state.step)
            state.figures.put(state.batch, step.names, report)
            state.step += 1
            state.batch += 1
            if steps := _steps_to_log(state):
                yield _logged(state, steps)
            yield Step(state.epoch + 1, state.step, state.batch, state.batches, len(tensors[0]))
    number = state.epoch + 1
    if not state.figures.finite:
        return f"a term is not finite in epoch {number}"
    training_seconds = state.seconds  # read after the figures, which wait for an accelerator to compute the last step
    if not state.finite:
        return f"a weight is not finite after epoch {number}"
    validation = _validate(model, stage.objective, data, state.step, processes)
    if validation and not math.isfinite(validation["elbo"]):
        return f"the validation ELBO is not finite after epoch {number}"
    means = state.figures.means(state.sizes())
    loss, recon, kl, grad_norm = (means.pop(name) for name in REPORTED)
    settled = stage.objective.settled(number, validation)
    improved = state.end_epoch(settled, validation["elbo"] if validation else float(number))
    assert state.best_epoch is not None
    yield Epoch(
        epoch=number,
        step=state.step,
        loss=loss,
        elbo=-(recon + kl),
        recon=recon,
        kl=kl,
        beta=state.objective.beta(state.step),
        grad_norm=grad_norm,
        lr=state.lr,
        validation=validation,
        terms=means,
        improved=improved,
        best_epoch=state.best_epoch,
        seconds=state.seconds,
        images_per_second=len(order) / training_seconds,
    )
    return ""


def _steps_to_log(state: TrainState) -> int:
    """How many steps the figures to report now are means over: 0 for no report.

    An epoch without a step whose number is a multiple of ``log_every`` has one report, at its end.
    """
    every = state.training.log_every
    if every and state.step % every == 0:
        return min(every, state.batch)
    reported = every and state.step // every > (state.step - state.batch) // every
    return state.batch if state.batch == state.batches and not reported else 0


def _logged(state: TrainState, steps: int) -> Logged:
    first = state.batch - steps
    means = state.figures.means(state.sizes(first), first)
    loss, recon, kl, grad_norm = (means.pop(name) for name in REPORTED)
    return Logged(
        epoch=state.epoch + 1,
        step=state.step,
        steps=steps,
        loss=loss,
        recon=recon,
        kl=kl,
        beta=state.objective.beta(state.step),
        terms=means,
        grad_norm=grad_norm,
        lr=state.lr,
    )


def _validate(model: VAE, objective: Objective, data: Data, step: int, processes: Processes) -> dict[str, float]:
    if len(data.validation) == 0:
        return {}
    result = evaluate(
        model,
        data.validation,
        at_mean=False,
        loss=lambda draw: objective(draw, objective.scheduled(step)),
        loss_draws=objective.draws,
        processes=processes,
    )
    assert result.loss is not None
    metrics = result.metrics()
    return {name: metrics[name] for name in VALIDATED if name in metrics} | {"loss": result.loss}


def _problem(wrong: Collection[str], step: int) -> str:
    """Name the figures that are not finite: terms of the bound first, then a loss, then the gradient."""
    terms = [name for name in BOUND if name in wrong]
    names = {"loss": "the loss", ADVERSARY_LOSS: "the adversary's loss", "grad_norm": "the gradient"}
    subject = " and ".join(terms) or next(text for name, text in names.items() if name in wrong)
    return f"{subject} {'are' if len(terms) > 1 else 'is'} not finite at step {step}"
