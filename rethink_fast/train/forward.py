"""From preprocessed images and labels to the loss, the scores and the counters: what torch.compile is given.

On a GPU the counters are part of the compiled function, where they take no kernels besides the loss's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AUX_WEIGHT = 0.4

Counters: TypeAlias = "tuple[Tensor, Tensor, Tensor, Tensor]"
"""Steps, the first of them whose loss was not finite (-1 for none), sum of the losses, samples that were right."""

Loss: TypeAlias = "Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]"
"""inputs, labels -> the loss of a batch, and how many of it were right."""


def make_loss(network: nn.Module, device: str, autocast: bool, reduction: str) -> Loss:
    """Return the function of a batch's loss, the auxiliary head's included. reduction: "mean" or "sum"."""

    def loss_of(inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device, torch.bfloat16, enabled=autocast, cache_enabled=False):
            out = network(inputs)
        logits, aux = out if isinstance(out, tuple) else (out, None)
        loss = F.cross_entropy(logits.float(), labels, reduction=reduction)
        right = (logits.argmax(1) == labels).sum()
        if aux is not None:
            loss = loss + AUX_WEIGHT * F.cross_entropy(aux.float(), labels, reduction=reduction)
        return loss, right

    return loss_of


def make_score(model: nn.Module, device: str, autocast: bool, top5: bool) -> Callable[..., tuple[Tensor, ...]]:
    """Return the function of each sample's loss, whether it was right, and with top5 whether it was in the top 5."""

    def score_of(inputs: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(device, torch.bfloat16, enabled=autocast, cache_enabled=False):
            logits = model(inputs)
        scores = F.cross_entropy(logits.float(), labels, reduction="none"), logits.argmax(1) == labels
        return (*scores, (logits.topk(5, 1).indices == labels[:, None]).any(1)) if top5 else scores

    return score_of


def counted(loss_of: Loss, counters: Counters) -> Loss:
    """Return `loss_of`, whose loss is a mean, with each call added to the counters."""

    def counted_loss(inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        loss, right = loss_of(inputs, labels)
        count_step_(counters, loss.detach().double() * len(labels), right)
        return loss, right

    return counted_loss


@torch.no_grad()
def count_step_(counters: Counters, loss_sum: Tensor, right: Tensor) -> None:
    """Add a step to the counters.

    loss_sum: float64 [], over its samples.
    right: int64 [].
    """
    steps, first_non_finite_step, losses, rights = counters
    steps += 1
    losses += loss_sum
    rights += right
    first = ~torch.isfinite(loss_sum) & (first_non_finite_step < 0)
    first_non_finite_step.copy_(torch.where(first, steps, first_non_finite_step))
