"""One optimizer step: a batch, a draw through the model, the objective, its gradient, and the move.

Shapes: ``B`` batch, ``F`` figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vaectl.data.batch import Batch
from vaectl.data.examples import Examples
from vaectl.model.objectives import Loss
from vaectl.model.objectives.base import BOUND
from vaectl.model.parts import ModelPart
from vaectl.model.vae import Draw
from vaectl.parallel.distributed import ALONE, Processes
from vaectl.parallel.shares import Share
from vaectl.system.runtime import keep_freed_memory
from vaectl.training.figures import REPORTED
from vaectl.training.replay import repeated
from vaectl.training.state import ADVERSARY, MODEL, TrainState

# the figure of what an objective's own parameters minimise
ADVERSARY_LOSS = "adversary"


class TrainStep:
    """The step that a stage of a training repeats. Nothing in it waits for a number that an accelerator has yet to work
    out.

    Attributes:
        names: The figures that a step reports: ``REPORTED``, and from the first step on the objective's own terms.

    Args:
        state: The training.
        examples: The training split, on the state's device.
        processes: The processes that share every batch.
        fast: Whether full batches are repeated from a recording; else each is computed as it is written here, as it is
            for several processes, and for a part that says it cannot be recorded.
    """

    def __init__(
        self, state: TrainState, examples: Examples, processes: Processes = ALONE, *, fast: bool = True
    ) -> None:
        self.state, self.examples, self.processes = state, examples, processes
        self.stage, training = state.stage, state.training
        self.dtype = torch.bfloat16 if training.precision == "bf16" else torch.float32
        self.size = min(training.batch_size, len(examples))
        self.names: tuple[str, ...] = REPORTED
        # what the recorded step reads: positions of examples that are in memory, or the examples themselves
        self.inputs: tuple[Tensor, ...] = ()
        self.scheduled = torch.zeros((), device=state.device)
        parts = [part for part in (*state.model.modules(), self.stage.objective) if isinstance(part, ModelPart)]
        self.fast = fast and processes.world == 1 and all(part.recordable for part in parts)
        self._lrs: list[float] = []
        if state.device.type == "cpu":
            # a gradient for each weight, and about as much again for what lies between, are freed at every step
            keep_freed_memory(2 * sum(p.nbytes for p in state.model.parameters()))

    def __call__(self, fed: Sequence[Tensor]) -> Tensor:
        """Take a step on a batch as the split's ``feed`` yields it, and return its figures (F,), see ``names``.

        If the loss or the gradient is not finite the weights stay as they were. The result may be overwritten by the
        next step.
        """
        self.scheduled.fill_(self.stage.objective.scheduled(self.state.step))
        if not self.fast or len(fed[0]) != self.size:
            return self._compute(fed)
        if not self.inputs:
            self.inputs = tuple(torch.empty_like(tensor) for tensor in fed)
        for static, tensor in zip(self.inputs, fed, strict=True):
            static.copy_(tensor)
        lrs = [optimizer.lr for optimizer in self.state.optimizers.values()]
        if lrs != self._lrs:  # a recording holds learning rates as numbers
            self._lrs, inputs = lrs, self.inputs
            self._full_batch = repeated(lambda: self._compute(inputs), self.state.device)
        return self._full_batch()

    def _compute(self, fed: Sequence[Tensor]) -> Tensor:
        with self.processes.sharing(len(fed[0])) as share:
            batch = self.examples.training_batch(fed, share.rows if share else slice(None))
            # the networks' products alone: distributions compute in fp32 whatever they are given
            with torch.autocast(self.state.device.type, self.dtype, enabled=self.dtype != torch.float32):
                draw = self._draw(batch)
            loss = self.stage.objective(draw, self.scheduled)
            gradients = self._gradients(loss, share)
            with torch.no_grad():
                figures = self._move(gradients, self._figures(loss, draw, share))
                if not self.stage.fits_prior:
                    self.stage.objective.observe(draw)
                    self.state.model.observe(draw)
                return figures

    def _draw(self, batch: Batch) -> Draw:
        model = self.state.model
        if not self.stage.fits_prior:
            return model.draw(batch, self.stage.objective.draws)
        with torch.no_grad():
            draw = model.draw(batch)
        draw = dataclasses.replace(draw, p=model.prior_at(batch.given))
        _ = draw.kl  # computed here, because a prior's network is one of the networks
        return draw

    def _gradients(self, loss: Loss, share: Share | None) -> dict[str, dict[str, Tensor]]:
        """The gradient of each parameter that has one, by name, by the name of its optimizer."""
        gradients = {}
        for name, value, parameters in (
            (MODEL, loss.total, self.stage.parameters),
            (ADVERSARY, loss.adversary, self._own_parameters()),
        ):
            if value is not None and parameters:
                value = share.weight * value if share else value
                keep = name == MODEL and loss.adversary is not None
                each = torch.autograd.grad(value, list(parameters.values()), retain_graph=keep, allow_unused=True)
                gradients[name] = {key: g for key, g in zip(parameters, each, strict=True) if g is not None}
        return gradients

    def _own_parameters(self) -> Mapping[str, nn.Parameter]:
        adversary = self.state.optimizers.get(ADVERSARY)
        return {} if adversary is None or self.stage.fits_prior else adversary.parameters

    def _figures(self, loss: Loss, draw: Draw, share: Share | None) -> Tensor:
        """The loss, the terms of the bound and the objective's own: means over the own rows, by their share."""
        own = {name: term.mean() for name, term in loss.terms.items() if name not in BOUND}
        if loss.adversary is not None:
            own[ADVERSARY_LOSS] = loss.adversary
        self.names = (*REPORTED, *own)
        figures = torch.stack((loss.total, draw.recon.mean(), draw.kl.mean(), *own.values()))
        return share.weight * figures if share else figures

    def _move(self, gradients: Mapping[str, Mapping[str, Tensor]], figures: Tensor) -> Tensor:
        """Add up gradients and figures over all processes, move the parameters, and return the figures (F,)."""
        optimizers = self.state.optimizers
        keys = [(name, key) for name, each in gradients.items() for key in each]
        summed, figures = self.processes.add(
            [gradients[name][key] for name, key in keys],
            [optimizers[name].parameters[key] for name, key in keys],
            figures,
        )
        of = dict(zip(keys, summed, strict=True))
        bound = len(REPORTED) - 1
        # one that is not finite moves nothing, whichever of them it is
        loss = figures[0] + figures[-1] if ADVERSARY in gradients else figures[0]
        norms = [
            optimizers[name].step([of.get((name, key)) for key in optimizers[name].parameters], loss)
            for name in gradients
        ]
        return torch.cat((figures[:bound], norms[0][None], figures[bound:]))
