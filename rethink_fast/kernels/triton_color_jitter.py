"""Color jitter on CUDA, a part of triton_distortion.py: brightness, contrast, saturation and hue.

Formula: augment.color_jitter. Contrast is about the mean of each channel over the image: the pass CONTRAST sums what it
is applied to, and a later pass takes the means of these sums.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from .. import rng
from .triton_rng import draw

CONTRAST = tl.constexpr(0)

_BRIGHTNESS, _FACTOR = tl.constexpr(rng.LARGEST_BRIGHTNESS), tl.constexpr(rng.LARGEST_FACTOR)
_SIXTHS = tl.constexpr(6 * rng.LARGEST_TURN)


@triton.jit
def jitter_factors(c0, c1, index, epoch, plan: tl.constexpr):
    """Brightness, the factors of contrast before and after the hue (one of them is 1), of saturation, and the turn."""
    if not plan.jitters:
        zero = tl.full((), 0.0, tl.float32)
        return zero, zero, zero, zero, zero
    w0, w1, w2, w3 = draw(c0, c1, index, epoch)
    contrast = _swing(w1) * _FACTOR + 1.0
    before = (w0 & 1) != 0
    first, last = tl.where(before, contrast, 1.0), tl.where(before, 1.0, contrast)
    return _swing(w0) * _BRIGHTNESS, first, last, _swing(w2) * _FACTOR + 1.0, _swing(w3) * _SIXTHS


@triton.jit
def _swing(word):
    """A uniform number of -1 ... 1, in float64 as color_jitter has it: a word has more bits than a float32."""
    return (((word >> 1).to(tl.float64) + 0.5) * 2.0**-30 - 1.0).to(tl.float32)


@triton.jit
def _saturated(red, green, blue, factor, turn):
    """HSV's saturation times a factor, up to 1, and its hue turned by sixths of the circle: color_jitter's equations.

    There the ratio of the saturations is clamp(share * factor, 0, 1) / share with share = range / value, which is
    min(factor, value / range).
    """
    value, least = tl.maximum(tl.maximum(red, green), blue), tl.minimum(tl.minimum(red, green), blue)
    ratio = tl.minimum(factor, tl.fdiv(value, tl.maximum(value - least, 1e-30)))
    ratio = tl.where(value > 0.0, ratio, 0.0)
    red, green, blue = value - (value - red) * ratio, value - (value - green) * ratio, value - (value - blue) * ratio
    span = value - tl.minimum(tl.minimum(red, green), blue)
    sixth = tl.where(
        red == value, green - blue, tl.where(green == value, blue - red + 2.0 * span, red - green + 4.0 * span)
    )
    hue = tl.fdiv(sixth, tl.maximum(span, 1e-30)) + turn
    return value - span * _away(hue + 5.0), value - span * _away(hue + 3.0), value - span * _away(hue + 1.0)


@triton.jit
def _away(hue):
    """How much of the range a channel is below the largest; `hue` in sixths of the circle from where it is so."""
    hue = hue - 6.0 * tl.floor(hue * (1.0 / 6.0))
    return tl.minimum(tl.maximum(tl.minimum(hue, 4.0 - hue), 0.0), 1.0)


@triton.jit
def _about(x, mean, factor):
    return (x - mean) * factor + mean


@triton.jit
def contrast_means(sums_ptr, image, plan: tl.constexpr):
    """The mean of each channel of what contrast is applied to, from the sums of the parts."""
    part = tl.arange(0, plan.parts_block)
    offs = (image * plan.parts + part) * 3
    count = tl.full((), plan.out_height * plan.out_width, tl.float32)
    mask = part < plan.parts
    return (
        tl.math.div_rn(tl.sum(tl.load(sums_ptr + offs, mask=mask, other=0.0), 0), count),
        tl.math.div_rn(tl.sum(tl.load(sums_ptr + offs + 1, mask=mask, other=0.0), 0), count),
        tl.math.div_rn(tl.sum(tl.load(sums_ptr + offs + 2, mask=mask, other=0.0), 0), count),
    )


@triton.jit
def colored(red, green, blue, jitter, means, PASS: tl.constexpr):
    """Pixels with their color changed, in pixel units; in the pass CONTRAST what contrast is applied to, of 0 ... 1."""
    brightness, first, last, saturation, turn = jitter
    red, green, blue = red * (1 / 255) + brightness, green * (1 / 255) + brightness, blue * (1 / 255) + brightness
    if PASS == CONTRAST:
        r, g, b = _saturated(red, green, blue, saturation, turn)
        before = last == 1.0
        return tl.where(before, red, r), tl.where(before, green, g), tl.where(before, blue, b)
    else:
        red, green, blue = _about(red, means[0], first), _about(green, means[1], first), _about(blue, means[2], first)
        red, green, blue = _saturated(red, green, blue, saturation, turn)
        red, green, blue = _about(red, means[0], last), _about(green, means[1], last), _about(blue, means[2], last)
        return (
            tl.minimum(tl.maximum(red, 0.0), 1.0) * 255.0,
            tl.minimum(tl.maximum(green, 0.0), 1.0) * 255.0,
            tl.minimum(tl.maximum(blue, 0.0), 1.0) * 255.0,
        )
