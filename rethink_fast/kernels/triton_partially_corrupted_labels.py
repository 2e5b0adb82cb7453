"""partially_corrupted_labels on CUDA: each label is replaced or kept by its own draw.

Formula: w = draw(seed, LABELS, index, 0); mulhi(w[1], C) where w[0] < round(p * 2^32), else the label.
Layout: labels, index and the result are int64 [B], contiguous.
Roofline: 24 bytes of traffic a label, against about 60 instructions, so bandwidth bounds it (derived).
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import rng
from .triton_rng import draw, key

BLOCK = 1024


@triton.jit(do_not_specialize=["k0", "k1", "threshold", "num_classes", "size"])
def _corrupt_labels_kernel(
    out_ptr,
    labels_ptr,
    index_ptr,
    k0: tl.uint32,
    k1: tl.uint32,
    threshold: tl.int64,
    num_classes: tl.int64,
    size: tl.int64,
    BLOCK: tl.constexpr,
):
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < size
    index = tl.load(index_ptr + offs, mask=mask, other=0)
    labels = tl.load(labels_ptr + offs, mask=mask, other=0)
    w0, w1, _, _ = draw(k0, k1, index, tl.full((), 0, tl.int32))
    drawn = (w1.to(tl.uint64) * num_classes.to(tl.uint64)) >> 32
    # the threshold has 33 bits
    corrupted = w0.to(tl.int64) < threshold.to(tl.int64)
    tl.store(out_ptr + offs, tl.where(corrupted, drawn.to(tl.int64), labels), mask=mask)


def corrupt_labels(labels: Tensor, index: Tensor, num_classes: int, probability: float, seed: int) -> Tensor:
    """Return the labels of partially_corrupted_labels, int64 [B]. labels, index: int64 [B]."""
    labels, index = labels.contiguous(), index.contiguous()
    out = torch.empty_like(labels)
    if labels.numel():
        _corrupt_labels_kernel[(triton.cdiv(labels.numel(), BLOCK),)](
            out,
            labels,
            index,
            *key(seed, rng.Stream.LABELS),
            rng.threshold(probability),
            num_classes,
            labels.numel(),
            BLOCK,
            num_warps=4,
            enable_fp_fusion=False,
        )
    return out
