"""What a data set is to the rest of the package: uint8 images by sample index, labels, and who takes part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .. import kernels

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total) now and then in long work."""


class Images(Protocol):
    """The images of one split, all of one shape, by sample index."""

    shape: tuple[int, int, int]
    """Height, width, channels."""
    resident: bool
    """Whether all of them live on the device."""

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images uint8 [M, H, W, C], rows int64 [B]) on the device for each batch, in order.

        batches: int64 [B] sample indices, on the CPU or, for a resident set, on the device.
        The image of batch[k] is images[rows[k]]; a resident set yields the whole of itself each time, without a copy.
        """
        ...


@runtime_checkable
class SupportsCrops(Images, Protocol):
    """Images of which a region can be had for less than the whole."""

    def read_crops(self, batches: Iterable[Tensor], *, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, as `read`, the window of each image by augment.crop_windows, resized to the shape of the images."""
        ...


@dataclass(frozen=True)
class Split:
    """Training or test set.

    labels: int64 [N] on the CPU, the true class by sample index.
    index: int64 [n] on the CPU, ascending, the samples that take part: not those over the limit or damaged.
    damaged: (file, reason) of what was skipped.
    """

    images: Images
    labels: Tensor
    index: Tensor
    damaged: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Dataset:
    """A data set: where it came from, in words for people and records; its classes; its two splits.

    sample: digest_some of the training images as they are stored; "" where they are decoded as the set is opened.
    """

    name: str
    data_source: str
    classes: tuple[str, ...]
    train: Split
    test: Split | None
    notes: tuple[str, ...] = field(default=())
    sample: str = ""

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)


class InMemoryImages:
    """Images that live decoded on the device as uint8 [N, H, W, C]: sample index i is row i.

    index: int64 [N], ascending, where only some samples are held: row k is then sample index[k].
    """

    resident = True

    def __init__(self, images: Tensor, device: torch.device, index: Tensor | None = None) -> None:
        self.images = images.to(device)
        self.shape: tuple[int, int, int] = (images.shape[1], images.shape[2], images.shape[3])
        self._index = None if index is None else index.to(device)

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images and the rows, as Images.read."""
        for batch in batches:
            index = batch.to(self.images.device, non_blocking=True)
            yield self.images, index if self._index is None else torch.searchsorted(self._index, index)


def subset(n: int, limit: int | None) -> Tensor:
    """Return the samples that take part when at most `limit` of n may: int64, ascending, nested as the limit grows.

    A fixed pseudo-random choice, the same for every seed of a run, because sorted sets hold one class after another.
    """
    if limit is None or limit >= n:
        return torch.arange(n)
    return kernels.order(0, 2**62, n, 0, limit).sort().values


def square_note(height: int, width: int, size: int | None) -> list[str]:
    """Return the line that says what is seen of images that are not square; none where they are."""
    if height == width:
        return []
    size = size or min(height, width)
    return [f"images of {height}x{width}: the network takes a square of {size}x{size}, by default the centre"]


def limited(split: Split, limit: int | None) -> Split:
    """Return at most so many samples of a split, a fixed choice."""
    chosen = subset(len(split.labels), limit)
    whole = split.index
    return replace(split, index=chosen if len(whole) == len(split.labels) else whole[torch.isin(whole, chosen)])
