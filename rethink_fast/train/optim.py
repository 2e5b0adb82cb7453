"""Optimizers, and the learning rate over the run (Zhang et al. 2017, appendix A, is SGD with momentum and a decay)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import DEFAULTS, Run, Train, settled


def make_optimizer(model: nn.Module, train: Train) -> torch.optim.Optimizer:
    """The optimizer of a run, whose weight decay touches the weights of convolutions and linear layers alone.

    TF-slim's regularizers do likewise. On a GPU the learning rate is a tensor there, so that a captured step can follow
    its schedule.
    """
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": train.weight_decay}]
    if others:
        groups.append({"params": others, "weight_decay": 0.0})
    device = weights[0].device
    lr = torch.tensor(settled(train.lr), device=device) if device.type == "cuda" else settled(train.lr)
    # fused: one pass over weights, gradients and momentum, in place of a call for each operation.
    return torch.optim.SGD(groups, lr=lr, momentum=settled(train.momentum), fused=True)


def materialise(optimizer: torch.optim.Optimizer) -> None:
    """Make the optimizer's state as the first step finds it, so that it can be kept, put back and captured.

    A step of gradients of zero at a learning rate of zero makes it, and zeros are how each kind begins: the first step
    of SGD sets its momentum to the gradient, which is what adding the gradient to zeros gives.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], Tensor) else 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for value in optimizer_state(optimizer).values():
        value.zero_()


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Every tensor of the optimizer's state, by the place of its parameter."""
    return {
        f"optimizer.{place}.{number}.{name}": value
        for place, group in enumerate(optimizer.param_groups)
        for number, parameter in enumerate(group["params"])
        for name, value in optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use this learning rate from the next step on."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def learning_rate(run: Run, epoch: int, *, images: int) -> float:
    """The learning rate of an epoch (from 0): the first one times `lr_decay` for every full data set seen before it.

    images: in the training set. On the full data set this is the paper's "decay factor of 0.95 per training epoch". On
    a subset the schedule keeps its length in images, because 0.95 after every few steps would stop the training before
    it has begun.
    """
    train = run.train
    return settled(train.lr) * settled(train.lr_decay) ** (epoch * images // DEFAULTS[run.dataset].full_size)
