"""Adaptive sharpness of the normalised outputs.

    mean over batches of  max { L(w + |w| u) : |u|_2 <= rho } - L(w)

with |w| u taken weight by weight, and L the cross entropy of the outputs less their mean over their norm. Scaling one
layer up and the next down changes neither u nor the outputs, and so nothing here, unlike in a ball |delta| <= rho.
The maximum is sought by 20 steps of normalised gradient ascent, so that it is a lower bound.
Source: Andriushchenko, Croce, Mueller, Hein and Flammarion, "A modern look at the relationship between sharpness and
generalization", ICML 2023; Kwon, Kim, Park and Choi (ASAM), ICML 2021, for |w| u.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .measurement import Measurement, timed
from .network import frozen

RHO, STEPS, BATCH = 0.4, 20, 128


def normalised_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy of outputs of mean 0 and norm 1."""
    centred = logits - logits.mean(1, keepdim=True)
    return F.cross_entropy(centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-10), labels)


def ascend(model: nn.Module, inputs: Tensor, labels: Tensor, rho: float, *, adaptive: bool = True) -> float:
    """Return how much the loss of a batch rises at most, as far as the ascent finds.

    model: in eval mode.
    inputs: float [n, ...].
    labels: int64 [n].
    rho: radius of the neighbourhood of the weights.
    adaptive: scale the neighbourhood by the size of each weight.
    """
    weights = {name: p.detach() for name, p in model.named_parameters()}
    scale = {name: w.abs() if adaptive else torch.ones_like(w) for name, w in weights.items()}
    u = {name: torch.zeros_like(w) for name, w in weights.items()}
    first, worst = math.nan, -math.inf
    for step in range(STEPS + 1):
        moved = {name: (w + scale[name] * u[name]).requires_grad_() for name, w in weights.items()}
        loss = normalised_loss(functional_call(model, moved, inputs).float(), labels)
        first, worst = (loss.item() if step == 0 else first), max(worst, loss.item())
        gradients = torch.autograd.grad(loss, list(moved.values()))
        slopes = {name: scale[name] * g for name, g in zip(moved, gradients, strict=True)}
        length = _norm(slopes)
        if length == 0:
            break
        u = {name: u[name] + rho / 4 / length * slope for name, slope in slopes.items()}
        back = min(1.0, rho / _norm(u))
        u = {name: back * each for name, each in u.items()}
    return worst - first


def _norm(values: dict[str, Tensor]) -> float:
    return math.sqrt(sum(each.double().square().sum().item() for each in values.values()))


@timed
def sharpness(model: nn.Module, inputs: Tensor, labels: Tensor, *, rho: float = RHO) -> Measurement:
    """Return the adaptive sharpness on a sample.

    model: the trained network.
    inputs: float [m, ...], network inputs of a sample of the training set.
    labels: int64 [m], their labels in training.
    rho: how far the weights may move, relative to the size of each.
    """
    ready = frozen(model, inputs[:2])
    found = [ascend(ready, x, y, rho) for x, y in zip(inputs.split(BATCH), labels.split(BATCH), strict=True)]
    values = torch.tensor(found, dtype=torch.float64)
    return Measurement(
        name="sharpness",
        value=values.mean().item(),
        meaning="rise of the loss by the worst small change of the weights",
        bounds="correlate",
        reference="Andriushchenko et al. 2023",
        error=(values.std() / math.sqrt(len(values))).item() if len(values) > 1 else None,
        details={"rho": rho, "batches": len(found)},
    )
