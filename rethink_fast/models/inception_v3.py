"""Inception V3, the paper's network for ImageNet: the published layer plan (Szegedy et al. 2015, "Rethinking the
Inception architecture for computer vision") in the form of TensorFlow-slim.

Every convolution is bias-free, followed by batch norm (eps 1e-3, scale and shift) and ReLU. Average pooling leaves
the padding out of its mean, as TensorFlow does. No layer depends on the size, which must leave one position at the
end: 75 pixels. The auxiliary head ends in a 5x5 convolution without padding, which takes 299.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import layers
from .layers import BatchNorm2d, initialise, relu_after_norm


class Conv(NamedTuple):
    """A convolution module: stride 1 keeps the size unless `valid`, stride 2 is always without padding."""

    out: int
    height: int = 1
    width: int = 1
    stride: int = 1
    valid: bool = False


AVERAGE, MAX = "average", "max"  # 3x3 pooling, of stride 1 with padding and of stride 2 without
Chain: TypeAlias = "list[Conv | str | tuple[Chain, ...]]"
"""Layers one after another; a tuple of chains runs side by side on one input and is concatenated."""


def _block35(pool: int) -> tuple[Chain, ...]:
    return ([Conv(64)], [Conv(48), Conv(64, 5, 5)], [Conv(64), Conv(96, 3, 3), Conv(96, 3, 3)], [AVERAGE, Conv(pool)])


def _block17(c: int) -> tuple[Chain, ...]:
    return (
        [Conv(192)],
        [Conv(c), Conv(c, 1, 7), Conv(192, 7, 1)],
        [Conv(c), Conv(c, 7, 1), Conv(c, 1, 7), Conv(c, 7, 1), Conv(192, 1, 7)],
        [AVERAGE, Conv(192)],
    )


_FORK: tuple[Chain, ...] = ([Conv(384, 1, 3)], [Conv(384, 3, 1)])
_BLOCK8: tuple[Chain, ...] = (
    [Conv(320)],
    [Conv(384), _FORK],
    [Conv(448), Conv(384, 3, 3), _FORK],
    [AVERAGE, Conv(192)],
)
_TO_17: tuple[Chain, ...] = ([Conv(384, 3, 3, 2)], [Conv(64), Conv(96, 3, 3), Conv(96, 3, 3, 2)], [MAX])
_TO_8: tuple[Chain, ...] = (
    [Conv(192), Conv(320, 3, 3, 2)],
    [Conv(192), Conv(192, 1, 7), Conv(192, 7, 1), Conv(192, 3, 3, 2)],
    [MAX],
)

# The comments give the grid for 299 pixels.
UP_TO_17: Chain = [
    *(Conv(32, 3, 3, 2), Conv(32, 3, 3, valid=True), Conv(64, 3, 3), MAX),  # 149, 147, 147, 73
    *(Conv(80), Conv(192, 3, 3, valid=True), MAX),  # 73, 71, 35
    *(_block35(32), _block35(64), _block35(64)),  # 35
    *(_TO_17, _block17(128), _block17(160), _block17(160), _block17(192)),  # 17
]
FROM_17: Chain = [_TO_8, _BLOCK8, _BLOCK8]  # 8


class ConvBatchNorm(nn.Sequential):
    """Bias-free convolution, batch norm, ReLU."""

    def __init__(self, channels: int, conv: Conv) -> None:
        same = conv.stride == 1 and not conv.valid
        super().__init__(
            nn.Conv2d(
                channels,
                conv.out,
                (conv.height, conv.width),
                conv.stride,
                (conv.height // 2, conv.width // 2) if same else 0,
                bias=False,
            ),
            BatchNorm2d(conv.out, eps=1e-3, momentum=0.1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self[0](x))

    def activation(self, x: Tensor) -> Tensor:
        """Return the output for what the convolution gives."""
        return relu_after_norm(self[1](x))


class Concatenation(nn.Module):
    """Modules side by side on one input, concatenated along the channels."""

    branches: Sequence[nn.Sequential]

    def __init__(self, branches: list[nn.Sequential]) -> None:
        super().__init__()
        self.branches = cast("Sequence[nn.Sequential]", nn.ModuleList(branches))

    def forward(self, x: Tensor) -> Tensor:
        joined = self.training and layers.in_gpu_graph(x)
        return torch.cat(self.joined(x) if joined else [branch(x) for branch in self.branches], dim=1)

    def joined(self, x: Tensor) -> list[Tensor]:
        """Return what the branches return, with one convolution in place of all of 1x1 that they begin with.

        The input is read once and its gradient written once. Where a branch averages first, it averages afterwards,
        over fewer channels: a mean over positions commutes with a 1x1 convolution.
        """
        openings = [_opening(branch) for branch in self.branches]
        weights: list[Any] = [opening[0].weight for opening in openings if opening is not None]
        parts = iter(
            F.conv2d(x, torch.cat(weights)).split([len(weight) for weight in weights], dim=1) if weights else ()
        )
        out = []
        for branch, opening in zip(self.branches, openings, strict=True):
            y = x if opening is None else next(parts)
            for module in branch:
                y = module(y) if opening is None or module is not opening else opening.activation(y)
            out.append(y)
        return out


def _opening(branch: nn.Sequential) -> ConvBatchNorm | None:
    """Return the 1x1 convolution module that a branch begins with, after averages or none; None where there is none."""
    first = branch[1] if isinstance(branch[0], nn.AvgPool2d) else branch[0]
    return first if isinstance(first, ConvBatchNorm) and first[0].kernel_size == (1, 1) else None


def _chain(channels: int, plan: Chain) -> tuple[nn.Sequential, int]:
    """Return the modules of a chain on so many channels, and how many channels it gives."""
    modules = nn.Sequential()
    for step in plan:
        if isinstance(step, str):
            pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False) if step == AVERAGE else nn.MaxPool2d(3, 2)
            modules.append(pool)
        elif isinstance(step, Conv):
            modules.append(ConvBatchNorm(channels, step))
            channels = step.out
        else:
            chains = [_chain(channels, chain) for chain in step]
            modules.append(Concatenation([module for module, _ in chains]))
            channels = sum(out for _, out in chains)
    return modules, channels


class InceptionV3(nn.Module):
    """Inception V3: 23,834,568 parameters on 3 channels and 1000 classes; 27,161,264 with the auxiliary head.

    float [B, channels, *size] -> logits [B, num_classes], or (logits, auxiliary logits) in training with the head.

    dropout: before the classifier.
    """

    def __init__(
        self, *, num_classes: int, channels: int, size: tuple[int, int], dropout: float = 0.0, aux_head: bool = False
    ) -> None:
        super().__init__()
        self.up_to_17, width = _chain(channels, UP_TO_17)
        self.aux_head: nn.Sequential | None = None
        last: list[nn.Linear] = []
        if aux_head:
            last.append(nn.Linear(768, num_classes))
            self.aux_head = nn.Sequential(
                nn.AvgPool2d(5, 3),
                ConvBatchNorm(width, Conv(128)),
                ConvBatchNorm(128, Conv(768, 5, 5, valid=True)),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                last[0],
            )
        self.from_17, width = _chain(width, FROM_17)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)
        initialise(self, self.classifier, *last)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        grid = self.up_to_17(x)
        logits = self.classifier(self.dropout(self.from_17(grid).mean(dim=(2, 3))))
        if self.aux_head is not None and self.training:
            return logits, self.aux_head(grid)
        return logits
