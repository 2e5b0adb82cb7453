"""What a step of training and of evaluation consists of, by torch's dispatcher, and what torch.compile makes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rethink_fast.config import Corruption, Data, Model, Run, Train
from rethink_fast.data import DataOptions, load_dataset
from rethink_fast.defaults import resolve
from rethink_fast.env import version_of
from rethink_fast.kernels import native
from rethink_fast.train.setup import RunContext, build_run

from . import Part, Unavailable

CPU = torch.device("cpu")
MODELS = ("mlp_1x512", "alexnet_small", "inception_small", "inception_v3")
IMAGES, BATCH = 20, 8
"""Three batches an epoch, the last of another size."""
GRAPHED = ("mlp_1x512", "inception_small")
"""What torch.compile is counted for; Inductor's own kernels for the first, for which it takes some seconds."""


class Operators(TorchDispatchMode):
    """Counts every operator, the bytes that those which make values write, and the values read back to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        self.names[str(function)] += 1
        if not function.is_view:
            several = out if isinstance(out, tuple | list) else (out,)
            self.bytes += sum(one.numel() * one.element_size() for one in several if isinstance(one, Tensor))
        return out

    def counts(self) -> dict[str, int]:
        return {
            "operators": sum(self.names.values()),
            "different operators": len(self.names),
            "bytes written": self.bytes,
            "host synchronisations": self.names["aten._local_scalar_dense.default"],
        }


def setup_of(model: str) -> RunContext:
    """A small run with every part of the data path: corrupted labels, moved pixels, augmentation."""
    dataset_name = "imagenet" if model == "inception_v3" else "cifar10"
    size = 75 if model == "inception_v3" else 28
    train = Train(batch_size=BATCH, augment=("flip",), lr=1e-6)
    run = Run(dataset_name, Data(max_samples=IMAGES, size=size), Corruption("random-pixels"), Model(model), train)  # type: ignore[arg-type]
    dataset = load_dataset(dataset_name, DataOptions("synthetic", size=size, max_samples=IMAGES, workers=1))
    return build_run(resolve(run, on_gpu=False, cores=1), dataset, CPU)


def epoch(setup: RunContext) -> None:
    setup.step.begin_epoch(0)
    for batch in setup.train.epoch(0):
        setup.step.train(setup.train, batch)


def counted(call: Callable[[], object]) -> dict[str, int]:
    """One call, after another that warms up."""
    call()
    with Operators() as operators:
        call()
    return operators.counts()


def eager(model: str) -> dict[str, Any]:
    setup = setup_of(model)
    step, loader = setup.step, setup.train
    batch = loader.warmup_batch(BATCH)
    inputs, labels = loader.preprocess(batch, 0)
    return {
        # alone, because on the CPU the preparation looks at its arguments, which it does not on a GPU
        "update": counted(lambda: step.update(inputs, labels)),
        "train": counted(lambda: step.train(loader, batch)),
        "score": counted(lambda: step.score(loader, batch)),
    }


def compiled(model: str) -> dict[str, int]:
    """Two epochs of two batch sizes: graphs, breaks in them, and compilations after the first epoch."""
    from torch._dynamo.testing import CompileCounter
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    setup, backend = setup_of(model), CompileCounter()
    setup.step.compiled = True
    setup.step._compiled_loss = torch.compile(setup.step._loss_of, dynamic=False, backend=backend)
    epoch(setup)
    graphs = backend.frame_count
    epoch(setup)
    out = {
        "graphs": graphs,
        "operators in graphs": int(backend.op_count),
        "graph breaks": sum(counters["graph_break"].values()),
        "recompilations": backend.frame_count - graphs,
    }
    torch._dynamo.reset()
    return out


def inductor_kernels(model: str) -> int:
    """Loops that Inductor fuses forward and backward pass of one batch size into, besides library calls."""
    import torch._functorch.config
    from torch._inductor import metrics

    torch._dynamo.reset()
    metrics.reset()
    setup = setup_of(model)
    setup.step.compiled = True
    fresh = torch._functorch.config.patch(enable_autograd_cache=False)
    with torch._inductor.config.patch(fx_graph_cache=False), fresh:  # what comes from a cache is not counted
        setup.step.train(setup.train, setup.train.warmup_batch(BATCH))
    count = metrics.generated_kernel_count
    torch._dynamo.reset()
    return int(count)


def versions() -> dict[str, str | None]:
    if not native.load("_native").usable:
        raise Unavailable("the C++ kernels are not built: the reference's operators would be counted")
    return {"torch": version_of("torch")}


def count() -> dict[str, Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        out: dict[str, Any] = {model: eager(model) for model in MODELS}
        for model in GRAPHED:
            out[model]["compiled"] = compiled(model)
        out[GRAPHED[0]]["compiled"]["kernels of Inductor"] = inductor_kernels(GRAPHED[0])
    finally:
        torch.set_num_threads(threads)
    return out


PART = Part("step", "operators, bytes, host synchronisations, graphs and recompilations of a step", versions, count)
