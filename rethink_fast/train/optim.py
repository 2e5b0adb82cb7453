"""Optimizers, and the learning rate over the run (Zhang et al. 2017, appendix A, is SGD with momentum and a decay)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..defaults import DEFAULTS, ResolvedRun, ResolvedTrain
from .preconditioner import PreconditionedAdam
from .rmsprop import RMSprop

BETA2 = 0.99
"""Adam's second beta: a memory of about a hundred steps, as long as these runs' epochs."""

RMSPROP: dict[str, Any] = {"alpha": 0.9, "eps": 1.0}
"""Of the TensorFlow Inception package. TensorFlow adds eps inside the root and starts the mean of squares at 1, torch
outside and at 0: while gradients are small, the first steps are up to sqrt(2) times as long here, and later ones equal.
"""


def make_optimizer(model: nn.Module, train: ResolvedTrain) -> torch.optim.Optimizer:
    """Return the optimizer of a run, whose weight decay applies to convolutions and linear layers alone, as TF-slim's.

    On a GPU the learning rate is a tensor there, so that a captured step can follow its schedule.
    """
    weights, other_parameters = _by_kind(model.parameters())
    groups = [{"params": weights, "weight_decay": train.weight_decay}]
    if not train.weight_decay:
        weights.extend(other_parameters)  # a fused update is a call for each group
    elif other_parameters:
        groups.append({"params": other_parameters, "weight_decay": 0.0})
    device, momentum = weights[0].device, train.momentum
    lr = torch.tensor(train.lr, device=device) if device.type == "cuda" else train.lr
    # fused: one pass over weights, gradients and momentum, in place of a call for each operation.
    if train.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, fused=True)
    if train.optimizer == "rmsprop":
        return RMSprop(groups, lr=lr, momentum=momentum, **RMSPROP)
    adam: dict[str, Any] = {"lr": lr, "betas": (momentum, BETA2), "fused": True, "capturable": device.type == "cuda"}
    if train.optimizer == "adam":
        return torch.optim.Adam(groups, **adam)
    dtype = torch.bfloat16 if train.precision == "bf16" else torch.float32
    return PreconditionedAdam(model, groups, dtype=dtype, **adam)


def _by_kind(parameters: Iterable[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weights of convolutions and linear layers, and the other parameters, in order."""
    kinds: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for parameter in parameters:
        kinds[parameter.ndim <= 1].append(parameter)
    return kinds


def init_optimizer_state(optimizer: torch.optim.Optimizer) -> None:
    """Make the optimizer's state before the first step, so that it can be saved, restored and captured.

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
    """Return every tensor of the optimizer's state, by the kind of its parameter and the position among these."""
    shared = {"optimizer.matrix": optimizer.matrix} if isinstance(optimizer, PreconditionedAdam) else {}
    return shared | {
        f"optimizer.{position}.{number}.{name}": value
        for position, kind in enumerate(_by_kind(p for group in optimizer.param_groups for p in group["params"]))
        for number, parameter in enumerate(kind)
        for name, value in optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }


def update(optimizer: torch.optim.Optimizer, *, compiled: bool) -> None:
    """Update the weights; with `compiled`, by torch.compile where that is fewer kernels: RMSprop's, on a GPU."""
    if compiled and isinstance(optimizer, RMSprop) and isinstance(optimizer.param_groups[0]["lr"], Tensor):
        optimizer.step(compiled=True)
    else:
        optimizer.step()


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use this learning rate from the next step on."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


@contextmanager
def learning_rate_from(optimizer: torch.optim.Optimizer, lr: Tensor) -> Iterator[None]:
    """Let the steps in this block read their learning rate from `lr`, float32 []."""
    before = [group["lr"] for group in optimizer.param_groups]
    try:
        for group in optimizer.param_groups:
            group["lr"] = lr
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, before, strict=True):
            group["lr"] = rate


def learning_rate(
    run: ResolvedRun, epoch: int, batch: int = 0, *, images: int, batches: int, full_size: int | None = None
) -> float:
    """Return the learning rate of a step, by the run's schedule.

    epoch, batch: of the step, both from 0.
    images: in the training set.
    batches: in an epoch.
    full_size: images in the full data set. None: the official number.

    exponential: the first rate times `lr_decay` for every full data set seen before this epoch. On the full data set
    this is the paper's "decay factor of 0.95 per training epoch". On a subset the schedule keeps its length in images,
    because 0.95 after every few steps would stop the training before it has begun.
    linear: from the first rate down to zero at the end of the last epoch, step by step.
    step: the first rate times `lr_decay` once half of the epochs have passed, and again after three quarters of them.
    """
    train = run.train
    if train.schedule == "step":
        return train.lr * train.lr_decay ** ((2 * epoch >= train.epochs) + (4 * epoch >= 3 * train.epochs))
    if train.schedule == "linear":
        return train.lr * (1 - (epoch * batches + batch) / (train.epochs * batches))
    return train.lr * train.lr_decay ** (epoch * images // (full_size or DEFAULTS[run.dataset].full_size))
