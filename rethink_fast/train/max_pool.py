"""The gradient of max-pooling in windows of 3 x 3 every 2 pixels: the reference of kernels/triton_max_pool.py."""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels import reference

WINDOW, STRIDE = 3, 2


@reference("max_pool_gradient")
def max_pool_gradient_reference(gradient: Tensor, offsets: Tensor, height: int, width: int) -> Tensor:
    """Return the gradient of the input, [B, C, height, width], channels_last.

    gradient: [B, C, oh, ow], of the output.
    offsets: int8 [B, C, oh, ow], the place of the largest value in its window, 0 to 8 by rows.
    """
    batch, channels, rows, columns = gradient.shape
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    out = torch.zeros((batch, channels, height, width), dtype=dtype, device=gradient.device)
    for place in range(WINDOW**2):
        y, x = divmod(place, WINDOW)
        pixels = out[:, :, y : y + STRIDE * rows : STRIDE, x : x + STRIDE * columns : STRIDE]
        pixels += torch.where(offsets == place, gradient.to(dtype), 0.0)
    return out.to(gradient.dtype, memory_format=torch.channels_last)
