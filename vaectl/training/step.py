"""One optimizer step: a batch, a draw through the model, the loss, its gradient, and the update.

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
from vaectl.training.figures import ADVERSARY_LOSS, REPORTED
from vaectl.training.replay import repeated
from vaectl.training.state import ADVERSARY, MODEL, TrainState


class TrainStep:
    """The training step of a stage. It never waits for an accelerator to compute a value.

    Attributes:
        names: Names of a step's figures: ``REPORTED``, and from the first step on the objective's own terms.

    Args:
        state: The training.
        examples: The training split, on the state's device.
        processes: The processes that share every batch.
        fast: Whether steps on full batches are repeated from a recording. Several processes and parts that cannot be
            recorded always compute plainly.
    """

    def __init__(
        self, state: TrainState, examples: Examples, processes: Processes = ALONE, *, fast: bool = True
    ) -> None:
        self.state, self.examples, self.processes = state, examples, processes
        self.stage, training = state.stage, state.training
        self.dtype = torch.bfloat16 if training.precision == "bf16" else torch.float32
        self.size = min(training.batch_size, len(examples))
        self.names: tuple[str, ...] = REPORTED
        # the inputs of the recorded step: indices of examples in memory, or streamed examples
        self.inputs: tuple[Tensor, ...] = ()
        self.scheduled = torch.zeros((), device=state.device)
        parts = [part for part in (*state.model.modules(), self.stage.objective) if isinstance(part, ModelPart)]
        self.fast = fast and processes.world == 1 and all(part.recordable for part in parts)
        self._lrs: list[float] = []
        if state.device.type == "cpu":
            # every step frees the gradients of the weights and about as much memory of intermediate values
            keep_freed_memory(2 * sum(p.nbytes for p in state.model.parameters()))

    def __call__(self, tensors: Sequence[Tensor]) -> Tensor:
        """Take a step on a batch from the split's ``feed`` and return its figures (F,), see ``names``.

        If the loss or the gradient is not finite, the weights do not change. The next step may overwrite the result.
        """
        self.scheduled.fill_(self.stage.objective.scheduled(self.state.step))
        if not self.fast or len(tensors[0]) != self.size:
            return self._compute(tensors)
        if not self.inputs:
            self.inputs = tuple(torch.empty_like(tensor) for tensor in tensors)
        for static, tensor in zip(self.inputs, tensors, strict=True):
            static.copy_(tensor)
        lrs = [optimizer.lr for optimizer in self.state.optimizers.values()]
        if lrs != self._lrs:  # a recording holds learning rates as numbers
            self._lrs, inputs = lrs, self.inputs
            self._full_batch = repeated(lambda: self._compute(inputs), self.state.device)
        return self._full_batch()

    def _compute(self, tensors: Sequence[Tensor]) -> Tensor:
        with self.processes.sharing(len(tensors[0])) as share:
            batch = self.examples.training_batch(tensors, share.rows if share else slice(None))
            # only the matrix products of networks: distributions always compute in fp32
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
        _ = draw.kl  # computed under autocast, because a prior may have a network
        return draw

    def _gradients(self, loss: Loss, share: Share | None) -> dict[str, dict[str, Tensor]]:
        """The gradients by name of the optimizer and name of the parameter, for parameters that have one."""
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
        """The loss, the terms of the bound and other terms: means over this process's rows, weighted by its share."""
        own = {name: term.mean() for name, term in loss.terms.items() if name not in BOUND}
        if loss.adversary is not None:
            own[ADVERSARY_LOSS] = loss.adversary
        self.names = (*REPORTED, *own)
        figures = torch.stack((loss.total, draw.recon.mean(), draw.kl.mean(), *own.values()))
        return share.weight * figures if share else figures

    def _move(self, gradients: Mapping[str, Mapping[str, Tensor]], figures: Tensor) -> Tensor:
        """Sum gradients and figures over all processes, update the parameters, and return the figures (F,)."""
        optimizers = self.state.optimizers
        keys = [(name, key) for name, each in gradients.items() for key in each]
        totals, figures = self.processes.add(
            [gradients[name][key] for name, key in keys],
            [optimizers[name].parameters[key] for name, key in keys],
            figures,
        )
        sums = dict(zip(keys, totals, strict=True))
        bound = len(REPORTED) - 1
        # if either loss is not finite, neither moves its parameters
        loss = figures[0] + figures[-1] if ADVERSARY in gradients else figures[0]
        norms = [
            optimizers[name].step([sums.get((name, key)) for key in optimizers[name].parameters], loss)
            for name in gradients
        ]
        return torch.cat((figures[:bound], norms[0][None], figures[bound:]))
