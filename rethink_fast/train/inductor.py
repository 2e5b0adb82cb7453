"""How torch.compile is set up. All that the package changes in Inductor is in this file."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .max_pool import STRIDE, WINDOW

GPU_OPTIONS = {"combo_kernels": True, "realize_reads_threshold": 16}
"""Of Inductor. Small kernels that do not depend on each other are combined. What is computed from up to 16 tensors is
computed again by each kernel that reads it, such as the sum of the gradients of several branches behind a ReLU, which
both kernels of batch norm's gradient read: Inductor's default, 4, writes it to memory, in float32."""

CACHE_TAG = f"rethink_fast {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]}"
"""Part of the key of torch's compile caches on disk, whose own keys hold neither decompositions nor lowerings: code
that another version of this file made is compiled again."""


def compile_function(function: Callable[..., Any], device: torch.device, *, fullgraph: bool) -> Callable[..., Any]:
    """Return the function compiled for fixed shapes.

    fullgraph: raise where torch would go on without compiling.

    torch counts the shapes of a code object, and gives up compiling above 8 of them: each Step has a copy of the code,
    so that the Steps of a process do not add up.
    """
    code = function.__code__.replace()
    separate = types.FunctionType(code, function.__globals__, function.__name__, None, function.__closure__)
    backend = inductor_for_gpu if device.type == "cuda" else "inductor"
    return torch.compile(separate, dynamic=False, fullgraph=fullgraph, backend=backend)


def inductor_for_gpu(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Any:
    """Compile by Inductor, with a kernel of ours for the gradient of max-pooling.

    Inductor's default scatters that in float32 by atomic additions, in no fixed order: in Inception V3 another 5.6 GB a
    step, and another sum in each run.
    """
    from torch._inductor.compile_fx import compile_fx, compile_fx_inner
    from torch._inductor.decomposition import select_decomp_table

    decompositions = _Decompositions(select_decomp_table())
    pool = torch.ops.aten.max_pool2d_with_indices
    decompositions[pool.default] = _max_pool_by(decompositions[pool.default])
    decompositions[torch.ops.aten.max_pool2d_with_indices_backward.default] = _max_pool_gradient
    inner = _tagged(compile_fx_inner)  # called for the gradient too, after this function has returned
    options: dict[str, Any] = {"config_patches": GPU_OPTIONS, "decompositions": decompositions}
    return _tagged(compile_fx)(graph, inputs, inner_compile=inner, **options)


def _max_pool_by(inductors: Callable[..., Any]) -> Callable[..., Any]:
    """Return the decomposition of max-pooling that gives the place of a window's largest value in the window, int8.

    Inductor keeps that too, but turns it into a place in the image, int64, for each pixel of the gradient from each
    window that the pixel may be in.

    inductors: its own decomposition, for all but windows of 3 x 3 every 2 pixels.
    """

    def max_pool(x: Tensor, window: list[int], *others: Any) -> Any:
        if (window, *others) != ([WINDOW] * 2, [STRIDE] * 2):
            return inductors(x, window, *others)
        return torch.ops.prims._low_memory_max_pool_with_offsets(x, window, *others, [0, 0], [1, 1], False)

    return max_pool


def _max_pool_gradient(gradient: Tensor, x: Tensor, *others: Any) -> Any:
    """Decompose the gradient of what _max_pool_by has decomposed; Inductor gathers that of other windows."""
    places = others[-1]
    if places.dtype != torch.int8:
        return NotImplemented
    return torch.ops.rethink_fast.max_pool_gradient(gradient, places, *x.shape[-2:])


class _Decompositions(dict[Any, Any]):
    """What Inductor replaces operators by.

    Inductor's caches pickle the table for their keys, and do without caching where that fails, as it does for a plain
    dict: some functions in it cannot be pickled. CACHE_TAG stands for them.
    """

    def __reduce__(self) -> Any:
        return dict, ()


def _tagged(compiler: Callable[..., Any]) -> Callable[..., Any]:
    """The compiler, with CACHE_TAG in the keys of its caches, after the tag that the user may have given."""
    config: Any = torch.compiler.config
    return config.patch(cache_key_tag=f"{config.cache_key_tag} {CACHE_TAG}")(compiler)
