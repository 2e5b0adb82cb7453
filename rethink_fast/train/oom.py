"""What to do when memory does not suffice: say which batch size was too large, and one that fits, by trying."""

from __future__ import annotations

import torch

from .setup import RunContext

MESSAGES = ("can't allocate memory", '"aten::empty"', "could not create a primitive", "std::bad_alloc")
"""What a RuntimeError says when memory did not suffice: of torch, of its stable ABI, of oneDNN, of C++."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory did not suffice, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(message in str(error) for message in MESSAGES)
    )


def advice(setup: RunContext) -> str:
    """Return a line for a run that ran out of memory, with the largest half, quarter, ... of the batch that trains."""
    size = setup.run.train.batch_size
    if setup.ranks.is_distributed:
        return f"--batch-size {size} does not fit in the memory of rank {setup.ranks.rank}: choose a smaller one."
    where = "the GPU's memory" if setup.device.type == "cuda" else "memory"
    fitting = _fitting(setup, size)
    if fitting is None:
        return (
            f"--batch-size {size} does not fit in {where}, and no smaller one does: choose a smaller --model or --size."
        )
    return f"--batch-size {size} does not fit in {where}: {fitting} does."


def _fitting(setup: RunContext, size: int) -> int | None:
    setup.step.reset_graphs()
    setup.step.compiled = False
    while size > 2:
        size //= 2
        setup.step.optimizer.zero_grad(set_to_none=True)
        if setup.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            setup.step.train(setup.train, setup.train.warmup_batch(size))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return size
    return None
