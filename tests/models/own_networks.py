"""Networks from outside the package, as users write them, and misfits of every kind."""

from __future__ import annotations

import sys
import threading
from typing import Any

import torch
from torch import Tensor, nn

from rethink_fast.models import build_model

Size = tuple[int, int]


def tiny(num_classes: int, channels: int, size: Size) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(num_classes)
    )


def same_as_inception(num_classes: int, channels: int, size: Size) -> nn.Module:
    return build_model("inception_small", num_classes=num_classes, channels=channels, size=size)


def same_as_mlp(num_classes: int, channels: int, size: Size) -> nn.Module:
    return build_model("mlp_1x512", num_classes=num_classes, channels=channels, size=size)


class TwoHeads(nn.Module):
    """Auxiliary logits in training."""

    def __init__(self, num_classes: int, channels: int, size: Size) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], 16), nn.ReLU())
        self.head, self.aux = nn.Linear(16, num_classes), nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.body(x)
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


def two_arguments(num_classes: int, channels: int) -> None: ...


def no_module(num_classes: int, channels: int, size: Size) -> int:
    return num_classes


def other_classes(num_classes: int, channels: int, size: Size) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], num_classes + 1))


def no_flatten(num_classes: int, channels: int, size: Size) -> nn.Module:
    return nn.Linear(size[1], num_classes)


def too_large(num_classes: int, channels: int, size: Size) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, num_classes, 99), nn.Flatten())


def frozen(num_classes: int, channels: int, size: Size) -> nn.Module:
    return TwoHeads(num_classes, channels, size).requires_grad_(False)


def elsewhere(num_classes: int, channels: int, size: Size) -> nn.Module:
    network = TwoHeads(num_classes, channels, size)
    network.unused = nn.Parameter(torch.empty(3, device="meta"))
    return network


class Predictions(TwoHeads):
    def forward(self, x: Tensor) -> Any:
        return self.head(self.body(x)).argmax(1)


class WithoutGradients(TwoHeads):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Any:
        return super().forward(x)


class Sparse(TwoHeads):
    def forward(self, x: Tensor) -> Any:
        return self.head(self.body(x)).to_sparse()


def locked(num_classes: int, channels: int, size: Size) -> nn.Module:
    network = TwoHeads(num_classes, channels, size)
    network.lock = threading.Lock()  # type: ignore[assignment]
    return network


def buffer_elsewhere(num_classes: int, channels: int, size: Size) -> nn.Module:
    network = TwoHeads(num_classes, channels, size)
    network.register_buffer("unused", torch.empty(3, device="meta"))
    return network


def doubles(num_classes: int, channels: int, size: Size) -> nn.Module:
    return TwoHeads(num_classes, channels, size).double()


def leaves(num_classes: int, channels: int, size: Size) -> nn.Module:
    sys.exit("no")


class Fails(TwoHeads):
    def forward(self, x: Tensor) -> Any:
        raise KeyError("x")


NOT_CALLABLE = 3
