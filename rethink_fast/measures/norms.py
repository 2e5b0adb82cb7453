"""Norms of layers as linear maps, and the margins that norm-based bounds are scaled by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .measurement import Unreadable
from .network import Layer, WeightedLayer, frozen, logits_of, margins, read

PERCENTILE = 0.1
"""The margin that bounds are taken at: the 10th percentile, as in Jiang et al. 2020."""


def conv_norm(weight: Tensor, size: tuple[int, int], groups: int = 1) -> float:
    """Return the largest singular value of a convolution with circular padding on images of this size.

    It is the largest of the kernel's two-dimensional discrete Fourier transform over all frequencies (Sedghi, Gupta and
    Long, "The singular values of convolutional layers", ICLR 2019); that of the reshaped weight is another number. A
    stride can only make it less.

    weight: float [out, in / groups, h, w].
    size: height and width of the images.
    groups: of the convolution.
    """
    norms = []
    for part in weight.double().chunk(groups):
        transformed = torch.fft.rfft2(_wrapped(part, size)).permute(2, 3, 0, 1)
        norms.append(torch.linalg.matrix_norm(transformed, ord=2).max().item())
    return max(norms)


def _wrapped(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Lay a kernel onto a grid of this size; what is larger than the grid goes round."""
    grid = weight.new_zeros(*weight.shape[:2], *size)
    rows = torch.arange(weight.shape[2])[:, None].expand(*weight.shape[2:]).flatten() % size[0]
    columns = torch.arange(weight.shape[3])[None].expand(*weight.shape[2:]).flatten() % size[1]
    flat = grid.flatten(2).index_add_(2, rows * size[1] + columns, weight.flatten(2))
    return flat.unflatten(2, size)


def operator_norm(layer: Layer) -> float:
    """Return the largest factor by which a layer stretches the distance of two inputs, or a bound on it.

    A convolution with zero padding is part of the circular one on a grid that is larger by the kernel less 1, so that
    its norm is at most as large. A value that lies in m windows of a max-pool can move m outputs.
    """
    if not isinstance(layer, WeightedLayer):
        return math.sqrt(math.prod(math.ceil(k / s) for k, s in zip(layer.kernel, layer.stride, strict=True)))
    if layer.kind == "linear":
        return torch.linalg.matrix_norm(layer.weight.double(), ord=2).item()
    height, width = (side + k - 1 for side, k in zip(layer.inside[1:], layer.kernel, strict=True))
    return conv_norm(layer.weight, (height, width), layer.groups)


def positions(layer: Layer) -> int:
    """Return how often a row of the weight is in the matrix of a layer: once, or at each position of a convolution."""
    return math.prod(layer.outside[1:])


@dataclass(frozen=True)
class Chain:
    """Layers one after another, and what a sample says of them.

    initial: the layers before training.
    norm: of the inputs, |X| / sqrt(n).
    margins: float64 [n].
    gamma: the 10th percentile of the margins that are positive.
    below: share of the margins that are at most gamma.
    normalised: whether a local response normalization was skipped.
    """

    layers: list[Layer]
    initial: list[Layer]
    norm: float
    margins: Tensor
    gamma: float
    below: float
    normalised: bool

    @property
    def note(self) -> str:
        """What the bounds omit."""
        passed = "; its local response normalization counts as stretching nothing, which is not proved"
        return f"biases are omitted from the norms{passed if self.normalised else ''}"


def chain_of(model: nn.Module, initial: nn.Module, inputs: Tensor, labels: Tensor) -> Chain:
    """Read a network, its initial weights and its margins on a sample.

    model: the trained network.
    initial: the same network before training.
    inputs: float [n, ...].
    labels: int64 [n].
    Raises Unreadable.
    """
    now = frozen(model, inputs[:2])
    network = read(now, inputs)
    layers, first = network.chain(), read(frozen(initial, inputs[:2]), inputs).chain()
    values = margins(logits_of(now, inputs), labels).double()
    positive = values[values > 0]
    if not len(positive):
        raise Unreadable("it needs a margin above 0, and this network has every label wrong")
    gamma = positive.quantile(PERCENTILE).item()
    return Chain(
        layers=layers,
        initial=first,
        norm=inputs.double().square().sum().div(len(inputs)).sqrt().item(),
        margins=values,
        gamma=gamma,
        below=(values <= gamma).double().mean().item(),
        normalised=network.normalised,
    )


def perceptron(chain: Chain) -> list[tuple[Tensor, Tensor]]:
    """Return the weights of each layer, now and at first. Raises Unreadable where one is no linear layer."""
    if any(layer.kind != "linear" for layer in chain.layers):
        raise Unreadable("it is for linear layers with ReLU between, and this network has others")
    return [
        (now.weight.double(), before.weight.double())
        for now, before in zip(chain.layers, chain.initial, strict=True)
        if isinstance(now, WeightedLayer) and isinstance(before, WeightedLayer)
    ]


def path_norm(model: nn.Module, example: Tensor) -> float:
    """Return the square root of the sum over all paths from input to output of the product of their squared weights.

    It is the root of the outputs of the network with squared weights for an image of ones (Neyshabur, Tomioka and
    Srebro, COLT 2015; eq. 43 of Jiang et al. 2020).

    example: an input [1 or more, ...].
    """
    squared = frozen(model, example).double()
    with torch.no_grad():
        for p in squared.parameters():
            p.square_()
        return math.sqrt(squared(torch.ones_like(example[:1], dtype=torch.float64)).sum().item())
