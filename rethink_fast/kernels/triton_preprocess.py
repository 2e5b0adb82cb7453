"""The fused preprocessing on CUDA: from the stored bytes to the network input in one pass (data/preprocess.py).

Formula: gather -> fixed crop -> corruption -> crop -> flip -> rotation -> whitening or [-1, 1] -> cast.
Layout: stored uint8 [M, H, W, C]; result [B, h, w, C] in memory, seen as [B, C, h, w] channels_last. A program
makes a part of one image; how a block gets its values is chosen when it is compiled (triton_values.py).
Whole RGB images of a permutation without augmentation, scaled to [-1, 1], go to csrc/cuda/moved_pixels.cuh where it was
compiled, and gaussian without augmentation, scaled to [-1, 1], to triton_gaussian.py: the same values, faster.
Roofline, bytes of traffic an element: 1 read and 2 (bfloat16) or 4 (float32) written; gaussian reads none. Whitening
of an image above WHOLE_IMAGE elements reads it twice (the second time mostly from L2); noise is drawn twice instead.
Measured on an H100 80GB HBM3 (132 SMs at 1.98 GHz, copy at 2,429 GB/s read plus written), 128 images into bfloat16
scaled to [-1, 1], from a cold L2, with the share of the copy bandwidth:
    kind                          299 x 299          224 x 224        limit
    true                          45.4 us   93 %     24.3 us   98 %   memory
    gaussian, triton_gaussian     33.4 us   84 %     17.4 us   91 %   memory, and special functions at half their rate
    shuffled_pixels, moved_pixels 63.9 us   66 %     31.5 us   76 %   at 299, a fifth of the image fetched from L2
    random_pixels, moved_pixels   85.5 us   50 %     41.7 us   57 %   the walk's integer instructions
    shuffled_pixels here         120.5 us   35 %     63.4 us   38 %   sectors of L2, 32 bytes for a pixel's 3
    random_pixels here           217.5 us   20 %    110.2 us   22 %   the same, and 6.5 steps of the walk a pixel
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
from . import native, triton_gaussian
from .triton_rng import key
from .triton_values import Plan, augmentation, image_words, sources, values
from .triton_whitening import _statistics_kernel, image_statistics, inverse_deviation, moments, unit_range

WHOLE_IMAGE = 4096  # elements of an image that one program whitens from its registers
BLOCK = 2048  # elements
PIXELS = 1024  # pixels of a tile, for the permutations
TILES = 8  # tiles a program of random_pixels: spreads the three draws of its words
IMAGES = 16  # images a program of shuffled_pixels: spreads the walk


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
            mean, scale = image_statistics(partial_ptr, zero + image, plan)
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
                            mean, squares = moments(x, mask, tl.full((), plan.elements, tl.float32))
                            scale = inverse_deviation(squares, plan)
                        x = (x.to(tl.float32) - mean) * scale
                    else:
                        x = unit_range(x)
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
    if plan.moves_alone and images.is_cuda and native.load("_native_cuda").usable:
        shared = corruption == "shuffled_pixels"
        return torch.ops.rethink_fast.moved_pixels(images, rows, index, shared, seed, dtype).permute(0, 3, 1, 2)
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
        if plan.streams and not plan.whiten:
            triton_gaussian.fill(out, index, mean, std, seed, unit_range=True)
            return
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
