"""The gradient of max-pooling, windows of 3 x 3 every 2 pixels, on CUDA.

Formula: an input pixel gets the gradients of the windows whose largest value it was; sums in float32, of float64 in
float64, in the order of the reference, train/max_pool.py.
Layout: gradients and offsets [B, C, oh, ow] with channels innermost in memory; result channels_last. A thread makes the
four pixels (2i, 2j) to (2i + 1, 2j + 1) of eight channels: the four windows that touch them are read once, where one
pixel at a time reads sixteen.
Roofline: 2 bytes written a pixel, and 3 read a window, in bfloat16. Measured on an H100, for the three largest pools of
Inception V3 in batches of 128: 170, 120 and 46 us, 110 to 118 % of the bandwidth of a copy. Inductor's kernel, one
pixel a thread with the places as 64-bit integers, took 1,677, 1,211 and 438 us.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
"""Channels of places that a program makes: eight a thread, which is 16 bytes in bfloat16."""


@triton.jit
def _window(gradient_ptr, offsets_ptr, place, inside):
    """The gradient of each window, and which of its nine pixels was the largest; -1 outside."""
    offset = tl.load(offsets_ptr + place[1], mask=inside, other=-1)
    gradient = tl.load(gradient_ptr + place[0], mask=inside, other=0.0)
    return gradient if gradient.dtype == tl.float64 else gradient.to(tl.float32), offset


@triton.jit
def _of(window, pixel: tl.constexpr):
    return tl.where(window[1] == pixel, window[0], 0.0)


@triton.jit
def _max_pool_gradient_kernel(
    out_ptr,
    gradient_ptr,
    offsets_ptr,
    total,
    gradient_image,
    gradient_row,
    gradient_column,
    offsets_image,
    offsets_row,
    offsets_column,
    C: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    OUT_HEIGHT: tl.constexpr,
    OUT_WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    ROWS: tl.constexpr = (HEIGHT + 1) // 2
    COLUMNS: tl.constexpr = (WIDTH + 1) // 2
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel, place = offs % C, offs // C
    column, place = place % COLUMNS, place // COLUMNS
    row, image = place % ROWS, (place // ROWS).to(tl.int64)
    own = (
        image * gradient_image + row * gradient_row + column * gradient_column + channel,
        image * offsets_image + row * offsets_row + column * offsets_column + channel,
    )
    above = own[0] - gradient_row, own[1] - offsets_row
    left = own[0] - gradient_column, own[1] - offsets_column
    corner = above[0] - gradient_column, above[1] - offsets_column
    there = offs < total
    in_row, in_column = row < OUT_HEIGHT, column < OUT_WIDTH
    has_above, has_left = (row > 0) & (row <= OUT_HEIGHT), (column > 0) & (column <= OUT_WIDTH)
    w = _window(gradient_ptr, offsets_ptr, own, there & in_row & in_column)
    a = _window(gradient_ptr, offsets_ptr, above, there & has_above & in_column)
    b = _window(gradient_ptr, offsets_ptr, left, there & in_row & has_left)
    c = _window(gradient_ptr, offsets_ptr, corner, there & has_above & has_left)
    to = out_ptr + ((image * HEIGHT + 2 * row) * WIDTH + 2 * column) * C + channel
    below, right = there & (2 * row + 1 < HEIGHT), 2 * column + 1 < WIDTH
    dtype = out_ptr.dtype.element_ty
    tl.store(to, (_of(w, 0) + _of(b, 2) + _of(a, 6) + _of(c, 8)).to(dtype), mask=there)
    tl.store(to + C, (_of(w, 1) + _of(a, 7)).to(dtype), mask=there & right)
    tl.store(to + WIDTH * C, (_of(w, 3) + _of(b, 5)).to(dtype), mask=below)
    tl.store(to + (WIDTH + 1) * C, _of(w, 4).to(dtype), mask=below & right)


def max_pool_gradient(gradient: Tensor, offsets: Tensor, height: int, width: int) -> Tensor:
    """Return the gradient of the input, [B, C, height, width], channels_last.

    gradient: [B, C, oh, ow], of the output.
    offsets: int8 [B, C, oh, ow], the place of the largest value in its window, 0 to 8 by rows.
    """
    if gradient.stride(1) != 1:
        gradient = gradient.contiguous(memory_format=torch.channels_last)
    if offsets.stride(1) != 1:
        offsets = offsets.contiguous(memory_format=torch.channels_last)
    batch, channels, out_height, out_width = gradient.shape
    shape = batch, channels, height, width
    out = torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last)
    total = batch * triton.cdiv(height, 2) * triton.cdiv(width, 2) * channels
    if total:
        strides = [tensor.stride(k) for tensor in (gradient, offsets) for k in (0, 2, 3)]
        sizes = channels, height, width, out_height, out_width
        _max_pool_gradient_kernel[(triton.cdiv(total, BLOCK),)](
            out, gradient, offsets, total, *strides, *sizes, BLOCK, num_warps=4
        )
    return out
