"""Resize to one size: antialiased linear, in integers, bit-exact on every machine.

Along one axis of `from` places, place o of `to` is the mean of the places around its centre, weighted by a triangle as
wide as the coarser of the two grids (what Pillow and torch call bilinear with antialias). With n = max(from, to), place
k weighs

    w(k) = max(0, 2 n - |(2 k + 1) to - (2 o + 1) from|)

scaled to a sum of 2^14 by rounding half up; what that leaves over goes to the largest, the first of them.
Rows are summed first and kept with 6 bits behind the point, then columns; both round half up. csrc/cpu/resize.h
computes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import kernels

WEIGHT_BITS, ROW_BITS = 14, 6
LONGEST = 2**20
"""Pixels of a side: the products of two sides and a weight are far below 2^63."""


def resize(images: Sequence[Tensor], out: Tensor) -> None:
    """Write every image to its row of `out`, resized to the size of `out`, in the calling thread alone.

    images: uint8 [h, w, 3] on the CPU, of any sizes.
    out: uint8 [B, H, W, 3] on the CPU, contiguous.
    Raises ValueError for anything else.
    """
    if out.dtype != torch.uint8 or out.ndim != 4 or not out.is_contiguous() or out.shape[0] != len(images):
        form = f"{out.dtype} {list(out.shape)}"
        raise ValueError(f"out of {form} does not fit {len(images)} images: give contiguous uint8 [B, H, W, 3]")
    for tensor in (out[0], *images) if len(images) else ():
        if tensor.dtype != torch.uint8 or tensor.ndim != 3 or tensor.shape[2] != 3 or not tensor.numel():
            form = f"{tensor.dtype} {list(tensor.shape)}"
            raise ValueError(f"an image of {form} is not allowed: give uint8 [H, W, 3] of at least one pixel")
        if max(tensor.shape) > LONGEST:
            raise ValueError(f"an image of {list(tensor.shape)} is too large: at most {LONGEST} pixels a side")
    torch.ops.rethink_fast.resize(images, out)


@kernels.reference("resize")
def _reference(images: Sequence[Tensor], out: Tensor) -> None:
    for image, row in zip(images, out, strict=True):
        rows = _along(image.to(torch.int64), row.shape[0], WEIGHT_BITS - ROW_BITS)
        columns = _along(rows.transpose(0, 1), row.shape[1], WEIGHT_BITS + ROW_BITS)
        row.copy_(columns.transpose(0, 1))


def _along(values: Tensor, to: int, shift: int) -> Tensor:
    """The first axis of int64 `values` resized to `to` positions, the weighted sums divided by 2^shift."""
    first, weights = weighting(values.shape[0], to)
    total = torch.full((to, *values.shape[1:]), 1 << (shift - 1), dtype=torch.int64)
    for k in range(weights.shape[1]):
        at = (first + k).clamp(max=values.shape[0] - 1)
        total += weights[:, k].view(-1, *[1] * (values.ndim - 1)) * values[at]
    return total >> shift


def weighting(length: int, to: int) -> tuple[Tensor, Tensor]:
    """Return the weights that resize an axis from `length` to `to` positions.

    Returns int64 [to], the first of the positions that each output is made of, and int64 [to, K], the weights from
    there on; each row sums to 2^14.
    """
    support = 2 * max(length, to)
    centre = (2 * torch.arange(to) + 1) * length
    first = torch.div(centre - support - to, 2 * to, rounding_mode="floor").add(1).clamp(min=0)
    k = first[:, None] + torch.arange(-(-support // to))
    weights = (support - ((2 * k + 1) * to - centre[:, None]).abs()).clamp(min=0) * (k < length)
    total = weights.sum(1, keepdim=True)
    weights = ((weights << WEIGHT_BITS) + total // 2) // total
    rows = torch.arange(to)
    weights[rows, weights.argmax(1)] += (1 << WEIGHT_BITS) - weights.sum(1)
    return first, weights
