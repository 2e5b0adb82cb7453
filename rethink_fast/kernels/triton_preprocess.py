"""The fused preprocessing on CUDA: from the stored bytes to the network input in one pass (data/preprocess.py).

Formula: gather -> fixed crop -> corruption -> crop -> flip -> rotation -> whitening or [-1, 1] -> cast.
Layout: stored uint8 [M, H, W, C]; result [B, h, w, C] in memory, seen as [B, C, h, w] channels_last. A program
makes a part of one image; how a block gets its values is chosen when it is compiled (triton_values.py).
Roofline, bytes of traffic an element: 1 read and 2 (bfloat16) or 4 (float32) written; gaussian reads none. Whitening
of an image above WHOLE_IMAGE elements reads it twice (the second time mostly from L2); noise is drawn twice instead.
Derived for an H200 (132 SMs, 1.755 GHz, copy at about 4.2 TB/s), not yet measured. An SM issues 128 a clock, so 85 %
of the copy bandwidth into bfloat16 allows 25 instructions an element where bytes are read and 16.6 for gaussian.
- true: 13.5 counted at 299 x 299 (11.6 at 224, where loads are 16 bytes wide): within reach.
- gaussian: 28 counted, so about half the copy bandwidth; into float32, with twice the bytes, 85 % is within reach.
- shuffled_pixels, random_pixels: about a third, see triton_random_pixels.py; the image would have to be in shared
  memory.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import functools
from dataclasses import replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import rng
from .triton_rng import key
from .triton_values import Plan, augmentation, image_words, sources, values

WHOLE_IMAGE = 4096  # elements of an image that one program whitens from its registers
BLOCK = 2048  # elements
PIXELS = 1024  # pixels of a tile, for the permutations
TILES = 8  # tiles a program of random_pixels: spreads the three draws of its words
IMAGES = 16  # images a program of shuffled_pixels: spreads the walk


@triton.jit
def _unit_range(x):
    """x / 127.5 - 1: of a byte as torch rounds it, by one correction of the quotient; of float32 to one rounding."""
    if x.dtype.is_int():
        # by way of int32: an 8-bit conversion takes more instructions
        x = x.to(tl.int32).to(tl.float32)
        quotient = x * (1.0 / 127.5)
        quotient = tl.fma(tl.fma(quotient, -127.5, x), 1.0 / 127.5, quotient)
        return quotient - 1.0
    else:
        return tl.fma(x, tl.full(x.shape, 1.0 / 127.5, tl.float32), tl.full(x.shape, -1.0, tl.float32))


@triton.jit
def _moments(x, mask, count):
    """Mean and sum of squared deviations of the `count` elements of a block under the mask."""
    x = tl.where(mask, x.to(tl.float32), 0.0)
    mean = tl.math.div_rn(tl.sum(x, 0), count)
    deviation = tl.where(mask, x - mean, 0.0)
    return mean, tl.sum(deviation * deviation, 0)


@triton.jit
def _inverse_deviation(squares, plan: tl.constexpr):
    """1 / max(std, 255 / sqrt(elements)) from the sum of squared deviations, in pixel units."""
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
                    chunk_mean, chunk_squares = _moments(x, mask, size)
                    # Chan, Golub and LeVeque 1983: exact for a constant image, for then the difference is 0
                    share = tl.math.div_rn(size, count + size)
                    squares += chunk_squares + (chunk_mean - mean) * (chunk_mean - mean) * count * share
                    mean += (chunk_mean - mean) * share
                    count += size
    tl.store(partial_ptr + tl.program_id(0) * 2, mean)
    tl.store(partial_ptr + tl.program_id(0) * 2 + 1, squares)


@triton.jit
def _total(partial_ptr, image, plan: tl.constexpr):
    """Mean and inverse deviation of an image from its parts."""
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
    return mean, _inverse_deviation(squares, plan)


@triton.jit(do_not_specialize=["k0", "k1", "a0", "a1", "epoch_ptr", "batch"])
def _prepare_kernel(
    out_ptr,
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
    batch: tl.int32,
    plan: tl.constexpr,
):
    CHUNKS: tl.constexpr = plan.chunks
    # before the loop: inside it, the load costs 16 registers more
    epoch = tl.load(epoch_ptr) if plan.augments else 0
    group, part = tl.program_id(0) // plan.parts, tl.program_id(0) % plan.parts
    first = group * plan.images
    zero = tl.full((), 0, tl.int64)
    shared = zero
    if plan.shared:
        shared_words = image_words(k0, k1, zero, plan)
        shared_turn = augmentation(a0, a1, zero, epoch, plan)
        shared = sources(shared_words, shared_turn, part * plan.tile // plan.channels, plan)
    for image in range(first, tl.minimum(first + plan.images, batch)):
        index = tl.load(index_ptr + image)
        stored_ptr = images_ptr + tl.load(rows_ptr + image) * plan.stored_elements
        image_ptr = out_ptr + (zero + image) * plan.elements
        turn = augmentation(a0, a1, index, epoch, plan)
        words = image_words(k0, k1, index, plan)
        if plan.whiten and plan.parts_block > 0:
            mean, scale = _total(partial_ptr, zero + image, plan)
        for tile in range(plan.tiles):
            start = (part * plan.tiles + tile) * plan.tile
            if start < plan.elements:
                source = shared if plan.shared else sources(words, turn, start // plan.channels, plan)
                for chunk in tl.static_range(CHUNKS):
                    offs = start + chunk * plan.block + tl.arange(0, plan.block)
                    mask = offs < plan.elements
                    x = values(stored_ptr, mean_ptr, std_ptr, k0, k1, index, words, turn, source, start, chunk, plan)
                    if plan.whiten:
                        if plan.parts_block == 0:
                            mean, squares = _moments(x, mask, tl.full((), plan.elements, tl.float32))
                            scale = _inverse_deviation(squares, plan)
                        x = (x.to(tl.float32) - mean) * scale
                    else:
                        x = _unit_range(x)
                    tl.store(image_ptr + offs, x.to(out_ptr.dtype.element_ty), mask=mask)


@functools.lru_cache(maxsize=64)
def _plan(
    stored: tuple[int, int, int],
    window: tuple[int, int, int, int],
    corruption: str,
    size: tuple[int, int],
    crop: bool,
    flip: bool,
    rotation: bool,
    whiten: bool,
) -> Plan:
    """The geometry, and the cut of the work that suits it. stored: height, width and channels."""
    height, width, channels = stored
    crop = crop and window[2:] != size
    bare = Plan(height, width, channels, *window, *size, corruption, crop, flip, rotation, whiten)
    if bare.elements <= WHOLE_IMAGE:
        block = max(16, triton.next_power_of_2(bare.elements))
        return replace(bare, block=block, pixels=triton.next_power_of_2(size[0] * size[1]))
    if bare.gathers:
        still = corruption == "shuffled_pixels" and not (bare.augments or bare.whiten)
        cut = replace(
            bare,
            block=PIXELS,
            pixels=PIXELS,
            chunks=bare.channels,
            tiles=1 if still else TILES,
            images=IMAGES if still else 1,
        )
    else:
        cut = replace(bare, block=BLOCK)
    parts = triton.cdiv(bare.elements, cut.tile * cut.tiles)
    return replace(cut, parts=parts, parts_block=triton.next_power_of_2(parts) if bare.whiten else 0)


def prepare(
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
    epoch: Tensor | None,
    normalisation: str,
    dtype: torch.dtype,
) -> Tensor:
    """Return the network input of a batch, dtype [B, C, *size], channels_last.

    images: uint8 [M, H, W, C].
    rows, index: int64 [B].
    epoch: int64 [], or None for evaluation.
    The others are the fields of `Preprocessing` in data/preprocess.py.
    """
    random = epoch is not None
    plan = _plan(
        (images.shape[1], images.shape[2], images.shape[3]),
        (window[0], window[1], window[2], window[3]),
        corruption,
        (size[0], size[1]),
        crop and random,
        flip and random,
        rotation and random,
        normalisation == "whiten",
    )
    batch = rows.numel()
    out = torch.empty((batch, *size, plan.channels), dtype=dtype, device=images.device)
    if out.numel():
        _launch(out, images.contiguous(), rows.contiguous(), index.contiguous(), mean, std, seed, epoch, plan)
    return out.permute(0, 3, 1, 2)


def _launch(
    out: Tensor,
    images: Tensor,
    rows: Tensor,
    index: Tensor,
    mean: Tensor | None,
    std: Tensor | None,
    seed: int,
    epoch: Tensor | None,
    plan: Plan,
) -> None:
    if mean is not None and std is not None:
        mean, std = mean.to(torch.float32).contiguous(), std.to(torch.float32).contiguous()
    corruption_key = key(seed, rng.Stream[plan.corruption.upper()]) if plan.corruption else (0, 0)
    # none where no stage reads it, so that evaluation and training without augmentation are one kernel
    epoch = epoch if plan.augments else None
    arguments = (images, rows, index, mean, std, *corruption_key, *key(seed, rng.Stream.AUGMENT), epoch)
    batch = out.shape[0]
    partial = None
    # few elements a thread where each needs many registers, or they spill
    warps = 16 if plan.rotation else 8 if plan.chunks > 1 or plan.block > BLOCK else 4
    if plan.parts_block:
        partial = torch.empty((batch, plan.parts, 2), dtype=torch.float32, device=out.device)
        _statistics_kernel[(batch * plan.parts,)](partial, *arguments, plan, num_warps=warps, enable_fp_fusion=False)
    grid = (triton.cdiv(batch, plan.images) * plan.parts,)
    _prepare_kernel[grid](out, partial, *arguments, batch, plan, num_warps=warps, enable_fp_fusion=False)
