"""One optimizer step: a batch, a draw through the model, the objective, its gradient, and the move.

Shapes: ``B`` batch.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from vaectl.config.spec import Training
from vaectl.data.examples import Examples
from vaectl.model.objectives import Loss
from vaectl.model.vae import Draw
from vaectl.parallel.distributed import ALONE, Processes
from vaectl.system.runtime import keep_freed_memory
from vaectl.training.replay import repeated
from vaectl.training.state import TrainState

# what a step reports of its batch, means over the examples; the last is the global norm of the gradient before clipping
REPORTED = ("loss", "recon", "kl", "grad_norm")


class TrainStep:
    """The step that a training repeats. Nothing in it waits for a number that an accelerator has yet to work out.

    Args:
        state: The training.
        examples: The training split, on the state's device.
        training: The settings.
        processes: The processes that share every batch.
        fast: Whether full batches are repeated from a recording; else each is computed as it is written here, as it is
            where there are several processes.
    """

    def __init__(
        self,
        state: TrainState,
        examples: Examples,
        training: Training,
        processes: Processes = ALONE,
        *,
        fast: bool = True,
    ) -> None:
        self.state, self.examples, self.processes = state, examples, processes
        self.dtype = torch.bfloat16 if training.precision == "bf16" else torch.float32
        self.size = min(training.batch_size, len(examples))
        # what the recorded step reads: places of examples that lie in memory, or the examples themselves
        self.given: Tensor | None = None
        self.scheduled = torch.zeros((), device=state.device)
        self.fast = fast and processes.world == 1
        self._lr: float | None = None
        if state.device.type == "cpu":
            # a gradient for each weight, and about as much again for what lies between, are freed at every step
            keep_freed_memory(2 * sum(p.nbytes for p in state.model.parameters()))

    def __call__(self, given: Tensor) -> Tensor:
        """Take a step on a batch as the split's ``feed`` gives it and return what is ``REPORTED`` of it (4,).

        Where the loss or the gradient is not finite the weights stay as they were. The result may be overwritten by
        the next step.
        """
        self.scheduled.fill_(self.state.minimised.scheduled(self.state.step))
        if not self.fast or len(given) != self.size:
            return self._compute(given, self.scheduled)
        if self.given is None:
            self.given = torch.empty_like(given)
        static = self.given.copy_(given)
        if self.state.lr != self._lr:  # a recording holds the learning rate as a number
            self._lr = self.state.lr
            self._full_batch = repeated(lambda: self._compute(static, self.scheduled), self.state.device)
        return self._full_batch()

    def _compute(self, given: Tensor, scheduled: Tensor) -> Tensor:
        model, objective, optimizer = self.state.model, self.state.minimised, self.state.optimizer
        trained = self.state.trained
        with self.processes.sharing(len(given)) as share:
            x = self.examples.training_batch(given, share.rows if share else slice(None))
            # the networks' products alone: distributions compute in fp32 whatever they are given
            with torch.autocast(self.state.device.type, self.dtype, enabled=self.dtype != torch.float32):
                draw = self._draw(x)
            loss: Loss = objective(draw, scheduled)
            total = share.weight * loss.total if share else loss.total
            found = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
            moved = {name: g for name, g in zip(trained, found, strict=True) if g is not None}
            with torch.no_grad():
                figures = torch.stack((loss.total, draw.recon.mean(), draw.kl.mean()))
                figures = share.weight * figures if share else figures
                gradients, figures = self.processes.add(
                    list(moved.values()), [trained[name] for name in moved], figures
                )
                summed = dict(zip(moved, gradients, strict=True))
                norm = optimizer.step([summed.get(name) for name in optimizer.parameters], figures[0])
                if self.state.prior_began is None:
                    objective.observe(draw)
                    model.observe(draw)
                return torch.cat((figures, norm[None]))

    def _draw(self, x: Tensor) -> Draw:
        model = self.state.model
        if self.state.prior_began is None:
            return model.draw(x, self.state.objective.draws)
        with torch.no_grad():
            draw = model.draw(x)
        draw = dataclasses.replace(draw, p=model.prior(model.encoder))
        _ = draw.kl  # computed here, where a prior's network is one of the networks
        return draw
