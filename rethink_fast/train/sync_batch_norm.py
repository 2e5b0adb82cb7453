"""Batch norm over a batch that several ranks share, so that what a network computes does not depend on their number.

    every rank   mean and variance of its own samples, and their count  ->  all ranks  ->  those of the batch

torch's SyncBatchNorm does the same on GPUs alone. Here the collectives are functional ones, which torch.compile keeps
inside its graph.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed._functional_collectives as functional
from torch import Tensor, nn

from .distributed import Distributed


class CompilableSyncBatchNorm(nn.BatchNorm2d):
    """Replaces a BatchNorm2d, with its parameters, buffers and names. A rank's share may be empty."""

    running_mean: Tensor
    running_var: Tensor
    momentum: float

    def __init__(self, norm: nn.BatchNorm2d, ranks: Distributed) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self._ranks = ranks
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self._non_persistent_buffers_set = norm._non_persistent_buffers_set

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised share of this rank, in its dtype and layout. x: float [B, C, H, W]."""
        if not self.training:
            return super().forward(x)
        out, mean, variance, count = _Normalise.apply(x, self.weight, self.bias, self.eps, self._ranks)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return out


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, with the moments of all ranks' x; these and the count too."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, ranks: Distributed
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        channels = x.shape[1]
        values = x if x.dtype == torch.float64 else x.float()
        rows = values.new_zeros(ranks.world_size, 3, channels)
        if x.numel():
            variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
            samples = torch.full_like(mean, x.numel() // channels)
            rows[ranks.rank] = torch.stack((mean, variance, samples))
        means, variances, counts = _add_up(rows, ranks).unbind(1)
        count = counts.sum(0)
        share = counts / count
        mean = (share * means).sum(0)
        variance = (share * (variances + (means - mean).square())).sum(0)
        scale = (variance + eps).rsqrt()
        out = (values - _each(mean)) * _each(scale * weight) + _each(bias)
        ctx.save_for_backward(x, mean, scale, weight, count)
        ctx.mark_non_differentiable(mean, variance, count)
        ctx.ranks = ranks
        return out.to(x.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, mean, scale, weight, count = ctx.saved_tensors
        normal = (x.to(mean.dtype) - _each(mean)) * _each(scale)
        slope = gradient.to(mean.dtype)
        sums = torch.stack((slope.sum((0, 2, 3)), (slope * normal).sum((0, 2, 3))))
        level, tilt = (_add_up(sums, ctx.ranks) / count).unbind(0)
        back = _each(scale * weight) * (slope - _each(level) - normal * _each(tilt))
        return back.to(x.dtype), sums[1], sums[0], None, None


def _each(values: Tensor) -> Tensor:
    """[C] -> [1, C, 1, 1]."""
    return values[None, :, None, None]


def _add_up(tensor: Tensor, ranks: Distributed) -> Tensor:
    return functional.wait_tensor(functional.all_reduce(tensor, "sum", ranks.group))


def convert_sync_batchnorm(model: nn.Module, ranks: Distributed) -> None:
    """Replace every batch norm of a network by CompilableSyncBatchNorm, where there are several ranks."""
    if not ranks.is_distributed:
        return
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, CompilableSyncBatchNorm(child, ranks))
