"""How torch.compile is set up. All that the package changes in Inductor is in this file."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from .max_pool import STRIDE, WINDOW

GPU_OPTIONS = {"combo_kernels": True, "realize_reads_threshold": 16}
"""Of Inductor. Small kernels that do not depend on each other are combined. What is computed from up to 16 tensors is
computed again by each kernel that reads it, such as the sum of the gradients of several branches behind a ReLU, which
both kernels of batch norm's gradient read: Inductor's default, 4, writes it to memory, in float32."""

GRADIENT = torch.ops.aten.max_pool2d_with_indices_backward.default
OURS = [[WINDOW] * 2, [STRIDE] * 2, [0, 0], [1, 1], False]
"""Window, stride, padding, dilation and ceil_mode of the max-pooling that has a kernel for its gradient."""

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
    decompositions.pop(GRADIENT, None)
    inner = _tagged(compile_fx_inner)  # called for the gradient too, after this function has returned
    patches = GPU_OPTIONS | {"joint_custom_pre_pass": _max_pool_pass()}
    options: dict[str, Any] = {"config_patches": patches, "decompositions": decompositions}
    return _tagged(compile_fx)(graph, inputs, inner_compile=inner, **options)


def _max_pool_pass() -> Any:
    """Return the pass over a graph that gives max-pooling's gradient to our kernel.

    Inductor keeps the place of a window's largest value in the window, int8, but its gradient reads places in the
    image, int64, for each pixel from each window that it may be in. Other windows than 3 x 3 every 2 pixels stay.
    """
    from torch._inductor.custom_graph_pass import CustomGraphPass
    from torch._inductor.inductor_prims import _low_memory_max_pool_offsets_to_indices

    class MaxPoolGradient(CustomGraphPass):
        def __call__(self, graph: torch.fx.Graph) -> None:
            for node in graph.find_nodes(op="call_function", target=GRADIENT):
                gradient, x, *window, places = node.args
                is_ours = window == OURS and x.meta["val"].dim() == 4
                if is_ours and places.target == _low_memory_max_pool_offsets_to_indices:
                    offsets, size = places.args[0], x.meta["val"].shape[-2:]
                    op = torch.ops.rethink_fast.max_pool_gradient.default
                    with graph.inserting_before(node):
                        by_kernel = graph.call_function(op, (gradient, offsets, *size))
                    with node.meta["val"].fake_mode:
                        value = op(gradient.meta["val"], offsets.meta["val"], *size)
                    by_kernel.meta = {**node.meta, "val": value}
                    node.replace_all_uses_with(by_kernel)
                    graph.erase_node(node)

        def uuid(self) -> str:
            return CACHE_TAG

    return MaxPoolGradient()


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
