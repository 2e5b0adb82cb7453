"""The embedded synthetic sets: made from nothing but sample indices, with classes that a network can learn.

Every value is a function of (SEED, index) by the draws of CONTRACT.md, stream SYNTHETIC, in integer arithmetic, so
that it is the same on every device; CONTRACT.md has the formulas. A pixel is the sum of three parts: of its class's
template, of the image's own grid (both 8 x 8, stretched bilinearly), and of noise out of one table.

The template makes the classes learnable; the image's own grid makes it easy to tell from all others, which is what
memorising its random label takes; the noise fills the fine scales.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import rng
from ..stages import stage
from .options import DataOptions
from .registry import REGISTRY
from .source import Dataset, Images, InMemoryImages, Progress, Split, subset

SEED = 161103530
"""The seed of the data, never that of the run: all runs see the same set. (The paper is arXiv 1611.03530.)"""

TEMPLATE_INDEX = rng.TEST_INDEX + 2**61
TABLE_INDEX = rng.TEST_INDEX + 2**60
TABLE_BYTES = 2**20
GRID = 8
TEMPLATE, OWN, NOISE = 128, 96, 32
CHUNK_ELEMENTS = 2**20
RESIDENT_BYTES = 2**30
"""A set up to this size is made once and kept on the device; a larger one is made batch by batch."""


@dataclass(frozen=True)
class Shape:
    """The size of a synthetic set; max_samples: how many take part where the user names no number."""

    size: int
    channels: int
    classes: int
    train: int
    test: int
    max_samples: int | None = None


SHAPES = {
    **{row.name: Shape(*row.shape, len(row.classes), row.train, row.test) for row in REGISTRY},
    "imagenet": Shape(299, 3, 1000, 1_281_167, 50_000, max_samples=50_000),
    "imagenet without a GPU": Shape(75, 3, 10, 160, 160),
}


def load(dataset: str, options: DataOptions) -> Dataset:
    """Return the synthetic set in the shape of `dataset`, at options.image_size for imagenet."""
    device, progress = options.device, options.progress
    shape = SHAPES["imagenet without a GPU" if dataset == "imagenet" and device.type != "cuda" else dataset]
    limit = options.max_samples or shape.max_samples
    edge = options.image_size if dataset == "imagenet" and options.size else shape.size

    def split(what: str, n: int, base: int) -> Split:
        index = subset(n, limit)
        labels = labels_of(torch.arange(n) + base, shape.classes)
        images: Images = Generated(base, edge, shape.channels, shape.classes, device)
        if len(index) * edge * edge * shape.channels <= RESIDENT_BYTES:
            held = _make(images, index, device, what, progress)
            images = InMemoryImages(held, device, None if len(index) == n else index)
        return Split(images, labels, index)

    train = split("making synthetic training images", shape.train, 0)
    test = split("making synthetic test images", shape.test, rng.TEST_INDEX)
    return Dataset(dataset, "synthetic", tuple(str(i) for i in range(shape.classes)), train, test)


class Generated:
    """Synthetic images that are made on the device, batch by batch, and stored nowhere.

    base: what is added to a sample index to have the index of the contract.
    """

    resident = False

    def __init__(self, base: int, edge: int, channels: int, classes: int, device: torch.device) -> None:
        self.shape = (edge, edge, channels)
        self._base, self._classes = base, classes
        self._table = _bytes(torch.tensor([TABLE_INDEX], device=device), TABLE_BYTES)[0].to(torch.uint8)
        template = torch.arange(classes, device=device) + TEMPLATE_INDEX
        rows = _stretch(edge).to(device)
        self._rows, self._columns = rows, torch.kron(rows.T.contiguous(), torch.eye(channels).to(rows))
        self._templates = TEMPLATE * _bytes(template, GRID * GRID * channels)

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and rows, as source.Images.read."""
        for index in batches:
            with stage("load"):
                images = self.images_of(index)
            yield images, torch.arange(len(index), device=self._table.device)

    def images_of(self, index: Tensor) -> Tensor:
        """Return images uint8 [B, H, W, C]. index: int64 [B], sample indices."""
        height, width, channels = self.shape
        count = height * width * channels
        index = index.to(self._table.device) + self._base
        words = rng.draw(SEED, rng.Stream.SYNTHETIC, index, 0)
        label, place = rng.mulhi(words[:, 0], self._classes), rng.mulhi(words[:, 1], TABLE_BYTES - count + 1)
        noise = self._table.unfold(0, count, 1)[place].view(len(index), *self.shape)
        coarse = self._templates[label] + OWN * _bytes(index, GRID * GRID * channels)
        tall = self._rows @ coarse.view(-1, GRID, GRID * channels).to(torch.float64)
        smooth = (tall.flatten(0, 1) @ self._columns).view(noise.shape)
        return (
            (smooth.mul_(2.0**-16).to(torch.int32) + NOISE * noise.to(torch.int32))
            .bitwise_right_shift_(8)
            .to(torch.uint8)
        )


def _make(images: Images, index: Tensor, device: torch.device, what: str, progress: Progress | None) -> Tensor:
    held = torch.empty((len(index), *images.shape), dtype=torch.uint8, device=device)
    # Chunks that stay in the processor's cache are several times faster than the whole set at once.
    chunk = max(1, CHUNK_ELEMENTS // held[:1].numel()) if device.type == "cpu" else 1024
    done = 0
    for chunk_images, _ in images.read(index.split(chunk)):
        held[done : done + len(chunk_images)] = chunk_images
        done += len(chunk_images)
        if progress is not None:
            progress(what, done, len(index))
    return held


def labels_of(index: Tensor, classes: int) -> Tensor:
    """Return the class of each synthetic sample, int64 [B]. index: int64 [B], the contract's indices."""
    return rng.mulhi(rng.draw(SEED, rng.Stream.SYNTHETIC, index, 0)[..., 0], classes)


def _bytes(index: Tensor, count: int) -> Tensor:
    """Uniform bytes as int32 [B, count], four from every word of the draws from block 1 on."""
    blocks = torch.arange(1, 1 + (count + 15) // 16, device=index.device)
    words = rng.draw(SEED, rng.Stream.SYNTHETIC, index.unsqueeze(-1), blocks).flatten(1)
    shifts = torch.arange(0, 32, 8, device=index.device)
    return ((words.unsqueeze(-1) >> shifts) & 0xFF).to(torch.int32).flatten(1)[:, :count]


def _stretch(size: int) -> Tensor:
    """The weights, 256 times, of a linear interpolation from GRID places to `size`, corners to corners: [size, GRID].

    In float64, in which every product and sum of the interpolation is a whole number and exact, in any order.
    """
    place = torch.arange(size) * (GRID - 1) * 256 // max(size - 1, 1)
    left, part = place >> 8, place & 0xFF
    weights = torch.zeros(size, GRID + 1, dtype=torch.int64)
    weights.scatter_(1, left.unsqueeze(1), 256 - part.unsqueeze(1))
    weights.scatter_(1, left.unsqueeze(1) + 1, part.unsqueeze(1))
    return weights[:, :GRID].to(torch.float64)
