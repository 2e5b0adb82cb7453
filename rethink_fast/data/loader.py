"""From a split to batches the network takes: the one way of the data, in training and in evaluation.

    source -> Batch(images uint8 NHWC, labels, index) -> prepare -> Batch(inputs, labels, index) -> step

The order of an epoch is the contract's function of (seed, epoch). The sample index rides along, so that every
stage can be done again for any one sample.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import kernels
from .prepare import Preparation, prepare
from .source import Split

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Batch:
    """inputs: [B, C, h, w] ready for the network; labels, index: int64 [B]; corrupted: bool [B]; all on the device.

    index is the sample's for life; corrupted says whether its label was drawn anew.
    """

    inputs: Tensor
    labels: Tensor
    index: Tensor
    corrupted: Tensor


class Loader:
    """The batches of one split.

    labels, corrupted: int64 and bool [N] by sample index, on the device. base: added to a sample index before it keys
    a corruption (rng.TEST_INDEX for the test set). wait_seconds: time spent waiting for the source so far.
    """

    def __init__(
        self, split: Split, labels: Tensor, corrupted: Tensor, how: Preparation, *, batch_size: int, base: int = 0
    ) -> None:
        self.split = split
        self.labels = labels
        self.corrupted = corrupted
        self.how = how
        self.batch_size = batch_size
        self.base = base
        self.wait_seconds = 0.0

    def __len__(self) -> int:
        return len(self.sizes(self.batch_size))

    def sizes(self, batch_size: int) -> list[int]:
        """How many samples each batch holds: the last takes what is left, but never one alone.

        Batch norm has no statistics over a single value, so a last batch of one joins the one before it.
        """
        full, rest = divmod(len(self.split.index), batch_size)
        sizes = [batch_size] * full + ([rest] if rest else [])
        if rest == 1 and full and batch_size > 1:
            sizes[-2:] = [batch_size + 1]
        return sizes

    def evaluation_sizes(self) -> list[int]:
        """The batch sizes of a sweep."""
        return self.sizes(EVALUATION_BATCH)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Every sample once, in the order of this epoch, augmented if the preparation says so."""
        order = kernels.order(self.how.seed, epoch, len(self.split.index))
        return self._batches(self.split.index[order], self.batch_size, epoch)

    def sweep(self) -> Iterator[Batch]:
        """Every sample once, in ascending order, un-augmented: for evaluation."""
        return self._batches(self.split.index, EVALUATION_BATCH, None)

    def _batches(self, samples: Tensor, batch_size: int, epoch: int | None) -> Iterator[Batch]:
        parts = list(samples.split(self.sizes(batch_size)))
        source = self.split.images.read(iter(parts))
        device = self.labels.device
        for part in parts:
            start = time.perf_counter()
            images, rows = next(source)
            self.wait_seconds += time.perf_counter() - start
            index = part.to(device, non_blocking=True)
            yield Batch(
                prepare(images, rows, index + self.base, self.how, epoch=epoch),
                self.labels[index],
                index,
                self.corrupted[index],
            )


def pixel_statistics(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over every pixel of a split: float32 [C], in pixel units.

    Exact sums of integers, so that the result depends on no order or batch; population standard deviation.
    """
    channels = split.images.shape[2]
    total = torch.zeros(channels, dtype=torch.int64, device=device)
    square = torch.zeros(channels, dtype=torch.int64, device=device)
    count = 0
    for images, rows in split.images.read(iter(split.index.split(EVALUATION_BATCH))):
        values = images[rows].to(torch.int64)
        total += values.sum(dim=(0, 1, 2))
        square += values.square().sum(dim=(0, 1, 2))
        count += values[..., 0].numel()
    mean = total.double() / count
    variance = square.double() / count - mean.square()
    return mean.float(), variance.clamp_min(0).sqrt().float()
