"""From stored bytes to network input: the order of the stages, written once.

    gather -> fixed crop -> corruption -> random crop -> flip -> rotation -> whitening -> cast, channels_last

Corruption comes before anything random and sees only (image, index, seed, statistics).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..augment import fixed_crop, random_crop, random_flip, random_rotation, unit_range, whiten
from ..corruptions import gaussian, random_pixels, shuffled_pixels

PIXEL_KINDS = ("shuffled_pixels", "random_pixels", "gaussian")


@dataclass(frozen=True)
class Preparation:
    """Everything `prepare` must know, the same for a whole run.

    window: (top, left, height, width) of the fixed crop. corruption: one of PIXEL_KINDS, or "" for none.
    mean, std: float32 [C] in pixel units, for gaussian. size: height and width of the network input.
    normalisation: "whiten" or "unit_range". dtype: torch.float32 or torch.bfloat16.
    """

    window: tuple[int, int, int, int]
    corruption: str
    seed: int
    size: tuple[int, int]
    crop: bool = False
    flip: bool = False
    rotation: bool = False
    normalisation: str = "whiten"
    mean: Tensor | None = None
    std: Tensor | None = None
    dtype: torch.dtype = torch.float32


def prepare(images: Tensor, rows: Tensor, index: Tensor, how: Preparation, *, epoch: int | None) -> Tensor:
    """The network input for the samples `index`, stored at `rows` of `images`.

    images: uint8 [M, H, W, C]; rows, index: int64 [B]. epoch: keys the random augmentation; None leaves it out
    (evaluation), and a crop is then the centre crop. Returns how.dtype [B, C, *how.size], channels_last.
    """
    x = fixed_crop(images[rows], how.window)
    if how.corruption == "shuffled_pixels":
        x = shuffled_pixels(x, index, seed=how.seed)
    elif how.corruption == "random_pixels":
        x = random_pixels(x, index, seed=how.seed)
    elif how.corruption == "gaussian":
        assert how.mean is not None
        assert how.std is not None
        x = gaussian(x, index, seed=how.seed, mean=how.mean, std=how.std)
    if tuple(x.shape[1:3]) != how.size:
        top, left = (x.shape[1] - how.size[0]) // 2, (x.shape[2] - how.size[1]) // 2
        if how.crop and epoch is not None:
            x = random_crop(x, index, how.size, seed=how.seed, epoch=epoch)
        else:
            x = fixed_crop(x, (top, left, *how.size))
    if how.flip and epoch is not None:
        x = random_flip(x, index, seed=how.seed, epoch=epoch)
    if how.rotation and epoch is not None:
        x = random_rotation(x, index, seed=how.seed, epoch=epoch)
    x = whiten(x) if how.normalisation == "whiten" else unit_range(x)
    return x.to(how.dtype).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
