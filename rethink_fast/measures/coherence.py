"""Coherence of the gradients of single images.

    m = n |mean_i g_i|^2 / mean_i |g_i|^2

1 where they are orthogonal and of one length, n where they are the same: how many images an image's step helps.
Source: Chatterjee and Zielinski, "Making coherence out of nothing at all: measuring the evolution of gradient
alignment", 2020.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .measurement import Measurement, timed
from .network import frozen


def m_coherence(gradients: Iterable[Tensor]) -> float:
    """Return m of gradients, each float [d]. They are summed as they come and never held together."""
    total, squares, n = torch.zeros((), dtype=torch.float64), 0.0, 0
    for gradient in gradients:
        gradient = gradient.double()
        total = total + gradient
        squares += gradient.square().sum().item()
        n += 1
    return total.square().sum().item() / squares if squares else float(n)


def gradients_of(model: nn.Module, inputs: Tensor, labels: Tensor) -> Iterable[Tensor]:
    """Yield the gradient of the cross entropy of each image, over all weights.

    model: in eval mode.
    inputs: float [n, ...].
    labels: int64 [n].
    """
    weights = list(model.parameters())
    for x, y in zip(inputs.split(1), labels.split(1), strict=True):
        loss = F.cross_entropy(model(x).float(), y)
        yield torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])


@timed
def coherence(model: nn.Module, initial: nn.Module, inputs: Tensor, labels: Tensor) -> Measurement:
    """Return the coherence at the weights before training, and at the end. Batch norm keeps its statistics.

    model: the trained network.
    initial: the same network before training.
    inputs: float [m, ...], network inputs of a sample of the training set.
    labels: int64 [m], their labels in training.
    """
    at_first, at_end = (
        m_coherence(gradients_of(frozen(each, inputs[:2]), inputs, labels)) for each in (initial, model)
    )
    return Measurement(
        name="coherence",
        value=at_first,
        meaning="images that the first step of one image helps",
        bounds="correlate",
        falls=True,
        reference="Chatterjee and Zielinski 2020",
        details={"at_the_end": at_end, "n": len(inputs)},
    )
