"""Small Inception: the paper's own network for CIFAR-10 (Zhang et al. 2017, appendix A, Figure 3).

    module(C, K, S)   convolution KxK of stride S to C channels -> batch norm -> ReLU
    (a, b)            inception: [module(a, 1x1, 1), module(b, 3x3, 1)], concatenated
    c                 downsample: [module(c, 3x3, 2), max-pool 3x3 of stride 2], concatenated

Batch norm learns a shift only and its convolution has no bias: TensorFlow-slim's default, and the one form whose
count equals that of the network without batch norm, where the convolutions have the biases.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import BatchNorm2d, initialise, pad_for_stride_2, relu_after_norm

FIRST = 96
PLAN: tuple[tuple[int, int] | int, ...] = (
    *((32, 32), (32, 48), 80),
    *((112, 48), (96, 64), (80, 80), (48, 96), 96),
    *((176, 160), (176, 160)),
)


class ShiftBatchNorm(BatchNorm2d):
    """Batch norm without a learned scale: the next layer can absorb it through the ReLU.

    The scale stays as a constant of ones, because the fast kernels want one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.1)
        del self.weight
        self.register_buffer("weight", torch.ones(channels), persistent=False)


class ConvModule(nn.Module):
    """Convolution, batch norm (or a bias) and ReLU; SAME padding at stride 1, none at stride 2."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, batch_norm: bool) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=not batch_norm)
        self.norm = ShiftBatchNorm(out) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return relu_after_norm(x) if isinstance(self.norm, nn.BatchNorm2d) else x.relu()


class InceptionModule(nn.Module):
    """Two convolutions side by side: [B, channels, H, W] -> [B, out1 + out3, H, W]."""

    def __init__(self, channels: int, out1: int, out3: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, out1, 1, 1, batch_norm)
        self.conv3 = ConvModule(channels, out3, 3, 1, batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.conv1(x), self.conv3(x)), dim=1)


class DownsampleModule(nn.Module):
    """A convolution of stride 2 next to a max-pool: [B, channels, H, W] -> [B, out + channels, ~H/2, ~W/2]."""

    def __init__(self, channels: int, out: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv3 = ConvModule(channels, out, 3, 2, batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_for_stride_2(x)
        return torch.cat((self.conv3(x), F.max_pool2d(x, 3, 2)), dim=1)


class InceptionSmall(nn.Module):
    """The small Inception: 1,649,402 parameters on 3 channels and 10 classes, with and without batch norm.

    float [B, channels, *size] -> [B, num_classes]; the mean over all positions serves any size.

    dropout: before the classifier.
    width: the share of each convolution's channels that is kept, rounded up to a multiple of 8.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        channels: int,
        size: tuple[int, int],
        dropout: float = 0.0,
        batch_norm: bool = True,
        width: float = 1.0,
    ) -> None:
        super().__init__()

        def narrowed(out: int) -> int:
            return 8 * math.ceil(out * width / 8)

        stages: list[nn.Module] = [ConvModule(channels, narrowed(FIRST), 3, 1, batch_norm)]
        channels = narrowed(FIRST)
        for row in PLAN:
            if isinstance(row, int):
                stages.append(DownsampleModule(channels, narrowed(row), batch_norm))
                channels += narrowed(row)
            else:
                outs = narrowed(row[0]), narrowed(row[1])
                stages.append(InceptionModule(channels, *outs, batch_norm))
                channels = sum(outs)
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self, self.classifier)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.stages(x).mean(dim=(2, 3))))
