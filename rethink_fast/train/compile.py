"""Whether torch.compile makes the step, and compiling it before the training clock starts.

Nothing here is decided by a clock: a compiled step has other last bits than an eager one, and the same command must
give the same run on a busy machine.
"""

from __future__ import annotations

import time
import warnings

from .device import synchronize
from .setup import CompileDecision, RunContext


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
    step.load_state(state)
    synchronize(setup.device)
    return time.perf_counter() - start
