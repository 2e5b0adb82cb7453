"""gaussian on CUDA: each image replaced by normal noise, a function of (seed, index).

Formula: element e of an image is mean[c] + std[c] * deviate e % 2 of word e // 2, with c = e % C; see CONTRACT.md.
Layout: [B, H, W, C], contiguous: float32 in pixel units for the op, either type scaled to [-1, 1] for `prepare`.
A lane evaluates one draw, four words, and makes the eight elements that follow one another from it. A program makes
TILES tiles with one scaling: a lane's channels in the next tile are the same, turned.
Roofline: 4 or 2 bytes written an element and none read. Instructions an element counted on sm_90: 20 into bfloat16 at
299 x 299, whose odd images start between words and are written by the element, and 16.4 at 224 x 224 (28 and 25
before the scaling was shared). Measured on an H100, see triton_preprocess.py: 33.4 us for 128 x 299 x 299 x 3 in
bfloat16, 84 % of the copy bandwidth; of the special functions, four a pair and 16 a clock and SM, that takes half.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def, assignment"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import rng
from .triton_rng import DEVIATE, eight_normals, interleave_eight, key

DRAWS = 128  # of a tile: one a thread
TILES = 4  # of a program: spreads the loads of the scaling


@triton.jit
def scaling(mean_ptr, std_ptr, block, CHANNELS: tl.constexpr, UNIT_RANGE: tl.constexpr):
    """Return what a lane's deviates are multiplied by, and what is added, for the channels from element 8 * block on.

    Two tuples of CHANNELS tensors of the shape of `block`, int32.
    UNIT_RANGE: whether to [-1, 1] instead of pixel units.
    """
    factor: tl.constexpr = 1 / 127.5 if UNIT_RANGE else 1.0
    offset: tl.constexpr = -1.0 if UNIT_RANGE else 0.0
    # (8 * block) % C, without a product that could overflow
    channel = (block % CHANNELS) * (8 % CHANNELS)
    scale = (tl.load(std_ptr + channel % CHANNELS) * (DEVIATE * factor),)
    shift = (tl.load(mean_ptr + channel % CHANNELS) * factor + offset,)
    for c in tl.static_range(1, CHANNELS):
        scale = scale + (tl.load(std_ptr + (channel + c) % CHANNELS) * (DEVIATE * factor),)  # noqa: RUF005 - Triton knows no unpacking
        shift = shift + (tl.load(mean_ptr + (channel + c) % CHANNELS) * factor + offset,)  # noqa: RUF005
    return scale, shift


@triton.jit
def _scaled(pair, scale, shift, first: tl.constexpr, CHANNELS: tl.constexpr):
    a: tl.constexpr = first % CHANNELS
    b: tl.constexpr = (first + 1) % CHANNELS
    return tl.fma(pair[0], scale[a], shift[a]), tl.fma(pair[1], scale[b], shift[b])


@triton.jit
def eight_pixels(k0, k1, index, block, scale, shift, first: tl.constexpr, CHANNELS: tl.constexpr):
    """Return elements 8 * block ... 8 * block + 7 of the noise of an image, float32 [8 B]. block: int32 [B].

    scale, shift: of `scaling`, for `first` elements before.
    """
    a, b, c, d = eight_normals(k0, k1, index, block)
    return interleave_eight(
        _scaled(a, scale, shift, first, CHANNELS),
        _scaled(b, scale, shift, first + 2, CHANNELS),
        _scaled(c, scale, shift, first + 4, CHANNELS),
        _scaled(d, scale, shift, first + 6, CHANNELS),
    )


@triton.jit(do_not_specialize=["k0", "k1"])
def _gaussian_kernel(
    out_ptr,
    index_ptr,
    mean_ptr,
    std_ptr,
    k0: tl.uint32,
    k1: tl.uint32,
    ELEMENTS: tl.constexpr,
    CHANNELS: tl.constexpr,
    PARTS: tl.constexpr,
    DRAWS: tl.constexpr,
    TILES: tl.constexpr,
    UNIT_RANGE: tl.constexpr,
):
    image, part = tl.program_id(0) // PARTS, tl.program_id(0) % PARTS
    index = tl.load(index_ptr + image)
    image_ptr = out_ptr + image.to(tl.int64) * ELEMENTS
    block = part * (DRAWS * TILES) + tl.arange(0, DRAWS)
    scale, shift = scaling(mean_ptr, std_ptr, block, CHANNELS, UNIT_RANGE)
    for tile in tl.static_range(TILES):
        noise = eight_pixels(k0, k1, index, block + tile * DRAWS, scale, shift, 8 * DRAWS * tile, CHANNELS)
        offs = (part * TILES + tile) * (8 * DRAWS) + tl.arange(0, 8 * DRAWS)
        tl.store(image_ptr + offs, noise.to(out_ptr.dtype.element_ty), mask=offs < ELEMENTS)


def fill(out: Tensor, index: Tensor, mean: Tensor, std: Tensor, seed: int, *, unit_range: bool) -> None:
    """Fill the images `out`, [B, H, W, C] and contiguous, with the noise of the samples `index`.

    mean, std: float32 [C], in pixel units.
    unit_range: whether to scale it to [-1, 1].
    """
    elements, channels = out[0].numel(), out.shape[3]
    tiles = min(TILES, triton.cdiv(elements, 8 * DRAWS))
    parts = triton.cdiv(elements, 8 * DRAWS * tiles)
    _gaussian_kernel[(out.shape[0] * parts,)](
        out,
        index.contiguous(),
        mean.to(torch.float32).contiguous(),
        std.to(torch.float32).contiguous(),
        *key(seed, rng.Stream.GAUSSIAN),
        elements,
        channels,
        parts,
        DRAWS,
        tiles,
        unit_range,
        num_warps=DRAWS // 32,
        enable_fp_fusion=False,
    )


def gaussian(index: Tensor, height: int, width: int, mean: Tensor, std: Tensor, seed: int) -> Tensor:
    """Return the noise image of each sample, float32 [B, H, W, C].

    index: int64 [B].
    mean, std: float32 [C], in pixel units.
    """
    out = torch.empty((index.numel(), height, width, mean.numel()), dtype=torch.float32, device=index.device)
    if out.numel():
        fill(out, index, mean, std, seed, unit_range=False)
    return out
