"""color_jitter: random brightness, contrast, saturation and hue, as for the paper's ImageNet.

The paper reuses the preprocessing of the TensorFlow Inception package of 2016, whose two orders of the four (one or
the other by thread) are drawn here. On values of 0 ... 1, and clipped to them only at the very end:

    brightness   x + delta, |delta| <= 32 / 255
    contrast     (x - mean) * factor + mean, of each channel over the image; factor in [0.5, 1.5]
    saturation   HSV's saturation times a factor in [0.5, 1.5], up to 1
    hue          HSV's hue turned by up to a fifth of the circle, either way

    first order: brightness, saturation, hue, contrast     second order: brightness, contrast, saturation, hue
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import rng


def color_jitter(images: Tensor, index: Tensor, *, seed: int, epoch: int | Tensor) -> Tensor:
    """Distort the colours of each image, a pure function of (seed, epoch, index).

    images: RGB [B, H, W, 3] in pixel units (0 ... 255), any dtype.
    index: int64 [B].
    seed, epoch: of the draw.
    Returns float32 [B, H, W, 3] in [0, 255].
    """
    words = rng.draw(seed, rng.Stream.COLOUR, index, epoch)
    second = (words[:, 0] & 1).bool()[:, None, None, None]
    # The lowest bit of the first word is the order's: what is left of a word is drawn from the others.
    swing = ((words >> 1).double() + 0.5) * 2.0**-30 - 1.0
    brightness, contrast, saturation, hue = swing.float()[:, :, None, None, None].unbind(1)
    contrast, saturation = 1 + rng.LARGEST_FACTOR * contrast, 1 + rng.LARGEST_FACTOR * saturation
    # A plane a channel: the largest of three that lie side by side takes a processor longer.
    x = images.permute(0, 3, 1, 2).float().contiguous() / 255.0 + rng.LARGEST_BRIGHTNESS * brightness
    x = torch.where(second, adjust_contrast(x, contrast), x)
    x = adjust_hue(adjust_saturation(x, saturation), rng.LARGEST_TURN * hue)
    x = torch.where(second, x, adjust_contrast(x, contrast))
    return (x.clamp(0.0, 1.0) * 255.0).permute(0, 2, 3, 1)


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Spread each channel about its mean over the image.

    x: [B, C, H, W].
    factor: [B, 1, 1, 1].
    """
    mean = x.mean(dim=(2, 3), keepdim=True)
    return (x - mean) * factor + mean


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply HSV's saturation, up to 1.

    The value and the hue stay: every channel's distance from the largest changes by one ratio. Where no channel is
    above 0 the saturation is 0, and the colour becomes grey.

    x: RGB [B, 3, H, W].
    factor: [B, 1, 1, 1].
    """
    value = x.amax(dim=1, keepdim=True)
    share = (value - x.amin(dim=1, keepdim=True)) / value
    ratio = torch.where(share > 0, (share * factor).clamp(0.0, 1.0) / share, 1.0)
    return value - (value - x) * torch.where(value > 0, ratio, 0.0)


def adjust_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Turn HSV's hue by a part of the circle; the value and its range stay.

    x: RGB [B, 3, H, W].
    turn: [B, 1, 1, 1], in circles.
    """
    value, least = x.amax(dim=1, keepdim=True), x.amin(dim=1, keepdim=True)
    span = value - least
    red, green, blue = x.split(1, dim=1)
    sixth = torch.where(
        red == value, green - blue, torch.where(green == value, blue - red + 2 * span, red - green + 4 * span)
    )
    hue = torch.where(span > 0, sixth / span, 0.0) + 6 * turn  # in sixths of the circle
    away = torch.cat([(hue + n) % 6 for n in (5, 3, 1)], dim=1)
    return value - span * torch.minimum(away, 4 - away).clamp(0.0, 1.0)
