"""How torch.compile is set up for a GPU: what is changed in Inductor, and the key of its caches on disk."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._dynamo.utils import counters
from torch._inductor import compile_fx, config, decomposition
from torch.utils._python_dispatch import TorchDispatchMode

import rethink_fast
from rethink_fast.train import inductor
from rethink_fast.train.inductor import compile_function, inductor_for_gpu

GRADIENT = torch.ops.aten.max_pool2d_with_indices_backward.default
CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_inductor_is_set_up_for_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small kernels combined, another gradient of max-pooling; and the process's own table stays as it is."""
    monkeypatch.setattr(torch, "compile", lambda function, **given: given["backend"])
    backends: list[Any] = [compile_function(lambda x: x, each, fullgraph=True) for each in (CPU, GPU)]
    assert backends == ["inductor", inductor_for_gpu]
    monkeypatch.setattr(compile_fx, "compile_fx", lambda graph, inputs, **given: given)
    given = inductor_for_gpu(torch.fx.GraphModule({}, torch.fx.Graph()), [])
    assert given["config_patches"].keys() <= config.get_config_copy().keys()
    assert given["config_patches"]["combo_kernels"]
    assert GRADIENT not in given["decompositions"]
    assert decomposition.select_decomp_table().keys() - given["decompositions"].keys() <= {GRADIENT}


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 8, 28, 28), (1, 3, 13, 18), (1, 2, 3, 4)])
@pytest.mark.parametrize("others", [{}, {"padding": 1}, {"stride": 3}, {"ceil_mode": True}])
def test_the_gradient_of_max_pooling(shape: tuple[int, ...], others: dict[str, Any]) -> None:
    """As in eager, for all windows; by the kernel for those of the networks. The places that it returns stay places."""
    calls: Counter[str] = Counter()
    real = torch.ops.rethink_fast.max_pool_gradient.default

    class Counted(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            calls["kernel"] += function is real
            return function(*args, **(kwargs or {}))

    torch._dynamo.reset()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(memory_format=torch.channels_last)

    def pool(x: Tensor) -> tuple[Tensor, Tensor]:
        return F.max_pool2d(x, 3, **{"stride": 2, **others}, return_indices=True)

    found = []
    for function in (pool, torch.compile(pool, backend=inductor_for_gpu, fullgraph=True, dynamic=False)):
        given = x.clone().requires_grad_()
        out, places = function(given)
        with Counted():
            out.backward(torch.randn(out.shape, generator=generator.manual_seed(1)))
        found.append((given.grad, places))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=0, atol=2.0**-20)  # sums of at most four, of size 4
    assert torch.equal(found[1][1], found[0][1])
    assert calls["kernel"] == (not others)


def plain(graph: torch.fx.GraphModule, inputs: Any) -> Any:
    """As inductor_for_gpu, with Inductor's decompositions: what an older version may have left in the caches."""
    return compile_fx.compile_fx(graph, inputs, config_patches=inductor.GPU_OPTIONS)


def pooled(x: Tensor) -> Tensor:
    return F.max_pool2d(x.sin(), 3, 2).sum()


def compiled_anew(backend: Any) -> dict[str, int]:
    """Compile with nothing but the caches on disk. Return their hits and misses."""
    torch._dynamo.reset()
    counters.clear()
    x = torch.ones(1, 1, 7, 7, requires_grad=True)
    torch.compile(pooled, backend=backend, fullgraph=True, dynamic=False)(x).backward()
    found: Counter[str] = counters["aot_autograd"] + counters["inductor"]
    return {key: number for key, number in found.items() if "_cache_" in key}


HIT = {"autograd_cache_hit": 1, "fxgraph_cache_hit": 2}
MISS = {"autograd_cache_miss": 1, "fxgraph_cache_miss": 2, "autograd_cache_saved": 1}
"""Of a forward and a backward graph. A miss that is not saved would mean that these graphs are never cached."""


@pytest.mark.slow
def test_code_that_was_made_otherwise_is_compiled_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By another table of decompositions, other options, another version of the file, another tag of the user's."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    assert [compiled_anew(plain) for _ in range(2)] == [MISS, HIT]
    assert [compiled_anew(inductor_for_gpu) for _ in range(2)] == [MISS, HIT]
    for name, value in (
        ("CACHE_TAG", "another"),
        ("GPU_OPTIONS", {**inductor.GPU_OPTIONS, "combo_kernels": False}),
        ("GPU_OPTIONS", {**inductor.GPU_OPTIONS, "realize_reads_threshold": 4}),
    ):
        with monkeypatch.context() as other:
            other.setattr(inductor, name, value)
            assert [compiled_anew(inductor_for_gpu) for _ in range(2)] == [MISS, HIT], (name, value)
    settings: Any = torch.compiler.config
    with settings.patch(cache_key_tag="the user's"):
        assert [compiled_anew(inductor_for_gpu) for _ in range(2)] == [MISS, HIT]
    assert compiled_anew(inductor_for_gpu) == HIT


def test_the_tag_is_of_all_that_is_changed_in_inductor() -> None:
    """Nothing outside the one file that is hashed imports Inductor."""
    package = Path(rethink_fast.__file__).parent
    using = [path.name for path in package.rglob("*.py") if re.search(r"\b_(inductor|functorch)\b", path.read_text())]
    assert using == ["inductor.py"]
