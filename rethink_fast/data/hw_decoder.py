"""How many of the images a GPU's JPEG hardware decodes beside its cores: found by trying, because it depends on both.

The hardware has a rate of its own, whatever else the GPU does; the share at which it and the software part end together
is the fastest, and depends on the images' size and on the processor's cores.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from .jpeg_images import JpegFolder
from .source import Dataset

LOADS = (0.0, 0.25, 0.5, 0.65, 0.8, 0.9, 1.0)
BATCH = 128
BATCHES = 8
WARM_UP = 3
"""Batches that DALI has in hand: two in its queue and one in work."""


def tune(dataset: Dataset, device: torch.device) -> str | None:
    """Set the share that decodes fastest here, and say which it is; None where nothing is decoded on a GPU."""
    images = dataset.train.images
    if device.type != "cuda" or not isinstance(images, JpegFolder):
        return None
    rates = measure(images, dataset.train.index, device)
    best = max(rates, key=lambda load: rates[load])
    for split in (dataset.train, dataset.test):
        if split is not None and isinstance(split.images, JpegFolder):
            split.images.share_with_hardware(best)
    tried = ", ".join(f"{load:.0%} {rate:,.0f}" for load, rate in rates.items())
    return f"{best:.0%} of the images go to the GPU's JPEG hardware (images/s by share: {tried})"


def measure(images: JpegFolder, index: Tensor, device: torch.device) -> dict[float, float]:
    """Images a second by share, over some batches of the samples of `index`."""
    rates = {}
    for load in LOADS:
        images.share_with_hardware(load)
        read = images.read(_batches(index))
        for _ in itertools.islice(read, WARM_UP):
            pass
        _finish(device)
        start, seen = time.perf_counter(), 0
        for _, rows in read:
            seen += len(rows)
        _finish(device)
        rates[load] = seen / (time.perf_counter() - start)
    return rates


def _batches(index: Tensor) -> Iterator[Tensor]:
    """Batches spread over the samples, the same for each trial."""
    for k in range(WARM_UP + BATCHES):
        yield index[(torch.arange(BATCH) * 9973 + k * BATCH * 9973) % len(index)]


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
