"""SGD with momentum and a learning rate that decays with the images seen (Zhang et al. 2017, appendix A)."""

from __future__ import annotations

import torch
from torch import nn


def sgd(model: nn.Module, *, lr: float, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """SGD whose weight decay touches the weights of convolutions and linear layers alone, as TF-slim's does."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": weight_decay}]
    if others:
        groups.append({"params": others, "weight_decay": 0.0})
    # foreach: a handful of calls a step in place of a few per parameter.
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, foreach=True)


def learning_rate(lr: float, decay: float, *, epoch: int, images: int, full_size: int) -> float:
    """The learning rate of an epoch (from 0): lr times `decay` for every `full_size` images seen before it.

    On the full data set this is the paper's "decay factor of 0.95 per training epoch". On a subset the schedule keeps
    its length in images, because 0.95 after every few steps would stop the training before it has begun.
    """
    return lr * decay ** (epoch * images // full_size)
