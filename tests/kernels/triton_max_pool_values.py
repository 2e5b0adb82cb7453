"""The gradient of max-pooling in Triton against the reference and torch's own, in Triton's interpreter on CPU tensors.

test_triton.py runs this file in a separate process with TRITON_INTERPRET=1.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rethink_fast.kernels import triton_max_pool
from rethink_fast.train.max_pool import max_pool_gradient_reference

SHAPES = [(2, 8, 28, 28), (2, 4, 13, 18), (1, 3, 35, 8), (1, 5, 4, 3), (1, 1, 3, 3), (3, 300, 5, 5)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sliced", [False, True], ids=["whole", "a part of the channels"])
def test_equal_to_the_reference(
    shape: tuple[int, ...], sliced: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *given, **options: empty(*given, **options).fill_(float("nan")))
    batch, channels, height, width = shape
    windows = (batch, channels + 3 * sliced, (height - 1) // 2, (width - 1) // 2)
    generator = torch.Generator().manual_seed(1)
    gradient = torch.randn(windows, dtype=dtype, generator=generator).to(memory_format=torch.channels_last)
    offsets = torch.randint(0, 9, windows, dtype=torch.int8, generator=generator)  # contiguous: it is laid out again
    gradient, offsets = (each[:, sliced : sliced + channels] for each in (gradient, offsets))
    made = triton_max_pool.max_pool_gradient(gradient, offsets, height, width)
    expected = max_pool_gradient_reference(gradient, offsets, height, width)
    assert torch.equal(made, expected)
    assert made.stride() == expected.stride()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_reference_is_torchs_gradient(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
    out, places = F.max_pool2d(x, 3, 2, return_indices=True)
    gradient = torch.randn(out.shape, dtype=torch.float64, generator=generator)
    out.backward(gradient)
    rows, columns = torch.meshgrid(*(2 * torch.arange(n) for n in out.shape[2:]), indexing="ij")
    y, x_place = places // shape[3], places % shape[3]
    offsets = ((y - rows) * 3 + x_place - columns).to(torch.int8)
    made = max_pool_gradient_reference(gradient, offsets, *shape[2:])
    torch.testing.assert_close(made, x.grad, rtol=0, atol=2.0**-49)  # sums of at most four, in another order
