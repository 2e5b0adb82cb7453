"""Rooflines of a run: the device's own rates, and the network and the loader each without the other.

Everything here leaves the network, the generators and the loader as they were.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .device import synchronize
from .setup import RunContext

RATE_SECONDS = 1.0
"""How long each rate of images is measured, at least."""

MATRIX = {"cpu": 2048, "cuda": 8192}
"""Height and width of the product that stands for a device's matrix rate."""

COPY_BYTES = {"cpu": 2**26, "cuda": 2**30}
"""On a GPU well above any cache; on a CPU, whose peak memory is part of the record, no more than one core's share."""

TURNS = 3


Clock = Callable[[], float]


def best_seconds(call: Callable[[], object], device: torch.device, clock: Clock) -> float:
    """Return the seconds of the fastest of a few calls, after one to warm up, the host's part of a call included."""
    best = float("inf")
    for turn in range(1 + TURNS):
        synchronize(device)
        start = clock()
        call()
        synchronize(device)
        if turn:
            best = min(best, clock() - start)
    return best


def matrix_rate(device: torch.device, dtype: torch.dtype, clock: Clock = time.perf_counter) -> float:
    """Return the FLOP/s of a large matrix product, by this process's settings for float32.

    On a CPU the better of the product and the convolution that is one: in float32 torch leaves them to two libraries,
    and on an AMD EPYC the first reaches 100 GFLOP/s of a core where the second reaches 240.
    """
    size = MATRIX[device.type]
    # constant matrices would leave a GPU cooler, and so faster, than any training does
    generator = torch.Generator(device).manual_seed(0)
    a = torch.randn(size, size, dtype=dtype, device=device, generator=generator)
    out = torch.empty_like(a)
    rate = 2 * size**3 / best_seconds(lambda: torch.mm(a, a, out=out), device, clock)
    if device.type == "cpu":
        half = size // 2
        images = a[:, :half].reshape(size // 64, 8, 8, half).permute(0, 3, 1, 2)  # few go to the first library again
        weights = a[:half, :half].reshape(half, half, 1, 1).contiguous(memory_format=torch.channels_last)
        seconds = best_seconds(lambda: torch.conv2d(images, weights), device, clock)
        rate = max(rate, 2 * size * half**2 / seconds)
    return rate


def copy_bandwidth(device: torch.device, clock: Clock = time.perf_counter) -> float:
    """Return the bytes/s of a large copy within the device's memory, read plus written."""
    source = torch.zeros(COPY_BYTES[device.type], dtype=torch.uint8, device=device)
    to = torch.ones_like(source)
    return 2 * len(source) / best_seconds(lambda: to.copy_(source), device, clock)


@contextmanager
def restore_after(setup: RunContext) -> Iterator[None]:
    """Restore network, optimizer, counters, generators and the loader's clock after a block."""
    state, waited = setup.step.state(), setup.train.wait_seconds
    try:
        yield
    finally:
        setup.step.load_state(state)
        setup.train.wait_seconds = waited


def _input_of(setup: RunContext) -> tuple[Tensor, Tensor]:
    loader = setup.train
    batch = loader.warmup_batch(loader.sizes(loader.batch_size)[0])
    inputs, labels = loader.preprocess(batch, setup.step.epoch)
    setup.step.model.train()
    return inputs, labels


def training_flops(setup: RunContext) -> tuple[int, int]:
    """Return the FLOP of one training step (matrix products and convolutions alone), and its images."""
    from torch.utils.flop_counter import FlopCounterMode  # imports Triton

    step = setup.step
    compiled = step.compiled
    with restore_after(setup):
        inputs, labels = _input_of(setup)
        step.compiled = False
        with FlopCounterMode(display=False) as counter:
            step.update(inputs, labels)
        step.compiled = compiled
    return counter.get_total_flops(), len(labels)


def model_rate(setup: RunContext) -> float:
    """Return the images/s of training on one batch again and again: a loader that costs nothing."""
    with restore_after(setup):
        inputs, labels = _input_of(setup)
        update = setup.step.repeatable(inputs, labels)
        update()
        synchronize(setup.device)
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < RATE_SECONDS:
            update()
            steps += 1
        synchronize(setup.device)
        return steps * len(labels) / (time.perf_counter() - start)


def loader_rate(setup: RunContext) -> float:
    """Return the images/s of reading and preprocessing batches, without the first: a network that costs nothing."""
    loader, seen, start = setup.train, 0, 0.0
    with restore_after(setup):
        for batch in itertools.chain.from_iterable(loader.epoch(0) for _ in itertools.count()):
            loader.preprocess(batch, setup.step.epoch)
            if not start:
                synchronize(setup.device)
                start = time.perf_counter()
                continue
            seen += len(batch.index)
            if time.perf_counter() - start >= RATE_SECONDS:
                break
        synchronize(setup.device)
        return seen / (time.perf_counter() - start)
