"""Records a computation once and then repeats it without the overhead of Python and autograd.

A training step of a small model spends about a third of its time in Python and autograd, which produce the same list of
operators at every step. This file keeps that list: on the CPU as a function of torch's operators alone, on CUDA as a
graph that the driver launches at once. Both repeat the operators of the plain computation in the same order on the same
tensors, so the results are the same, bit for bit on the CPU.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.utils._python_dispatch import TorchDispatchMode

Computation = Callable[[], Tensor]

# the values of tensors decide Python's control flow or later shapes, so another call may run other operators
DEPENDS_ON_DATA = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
# operators that may copy between the host and a device
COPIES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)
CUDA_WARM_UP = 3


def repeated(computation: Computation, device: torch.device) -> Computation:
    """Return the same computation, faster from its second call on (on CUDA from the fourth).

    Everything that changes between calls must be in tensors that exist before the first call and are changed in place;
    a Python number, an ``if`` or a new value of an attribute would be repeated as recorded. Random numbers come
    from torch's global streams, as in the plain computation. On devices other than the CPU and CUDA, and if Python
    reads a tensor's value by ``item()`` or ``bool()``, the computation stays plain; ``tolist()`` and ``numpy()`` cannot
    be detected on the CPU and must not be used.

    Args:
        computation: No arguments -> a new tensor, which the next call may overwrite.
        device: The device of its tensors.
    """
    if device.type == "cpu":
        return Tape(computation)
    return Graph(computation, device) if device.type == "cuda" else computation


class Tape:
    """The recording on the CPU: Python code that calls the operators below autograd one after the other."""

    def __init__(self, computation: Computation) -> None:
        # the computation until a program replaces it, which also breaks a reference cycle
        self.compute = computation
        self.recorded = False
        self.repeats = True

    def __call__(self) -> Tensor:
        """Compute the result."""
        if self.recorded:
            with torch.no_grad():
                return self.compute()
        if not self.repeats:
            return self.compute()
        with _Recorder() as recorder:
            result = self.compute()
        self.repeats = self.recorded = recorder.tensors_alone and not recorder.depends_on_data
        if self.recorded:
            self.compute = recorder.program(result)
        return result


class Graph:
    """The recording on CUDA: a graph of kernels. The first calls are plain, on a separate stream, for the capture.

    A computation that cannot be captured, such as one that copies numbers from the host, stays plain.
    """

    def __init__(self, computation: Computation, device: torch.device) -> None:
        # the computation until a graph replaces it, which also breaks a reference cycle
        self.compute: Computation | None = computation
        self.device = device
        self.calls = 0
        self.repeats = True
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.graph: torch.cuda.CUDAGraph | None = None
        # keeps the tensors alive that kernels read by their addresses
        self.outside: list[Tensor] = []
        self.result: Tensor

    def __call__(self) -> Tensor:
        """Launch the computation without waiting for the result."""
        with torch.cuda.device(self.device):
            if self.graph is None and self.repeats and self.calls == CUDA_WARM_UP:
                self._capture()
            if self.graph is not None:
                self.graph.replay()
                return self.result
            self.calls += 1
            return self._warm_up() if self.repeats else self._plain()

    def _plain(self) -> Tensor:
        assert self.compute is not None
        return self.compute()

    def _warm_up(self) -> Tensor:
        main = torch.cuda.current_stream()
        self.stream.wait_stream(main)
        with torch.cuda.stream(self.stream):
            if self.calls < CUDA_WARM_UP:
                result = self._plain()
            else:
                with _Recorder() as recorder:
                    result = self._plain()
                # checked before, because a failed capture leaves torch's allocator in a bad state
                self.repeats = not recorder.depends_on_data
                self.outside = recorder.outside()
        main.wait_stream(self.stream)
        return result

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            # the outer block restores the stream, which the inner one does not if capturing fails
            with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph):
                self.result = self._plain()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # no kernel has run
            self.repeats = False
            # the stream of random numbers would wait for the end of the capture; a copy of it does not
            generator = torch.cuda.default_generators[torch.cuda.current_device()]
            generator.graphsafe_set_state(generator.clone_state())
        else:
            self.graph, self.compute = graph, None


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records every operator that runs within the block, with its arguments and results."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # whether it reads values of tensors, and whether its operators return only tensors
        self.depends_on_data, self.tensors_alone = False, True
        # keeps every tensor alive, so that ids are unique
        self._calls: list[tuple[Any, Any, Any, Any]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch calls this when a mode is defined; the default, True, would import its compiler, which takes seconds
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        results = out if isinstance(out, tuple | list) else (out,)
        self.depends_on_data |= any(tag in func.tags for tag in DEPENDS_ON_DATA)
        if func in COPIES:
            self.depends_on_data |= len({tensor.device.type for tensor in _tensors((args, out))}) > 1
        self.tensors_alone &= all(isinstance(value, Tensor | None) for value in results)
        self._calls.append((func, args, kwargs or {}, out))
        return out

    def outside(self) -> list[Tensor]:
        """The arguments of operators that are not results of earlier ones."""
        results, outside = set[int](), dict[int, Tensor]()
        for _, args, kwargs, out in self._calls:
            outside |= {id(tensor): tensor.detach() for tensor in _tensors((args, kwargs)) if id(tensor) not in results}
            results |= {id(tensor) for tensor in _tensors(out)}
        return [*outside.values()]

    def program(self, result: Tensor) -> Computation:
        """A function that calls the operators again and returns the new value of ``result``."""
        graph, nodes, references = fx.Graph(), dict[int, fx.Node](), list[Tensor]()

        def refer(tensors: Iterable[Tensor]) -> None:
            for tensor in tensors:
                if id(tensor) not in nodes:
                    nodes[id(tensor)] = graph.placeholder(f"outside{len(references)}")
                    references.append(tensor.detach())

        results, views = set[int](), set[int]()
        for func, args, kwargs, out in self._calls:
            inputs = _tensors((args, kwargs))
            refer(tensor for tensor in inputs if id(tensor) not in results)
            # a view of tensors that outlive the call outlives it, too
            if func.is_view and inputs and all(id(tensor) in nodes for tensor in inputs):
                refer(_tensors(out))
                views.add(id(out))
            results |= {id(tensor) for tensor in _tensors(out)} - nodes.keys()
        for func, args, kwargs, out in self._calls:
            inputs = _tensors((args, kwargs))
            if func is torch.ops.aten.detach.default:
                nodes.setdefault(id(out), nodes[id(inputs[0])])
            elif id(out) not in views:
                arguments, named = map_aggregate(
                    (args, kwargs), lambda value: nodes[id(value)] if isinstance(value, Tensor) else value
                )
                call = graph.call_function(func, arguments, named)
                if isinstance(out, Tensor):
                    nodes.setdefault(id(out), call)
                else:
                    for index, value in enumerate(out or ()):
                        if isinstance(value, Tensor):
                            nodes.setdefault(id(value), graph.call_function(operator.getitem, (call, index)))
        graph.output(nodes[id(result)])
        graph.eliminate_dead_code(_has_effects)
        return partial(fx.GraphModule(nn.Module(), graph).forward, *references)


def _tensors(value: Any) -> list[Tensor]:
    tensors: list[Tensor] = []
    map_aggregate(value, lambda leaf: tensors.append(leaf) if isinstance(leaf, Tensor) else None)
    return tensors


def _has_effects(node: fx.Node) -> bool:
    """Whether a call changes a tensor or draws random numbers."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return node.op in ("placeholder", "output")
    return node.target._schema.is_mutable or torch.Tag.nondeterministic_seeded in node.target.tags
