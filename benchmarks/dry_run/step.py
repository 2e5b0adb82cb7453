"""The training step of one network for an H100 that is not there: `python -m benchmarks.dry_run.step NETWORK`.

Runs in an environment with a CUDA build of torch and the shims of absent_h100. Prints one JSON object:

    triton, library, bytes   of the forward and of the backward graph that torch.compile makes: its own launches
                             kernels, calls of cuDNN and cuBLAS, and the bytes that both read and write
    operators                operators outside the two graphs: the optimizer and the counters
    rmsprop                  of RMSprop's update, which Inception V3's recipe has in place of the fused one
    kernels                  of the distinct Triton kernels, compiled for sm_90; `spilling`: in every configuration
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.counts.resources import usage
from rethink_fast.config import Model, Run, Train
from rethink_fast.defaults import resolve
from rethink_fast.models import build_model
from rethink_fast.train.optim import make_optimizer, update
from rethink_fast.train.step import TOP_5_ABOVE, Step

from .absent_h100 import fake_operators, pretend

BATCH = 128
SMALL, LARGE = (28, 10), (299, 1000)
"""Height and width, and classes: CIFAR-10's and ImageNet's."""


@dataclass(frozen=True)
class Graph:
    """The code of one graph, and the bytes that its kernels read and write, each buffer once a kernel."""

    code: str
    bytes: int

    def counts(self) -> dict[str, int]:
        library = re.findall(r"^ +(?:\w+ = )?(?:extern_kernels\.|torch\.ops\.)\w+", self.code, re.M)
        triton = re.findall(r"^ +\w+\.run\(", self.code, re.M)
        return {"triton": len(triton), "library": len(library), "bytes": self.bytes}


class Operators(TorchDispatchMode):
    """Counts the operators that launch something."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    @classmethod
    def is_infra_mode(cls) -> bool:
        """Whether torch.compile may go on under this mode."""
        return True

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name
        if name.startswith("aten::") and not name.startswith("aten::empty") and not function.is_view:
            self.names[name.removeprefix("aten::")] += 1
        return function(*args, **(kwargs or {}))


def keep_code(mode: Any) -> list[Graph]:
    """Let Inductor keep the code of each graph in the returned list, and return outputs without values in its place."""
    from torch._inductor.graph import GraphLowering

    graphs: list[Graph] = []

    def keep(self: Any, code: Any) -> Any:
        graphs.append(Graph(code.value, sum(_bytes(node) for node in self.scheduler.nodes)))
        outputs = [_described(output) for output in self.graph_outputs]

        def call(given: list[Any]) -> list[Any]:
            given.clear()
            with mode:
                return [o and torch.empty_strided(o[0], o[1], dtype=o[2], device="cuda") for o in outputs]

        return SimpleNamespace(__file__="absent", call=call)

    GraphLowering._compile_to_module_lines = keep  # type: ignore[assignment,method-assign]
    return graphs


def _bytes(node: Any) -> int:
    """What a kernel reads and writes, each buffer once; of combined kernels, what each of them does.

    Inductor takes what stays inside one of several combined kernels for written to memory.
    """
    if type(node).__name__ == "ForeachKernelSchedulerNode":
        return sum(_bytes(one) for one in node.snodes)
    return int(node.get_read_write_buffers_sizes())


def _described(output: Any) -> tuple[list[int], list[int], torch.dtype] | None:
    """Shape, strides and type of an output; None for one that is None."""
    if type(output).__name__ == "NoneAsConstantBuffer":
        return None
    return [int(n) for n in output.get_size()], [int(n) for n in output.get_stride()], output.get_dtype()


def absent_model(name: str, size: int, classes: int, mode: Any) -> torch.nn.Module:
    """The network with weights on the device, laid out as build_run lays them out."""
    with torch.device("meta"):
        model = build_model(name, num_classes=classes, channels=3, size=(size, size))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with mode:
        for module in model.modules():
            for key, value in module._parameters.items():
                if value is not None:
                    module._parameters[key] = torch.nn.Parameter(_like(value))
            for key, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[key] = _like(buffer)
    return model


def _like(value: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cuda")


def step_of(network: str) -> tuple[list[Graph], Counter[str]]:
    """Make the project's own step and take it twice: to compile it, and to count what it does beside the graphs.

    The graphs are those of the forward and the backward pass, and of RMSprop's update for Inception V3.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    size, classes = LARGE if network == "inception_v3" else SMALL
    graphs = keep_code(mode)
    model = absent_model(network, size, classes, mode)
    with mode:
        sgd, rmsprop = (
            resolve(Run("cifar10", model=Model(network), train=given), on_gpu=True, cores=1).train
            for given in (Train(), Train(optimizer="rmsprop", weight_decay=1e-4))
        )
        step = Step(model, make_optimizer(model, sgd), precision="bf16", compiled=True, top5=classes > TOP_5_ABOVE)
        inputs = torch.empty(BATCH, size, size, 3, device="cuda", dtype=torch.bfloat16).permute(0, 3, 1, 2)
        labels = torch.empty(BATCH, dtype=torch.int64, device="cuda")
        model.train()
        step.update(inputs, labels)
        with Operators() as operators:
            step.update(inputs, labels)
        if network == "inception_v3":
            update(make_optimizer(model, rmsprop), compiled=True)
    return graphs, operators.names


def kernel_sources(code: str) -> dict[str, str]:
    """The Triton kernels of a graph's code: name -> source."""
    pattern = r"^(triton_\w+) = async_compile\.triton\('\w+', '''\n(.*?)\n''', device_str='cuda'\)"
    return dict(re.findall(pattern, code, re.M | re.S))


def compiled(name: str, source: str) -> list[dict[str, int]]:
    """Compile a kernel for sm_90, in its configurations until one does not spill. Return what each takes."""
    from torch._inductor.codecache import PyCodeCache

    kernel = getattr(PyCodeCache.load(source), name)
    found: list[dict[str, int]] = []
    for configuration in kernel.configs:
        if found and not found[-1]["stack"]:
            break
        result = kernel._precompile_config(configuration)
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(result.kernel.asm["cubin"])
            file.flush()
            found += usage(Path(file.name))
    return found


def kernels_of(graphs: list[Graph]) -> dict[str, Any]:
    """Compile all distinct kernels; those under `spilling` do so in every configuration. Raises where one fails."""
    number, registers, spilling = 0, 0, []
    for graph in graphs:
        for name, source in kernel_sources(graph.code).items():
            found = compiled(name, source)
            number += 1
            registers = max(registers, found[-1]["registers"])
            if found[-1]["stack"]:
                spilling.append(name)
    return {"number": number, "most registers": registers, "spilling": spilling}


def main(network: str) -> None:
    pretend()
    fake_operators()
    graphs, operators = step_of(network)
    forward, backward, *updates = (graph.counts() for graph in graphs)
    launches = sum(part["triton"] + part["library"] for part in (forward, backward)) + operators.total()
    print(
        json.dumps(
            {
                "forward": forward,
                "backward": backward,
                "operators": dict(operators),
                **({"rmsprop": updates[0]} if updates else {}),
                "launches": launches,
                "bytes": forward["bytes"] + backward["bytes"],
                "kernels": kernels_of(graphs),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
