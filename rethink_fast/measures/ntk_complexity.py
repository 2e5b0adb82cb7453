"""Complexity of the labels by the kernel of a wide two-layer ReLU network.

    H_ij = x_i.x_j (pi - arccos(x_i.x_j)) / (2 pi),  |x_i| = 1
    sqrt(2 y' H^-1 y / n)                       for labels +-1
    sqrt(2 k / (k - 1) tr(Y' H^-1 Y) / n)       for k classes, Y = one-hot less 1/k

which for two classes are the same. With two classes it is the leading term of a bound on the test loss, in [0, 1], of
such a network trained by gradient descent. Inputs at right angles to each other give 2 for any labels. No network is
needed: it is a property of the images and their labels.
Source: Arora, Du, Hu, Li and Wang, "Fine-grained analysis of optimization and generalization for overparameterized
two-layer neural networks", ICML 2019, Theorem 5.1.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from ..theory.cholesky import NotPositiveDefinite, factorise
from .measurement import Measurement, Unreadable, timed

ROWS = 2048
SAME = 1 - 1e-12
"""A cosine above this is that of one image twice: rounding alone gives no less."""


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return H between rows of norm 1: float64 [n, d], [m, d] -> [n, m]."""
    cosine = (x @ y.T).clamp_(-1.0, 1.0)
    return cosine * (math.pi - cosine.arccos()) / (2 * math.pi)


@timed
def ntk_complexity(inputs: Tensor, labels: Tensor, *, classes: int | None = None) -> Measurement:
    """Return the complexity of labels on inputs.

    inputs: float [n, ...], of any scale.
    labels: int64 [n].
    classes: of the task. Default: the largest label and 1.
    Raises Unreadable where an input is 0, or two are the same up to scale.
    """
    classes = int(labels.max()) + 1 if classes is None else classes
    x = F.normalize(inputs.flatten(1).double(), dim=1)
    if len(zero := (x.norm(dim=1) == 0).nonzero()):
        raise Unreadable(f"it needs inputs of some length, and input {int(zero[0])} is all zeros")
    cosine, i, j = nearest(x)
    alike = f"it needs inputs that differ, and inputs {i} and {j} are the same up to scale (cosine {cosine:.14f})"
    if cosine > SAME:
        raise Unreadable(alike)
    try:
        factor = factorise(lambda start, stop: kernel(x[start:], x[start:stop]), len(x))
    except NotPositiveDefinite:
        raise Unreadable(alike) from None
    y = F.one_hot(labels, classes).double() - 1 / classes
    energy = (y * factor.solve(y)).sum().item() * classes / (classes - 1)
    value, two = math.sqrt(2 * energy / len(x)), classes == 2
    return Measurement(
        name="ntk_complexity",
        value=value,
        meaning="test loss of a wide two-layer network on these labels, its leading term",
        bounds="test loss" if two else "correlate",
        reference="Arora et al. 2019",
        verdict=None if not two else "says something" if value < 1 else "vacuous",
        note="" if two else "the bound is for two classes; this is its form for more",
        details={"n": len(x), "classes": classes, "nearest": [i, j, cosine]},
    )


def nearest(x: Tensor) -> tuple[float, int, int]:
    """Return the largest cosine of two different rows of norm 1, and their positions."""
    found = (-1.0, 0, 0)
    for start in range(0, len(x), ROWS):
        cosine = (x[start : start + ROWS] @ x.T).tril_(start - 1)
        place = int(cosine.argmax())
        found = max(found, (cosine.flatten()[place].item(), place % len(x), start + place // len(x)))
    return found
