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
        self._means = [norm.running_mean for norm in self._norms if norm.running_mean is not None]
        self._variances = [norm.running_var for norm in self._norms if norm.running_var is not None]
        self._first = [torch.zeros_like(mean, dtype=torch.float64) for mean in self._means]
        self._second = [torch.zeros_like(total) for total in self._first]
        self._count = torch.zeros((), dtype=torch.float64, device=next(model.parameters()).device)

    def __bool__(self) -> bool:
        return bool(self._norms)

    def _totals(self) -> list[Tensor]:
        return [*self._first, *self._second, self._count]

    def begin(self) -> None:
        """Start from no batches."""
        for total in self._totals():
            total.zero_()

    def state(self) -> list[Tensor]:
        """Return a copy of the sums."""
        return [total.clone() for total in self._totals()]

    def load_state(self, state: list[Tensor]) -> None:
        """Restore a copy, in place."""
        for total, earlier in zip(self._totals(), state, strict=True):
            total.copy_(earlier)

    @contextmanager
    def adding(self, images: int) -> Iterator[None]:
        """Add the moments of the batch that passes through the network in this block. images: its size."""
        momenta = [norm.momentum for norm in self._norms]
        for norm in self._norms:
            norm.training, norm.momentum = True, 1.0  # the running statistics become those of the batch
        try:
            yield
        finally:
            for norm, momentum in zip(self._norms, momenta, strict=True):
                norm.training, norm.momentum = False, momentum
        for mean, variance, first, second in self._each():
            mean64 = mean.double()
            first += images * mean64
            second += images * (variance.double() + mean64.square())
        self._count += images

    def finish(self) -> None:
        """Set the network's running statistics to those of all batches."""
        for mean, variance, first, second in self._each():
            mean64 = first / self._count
            mean.copy_(mean64)
            variance.copy_(second / self._count - mean64.square())

    def _each(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        return zip(self._means, self._variances, self._first, self._second, strict=True)
