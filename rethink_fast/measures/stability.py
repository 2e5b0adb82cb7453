"""Stability: what one label changes, at worst (uniform) and on average.

    R <= R_n + 2 beta + (4 n beta + 1) sqrt(ln(1 / delta) / (2n))
    2 beta >= max over pairs and points z of  | 1[f(z) wrong] - 1[f'(z) wrong] |

beta is how much the loss at any point changes when a sample is removed. f and f' are trained from the same first
weights, in the same order, for as many epochs as the first needs to fit, on sets that differ in the label of one sample
i, and that are the same once it is removed: hence the 2. z is that sample or a test image. One pair that differs makes
the bound vacuous; the mean difference of the test loss, which the bound does not see, need not be large.
Source: Bousquet and Elisseeff, "Stability and generalization", JMLR 2 (2002), Theorem 12, for a loss in [0, 1] and an
algorithm for which the order of the samples does not matter; compared with two restatements of the theorem, not with
the paper. Hardt, Recht and Singer, "Train faster, generalize better", ICML 2016, for pairs that share all but one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class PairDifference:
    """What differs between the two networks of a pair.

    distance: of their weights, see `distance`.
    mean_loss, largest_loss: of the absolute difference of the test loss.
    changed: share of the test predictions that differ.
    point: difference of the 0-1 error at the replaced sample, 0 or 1.
    error: the largest such difference there and at the test images: at most 2 beta.
    """

    distance: float
    mean_loss: float
    largest_loss: float
    changed: float
    point: float
    error: float


def pair_difference(
    f: nn.Module, g: nn.Module, point: Tensor, label: Tensor, test: tuple[Tensor, Tensor]
) -> PairDifference:
    """Return what differs between two networks.

    f, g: the networks, in eval mode.
    point: float [1, ...], network input of the sample whose label was replaced.
    label: int64 [], its label before.
    test: network inputs and labels of test images.
    """
    before, after = logits_of(f, test[0]), logits_of(g, test[0])
    loss = [F.cross_entropy(logits, test[1], reduction="none").double() for logits in (before, after)]
    moved = (loss[0] - loss[1]).abs()
    errors = (before.argmax(1) == test[1]) != (after.argmax(1) == test[1])
    at_point = [logits_of(each, point)[0].argmax() == label for each in (f, g)]
    return PairDifference(
        distance=distance(f, g),
        mean_loss=moved.mean().item(),
        largest_loss=moved.max().item(),
        changed=(before.argmax(1) != after.argmax(1)).double().mean().item(),
        point=float(at_point[0] != at_point[1]),
        error=float(errors.any() or at_point[0] != at_point[1]),
    )


def replaced(labels: Tensor, i: int, classes: int) -> Tensor:
    """Return the labels with another one for sample i."""
    other = labels.clone()
    other[i] = (other[i] + 1 + i % (classes - 1)) % classes
    return other


def stability_curves(
    trainer: Trainer,
    positions: Tensor,
    labels: Tensor,
    inputs: Tensor,
    test: tuple[Tensor, Tensor],
    *,
    classes: int,
    changes: Sequence[int | None],
    epochs: int,
) -> list[list[PairDifference]]:
    """Return, for each pair, what differs after each epoch.

    trainer, positions, labels, inputs, test, classes: as in `stability`.
    changes: for each pair the sample whose label is replaced; None for a pair that differs in nothing.
    epochs: of every training.
    """
    kept: list[nn.Module] = []
    trainer(positions, labels, classes=classes, epochs=epochs, watch=lambda _, model: kept.append(copy.deepcopy(model)))

    def curve(i: int | None) -> list[PairDifference]:
        found: list[PairDifference] = []
        at = 0 if i is None else i

        def watch(epoch: int, model: nn.Module) -> None:
            found.append(pair_difference(kept[epoch - 1], model, inputs[at : at + 1], labels[at], test))

        other = labels if i is None else replaced(labels, i, classes)
        trainer(positions, other, classes=classes, epochs=epochs, watch=watch)
        return found

    return [curve(i) for i in changes]


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
    found = []
    for i in torch.linspace(0, n - 1, pairs).long().tolist():
        second = trainer(positions, replaced(labels, i, classes), classes=classes, epochs=epochs)
        found.append(pair_difference(first, second, inputs[i : i + 1], labels[i], test))
    beta, changed = max(pair.error for pair in found) / 2, [pair.changed for pair in found]
    values = torch.tensor([pair.mean_loss for pair in found], dtype=torch.float64)
    train_error = (logits_of(first, inputs).argmax(1) != labels).double().mean().item()
    upper = bound(beta, n, train_error)
    return Measurement(
        name="stability",
        value=values.mean().item(),
        meaning="mean difference of the test loss when one label changes",
        bounds="test error, by beta",
        reference="Bousquet and Elisseeff 2002",
        bound=upper,
        verdict=judged(upper, classes) if beta else None,
        error=(values.std() / math.sqrt(pairs)).item() if pairs > 1 else None,
        note=f"uniform stability (beta) is at least {beta:g}; {pairs} pairs; {100 * sum(changed) / pairs:.2g} % of the "
        f"test predictions change on average",
        details={
            "beta": beta,
            "changed": changed,
            "losses": values.tolist(),
            "distances": [p.distance for p in found],
            "n": n,
        },
    )
