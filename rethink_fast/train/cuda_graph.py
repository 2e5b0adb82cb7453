"""A function of tensors as a CUDA graph: one launch from the host for all its kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UPS = 3
"""Calls before the capture: autograd, cuBLAS and cuDNN set themselves up in the first ones."""


class CudaGraphCall:
    """Records `function(*inputs)` once and replays it. It must return nothing and work in place.

    inputs: examples, of the shapes to come; those in `fixed` are read where they lie, the others are copied into
    buffers of its own at each call. restore: undoes what the calls before the capture did.
    """

    def __init__(
        self,
        function: Callable[..., None],
        inputs: Sequence[Tensor],
        *,
        fixed: Sequence[bool],
        restore: Callable[[], None],
    ) -> None:
        self._inputs = [given if stays else given.clone() for given, stays in zip(inputs, fixed, strict=True)]
        device = inputs[0].device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                function(*self._inputs)
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # thread_local: a decoder's threads go on allocating meanwhile, which would make a global capture invalid.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            function(*self._inputs)
        restore()

    def __call__(self, *inputs: Tensor) -> None:
        """Replay on these inputs, without waiting for the device."""
        for mine, given in zip(self._inputs, inputs, strict=True):
            if mine.data_ptr() != given.data_ptr():
                mine.copy_(given, non_blocking=True)
        self._graph.replay()
