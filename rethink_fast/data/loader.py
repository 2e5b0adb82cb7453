"""From a split to batches, and from a batch to what the network takes: the one path of the data.

    source -> Batch(images uint8 NHWC, rows, index) -> preprocess -> ModelInput(inputs, labels)

The order of an epoch is the contract's function of (seed, epoch). The sample index rides along, so that every
stage can be done again for any one sample. The second half, `Loader.preprocess`, is a function of tensors on the device
and part of the step.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from .. import kernels
from ..stages import stage
from .preprocess import Preprocessing, preprocess
from .source import Split, SupportsCrops

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Batch:
    """The samples of a step, or of several, as they are stored: the image of index[k] is images[rows[k]].

    images: uint8 [M, H, W, C] on the device.
    rows: int64 [B] on the device.
    index: int64 [B] on the device, the permanent sample indices.
    total: the samples that all ranks have of a shared batch; None for one that is not shared.
    steps: the steps that share the samples evenly, in order.
    """

    images: Tensor
    rows: Tensor
    index: Tensor
    total: int | None = None
    steps: int = 1

    def __len__(self) -> int:
        return len(self.index) if self.total is None else self.total

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return what a CUDA graph of a step takes, of which Batch(*tensors) is the batch again."""
        return self.images, self.rows, self.index

    def by_step(self) -> list[Batch]:
        """Return the batch of each step."""
        parts = zip(self.rows.chunk(self.steps), self.index.chunk(self.steps), strict=True)
        return [Batch(self.images, rows, index) for rows, index in parts]


class BatchShard(NamedTuple):
    """The part of every batch that is loaded here: that of `rank` among `ranks`, in order, as even as possible."""

    rank: int = 0
    ranks: int = 1

    def of(self, batch: Tensor) -> Tensor:
        """Return the samples of the share, int64 [b]; none where a batch has fewer samples than there are ranks."""
        return batch.tensor_split(self.ranks)[self.rank]


FULL_BATCH = BatchShard()


class ModelInput(NamedTuple):
    """What the network takes, and its labels.

    inputs: float32 or bfloat16 [B, C, h, w], channels_last.
    labels: int64 [B].
    """

    inputs: Tensor
    labels: Tensor


class Loader:
    """The batches of one split.

    labels: int64 [N] by sample index, on the device.
    corrupted: bool [N], True where the label was replaced by a random class.
    base: added to a sample index before it keys a corruption (rng.TEST_INDEX for the test set).
    crops: let the source, which must be SupportsCrops, deliver the random windows of an epoch.
    share: the part of each batch that is loaded here; sizes are those of whole batches.
    wait_seconds: time spent waiting for the source so far.
    """

    def __init__(
        self,
        split: Split,
        labels: Tensor,
        corrupted: Tensor,
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        base: int = 0,
        crops: bool = False,
        share: BatchShard = FULL_BATCH,
    ) -> None:
        self.split = split
        self.labels = labels
        self.corrupted = corrupted
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.base = base
        self.crops = crops
        self.share = share
        self.wait_seconds = 0.0

    def __len__(self) -> int:
        return len(self.sizes(self.batch_size))

    def sizes(self, batch_size: int) -> list[int]:
        """Return how many samples each batch holds: the last takes what is left, but never one alone.

        Batch norm has no statistics over a single value, so a last batch of one joins the one before it.
        """
        full, rest = divmod(len(self.split.index), batch_size)
        sizes = [batch_size] * full + ([rest] if rest else [])
        if rest == 1 and full and batch_size > 1:
            sizes[-2:] = [batch_size + 1]
        return sizes

    def eval_batch_sizes(self) -> list[int]:
        """Return the batch sizes of `eval_batches`."""
        return self.sizes(EVALUATION_BATCH * self.share.ranks)

    def epoch(self, epoch: int, start: int = 0, steps: int = 1) -> Iterator[Batch]:
        """Yield every sample once, in the order of this epoch, without the first `start` batches.

        steps: of a resident source, so many full batches in a row come as one; what is left comes one by one.
        """
        with stage("order"):
            order = kernels.order(self.preprocessing.seed, epoch, len(self.split.index))
            samples = self.split.index[order]
        sizes = self.sizes(self.batch_size)
        left = samples[sum(sizes[:start]) :]
        return self._batches(left, sizes[start:], epoch if self.crops else None, steps)

    def eval_batches(self) -> Iterator[Batch]:
        """Yield every sample once, in ascending order: for evaluation."""
        return self._batches(self.split.index, self.eval_batch_sizes())

    def warmup_batch(self, size: int, steps: int = 1) -> Batch:
        """Return a batch of `size` samples a step, the first ones, repeated where there are fewer: for warming up."""
        samples = self.split.index[torch.arange(size * steps) % len(self.split.index)]
        return replace(next(self._batches(samples, [len(samples)])), steps=steps)

    def unsharded(self) -> Loader:
        """Return a loader of the same batches, with all samples of each."""
        loader = copy.copy(self)
        loader.share = FULL_BATCH
        return loader

    def preprocess(self, batch: Batch, epoch: Tensor | int | None) -> ModelInput:
        """Return what the network takes. epoch: int64 [] or an int, keys the random augmentation; None omits it."""
        index = batch.index
        keyed = index + self.base if self.base else index
        inputs = preprocess(batch.images, batch.rows, keyed, self.preprocessing, epoch=epoch)
        return ModelInput(inputs, self.labels[index])

    def _batches(
        self, samples: Tensor, sizes: list[int], crops_of: int | None = None, steps: int = 1
    ) -> Iterator[Batch]:
        device, source = self.labels.device, self.split.images
        if source.resident and device.type == "cuda":
            # One asynchronous copy per epoch, not one per batch.
            samples = samples.pin_memory().to(device, non_blocking=True)
        groups = [steps] * (sizes.count(self.batch_size) // steps)
        groups += [1] * (len(sizes) - sum(groups))
        ahead = iter(sizes)
        parts = samples.split([sum(islice(ahead, group)) for group in groups])
        totals: list[int | None] = [None] * len(parts)
        if self.share.ranks > 1:
            totals = [len(part) for part in parts]
            parts = tuple(self.share.of(part) for part in parts)
        non_empty = (part for part in parts if len(part))
        if crops_of is None:
            read = source.read(non_empty)
        else:
            assert isinstance(source, SupportsCrops)
            read = source.read_crops(non_empty, seed=self.preprocessing.seed, epoch=crops_of)
        for part, total, group in zip(parts, totals, groups, strict=True):
            before = time.perf_counter()
            with stage("load"):
                images, rows = next(read) if len(part) else self._nothing()
            self.wait_seconds += time.perf_counter() - before
            with stage("copy"):
                index = part.to(device, non_blocking=True)
            yield Batch(images, rows, index, total, group)

    def _nothing(self) -> tuple[Tensor, Tensor]:
        """What a read gives for a share without samples: no row of one image, which is never looked at."""
        device = self.labels.device
        images = torch.zeros((1, *self.split.images.shape), dtype=torch.uint8, device=device)
        return images, torch.zeros(0, dtype=torch.int64, device=device)


def pixel_statistics(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel over every pixel of a split: float32 [C], in pixel units.

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
