"""Stability: what one label changes, at worst (uniform) and on average.

    beta = max over pairs and points z of  | 1[f(z) wrong] - 1[f'(z) wrong] |
    R <= R_n + 2 beta + (4 n beta + 1) sqrt(ln(1 / delta) / (2n))

f and f' are trained from the same first weights, in the same order, for as many epochs as the first needs to fit, on
sets that differ in the label of one sample i; z is that sample or a test image. One pair with beta = 1 makes the bound
vacuous; the mean difference of the test loss, which the bound does not see, need not be large.
Source: Bousquet and Elisseeff, "Stability and generalization", JMLR 2 (2002), for a loss in [0, 1]; Hardt, Recht and
Singer, "Train faster, generalize better", ICML 2016, for pairs that share all but one sample.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .measurement import DELTA, Measurement, judged, timed
from .network import logits_of
from .training import Trainer

PAIRS = 4


def bound(beta: float, n: int, train_error: float, delta: float = DELTA) -> float:
    """Return the bound of Bousquet and Elisseeff."""
    return train_error + 2 * beta + (4 * n * beta + 1) * math.sqrt(math.log(1 / delta) / (2 * n))


def distance(f: nn.Module, g: nn.Module) -> float:
    """Return sqrt(|w - w'|^2 / (|w|^2 + |w'|^2))."""
    v, w = (torch.cat([p.detach().double().flatten() for p in each.parameters()]) for each in (f, g))
    return math.sqrt(((v - w).square().sum() / (v.square().sum() + w.square().sum())).item())


@timed
def stability(
    trainer: Trainer,
    positions: Tensor,
    labels: Tensor,
    inputs: Tensor,
    test: tuple[Tensor, Tensor],
    *,
    classes: int,
    pairs: int = PAIRS,
) -> Measurement:
    """Return the mean difference of the test loss when one label changes, and the largest of the error at a point.

    trainer: trains a network, see training.Trainer.
    positions: int64 [n], ascending, of the training samples to be taken.
    labels: int64 [n], their labels.
    inputs: float [n, ...], what the network takes of them.
    test: network inputs and labels of test images.
    classes: of the task.
    pairs: how many labels are changed, each alone.
    """
    n = len(positions)
    counted: list[int] = []
    trainer(positions, labels, classes=classes, watch=lambda epoch, _: counted.append(epoch))
    epochs = len(counted)
    first = trainer(positions, labels, classes=classes, epochs=epochs)
    before, own = logits_of(first, test[0]), logits_of(first, inputs)
    losses, changed, beta, distances = [], [], 0.0, []
    for i in torch.linspace(0, n - 1, pairs).long().tolist():
        other = labels.clone()
        other[i] = (other[i] + 1 + i % (classes - 1)) % classes
        second = trainer(positions, other, classes=classes, epochs=epochs)
        after, there = logits_of(second, test[0]), logits_of(second, inputs[i : i + 1])
        difference = F.cross_entropy(before, test[1], reduction="none") - F.cross_entropy(
            after, test[1], reduction="none"
        )
        losses.append(difference.abs().double().mean().item())
        changed.append((before.argmax(1) != after.argmax(1)).double().mean().item())
        errors = (before.argmax(1) == test[1]) != (after.argmax(1) == test[1])
        at_i = (own[i].argmax() == labels[i]) != (there[0].argmax() == labels[i])
        beta = max(beta, float(errors.any() or at_i))
        distances.append(distance(first, second))
    values = torch.tensor(losses, dtype=torch.float64)
    train_error = (own.argmax(1) != labels).double().mean().item()
    found = bound(beta, n, train_error)
    return Measurement(
        name="stability",
        value=values.mean().item(),
        meaning="mean difference of the test loss when one label changes",
        bounds="test error, by beta",
        reference="Bousquet and Elisseeff 2002",
        bound=found,
        verdict=judged(found, classes) if beta else None,
        error=(values.std() / math.sqrt(pairs)).item() if pairs > 1 else None,
        note=f"uniform stability (beta) is at least {beta:g}; {pairs} pairs; {100 * sum(changed) / pairs:.2g} % of the "
        f"test predictions change on average",
        details={"beta": beta, "changed": changed, "losses": losses, "distances": distances, "n": n},
    )
