"""The state of a training: together with the weights, everything that decides how it continues."""

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
# names of the optimizers: of the model, and of an objective's own parameters
MODEL, ADVERSARY = "optimizer", "adversary"


@dataclass(frozen=True)
class Stage:
    """A stage of a training: the first trains the whole model, the second fits the prior alone.

    Attributes:
        objective: The objective that it minimises.
        parameters: The model's parameters that it trains, by name.
        fits_prior: Whether it is the second stage.
    """

    objective: Objective
    parameters: Mapping[str, nn.Parameter]
    fits_prior: bool


class TrainState:
    """A training between two optimizer steps: optimizers, random streams, position in the data, best weights so far.

    ``tensors()``, ``values()`` and the model's weights are the whole state: restored into a new process they lead to
    the same weights as one uninterrupted process, bit for bit on the CPU. Both may be called while ``fit`` pauses at an
    event, when torch's global random stream is that of the training, and after it.

    Attributes:
        model, objective: The model and its objective.
        training: The settings.
        optimizers: The optimizers by name: ``optimizer`` for the model, ``adversary`` for parameters of the objective.
        stage: The current stage.
        epoch: Finished epochs.
        batch: Finished batches of the current epoch.
        step: Optimizer steps in all.
        figures: The figures of each batch of the epoch; 0 from ``batch`` on.
        best_epoch: The epoch of the best weights, or None.
        best: The rank of the best epoch: whether it was settled, and its validation ELBO.
        keeps_best: Whether ``best_weights`` are kept for a second stage.
        best_weights: The best weights, until the second stage begins from them.
        prior_began: Finished epochs when the second stage began, which fits the prior alone; None before it.
        settled: Whether the last epoch was settled, see ``Objective.settled``.
        rollbacks: Number of rollbacks to the last good state.

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
        weights, own = (
            {name: parameter for name, parameter in part.named_parameters() if parameter.requires_grad}
            for part in (model, objective)
        )
        self.optimizers = {MODEL: AdamW(weights, training.lr, training.weight_decay, clip=training.grad_clip)}
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
        # the state of the stream of orders as the epoch begins, so that a restarted epoch has the same order
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
        """The current stage."""
        parameters = self.optimizer.parameters
        if self.prior_began is None:
            return Stage(self.objective, parameters, fits_prior=False)
        prior = {name: parameter for name, parameter in parameters.items() if name.startswith("prior.")}
        return Stage(PriorFit(), prior, fits_prior=True)

    @property
    def seconds(self) -> float:
        """Time spent in the epoch in seconds, including earlier processes."""
        return self._seconds + time.perf_counter() - self._started

    @property
    def finite(self) -> bool:
        """Whether all weights and the epoch's figures so far are finite; only such a state may be saved."""
        weights = (*self.model.parameters(), *self.objective.parameters())
        return self.figures.finite and all(bool(tensor.isfinite().all()) for tensor in weights)

    @property
    def end(self) -> str:
        """The reason why training ends now, ``completed`` or ``patience``; empty if it continues."""
        return "" if self.prior_is_due else self._stage_end

    @property
    def prior_is_due(self) -> bool:
        """Whether the second stage, which fits the prior, is to begin now."""
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
        """Begin the second stage from the best weights, with a new state of the optimizer."""
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)
        self.model.prior.begin_fit()
        self.optimizer.restore({})
        self.best_weights = None
        self.prior_began = self.epoch

    def enter(self) -> None:
        """Set torch's global random stream to the training's position."""
        set_random_state(self.device, self._random)
        self._entered = True

    def leave(self) -> None:
        """Save the position of torch's global random stream."""
        self._random = random_state(self.device)
        self._entered = False

    def begin_epoch(self) -> Tensor:
        """Start or continue the epoch's clock and return the epoch's order of the examples (N,)."""
        if self.batch == 0:
            self._seconds = 0.0
            self.figures.clear()
        self._started = time.perf_counter()
        self._order.set_state(self._order_state)
        return torch.randperm(self.examples, generator=self._order).to(self.device)

    def sizes(self, first: int = 0) -> list[int]:
        """Examples in each batch of the epoch that is done, from the ``first`` on; the epoch's last may be smaller."""
        size = self.training.batch_size
        return [min(size, self.examples - size * batch) for batch in range(first, self.batch)]

    def end_epoch(self, settled: bool, elbo: float) -> bool:
        """Count the epoch and return whether its weights are the best so far."""
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
        """Keep this state and its weights in memory for ``roll_back``."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()} | self._own_tensors()
        self._good = {name: tensor.clone() for name, tensor in tensors.items()}, self._own_values()

    def roll_back(self, factor: float) -> None:
        """Return to the state of the last ``keep``, with learning rates multiplied by ``factor``."""
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
        """The tensors of the state by name, without the model's weights."""
        good = self._good[0] if self._good is not None and self.batch else {}
        return self._own_tensors() | {f"good.{name}": tensor for name, tensor in good.items()}

    def values(self) -> dict[str, Any]:
        """The numbers of the state, as a JSON object."""
        return self._own_values() | {"good": self._good[1] if self._good is not None and self.batch else None}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restore the state that ``tensors()`` and ``values()`` returned; the weights are restored separately.

        Raises:
            ValueError: They do not fit the model, the objective or the data.
        """
        good = _under(tensors, "good.")
        try:
            if good:
                # restored first, so that it is checked, too
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
        valid = all(type(count) is int and count >= 0 for count in counts.values())
        epoch, batch, best = counts["epoch"], counts["batch"], values["best"]
        if not valid or batch > self.batches or counts["step"] != epoch * self.batches + batch:
            raise ValueError(f"{counts} is not a position in a training of {self.batches} batches per epoch")
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
        valid = self.best is self.best_epoch is None
        if epoch:
            valid = self.best is not None and math.isfinite(self.best[1]) and self.best_epoch in range(1, epoch + 1)
        if not valid:
            raise ValueError(f"best_epoch {values['best_epoch']} is not one of the {epoch} epochs so far")
        # checkpoints of older versions have no stages
        began = values.get("prior_began")
        if began is not None and (type(began) is not int or not 1 <= began <= epoch):
            raise ValueError(f"prior_began {began} is not one of the {epoch} epochs so far")
        if self.model.prior.in_second_stage not in (None, began is not None):
            raise ValueError("the prior's weights belong to another stage")
        self.prior_began = began
        self.settled = bool(values["settled"])
        self._seconds = float(values["seconds"])
        # checkpoints of older versions have no names of figures
        self.figures.restore(values.get("figures", REPORTED), tensors["records"])
        self._order_state = tensors["order"].clone()
        self._order.set_state(self._order_state)
        # on a device new to the training the stream begins at its seed
        self._random = self._random | _under(tensors, "random.")
        torch.Generator().set_state(self._random["cpu"])  # raises if it is not a state
        self.objective.load_state_dict(_under(tensors, "objective."))
        for name, optimizer in self.optimizers.items():
            optimizer.lr = float(values["lr" if name == MODEL else f"{name}_lr"])
            optimizer.restore(_under(tensors, f"{name}."))


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Copies of the tensors whose names begin with a prefix, by name without the prefix."""
    return {name.removeprefix(prefix): tensor.clone() for name, tensor in tensors.items() if name.startswith(prefix)}
