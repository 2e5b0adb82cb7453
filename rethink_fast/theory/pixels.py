"""The images of a split as one matrix."""

from __future__ import annotations

from torch import Tensor

from ..data.source import Split


def images_and_labels(split: Split) -> tuple[Tensor, Tensor]:
    """The samples that take part, in the order of their index: uint8 [n, H, W, C], and int64 [n] on its device."""
    images, rows = next(iter(split.images.read([split.index])))
    return images[rows], split.labels[split.index].to(images.device)


def flat_images(split: Split) -> tuple[Tensor, Tensor]:
    """The same with a row a sample: uint8 [n, H * W * C], and the labels on the CPU."""
    images, _ = images_and_labels(split)
    return images.flatten(1), split.labels[split.index]
