"""A function of tensors as a CUDA graph: one launch from the host for all its kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from ..stages import profiling, stage

WARM_UPS = 3
"""Calls before the capture: autograd, cuBLAS and cuDNN set themselves up in the first ones."""

_WHOLE = ""
"""The name of a graph that is not one stage's."""


class _Captured:
    """Graphs in the order they were captured, which share one pool of memory. A stages.StageTimer."""

    def __init__(self) -> None:
        self.graphs: list[tuple[str, torch.cuda.CUDAGraph]] = []

    def span(self, name: str) -> AbstractContextManager[None]:
        """Capture a block as the next graph."""
        return self._capture(name)

    @contextmanager
    def _capture(self, name: str) -> Iterator[None]:
        graph = torch.cuda.CUDAGraph()
        pool = self.graphs[0][1].pool() if self.graphs else None
        # thread_local: a decoder's threads go on allocating meanwhile, which would make a global capture invalid.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            yield
        self.graphs.append((name, graph))


class CudaGraphCall:
    """Record `function(*inputs)` once and replay it at each call.

    function: works in place and returns nothing.
    inputs: examples, of the shapes to come. One tensor given twice is one tensor at each call, and copied once.
    fixed: for each input whether it is always this tensor; the others are copied into buffers at each call.
    restore: undoes what the calls before the capture did.
    by_stage: capture one graph for each stage of the function, so that a profile can time them; everything that the
        function does must then be in a stage.
    """

    def __init__(
        self,
        function: Callable[..., None],
        inputs: Sequence[Tensor],
        *,
        fixed: Sequence[bool],
        restore: Callable[[], None],
        by_stage: bool = False,
    ) -> None:
        buffers = {id(each): each if stays else each.clone() for each, stays in zip(inputs, fixed, strict=True)}
        self._inputs = [buffers[id(each)] for each in inputs]
        device = inputs[0].device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side), profiling(None):
            for _ in range(WARM_UPS):
                function(*self._inputs)
        torch.cuda.current_stream(device).wait_stream(side)
        captured = _Captured()
        with profiling(captured if by_stage else None), nullcontext() if by_stage else captured.span(_WHOLE):
            function(*self._inputs)
        self._graphs = captured.graphs
        restore()

    def __call__(self, *inputs: Tensor) -> None:
        """Replay on these inputs, without waiting for the device."""
        copied: dict[int, Tensor] = {}
        with stage("copy"):
            for captured, tensor in zip(self._inputs, inputs, strict=True):
                first = id(captured) not in copied
                if copied.setdefault(id(captured), tensor) is not tensor:
                    raise ValueError("two tensors are given where one was captured")
                if first and captured.data_ptr() != tensor.data_ptr():
                    captured.copy_(tensor, non_blocking=True)
        for name, graph in self._graphs:
            with nullcontext() if name == _WHOLE else stage(name):
                graph.replay()
