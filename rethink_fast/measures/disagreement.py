"""Disagreement of two networks that are trained on disjoint halves of the training set.

    d = share of test images on which they predict different classes

which needs no test labels, and comes near their test error where networks interpolate. Two runs on the *same* data
agree far more than that where SGD has little noise.
Source: Nakkiran and Bansal, "Distributional generalization: a new kind of generalization", 2020 (the agreement
property); Jiang, Nagarajan, Baek and Kolter, ICLR 2022, for the same data.
"""

from __future__ import annotations

import math

from torch import Tensor

from .measurement import Measurement, timed
from .network import logits_of
from .training import Trainer

MARGIN = 0.02
"""How far from the error, beyond two standard errors, still counts as tracking it."""


@timed
def disagreement(
    trainer: Trainer, positions: Tensor, labels: Tensor, test: tuple[Tensor, Tensor], *, classes: int
) -> Measurement:
    """Return the disagreement on test inputs of two networks, each trained on every other sample.

    trainer: trains a network, see training.Trainer.
    positions: int64 [n], ascending, of the training samples to be taken.
    labels: int64 [n], their labels.
    test: network inputs and labels of test images.
    classes: of the task.
    """
    halves = [
        logits_of(trainer(positions[k::2], labels[k::2], classes=classes, seed=k), test[0]).argmax(1) for k in range(2)
    ]
    value = (halves[0] != halves[1]).double().mean().item()
    errors = [(each != test[1]).double().mean().item() for each in halves]
    error = math.sqrt(value * (1 - value) / len(test[0]))
    near = abs(value - sum(errors) / 2) <= MARGIN + 2 * error
    return Measurement(
        name="disagreement",
        value=value,
        meaning="share of test images on which two halves disagree",
        bounds="estimates the test error",
        reference="Nakkiran and Bansal 2020",
        verdict="tracks" if near else None,
        error=error,
        note=f"the halves, of {len(positions) // 2:,} images each, have errors of {errors[0]:.3f} and {errors[1]:.3f}",
        details={"errors": errors, "n": len(positions)},
    )
