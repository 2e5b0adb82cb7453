"""Whether torch.compile makes the step, and compiling it before the training clock starts.

What changes a number is not decided by a clock: a compiled step has other last bits than an eager one, and the same
command must give the same run on a busy machine. How many steps one CUDA graph holds is: it changes no number.
"""

from __future__ import annotations

import math
import time
import warnings

from ..stages import is_profiling
from .device import synchronize
from .setup import CompileDecision, RunContext
from .throughput import best_seconds

SHORT_STEP = 100e-6
"""Seconds of a step below which the host may not keep ahead of the device: Python needs tens of microseconds a step."""
GRAPH_SECONDS, MOST_STEPS = 1e-3, 32
"""How long the steps of one CUDA graph are to take: the host then has time to spare, and Ctrl-C is heard at once."""
REPLAYS = 8


def choose(setup: RunContext) -> CompileDecision:
    """Decide whether the step is compiled, by --compile and the kind of device alone, and set it so."""
    option, on_gpu = setup.run.train.compile, setup.device.type == "cuda"
    setup.step.compiled = on_gpu if option == "auto" else option == "on"
    reason = f" ({'on' if on_gpu else 'off'} on a {'GPU' if on_gpu else 'CPU'})" if option == "auto" else ""
    return CompileDecision(setup.step.compiled, f"--compile {option}{reason}")


def warm_up(setup: RunContext) -> float:
    """Compile and capture for every batch size to come, leave no trace in the step, and return the seconds it took.

    With several ranks a step is made even where nothing is compiled: DistributedDataParallel lays out its buckets again
    after its first backward, and the sums of another layout have other last bits. The layout must be the same from the
    first step of every session on, or a resumed run would leave the path of an unbroken one.
    """
    step = setup.step
    lazy = not step.compiled and setup.device.type == "cpu"
    if lazy and not setup.ranks.is_distributed:
        return 0.0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")  # fp32 means float32
        return _warm_up(setup, lazy)


def _warm_up(setup: RunContext, lazy: bool) -> float:
    step, train = setup.step, setup.train
    start, state = time.perf_counter(), step.state()
    sizes = sorted(set(train.sizes(train.batch_size)), reverse=True)
    for size in sizes[:1] if lazy else sizes:
        step.train(train, train.warmup_batch(size))
    for loader in () if lazy else (train, setup.test):
        if loader is not None:
            for size in sorted(set(loader.eval_batch_sizes())):
                step.score(loader, loader.warmup_batch(size))
                if loader is train and step.statistics:
                    step.observe(loader, loader.warmup_batch(size))
    if setup.device.type == "cuda":
        setup.fit_optimizer()  # torch loads cuSOLVER at its first call
    if not step.steps_per_graph and setup.device.type == "cuda" and not setup.ranks.is_distributed:
        step.steps_per_graph = _choose_steps_per_graph(setup, sizes[0])
    step.load_state(state)
    synchronize(setup.device)
    return time.perf_counter() - start


def _choose_steps_per_graph(setup: RunContext, size: int) -> int:
    """Time the step on batches of `size`, and capture as many steps as are to be in one graph."""
    step, train = setup.step, setup.train
    if is_profiling() or not train.split.images.resident:
        return 1
    batch = train.warmup_batch(size)

    def replays() -> None:
        for _ in range(REPLAYS):
            step.train(train, batch)

    seconds = best_seconds(replays, setup.device, time.perf_counter) / REPLAYS
    steps = steps_per_graph(seconds, len(setup.dataset.train.index) // train.batch_size)
    if steps > 1:
        step.train_several(train, train.warmup_batch(train.batch_size, steps), [setup.learning_rate(0)] * steps)
    return steps


def steps_per_graph(seconds: float, batches: int) -> int:
    """Return how many steps of so many seconds one CUDA graph is to hold. batches: the full ones of an epoch."""
    return 1 if seconds >= SHORT_STEP else max(1, min(MOST_STEPS, batches, math.ceil(GRAPH_SECONDS / seconds)))
