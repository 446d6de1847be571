"""The state of a training: with the weights, everything that decides how it goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vaectl.config.spec import Training
from vaectl.model.objectives import Objective, PriorFit
from vaectl.model.vae import VAE
from vaectl.system.reading import has_numbers
from vaectl.system.runtime import random_state, seed_streams, seeded, set_random_state
from vaectl.training.figures import REPORTED, Figures
from vaectl.training.optimizer import AdamW

COUNTS = ("epoch", "batch", "step", "rollbacks")
# the optimizers by name: that of the model, and that of the parameters that an objective has of its own
MODEL, ADVERSARY = "optimizer", "adversary"


@dataclass(frozen=True)
class Stage:
    """A part of a training: the first trains the whole model, a second one fits the prior alone.

    Attributes:
        objective: What it minimises.
        parameters: What it trains of the model, by name.
        fits_prior: Whether it is the second one.
    """

    objective: Objective
    parameters: Mapping[str, nn.Parameter]
    fits_prior: bool


class TrainState:
    """A training between two optimizer steps: optimizers, random streams, position in the data, best so far.

    ``tensors()`` and ``values()`` with the model's weights are the whole of it: restored into a new process they lead
    to the same weights as if there had been one process, on the CPU bit for bit. Both may be called while ``fit``
    rests between two events, when torch's global random stream is that of the training, and after it.

    Attributes:
        model, objective: What is trained, and what it minimises.
        training: The settings.
        optimizers: By name, clipping and Adam with decoupled weight decay: ``optimizer`` for the model, ``adversary``
            for what the objective has to train of its own.
        stage: The part of the training that goes on now.
        epoch: Epochs that ended.
        batch: Batches done of the epoch after them.
        step: Optimizer steps in all.
        figures: What each batch of the epoch reported; 0 after ``batch``.
        best_epoch: The epoch of the best weights, or None.
        best: What made it the best: whether the epoch counts, and its validation ELBO.
        keeps_best: Whether a second stage is to come, and ``best_weights`` are kept for it.
        best_weights: The best weights, while a second stage will begin from them.
        prior_began: Epochs that had ended when the second stage began, which fits the prior alone; None before it.
        settled: Whether the last epoch counts.
        rollbacks: How often training was taken back to its last good state.

    Args:
        model: The model, on the device to train on.
        objective: The objective, on the same device.
        training: The settings.
        examples: Training examples.
    """

    def __init__(self, model: VAE, objective: Objective, training: Training, examples: int) -> None:
        _, order_seed, noise_seed = seed_streams(training.seed)
        self.model, self.objective, self.training = model, objective, training
        self.device = next(model.parameters()).device
        trained, own = (
            {name: parameter for name, parameter in part.named_parameters() if parameter.requires_grad}
            for part in (model, objective)
        )
        self.optimizers = {MODEL: AdamW(trained, training.lr, training.weight_decay, clip=training.grad_clip)}
        if own:
            adversary = objective.adversary
            lr = training.lr if adversary.lr is None else adversary.lr
            self.optimizers[ADVERSARY] = AdamW(own, lr, 0.0, clip=0.0, betas=adversary.betas)
        self.epoch = self.batch = self.step = self.rollbacks = 0
        self.best: tuple[bool, float] | None = None
        self.best_epoch: int | None = None
        self.best_weights: dict[str, Tensor] | None = None
        self.prior_began: int | None = None
        self.settled = False
        self.keeps_best = training.prior_epochs > 0
        self.examples, self.batches = examples, -(-examples // training.batch_size)
        self.figures = Figures(self.batches, self.device)
        self._order = torch.Generator().manual_seed(order_seed)
        # of the stream of orders as the epoch begins: the same order is drawn again when it is begun again
        self._order_state = self._order.get_state()
        with seeded(noise_seed):
            self._random = random_state(self.device)
        self._entered = False
        self._seconds, self._started = 0.0, time.perf_counter()
        self._good: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    @property
    def optimizer(self) -> AdamW:
        """The model's optimizer."""
        return self.optimizers[MODEL]

    @property
    def lr(self) -> float:
        """The learning rate of the model's optimizer, which a rollback lowers."""
        return self.optimizer.lr

    @property
    def stage(self) -> Stage:
        """The part of the training that goes on now."""
        parameters = self.optimizer.parameters
        if self.prior_began is None:
            return Stage(self.objective, parameters, fits_prior=False)
        prior = {name: parameter for name, parameter in parameters.items() if name.startswith("prior.")}
        return Stage(PriorFit(), prior, fits_prior=True)

    @property
    def seconds(self) -> float:
        """Time spent in the epoch, in this process and in those before it."""
        return self._seconds + time.perf_counter() - self._started

    @property
    def finite(self) -> bool:
        """Whether all weights are finite numbers, and the epoch's figures so far: only then it may be saved."""
        weights = (*self.model.parameters(), *self.objective.parameters())
        return self.figures.finite and all(bool(tensor.isfinite().all()) for tensor in weights)

    @property
    def end(self) -> str:
        """Why training ends here, ``completed`` or ``patience``; empty while it goes on."""
        return "" if self.prior_is_due else self._stage_end

    @property
    def prior_is_due(self) -> bool:
        """Whether the first stage is over and the second, which fits the prior, is to begin."""
        return self.training.prior_epochs > 0 and self.prior_began is None and bool(self._stage_end)

    @property
    def last_epoch(self) -> int:
        """The epoch after which training ends, unless it is stopped early."""
        first = self.training.epochs if self.prior_began is None else self.prior_began
        return first + self.training.prior_epochs

    @property
    def _stage_end(self) -> str:
        training = self.training
        if training.patience and self.settled and self.best_epoch is not None and self.batch == 0:
            since = max(self.best_epoch, self.objective.warmup_epochs, self.prior_began or 0)
            if self.epoch - since >= training.patience:
                return "patience"
        last = training.epochs if self.prior_began is None else self.last_epoch
        return "completed" if self.epoch >= last else ""

    def begin_prior(self) -> None:
        """Begin the second stage: from the best weights, with moments of the gradient that know nothing yet."""
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)
        self.model.prior.begin_fit()
        self.optimizer.restore({})
        self.best_weights = None
        self.prior_began = self.epoch

    def enter(self) -> None:
        """Set torch's global random stream to where this training has it."""
        set_random_state(self.device, self._random)
        self._entered = True

    def leave(self) -> None:
        """Remember where torch's global random stream is."""
        self._random = random_state(self.device)
        self._entered = False

    def begin_epoch(self) -> Tensor:
        """Start the epoch's clock, or let it go on, and return the epoch's order of the examples (N,)."""
        if self.batch == 0:
            self._seconds = 0.0
            self.figures.clear()
        self._started = time.perf_counter()
        self._order.set_state(self._order_state)
        return torch.randperm(self.examples, generator=self._order).to(self.device)

    def end_epoch(self, settled: bool, elbo: float) -> bool:
        """Count the epoch, and return whether its weights are the best so far."""
        self.epoch += 1
        self.batch = 0
        self._order_state = self._order.get_state()
        self.settled = settled
        improved = self.best is None or (settled, elbo) > self.best
        if improved:
            self.best, self.best_epoch = (settled, elbo), self.epoch
            if self.keeps_best and self.prior_began is None:
                self.best_weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        return improved

    def keep(self) -> None:
        """Hold this state and its weights in memory, for ``roll_back``."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()} | self._own_tensors()
        self._good = {name: tensor.clone() for name, tensor in tensors.items()}, self._own_values()

    def roll_back(self, factor: float) -> None:
        """Go back to the state that was kept, with a learning rate lower by ``factor``."""
        assert self._good is not None
        tensors, values = self._good
        lrs, rollbacks = (
            {name: optimizer.lr * factor for name, optimizer in self.optimizers.items()},
            self.rollbacks + 1,
        )
        self.model.load_state_dict(_under(tensors, "model."))
        self._restore_own(tensors, values)
        self.rollbacks = rollbacks
        for name, lr in lrs.items():
            self.optimizers[name].lr = lr
        self.enter()

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the state but for the model's weights, by name."""
        good = self._good[0] if self._good is not None and self.batch else {}
        return self._own_tensors() | {f"good.{name}": tensor for name, tensor in good.items()}

    def values(self) -> dict[str, Any]:
        """The numbers of the state, JSON-able."""
        return self._own_values() | {"good": self._good[1] if self._good is not None and self.batch else None}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Become the state that ``tensors()`` and ``values()`` were taken from; the weights are restored apart.

        Raises:
            ValueError: They are not those of such a model, objective and data set.
        """
        good = _under(tensors, "good.")
        try:
            if good:
                # through the state itself, so that it is checked, too
                self._restore_own(good, values["good"])
                self._good = good, dict(values["good"])
            self._restore_own(tensors, values)
        except (KeyError, TypeError, IndexError, RuntimeError, OverflowError) as error:
            raise ValueError(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from None

    def _own_values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in COUNTS} | {
            "best_epoch": self.best_epoch,
            "best": None if self.best is None else list(self.best),
            "settled": self.settled,
            "prior_began": self.prior_began,
            "lr": self.lr,
            **{f"{name}_lr": optimizer.lr for name, optimizer in self.optimizers.items() if name != MODEL},
            "figures": list(self.figures.names),
            "seconds": self.seconds if self.batch else 0.0,
        }

    def _own_tensors(self) -> dict[str, Tensor]:
        random = random_state(self.device) if self._entered else self._random
        return {
            **{
                f"{key}.{name}": tensor
                for key, optimizer in self.optimizers.items()
                for name, tensor in optimizer.tensors().items()
            },
            **{f"objective.{name}": tensor for name, tensor in self.objective.state_dict().items()},
            **{f"random.{name}": tensor for name, tensor in random.items()},
            "order": self._order_state,
            "records": self.figures.values[: self.batch],
        }

    def _restore_own(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        counts = {name: values[name] for name in COUNTS}
        whole = all(type(count) is int and count >= 0 for count in counts.values())
        epoch, batch, best = counts["epoch"], counts["batch"], values["best"]
        if not whole or batch > self.batches or counts["step"] != epoch * self.batches + batch:
            raise ValueError(f"no place in a training of {self.batches} batches an epoch: {counts}")
        if not has_numbers(values, "lr", "seconds") or not 0 < values["lr"] <= 100 or values["seconds"] < 0:
            raise ValueError(
                f"lr must be in (0, 100] and seconds at least 0; got {values['lr']} and {values['seconds']}"
            )
        if len(tensors["records"]) != batch:
            raise ValueError(f"expected the figures of {batch} batches, got {len(tensors['records'])}")
        for name, count in counts.items():
            setattr(self, name, count)
        self.best = None if best is None else (bool(best[0]), float(best[1]))
        self.best_epoch = values["best_epoch"]
        sound = self.best is self.best_epoch is None
        if epoch:
            sound = self.best is not None and math.isfinite(self.best[1]) and self.best_epoch in range(1, epoch + 1)
        if not sound:
            raise ValueError(f"best_epoch {values['best_epoch']} is not one of the {epoch} epochs so far")
        # a checkpoint of before there were two stages says nothing of them
        began = values.get("prior_began")
        if began is not None and (type(began) is not int or not 1 <= began <= epoch):
            raise ValueError(f"prior_began {began} is not one of the {epoch} epochs so far")
        if self.model.prior.in_second_stage not in (None, began is not None):
            raise ValueError("the prior's weights are of another stage")
        self.prior_began = began
        self.settled = bool(values["settled"])
        self._seconds = float(values["seconds"])
        # a checkpoint of before objectives had figures and parameters of their own names neither
        self.figures.restore(values.get("figures", REPORTED), tensors["records"])
        self._order_state = tensors["order"].clone()
        self._order.set_state(self._order_state)
        # a device that the training was not on before keeps the beginning of its stream
        self._random = self._random | _under(tensors, "random.")
        torch.Generator().set_state(self._random["cpu"])  # raises unless it is one
        self.objective.load_state_dict(_under(tensors, "objective."))
        for name, optimizer in self.optimizers.items():
            optimizer.lr = float(values["lr" if name == MODEL else f"{name}_lr"])
            optimizer.restore(_under(tensors, f"{name}."))


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Copies of the tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor.clone() for name, tensor in tensors.items() if name.startswith(prefix)}
