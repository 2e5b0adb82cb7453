"""shuffled_pixels and random_pixels on CUDA: each output pixel fetched from where the permutation says.

Formula: out[b, q] = images[b, permute(words, H * W, q)] for the position q = y * W + x; the words are those of the
run (shuffled_pixels) or of the image (random_pixels).
Layout: [B, H, W, C] of any element, contiguous. A program takes tiles of PIXELS pixels: it evaluates a pixel's source
once, hands it to the C elements of the pixel by a gather inside the block, and writes whole contiguous rows of
elements. For shuffled_pixels it keeps the sources in registers and applies them to IMAGES images one after another.
Roofline: 2 bytes of traffic an element (uint8). A random fetch moves a sector of 32 bytes from L2 for 3, and
random_pixels pays 6.5 steps of the walk a pixel at 299 x 299. Measured on an H100, 128 images of 299 x 299 x 3:
random_pixels 165 us, 17 % of the copy bandwidth; shuffled_pixels 247 us, 11 %, with IMAGES images to a program too few
programs to hide the latency. Runs take `prepare`, which is two to four times as fast (triton_preprocess.py).
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import rng
from .triton_rng import key, permutation_words, permute

PIXELS = 1024
TILES = 8  # tiles a program: spreads the three draws of the words
IMAGES = 16  # images a program of shuffled_pixels


@triton.jit(do_not_specialize=["k0", "k1", "batch"])
def _move_pixels_kernel(
    out_ptr,
    images_ptr,
    index_ptr,
    k0: tl.uint32,
    k1: tl.uint32,
    batch: tl.int32,
    N: tl.constexpr,
    CHANNELS: tl.constexpr,
    PARTS: tl.constexpr,
    TILES: tl.constexpr,
    PIXELS: tl.constexpr,
    IMAGES: tl.constexpr,
    SHARED: tl.constexpr,
):
    first = tl.program_id(0) // PARTS * IMAGES
    if SHARED:
        words = permutation_words(k0, k1, tl.full((), 0, tl.int64))
    else:
        words = permutation_words(k0, k1, tl.load(index_ptr + first))
    for tile in range(TILES):
        start = (tl.program_id(0) % PARTS * TILES + tile) * PIXELS
        if start < N:
            source = permute(words, tl.minimum(start + tl.arange(0, PIXELS), N - 1), N)
            for chunk in tl.static_range(CHANNELS):
                local = chunk * PIXELS + tl.arange(0, PIXELS)
                offs = start.to(tl.int64) * CHANNELS + local
                mask = offs < N * CHANNELS
                offs_source = tl.gather(source, local // CHANNELS, 0).to(tl.int64) * CHANNELS + local % CHANNELS
                for image in range(first, tl.minimum(first + IMAGES, batch)):
                    base = tl.full((), N * CHANNELS, tl.int64) * image
                    moved = tl.load(images_ptr + base + offs_source, mask=mask, other=0)
                    tl.store(out_ptr + base + offs, moved, mask=mask)


def _move_pixels(images: Tensor, index: Tensor | None, stream: rng.Stream, seed: int) -> Tensor:
    images = images.contiguous()
    batch, height, width, channels = images.shape
    out = torch.empty_like(images)
    if out.numel():
        shared = index is None
        n = height * width
        parts = triton.cdiv(n, TILES * PIXELS)
        groups = triton.cdiv(batch, IMAGES) if shared else batch
        _move_pixels_kernel[(groups * parts,)](
            out,
            images,
            images if index is None else index.contiguous(),
            *key(seed, stream),
            batch,
            n,
            channels,
            parts,
            TILES,
            PIXELS,
            IMAGES if shared else 1,
            shared,
            num_warps=8,
            enable_fp_fusion=False,
        )
    return out


def shuffled_pixels(images: Tensor, seed: int) -> Tensor:
    """Return the images with one permutation of their pixels, contiguous. images: [B, H, W, C]."""
    return _move_pixels(images, None, rng.Stream.SHUFFLED_PIXELS, seed)


def random_pixels(images: Tensor, index: Tensor, seed: int) -> Tensor:
    """Return the images with a separate permutation of each, contiguous.

    images: [B, H, W, C].
    index: int64 [B].
    """
    return _move_pixels(images, index, rng.Stream.RANDOM_PIXELS, seed)
