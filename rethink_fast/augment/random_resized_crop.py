"""random_resized_crop: a window of random size and shape, resized to the network's input, as for the paper's ImageNet.

The paper reuses the preprocessing of the TensorFlow Inception package of 2016. That one draws a window of an aspect
ratio (width over height) between 0.75 and 1.33 and a height between the least and the most that its limits allow, both
uniformly; the least is where the window covers 10 % of the object's box, which is the whole image here, as there are
no boxes. Where no window of that shape covers so much, it takes the whole image. It resizes by four methods in turn,
one a thread; here it is linear.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import rng


def crop_windows(height: Tensor, width: Tensor, index: Tensor, *, seed: int, epoch: int | Tensor) -> Tensor:
    """Return where each image is cut, a pure function of (seed, epoch, index) and its size.

    height, width: int64 [B] or [], of the whole images, in pixels.
    index: int64 [B], on the same device.
    seed, epoch: of the draw.
    Returns int64 [B, 4]: top, left, height, width.
    """
    words = rng.draw(seed, rng.Stream.RESIZED_CROP, index, epoch)
    aspect = rng.LEAST_ASPECT + rng.ASPECT_RANGE * ((words[:, 0].double() + 0.5) * 2.0**-32)
    least = (rng.LEAST_AREA * (height * width).double() / aspect).sqrt().round().long().clamp_min(1)
    most = torch.minimum((width / aspect).round().long().clamp_min(1), height)
    tall = least + rng.mulhi(words[:, 1], (most - least + 1).clamp_min(1))
    wide = torch.minimum((tall * aspect).round().long().clamp_min(1), width)
    none = least > most
    tall, wide = torch.where(none, height, tall), torch.where(none, width, wide)
    top = rng.mulhi(words[:, 2], height - tall + 1)
    left = rng.mulhi(words[:, 3], width - wide + 1)
    return torch.stack((top, left, tall, wide), dim=1)


def random_resized_crop(images: Tensor, index: Tensor, *, seed: int, epoch: int | Tensor) -> Tensor:
    """Cut the window of `crop_windows` out of each image and resize it to the image's own size.

    The resizing is linear between the centres of the window's pixels and constant beyond them; the window is never the
    larger, so no smoothing is needed.

    images: [B, H, W, C], any dtype.
    index: int64 [B].
    seed, epoch: of the draw.
    Returns float32 [B, H, W, C].
    """
    height, width = images.shape[1:3]
    sizes = index.new_full((), height), index.new_full((), width)
    top, left, tall, wide = crop_windows(*sizes, index, seed=seed, epoch=epoch).float().unbind(1)
    y = _positions(top, tall, height)[:, :, None].expand(-1, -1, width)
    x = _positions(left, wide, width)[:, None, :].expand(-1, height, -1)
    cut = F.grid_sample(
        images.permute(0, 3, 1, 2).float(), torch.stack((x, y), dim=-1), padding_mode="border", align_corners=False
    )
    return cut.permute(0, 2, 3, 1)


def _positions(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return where `size` output pixels lie in windows along one axis, from -1 to 1 over the image: [B, size]."""
    centre = (torch.arange(size, device=start.device) + 0.5) * (length[:, None] / size) - 0.5
    inside = torch.minimum(centre.clamp_min(0.0), length[:, None] - 1)
    return (start[:, None] + inside + 0.5) * (2 / size) - 1.0
