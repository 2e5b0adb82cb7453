"""Batch norm statistics of the whole training set, estimated before an evaluation.

    mean = sum over batches of n m / N,   variance = sum of n (v + m^2) / N - mean^2

with n images of mean m and variance v in a batch, N in all. The running averages of training lag behind the weights:
after the first epochs of a small run the loss they give is 10 to 100 times that of the batches. (Wu and Johnson 2021,
"Rethinking 'Batch' in BatchNorm", section 3.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class BatchNormStatistics:
    """Sums over batches of the moments that each batch norm of a network sees.

    model: float [B, C, H, W] inputs; its BatchNorm2d modules keep running statistics.
    """

    def __init__(self, model: nn.Module) -> None:
        self._norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        self._sums = [torch.zeros_like(buffer, dtype=torch.float64) for buffer in self._buffers()]
        device = next(model.parameters()).device
        self._count = torch.zeros((), dtype=torch.float64, device=device)

    def __bool__(self) -> bool:
        return bool(self._norms)

    def _buffers(self) -> list[Tensor]:
        pairs = ((norm.running_mean, norm.running_var) for norm in self._norms)
        return [buffer for pair in pairs for buffer in pair if buffer is not None]

    def begin(self) -> None:
        """Start from no batches."""
        for total in (*self._sums, self._count):
            total.zero_()

    def state(self) -> list[Tensor]:
        """Return a copy of the sums."""
        return [total.clone() for total in (*self._sums, self._count)]

    def load_state(self, state: list[Tensor]) -> None:
        """Go back to a copy, in place."""
        for total, earlier in zip((*self._sums, self._count), state, strict=True):
            total.copy_(earlier)

    @contextmanager
    def adding(self, images: int) -> Iterator[None]:
        """Add the moments of the batch that is passed through the network inside this block. images: its size."""
        momenta = [norm.momentum for norm in self._norms]
        for norm in self._norms:
            norm.training, norm.momentum = True, 1.0  # the running statistics become those of the batch
        yield
        for norm, momentum in zip(self._norms, momenta, strict=True):
            norm.training, norm.momentum = False, momentum
        buffers = iter(self._buffers())
        sums = iter(self._sums)
        for mean, variance in zip(buffers, buffers, strict=True):
            mean64 = mean.double()
            next(sums).add_(images * mean64)
            next(sums).add_(images * (variance.double() + mean64.square()))
        self._count += images

    def finish(self) -> None:
        """Make the network's running statistics those of all batches."""
        pairs = iter(zip(self._buffers(), self._sums, strict=True))
        for (mean, first), (variance, second) in zip(pairs, pairs, strict=True):
            mean64 = first / self._count
            mean.copy_(mean64)
            variance.copy_(second / self._count - mean64.square())
