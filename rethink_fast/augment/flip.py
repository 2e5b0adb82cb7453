"""flip: the left-right flip of the paper's "augmentation" (Zhang et al. 2017, Table 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import rng


def random_flip(images: Tensor, index: Tensor, *, seed: int, epoch: int | Tensor) -> Tensor:
    """Mirror each image left to right with probability 1/2, a pure function of (seed, epoch, index).

    images: [B, H, W, C], any dtype.
    index: int64 [B].
    seed, epoch: of the draw.
    """
    words = rng.draw(seed, rng.Stream.AUGMENT, index, epoch)
    flipped = words[:, 2] >= 2**31
    return torch.where(flipped[:, None, None, None], images.flip(2), images)
