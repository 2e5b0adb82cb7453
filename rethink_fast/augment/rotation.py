"""rotation: the paper's "random rotation up to 25 degrees" (Zhang et al. 2017, Table 4).

The paper names neither the interpolation nor the border: here bilinear about the centre, zero (black) outside.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import rng


def random_rotation(images: Tensor, index: Tensor, *, seed: int, epoch: int | Tensor) -> Tensor:
    """Rotate each image by a uniform angle of up to 25 degrees either way, a pure function of (seed, epoch, index).

    The output pixel at (x, y) from the centre is the input, bilinearly, at (cos a x + sin a y, cos a y - sin a x) from
    the centre.

    images: [B, H, W, C], any dtype.
    index: int64 [B].
    seed, epoch: of the draw.
    Returns float32 [B, H, W, C].
    """
    words = rng.draw(seed, rng.Stream.AUGMENT, index, epoch)
    turn = (words[:, 3].to(torch.float64) + 0.5) * 2.0**-31 - 1.0
    angle = (turn * math.radians(rng.LARGEST_DEGREES)).to(torch.float32)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    height, width = images.shape[1:3]
    y = (torch.arange(height, device=images.device) - (height - 1) / 2)[None, :, None]
    x = (torch.arange(width, device=images.device) - (width - 1) / 2)[None, None, :]
    grid = torch.stack(((cos * x + sin * y) * (2 / width), (cos * y - sin * x) * (2 / height)), dim=-1)
    turned = F.grid_sample(images.permute(0, 3, 1, 2).float(), grid, padding_mode="zeros", align_corners=False)
    return turned.permute(0, 2, 3, 1)
