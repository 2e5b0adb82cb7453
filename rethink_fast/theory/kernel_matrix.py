"""Kernel values between samples, made block by block: of a Gaussian kernel, or of explicit features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from .cholesky import WIDTH

EXACT_COLUMNS = 1024
"""Products of bytes less 128 sum to at most 1024 * 2^14 = 2^24: exact in float32, in any order."""


def blocks(n: int, width: int = WIDTH) -> Iterator[slice]:
    """Return [0, n) in slices of at most `width`."""
    return (slice(start, min(start + width, n)) for start in range(0, n, width))


class Kernel(Protocol):
    """Kernel values between the training samples, and of test samples with them, by block."""

    n: int
    n_test: int
    device: torch.device

    def train(self, rows: slice, columns: slice) -> Tensor:
        """Return a block between training samples: float64 [rows, columns], which the caller may overwrite."""
        ...

    def test(self, rows: slice, columns: slice) -> Tensor:
        """Return a block of test by training samples: float64 [rows, columns], which the caller may overwrite."""
        ...


class Gaussian:
    """k(x, y) = exp(-gamma |x - y|^2) for features that are bytes / 255, each value correct to float64's rounding.

    Distances between bytes are whole numbers, and inner products of up to 1024 of them are exact in a float32 product,
    at twice the speed of a float64 one; longer ones are summed in parts.

    train, test: uint8 [n, d] and [m, d].
    gamma: inverse squared width, for features in [0, 1].
    """

    def __init__(self, train: Tensor, test: Tensor, gamma: float) -> None:
        self.n, self.n_test, self.device = len(train), len(test), train.device
        self._scale = -gamma / 255.0**2
        # A GPU's float32 product may be TF32, which is not exact; its float64 is fast.
        dtype = torch.float32 if self.device.type == "cpu" else torch.float64
        self._train, self._test = train.to(dtype).sub_(128), test.to(dtype).sub_(128)
        self._train_norms, self._test_norms = _squares(self._train), _squares(self._test)

    def train(self, rows: slice, columns: slice) -> Tensor:
        return self._values(self._train[rows], self._train_norms[rows], columns)

    def test(self, rows: slice, columns: slice) -> Tensor:
        return self._values(self._test[rows], self._test_norms[rows], columns)

    def _values(self, x: Tensor, norms: Tensor, columns: slice) -> Tensor:
        y = self._train[columns]
        values = norms[:, None] + self._train_norms[columns]
        for a, b in zip(x.split(EXACT_COLUMNS, dim=1), y.split(EXACT_COLUMNS, dim=1), strict=True):
            values.sub_((a @ b.T).to(torch.float64), alpha=2)
        return values.mul_(self._scale).exp_()


def _squares(x: Tensor) -> Tensor:
    return torch.cat([part.to(torch.float64).square_().sum(1) for part in x.split(WIDTH)])


class ExplicitGram:
    """The inner products of explicit features.

    train, test: float64 [n, n] and [m, n].
    """

    def __init__(self, train: Tensor, test: Tensor) -> None:
        self.n, self.n_test, self.device = len(train), len(test), train.device
        self._train, self._test = train, test

    def train(self, rows: slice, columns: slice) -> Tensor:
        return self._train[rows, columns].clone()

    def test(self, rows: slice, columns: slice) -> Tensor:
        return self._test[rows, columns].clone()
