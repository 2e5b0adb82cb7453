"""Ten training steps on the device, as a run takes them, beside the same steps on the CPU in plain torch.

The losses can only be equal up to rounding, which training amplifies from step to step. How much is measured: the CPU
takes the steps a second time with every batch in reverse order, the same sums in another order.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from rethink_fast.config import Corruption, Data, Model, ModelName, PrecisionName, Run, Train
from rethink_fast.data import DataOptions, load_dataset
from rethink_fast.defaults import resolve
from rethink_fast.train.compile import choose, warm_up
from rethink_fast.train.optim import set_learning_rate
from rethink_fast.train.setup import RunContext, build_run

from .gpu_imagenet import Scale, in_memory

STEPS, BATCH, SEED = 10, 32, 3
TIMES = 16
"""How far the device may be from the CPU, in times of what the order of the sums alone changes."""
ROUNDING = {"fp32": 2.0**-20, "bf16": 2.0**-8}
"""The least difference that is allowed, relative: a few roundings, where the two orders happen to agree."""


def setup_of(model: ModelName, precision: PrecisionName, device: torch.device) -> RunContext:
    """A short run on images that are the same on each device; Inception V3 at the smallest size it takes."""
    name = "imagenet" if model == "inception_v3" else "cifar10"
    size = 75 if name == "imagenet" else 28
    on_gpu = device.type == "cuda"
    if name == "imagenet":  # its synthetic set has other classes on a CPU
        dataset = in_memory(Scale(STEPS * BATCH, size, BATCH), device)
    else:
        dataset = load_dataset(name, DataOptions("synthetic", max_samples=STEPS * BATCH, device=device))
    train = Train(batch_size=BATCH, epochs=1, lr=0.01, precision=precision, compile="on" if on_gpu else "off")
    run = Run(name, Data(size=size), Corruption("random", seed=SEED), Model(model), train)  # type: ignore[arg-type]
    return build_run(resolve(run, on_gpu=on_gpu, cores=1), dataset, device)


def losses(setup: RunContext, *, reverse: bool = False) -> list[float]:
    """The mean loss of each step. reverse: of the same batches from their last sample to their first."""
    step, loader, found, before = setup.step, setup.train, [], 0.0
    choose(setup)
    warm_up(setup)
    step.begin_epoch(0)
    set_learning_rate(step.optimizer, setup.learning_rate(0))
    step.model.train()
    for batch in loader.epoch(0):
        if reverse:
            inputs, labels = loader.preprocess(batch, step.epoch)
            step.update(inputs.flip(0).contiguous(memory_format=torch.channels_last), labels.flip(0))
        else:
            step.train(loader, batch)
        after = step.loss_sum.item()
        found.append((after - before) / len(batch))
        before = after
    return found


def compare(model: ModelName, precision: PrecisionName, device: torch.device) -> dict[str, Any]:
    """Both sides' losses, and what is wrong with them: an empty string where nothing is."""
    cpu = torch.device("cpu")
    expected = losses(setup_of(model, precision, cpu))
    other = losses(setup_of(model, precision, cpu), reverse=True)
    setup = setup_of(model, precision, device)
    found = losses(setup)
    wrong = difference(expected, other, found, ROUNDING[precision])
    if not wrong and model.startswith("mlp"):  # the only steps that are short, and that have no atomic additions
        wrong = together(setup)
    return {"expected": expected, "found": found, "wrong": wrong}


def together(setup: RunContext) -> str:
    """Take the steps one by one, and all in one CUDA graph, at falling rates. Name what differs, which nothing may."""
    step, loader, before, ends = setup.step, setup.train, setup.step.state(), []
    rates = [0.01 / number for number in range(1, STEPS + 1)]
    for steps in (1, STEPS):
        step.load_state(before)
        step.begin_epoch(1)
        for rate, batch in zip(rates, loader.epoch(1, 0, steps), strict=steps == 1):
            if steps > 1:
                step.train_several(loader, batch, rates)
            else:
                set_learning_rate(step.optimizer, rate)
                step.train(loader, batch)
        ends.append(step.state())
    names = [name for name, value in ends[0].items() if not torch.equal(value, ends[1][name])]
    return f"{STEPS} steps in one graph differ from single ones in {', '.join(names)}" if names else ""


def difference(expected: list[float], other: list[float], found: list[float], rounding: float) -> str:
    """Name the first step whose loss is further off than rounding explains.

    Each step is allowed what the largest difference of the two orders so far allows: it grows with the steps.
    """
    spread = 0.0
    for number, (one, two, three) in enumerate(zip(expected, other, found, strict=True), 1):
        spread = max(spread, abs(one - two))
        allowed = TIMES * max(spread, rounding * abs(one))
        if not math.isfinite(three) or abs(three - one) > allowed:
            return f"loss {three:.6f} of step {number}, {one:.6f} +- {allowed:.1e} on the CPU"
    return ""
