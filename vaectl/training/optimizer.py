"""The optimizer: clipping and Adam with decoupled weight decay, through torch's fused kernel.

Shapes: ``P`` the shape of a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

EPS = 1e-8
# where torch's kernel divides the gradient itself and can leave out a step
SCALING_DEVICES = ("cpu", "cuda")


class AdamW:
    """``g = min(1, c / |g|) g``, then Adam with decoupled weight decay; every number of it is a tensor on the device.

    torch's class of this name does the same through the same kernel. This one clips within it, which saves a pass over
    the gradient, leaves out a step whose loss or gradient is not finite without asking for their values, and, taking
    gradients as arguments, can be recorded (see ``replay``).

    Attributes:
        lr: Learning rate.
        moments: By the parameter's name: ``exp_avg`` and ``exp_avg_sq`` (P), and the number of steps, ``step`` ().

    Args:
        parameters: What is trained, by name.
        lr: Learning rate.
        weight_decay: Decay of the weights at a step, times the learning rate.
        clip: Largest global L2 norm of the gradient; 0 does not clip.
        betas: Decay of the two moments.

    References:
        Decoupled Weight Decay Regularization (Loshchilov and Hutter, 2019), algorithm 2,
        https://arxiv.org/abs/1711.05101
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        lr: float,
        weight_decay: float,
        clip: float,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        self.parameters, self.betas = dict(parameters), betas
        self.lr, self.weight_decay, self.clip = lr, weight_decay, clip
        self.moments = {
            name: {
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
                "step": torch.zeros((), device=parameter.device),
            }
            for name, parameter in self.parameters.items()
        }

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None], loss: Tensor) -> Tensor:
        """Move the parameters, on the CPU and CUDA only where the loss and the gradient are finite.

        Args:
            gradients: Of each parameter, in their order; what has none stays where it is. Clipping may overwrite them.
            loss: The loss ().

        Returns:
            The global L2 norm of the gradient before clipping ().
        """
        moved = [(n, p, g) for (n, p), g in zip(self.parameters.items(), gradients, strict=True) if g is not None]
        grads = _laid_out([p for _, p, _ in moved], [g for _, _, g in moved])
        norm = torch.nn.utils.get_total_norm(grads)
        options: dict[str, Any] = {}
        if norm.device.type in SCALING_DEVICES:
            options["found_inf"] = (~(norm + loss).isfinite()).float()
            if self.clip:
                options["grad_scale"] = ((norm + 1e-6) / self.clip).clamp(min=1).float()
        elif self.clip:
            torch._foreach_mul_(grads, (self.clip / (norm + 1e-6)).clamp(max=1))
        adamw(
            [p for _, p, _ in moved],
            grads,
            [self.moments[n]["exp_avg"] for n, _, _ in moved],
            [self.moments[n]["exp_avg_sq"] for n, _, _ in moved],
            [],
            [self.moments[n]["step"] for n, _, _ in moved],
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=self.lr,
            weight_decay=self.weight_decay,
            eps=EPS,
            maximize=False,
            **options,
        )
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """The moments by ``name.exp_avg``, ``name.exp_avg_sq`` and ``name.step``: the tensors themselves."""
        return {f"{name}.{key}": tensor for name, state in self.moments.items() for key, tensor in state.items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Become the optimizer that ``tensors()`` were taken from; none at all are those before the first step.

        Raises:
            ValueError: One is missing or of another shape.
        """
        for name, tensor in self.tensors().items():
            if tensors and name not in tensors:
                raise ValueError(f"the optimizer's {name} is missing")
            if tensors and tensors[name].shape != tensor.shape:
                raise ValueError(f"the optimizer's {name} has shape {(*tensors[name].shape,)}, not {(*tensor.shape,)}")
        for name, tensor in self.tensors().items():
            if tensors:
                tensor.copy_(tensors[name])
            else:
                tensor.zero_()


def _laid_out(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
    """The gradients as the kernel needs them: in the parameters' order in memory, and none in the place of another.

    It goes through memory, and writes into a gradient that it clips; autograd gives one as it happens to lie, and the
    same one to two parameters that are added.
    """
    seen: set[int] = set()
    out = []
    for p, g in zip(parameters, gradients, strict=True):
        place = g.untyped_storage().data_ptr()
        out.append(torch.empty_like(p).copy_(g) if g.stride() != p.stride() or place in seen else g)
        seen.add(place)
    return out
