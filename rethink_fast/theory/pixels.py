"""The images of a split as one matrix."""

from __future__ import annotations

from torch import Tensor

from ..data.source import Split
from ..errors import UserError


def images_and_labels(split: Split) -> tuple[Tensor, Tensor]:
    """Return the images of a split and their labels, in the order of the index: uint8 [n, H, W, C], and int64 [n].

    Both are on the device of the images. Raises UserError for images that are not in memory.
    """
    if not split.images.resident:
        raise UserError(
            "theorem 1 and table 3 need all images in memory at once",
            "choose cifar10 or mnist",
            allowed=("cifar10", "mnist"),
        )
    images, rows = next(iter(split.images.read([split.index])))
    return images[rows], split.labels[split.index].to(images.device)
