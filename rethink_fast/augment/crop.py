"""crop: the fixed centre crop of every run, and the paper's "random crop" (Zhang et al. 2017, Table 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import rng


def center_window(height: int, width: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the (top, left, height, width) of the centre crop of this size, rounded towards the top left."""
    return (height - size[0]) // 2, (width - size[1]) // 2, size[0], size[1]


def fixed_crop(images: Tensor, window: tuple[int, int, int, int]) -> Tensor:
    """Cut the same window out of every image.

    images: [B, H, W, C].
    window: top, left, height, width, in pixels.
    """
    top, left, height, width = window
    return images[:, top : top + height, left : left + width]


def random_crop(images: Tensor, index: Tensor, size: tuple[int, int], *, seed: int, epoch: int | Tensor) -> Tensor:
    """Cut a window of this size at a random position, a pure function of (seed, epoch, index).

    images: [B, H, W, C], any dtype.
    index: int64 [B].
    size: height and width of the window, in pixels.
    seed, epoch: of the draw.
    Returns [B, size[0], size[1], C].
    """
    words = rng.draw(seed, rng.Stream.AUGMENT, index, epoch)
    top = rng.mulhi(words[:, 0], images.shape[1] - size[0] + 1)
    left = rng.mulhi(words[:, 1], images.shape[2] - size[1] + 1)
    rows = top[:, None] + torch.arange(size[0], device=images.device)
    columns = left[:, None] + torch.arange(size[1], device=images.device)
    batch = torch.arange(len(images), device=images.device)
    return images[batch[:, None, None], rows[:, :, None], columns[:, None, :]]
