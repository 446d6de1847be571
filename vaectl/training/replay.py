"""A computation recorded once as it is written, then repeated without its overhead.

A training step of a small model spends about a third of its time in Python and in autograd, which work out the same
list of operators at every step. Here that list is kept: on the CPU as a function of torch's operators alone, on CUDA as
a graph that the driver launches at once. Both repeat the operators of the plain computation in the same order on the
same tensors, so their results are its results, to the bit on the CPU.
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

# their results decide the course of Python code, or the shapes of what follows, and so may differ the next time
DEPENDS_ON_DATA = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
# they may carry numbers between the host and a device
COPIES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)
CUDA_WARM_UP = 3


def repeated(computation: Computation, device: torch.device) -> Computation:
    """The same computation, faster from its second call on (on CUDA from the fourth).

    What changes from call to call must lie in tensors that exist before the first one and are changed in place; a
    number of Python's, an ``if``, or an attribute that is set anew would be repeated as they were. Random numbers come
    from torch's global streams, as they do in the computation itself. Devices other than the CPU and CUDA get the
    computation as it is, and so do computations in which Python asks for a tensor's value by ``item()`` or
    ``bool()``; ``tolist()`` and ``numpy()`` cannot be noticed on the CPU, and must not be used.

    Args:
        computation: No arguments -> a tensor that it makes, which the next call may overwrite.
        device: Where its tensors are.
    """
    if device.type == "cpu":
        return Tape(computation)
    return Graph(computation, device) if device.type == "cuda" else computation


class Tape:
    """On the CPU: the operators below autograd, as Python code that calls them one after the other."""

    def __init__(self, computation: Computation) -> None:
        # the computation, until there is a program to take its place: it may hold what holds this
        self.compute = computation
        self.recorded = False
        self.repeats = True

    def __call__(self) -> Tensor:
        """Compute."""
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
    """On CUDA: a graph of kernels. The first calls compute plainly, on a stream of their own, as capturing asks for.

    A computation that cannot be captured, such as one that copies numbers from the host, stays as it is.
    """

    def __init__(self, computation: Computation, device: torch.device) -> None:
        # the computation, until there is a graph to take its place: it may hold what holds this
        self.compute: Computation | None = computation
        self.device = device
        self.calls = 0
        self.repeats = True
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.graph: torch.cuda.CUDAGraph | None = None
        # what kernels read by its address must stay there, whoever else lets go of it
        self.outside: list[Tensor] = []
        self.result: Tensor

    def __call__(self) -> Tensor:
        """Compute; nothing waits for the result."""
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
                # asked beforehand: a capture that fails leaves torch's allocator in no good state
                self.repeats = not recorder.depends_on_data
                self.outside = recorder.outside()
        main.wait_stream(self.stream)
        return result

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            # the outer block goes back to the stream, which the inner one does not where capturing fails
            with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph):
                self.result = self._plain()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # nothing of it has run
            self.repeats = False
            # the stream of random numbers would wait for the end of the capture; a copy of it does not
            generator = torch.cuda.default_generators[torch.cuda.current_device()]
            generator.graphsafe_set_state(generator.clone_state())
        else:
            self.graph, self.compute = graph, None


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every operator that runs within the block, and what it was given and gave."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # whether it asks for values of tensors, and whether tensors are all that its operators give
        self.depends_on_data, self.tensors_alone = False, True
        # holding every tensor, so that no two have the same id
        self._calls: list[tuple[Any, Any, Any, Any]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch asks a mode this when it is defined; yes, the default, would import its compiler, which takes seconds
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
        """The tensors that operators were given and that none of them had made."""
        made, outside = set[int](), dict[int, Tensor]()
        for _, args, kwargs, out in self._calls:
            outside |= {id(tensor): tensor.detach() for tensor in _tensors((args, kwargs)) if id(tensor) not in made}
            made |= {id(tensor) for tensor in _tensors(out)}
        return [*outside.values()]

    def program(self, result: Tensor) -> Computation:
        """The operators as a function that calls them again and returns what ``result`` was."""
        graph, nodes, references = fx.Graph(), dict[int, fx.Node](), list[Tensor]()

        def refer(tensors: Iterable[Tensor]) -> None:
            for tensor in tensors:
                if id(tensor) not in nodes:
                    nodes[id(tensor)] = graph.placeholder(f"outside{len(references)}")
                    references.append(tensor.detach())

        made, views = set[int](), set[int]()
        for func, args, kwargs, out in self._calls:
            inputs = _tensors((args, kwargs))
            refer(tensor for tensor in inputs if id(tensor) not in made)
            # a view of what is always there is always there
            if func.is_view and inputs and all(id(tensor) in nodes for tensor in inputs):
                refer(_tensors(out))
                views.add(id(out))
            made |= {id(tensor) for tensor in _tensors(out)} - nodes.keys()
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
                    for place, value in enumerate(out or ()):
                        if isinstance(value, Tensor):
                            nodes.setdefault(id(value), graph.call_function(operator.getitem, (call, place)))
        graph.output(nodes[id(result)])
        graph.eliminate_dead_code(_acts)
        return partial(fx.GraphModule(nn.Module(), graph).forward, *references)


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    map_aggregate(value, lambda leaf: found.append(leaf) if isinstance(leaf, Tensor) else None)
    return found


def _acts(node: fx.Node) -> bool:
    """Whether a call does more than to return its result: it changes a tensor, or draws random numbers."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return node.op in ("placeholder", "output")
    return node.target._schema.is_mutable or torch.Tag.nondeterministic_seeded in node.target.tags
