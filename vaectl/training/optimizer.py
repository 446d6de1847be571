"""The optimizer: gradient clipping and Adam with decoupled weight decay, by torch's fused kernel.

Shapes: ``P`` the shape of a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

EPS = 1e-8
# devices on which torch's kernel can scale the gradient and skip a step
SCALING_DEVICES = ("cpu", "cuda")


class AdamW:
    """Gradient clipping, ``g = min(1, c / |g|) g``, then Adam with decoupled weight decay; its state is on the device.

    torch's class of this name uses the same kernel. This one clips in the kernel, which saves a pass over the gradient,
    skips a step whose loss or gradient is not finite without reading their values, and takes gradients as arguments, so
    that it can be recorded (see ``replay``).

    Attributes:
        lr: Learning rate.
        moments: By parameter name: ``exp_avg`` and ``exp_avg_sq`` (P), and the number of steps, ``step`` ().

    Args:
        parameters: The parameters to train, by name.
        lr: Learning rate.
        weight_decay: Decay of the weights at a step, relative to the learning rate.
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
        """Update the parameters; on the CPU and CUDA only if the loss and the gradient are finite.

        Args:
            gradients: The gradient of each parameter, in order; a parameter without one does not change. Clipping may
                overwrite them.
            loss: The loss ().

        Returns:
            The global L2 norm of the gradient before clipping ().
        """
        updates = [(n, p, g) for (n, p), g in zip(self.parameters.items(), gradients, strict=True) if g is not None]
        grads = _laid_out([p for _, p, _ in updates], [g for _, _, g in updates])
        norm = torch.nn.utils.get_total_norm(grads)
        options: dict[str, Any] = {}
        if norm.device.type in SCALING_DEVICES:
            options["found_inf"] = (~(norm + loss).isfinite()).float()
            if self.clip:
                options["grad_scale"] = ((norm + 1e-6) / self.clip).clamp(min=1).float()
        elif self.clip:
            torch._foreach_mul_(grads, (self.clip / (norm + 1e-6)).clamp(max=1))
        adamw(
            [p for _, p, _ in updates],
            grads,
            [self.moments[n]["exp_avg"] for n, _, _ in updates],
            [self.moments[n]["exp_avg_sq"] for n, _, _ in updates],
            [],
            [self.moments[n]["step"] for n, _, _ in updates],
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
        """The tensors of the moments (not copies) by ``name.exp_avg``, ``name.exp_avg_sq`` and ``name.step``."""
        return {f"{name}.{key}": tensor for name, state in self.moments.items() for key, tensor in state.items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state that ``tensors()`` returned; an empty mapping is the state before the first step.

        Raises:
            ValueError: A tensor is missing or has another shape.
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
    """The gradients in the memory layout of their parameters, no two of them in the same memory.

    The kernel runs through memory in order and writes into gradients that it clips, but autograd returns gradients in
    any layout, and one tensor for two parameters that are added.
    """
    addresses: set[int] = set()
    out = []
    for p, g in zip(parameters, gradients, strict=True):
        address = g.untyped_storage().data_ptr()
        out.append(torch.empty_like(p).copy_(g) if g.stride() != p.stride() or address in addresses else g)
        addresses.add(address)
    return out
