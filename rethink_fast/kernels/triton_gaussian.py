"""gaussian on CUDA: each image replaced by normal noise, a function of (seed, index).

Formula: element e of an image is mean[c] + std[c] * deviate e % 2 of word e // 2, with c = e % C; see CONTRACT.md.
Layout: float32 [B, H, W, C], contiguous. A lane evaluates one draw, four words, and writes the eight elements that
follow one another from it, as two stores of 16 bytes.
Roofline: 4 bytes written an element and none read. Derived for an H200, not yet measured: 25 instructions an element
counted on sm_90 and 33 allowed at 85 % of the copy bandwidth (see triton_preprocess.py); of the four special functions
of a pair, 16 a clock and SM, 85 % takes half.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def, assignment"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import rng
from .triton_rng import eight_normals, interleave_eight, key

DRAWS = 256


@triton.jit
def _by_channel(values_ptr, channel, CHANNELS: tl.constexpr):
    """The values of the channels `channel`, `channel` + 1, ..., a tuple: C loads for the eight elements of a lane."""
    values = (tl.load(values_ptr + channel % CHANNELS),)
    for c in tl.static_range(1, CHANNELS):
        values = values + (tl.load(values_ptr + (channel + c) % CHANNELS),)  # noqa: RUF005 - Triton knows no unpacking
    return values


@triton.jit
def _scaled(pair, scale, shift, first: tl.constexpr, CHANNELS: tl.constexpr):
    a: tl.constexpr = first % CHANNELS
    b: tl.constexpr = (first + 1) % CHANNELS
    return tl.fma(pair[0], scale[a], shift[a]), tl.fma(pair[1], scale[b], shift[b])


@triton.jit
def eight_pixels(k0, k1, index, block, mean_ptr, std_ptr, CHANNELS: tl.constexpr):
    """Return elements 8 * block ... 8 * block + 7 of the noise of an image, float32 [8 B]. block: int32 [B]."""
    a, b, c, d = eight_normals(k0, k1, index, block)
    # (8 * block) % C, without a product that could overflow
    channel = (block % CHANNELS) * (8 % CHANNELS)
    scale, shift = _by_channel(std_ptr, channel, CHANNELS), _by_channel(mean_ptr, channel, CHANNELS)
    return interleave_eight(
        _scaled(a, scale, shift, 0, CHANNELS),
        _scaled(b, scale, shift, 2, CHANNELS),
        _scaled(c, scale, shift, 4, CHANNELS),
        _scaled(d, scale, shift, 6, CHANNELS),
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
):
    image, part = tl.program_id(0) // PARTS, tl.program_id(0) % PARTS
    index = tl.load(index_ptr + image)
    noise = eight_pixels(k0, k1, index, part * DRAWS + tl.arange(0, DRAWS), mean_ptr, std_ptr, CHANNELS)
    offs = part * (8 * DRAWS) + tl.arange(0, 8 * DRAWS)
    tl.store(out_ptr + image.to(tl.int64) * ELEMENTS + offs, noise, mask=offs < ELEMENTS)


def gaussian(index: Tensor, height: int, width: int, mean: Tensor, std: Tensor, seed: int) -> Tensor:
    """Return the noise image of each sample, float32 [B, H, W, C].

    index: int64 [B].
    mean, std: float32 [C], in pixel units.
    """
    channels, batch = mean.numel(), index.numel()
    out = torch.empty((batch, height, width, channels), dtype=torch.float32, device=index.device)
    if out.numel():
        elements = height * width * channels
        parts = triton.cdiv(elements, 8 * DRAWS)
        _gaussian_kernel[(batch * parts,)](
            out,
            index.contiguous(),
            mean.to(torch.float32).contiguous(),
            std.to(torch.float32).contiguous(),
            *key(seed, rng.Stream.GAUSSIAN),
            elements,
            channels,
            parts,
            DRAWS,
            num_warps=4,
            enable_fp_fusion=False,
        )
    return out
