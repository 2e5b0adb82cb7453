"""The fused preprocessing with ImageNet's augmentation on CUDA: random resized crop and color jitter.

Formula: gather -> fixed crop -> corruption -> resized crop, or crop -> flip -> rotation -> color -> whitening or
[-1, 1] -> cast, of data/preprocess.py. A lane makes a pixel, for color needs its three channels at once.
Layout: stored uint8 [M, H, W, C]; result [B, h, w, C] in memory, seen as [B, C, h, w] channels_last.
Passes: contrast is about the mean of each channel, and whitening about that of the image, neither of which is known
before every pixel was made. The kernel therefore runs once for each (CONTRAST, MOMENTS), which leaves a few numbers a
part, and once to write (OUTPUT); each pass makes the pixels again.
Bytes of traffic an element: 1 read (of the window alone) and 2 (bfloat16) or 4 (float32) written for a resized crop;
color jitter reads the bytes once more, and whitening once more, mostly from L2. The four pixels around a place are
fetched a byte at a time, from L1. Plain torch moves some 200 bytes an element for both stages.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import rng
from .triton_color_jitter import CONTRAST, colored, contrast_means, jitter_factors
from .triton_rng import draw, key
from .triton_values import (
    Plan,
    augmentation,
    before_rotation,
    corner_of,
    image_words,
    noise,
    permuted,
    place,
    stored,
)
from .triton_whitening import image_statistics, merged, moments, unit_range

PIXELS = 512  # of a tile: four a thread
TILES = 8  # tiles a program: spreads the draws, and the window in float64

MOMENTS, OUTPUT = tl.constexpr(1), tl.constexpr(2)  # passes after CONTRAST

_LEAST_AREA = tl.constexpr(rng.LEAST_AREA)
_LEAST_ASPECT, _ASPECT_RANGE = tl.constexpr(rng.LEAST_ASPECT), tl.constexpr(rng.ASPECT_RANGE)


@triton.jit
def _rounded(x):
    """Half to even, as torch.round: adding 2^52 leaves a float64 no bits behind the point. 0 <= x < 2^51."""
    return ((x + 2.0**52) - 2.0**52).to(tl.int32)


@triton.jit
def _crop_window(r0, r1, index, epoch, plan: tl.constexpr):
    """Top, left, height and width of the window of a resized crop: augment.crop_windows, bit by bit, in float64."""
    if not plan.resizes:
        zero = tl.full((), 0, tl.int32)
        return zero, zero, zero, zero
    w0, w1, w2, w3 = draw(r0, r1, index, epoch)
    aspect = (w0.to(tl.float64) + 0.5) * 2.0**-32 * _ASPECT_RANGE + _LEAST_ASPECT
    area = tl.full((), _LEAST_AREA * (plan.out_height * plan.out_width), tl.float64)
    least = tl.maximum(_rounded(tl.sqrt(area / aspect)), 1)
    most = tl.minimum(tl.maximum(_rounded(tl.full((), plan.out_width, tl.float64) / aspect), 1), plan.out_height)
    tall = least + tl.umulhi(w1, tl.maximum(most - least + 1, 1).to(tl.uint32)).to(tl.int32)
    wide = tl.minimum(tl.maximum(_rounded(tall.to(tl.float64) * aspect), 1), plan.out_width)
    tall = tl.where(least > most, plan.out_height, tall)
    wide = tl.where(least > most, plan.out_width, wide)
    top = tl.umulhi(w2, (plan.out_height - tall + 1).to(tl.uint32)).to(tl.int32)
    left = tl.umulhi(w3, (plan.out_width - wide + 1).to(tl.uint32)).to(tl.int32)
    return top, left, tall, wide


@triton.jit
def _corrupted(stored_ptr, mean_ptr, std_ptr, k0, k1, index, words, y, x, c, mask, plan: tl.constexpr):
    """Channels c, c + 1 and c + 2 at the pixels (y, x) of the window, float32; the last one again above it."""
    second, third = min(c + 1, plan.channels - 1), min(c + 2, plan.channels - 1)
    if plan.corruption == "gaussian":
        return (
            noise(mean_ptr, std_ptr, k0, k1, index, y, x, c, plan),
            noise(mean_ptr, std_ptr, k0, k1, index, y, x, second, plan),
            noise(mean_ptr, std_ptr, k0, k1, index, y, x, third, plan),
        )
    else:
        if plan.moves:
            y, x = permuted(words, y, x, plan)
        pixel_ptr = stored_ptr + stored(y, x, plan) * plan.channels
        return (
            tl.load(pixel_ptr + c, mask=mask, other=0).to(tl.float32),
            tl.load(pixel_ptr + second, mask=mask, other=0).to(tl.float32),
            tl.load(pixel_ptr + third, mask=mask, other=0).to(tl.float32),
        )


@triton.jit
def _between(at, start, length, size: tl.constexpr):
    """Where position `at` of `size` lies in a window along one axis: the position before, the next, its weight."""
    scale = tl.math.div_rn(length.to(tl.float32), tl.full((), size, tl.float32))
    centre = (at.to(tl.float32) + 0.5) * scale - 0.5
    inside = tl.minimum(tl.maximum(centre, 0.0), (length - 1).to(tl.float32))
    low = tl.floor(inside)
    first = low.to(tl.int32)
    return start + first, start + tl.minimum(first + 1, length - 1), inside - low


@triton.jit
def _resized(stored_ptr, mean_ptr, std_ptr, k0, k1, index, words, turn, window, y, x, c, mask, plan: tl.constexpr):
    """Three channels at the pixels (y, x) of the cropped or resized, and flipped image."""
    if not plan.resizes:
        y, x = place(y, x, turn, plan)
        return _corrupted(stored_ptr, mean_ptr, std_ptr, k0, k1, index, words, y, x, c, mask, plan)
    else:
        if plan.flip:
            x = tl.where(turn[2], plan.out_width - 1 - x, x)
        y0, y1, down = _between(y, window[0] + turn[0], window[2], plan.out_height)
        x0, x1, across = _between(x, window[1] + turn[1], window[3], plan.out_width)
        red, green, blue = tl.zeros(y.shape, tl.float32), tl.zeros(y.shape, tl.float32), tl.zeros(y.shape, tl.float32)
        for corner in tl.static_range(4):
            share = (down if corner // 2 == 1 else 1.0 - down) * (across if corner % 2 == 1 else 1.0 - across)
            at_y, at_x = y1 if corner // 2 == 1 else y0, x1 if corner % 2 == 1 else x0
            r, g, b = _corrupted(stored_ptr, mean_ptr, std_ptr, k0, k1, index, words, at_y, at_x, c, mask, plan)
            red, green, blue = red + share * r, green + share * g, blue + share * b
        return red, green, blue


@triton.jit
def _turned(stored_ptr, mean_ptr, std_ptr, k0, k1, index, words, turn, window, y, x, c, mask, plan: tl.constexpr):
    """Three channels at the pixels (y, x) of the image before its color is changed."""
    if not plan.rotation:
        return _resized(stored_ptr, mean_ptr, std_ptr, k0, k1, index, words, turn, window, y, x, c, mask, plan)
    else:
        from_y, from_x = before_rotation(y, x, turn, plan)
        red, green, blue = tl.zeros(y.shape, tl.float32), tl.zeros(y.shape, tl.float32), tl.zeros(y.shape, tl.float32)
        for corner in tl.static_range(4):
            at_y, at_x, y_share, x_share, inside = corner_of(from_y, from_x, corner, mask, plan)
            r, g, b = _resized(
                stored_ptr, mean_ptr, std_ptr, k0, k1, index, words, turn, window, at_y, at_x, c, inside, plan
            )
            share = tl.where(inside, y_share * x_share, 0.0)
            red, green, blue = red + share * r, green + share * g, blue + share * b
        return red, green, blue


@triton.jit
def _write(out_ptr, offs, x, mask, mean, scale, plan: tl.constexpr):
    x = (x - mean) * scale if plan.whiten else unit_range(x)
    tl.store(out_ptr + offs, x.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["k0", "k1", "a0", "a1", "r0", "r1", "c0", "c1"])
def _distortion_kernel(
    out_ptr,
    sums_ptr,
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
    r0: tl.uint32,
    r1: tl.uint32,
    c0: tl.uint32,
    c1: tl.uint32,
    epoch_ptr,
    plan: tl.constexpr,
    PASS: tl.constexpr,
):
    N: tl.constexpr = plan.out_height * plan.out_width
    CHANNELS: tl.constexpr = plan.channels
    epoch = tl.load(epoch_ptr)
    program = tl.program_id(0)
    image, part = (program // plan.parts).to(tl.int64), program % plan.parts
    index = tl.load(index_ptr + image)
    stored_ptr = images_ptr + tl.load(rows_ptr + image) * plan.stored_elements
    image_ptr = out_ptr + image * plan.elements
    words = image_words(k0, k1, index, plan)
    turn = augmentation(a0, a1, index, epoch, plan)
    window = _crop_window(r0, r1, index, epoch, plan)
    jitter = jitter_factors(c0, c1, index, epoch, plan)
    zero = tl.full((), 0.0, tl.float32)
    means = zero, zero, zero
    if plan.jitters and PASS != CONTRAST:
        means = contrast_means(sums_ptr, image, plan)
    mean, scale = zero, zero
    if plan.whiten and PASS == OUTPUT:
        mean, scale = image_statistics(partial_ptr, image, plan)
    count, squares = zero, zero
    reds, greens, blues = zero, zero, zero
    for tile in range(plan.tiles):
        start = (part * plan.tiles + tile) * plan.pixels
        if start < N:
            number = start + tl.arange(0, plan.pixels)
            mask = number < N
            pixel = tl.minimum(number, N - 1)
            y, x = pixel // plan.out_width, pixel % plan.out_width
            size = tl.minimum(N - start, plan.pixels).to(tl.float32)
            for c in tl.static_range(0, CHANNELS, 3):
                red, green, blue = _turned(
                    stored_ptr, mean_ptr, std_ptr, k0, k1, index, words, turn, window, y, x, c, mask, plan
                )
                if plan.jitters:
                    red, green, blue = colored(red, green, blue, jitter, means, PASS)
                if PASS == CONTRAST:
                    reds += tl.sum(tl.where(mask, red, 0.0), 0)
                    greens += tl.sum(tl.where(mask, green, 0.0), 0)
                    blues += tl.sum(tl.where(mask, blue, 0.0), 0)
                for channel in tl.static_range(3):
                    if c + channel < CHANNELS:
                        value = red if channel == 0 else green if channel == 1 else blue
                        if PASS == MOMENTS:
                            more_mean, more_squares = moments(value, mask, size)
                            count, mean, squares = merged(count, mean, squares, size, more_mean, more_squares)
                        elif PASS == OUTPUT:
                            _write(image_ptr, number * CHANNELS + c + channel, value, mask, mean, scale, plan)
    if PASS == CONTRAST:
        tl.store(sums_ptr + program * 3, reds)
        tl.store(sums_ptr + program * 3 + 1, greens)
        tl.store(sums_ptr + program * 3 + 2, blues)
    elif PASS == MOMENTS:
        tl.store(partial_ptr + program * 2, mean)
        tl.store(partial_ptr + program * 2 + 1, squares)


@functools.lru_cache(maxsize=64)
def _plan(
    stored: tuple[int, int, int],
    window: tuple[int, int, int, int],
    corruption: str,
    size: tuple[int, int],
    stages: tuple[bool, bool, bool, bool, bool],
    whiten: bool,
) -> Plan:
    """The geometry and the cut of the work. stages: crop, flip, rotation, resized crop, color jitter."""
    height, width, channels = stored
    crop, flip, rotation, resizes, jitters = stages
    crop = crop and not resizes and window[2:] != size
    positions = size[0] * size[1]
    pixels = min(PIXELS, max(16, triton.next_power_of_2(positions)))
    tiles = min(TILES, triton.cdiv(positions, pixels))
    parts = triton.cdiv(positions, pixels * tiles)
    return Plan(
        *(height, width, channels, *window, *size, corruption, crop, flip, rotation, whiten),
        block=pixels * channels,
        pixels=pixels,
        tiles=tiles,
        parts=parts,
        parts_block=triton.next_power_of_2(parts),
        resizes=resizes,
        jitters=jitters,
    )


def preprocess_distorted(
    images: Tensor,
    rows: Tensor,
    index: Tensor,
    window: list[int],
    corruption: str,
    seed: int,
    mean: Tensor | None,
    std: Tensor | None,
    size: list[int],
    crop: bool,
    flip: bool,
    rotation: bool,
    random_resized_crop: bool,
    color_jitter: bool,
    epoch: Tensor,
    normalisation: str,
    dtype: torch.dtype,
) -> Tensor:
    """Return the network input of a batch, dtype [B, C, *size], channels_last.

    images: uint8 [M, H, W, C], C = 3 for color_jitter.
    rows, index: int64 [B].
    epoch: int64 [].
    The others are the fields of `Preprocessing` in data/preprocess.py.
    """
    plan = _plan(
        (images.shape[1], images.shape[2], images.shape[3]),
        (window[0], window[1], window[2], window[3]),
        corruption,
        (size[0], size[1]),
        (crop, flip, rotation, random_resized_crop, color_jitter),
        normalisation == "whiten",
    )
    batch = rows.numel()
    out = torch.empty((batch, *size, plan.channels), dtype=dtype, device=images.device)
    if not out.numel():
        return out.permute(0, 3, 1, 2)
    programs = batch * plan.parts
    passes = [OUTPUT.value]
    sums = partial = None
    if plan.whiten:
        partial = torch.empty((programs, 2), dtype=torch.float32, device=out.device)
        passes.insert(0, MOMENTS.value)
    if plan.jitters:
        sums = torch.empty((programs, 3), dtype=torch.float32, device=out.device)
        passes.insert(0, CONTRAST.value)
    if mean is not None and std is not None:
        mean, std = mean.to(torch.float32).contiguous(), std.to(torch.float32).contiguous()
    keys = [*(key(seed, rng.Stream[corruption.upper()]) if corruption else (0, 0))]
    for stream in (rng.Stream.AUGMENT, rng.Stream.RESIZED_CROP, rng.Stream.COLOUR):
        keys += key(seed, stream)
    tensors = images.contiguous(), rows.contiguous(), index.contiguous(), mean, std
    # few pixels a thread where each is made of sixteen, or they spill
    warps = 16 if rotation else 4
    for number in passes:
        _distortion_kernel[(programs,)](
            out, sums, partial, *tensors, *keys, epoch, plan, number, num_warps=warps, enable_fp_fusion=False
        )
    return out.permute(0, 3, 1, 2)
