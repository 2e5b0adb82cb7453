"""The last stage of the fused preprocessing: an image's mean and deviation, and the unit range.

An image of up to WHOLE_IMAGE elements is whitened from a program's registers; of a larger one `_statistics_kernel`
computes the moments of each part before.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from .triton_values import augmentation, image_words, sources, values


@triton.jit
def unit_range(x):
    """Return x / 127.5 - 1: a byte as torch rounds it, by one correction of the quotient; float32 to one rounding."""
    if x.dtype.is_int():
        # by way of int32: an 8-bit conversion takes more instructions
        x = x.to(tl.int32).to(tl.float32)
        quotient = x * (1.0 / 127.5)
        quotient = tl.fma(tl.fma(quotient, -127.5, x), 1.0 / 127.5, quotient)
        return quotient - 1.0
    else:
        return tl.fma(x, tl.full(x.shape, 1.0 / 127.5, tl.float32), tl.full(x.shape, -1.0, tl.float32))


@triton.jit
def moments(x, mask, count):
    """Return mean and sum of squared deviations of the `count` elements of a block under the mask."""
    x = tl.where(mask, x.to(tl.float32), 0.0)
    mean = tl.math.div_rn(tl.sum(x, 0), count)
    deviation = tl.where(mask, x - mean, 0.0)
    return mean, tl.sum(deviation * deviation, 0)


@triton.jit
def merged(count, mean, squares, size, more_mean, more_squares):
    """Return count, mean and sum of squared deviations of `count` elements together with `size` more.

    Chan, Golub and LeVeque 1983: exact for a constant image, for then the difference is 0.
    """
    share = tl.math.div_rn(size, count + size)
    squares += more_squares + (more_mean - mean) * (more_mean - mean) * count * share
    return count + size, mean + (more_mean - mean) * share, squares


@triton.jit
def inverse_deviation(squares, plan: tl.constexpr):
    """Return 1 / max(std, 255 / sqrt(elements)) from the sum of squared deviations, in pixel units."""
    std = tl.sqrt_rn(tl.math.div_rn(squares, tl.full((), plan.elements, tl.float32)))
    return tl.math.div_rn(tl.full((), 1.0, tl.float32), tl.maximum(std, plan.least_deviation))


@triton.jit(do_not_specialize=["k0", "k1", "a0", "a1", "epoch_ptr"])
def _statistics_kernel(
    partial_ptr,
    images_ptr,
    rows_ptr,
    index_ptr,
    mean_ptr,
    std_ptr,
    k0: tl.uint32,
    k1: tl.uint32,
    a0: tl.uint32,
    a1: tl.uint32,
    epoch_ptr,
    plan: tl.constexpr,
):
    """Mean and sum of squared deviations of each part of each image: float32 [B, PARTS, 2]."""
    CHUNKS: tl.constexpr = plan.chunks
    epoch = tl.load(epoch_ptr) if plan.augments else 0
    image, part = tl.program_id(0) // plan.parts, tl.program_id(0) % plan.parts
    index = tl.load(index_ptr + image)
    stored_ptr = images_ptr + tl.load(rows_ptr + image) * plan.stored_elements
    words = image_words(k0, k1, index, plan)
    turn = augmentation(a0, a1, index, epoch, plan)
    count, mean, squares = 0.0, 0.0, 0.0
    for tile in range(plan.tiles):
        start = (part * plan.tiles + tile) * plan.tile
        if start < plan.elements:
            source = sources(words, turn, start // plan.channels, plan)
            for chunk in tl.static_range(CHUNKS):
                first = start + chunk * plan.block
                size = tl.maximum(tl.minimum(plan.elements - first, plan.block), 0).to(tl.float32)
                if size > 0:
                    x = values(stored_ptr, mean_ptr, std_ptr, k0, k1, index, words, turn, source, start, chunk, plan)
                    mask = first + tl.arange(0, plan.block) < plan.elements
                    chunk_mean, chunk_squares = moments(x, mask, size)
                    count, mean, squares = merged(count, mean, squares, size, chunk_mean, chunk_squares)
    tl.store(partial_ptr + tl.program_id(0) * 2, mean)
    tl.store(partial_ptr + tl.program_id(0) * 2 + 1, squares)


@triton.jit
def image_statistics(partial_ptr, image, plan: tl.constexpr):
    """Return mean and inverse deviation of an image from its parts."""
    part = tl.arange(0, plan.parts_block)
    mask = part < plan.parts
    offs = (image * plan.parts + part) * 2
    each = tl.load(partial_ptr + offs, mask=mask, other=0.0)
    squares = tl.load(partial_ptr + offs + 1, mask=mask, other=0.0)
    size = tl.minimum(plan.elements - part * plan.tile * plan.tiles, plan.tile * plan.tiles)
    size = tl.where(mask, size, 0).to(tl.float32)
    first = tl.load(partial_ptr + image * plan.parts * 2)
    mean = first + tl.math.div_rn(tl.sum(size * (each - first), 0), tl.full((), plan.elements, tl.float32))
    squares = tl.sum(squares + size * (each - mean) * (each - mean), 0)
    return mean, inverse_deviation(squares, plan)
