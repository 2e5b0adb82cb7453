"""Frobenius norms.

    R_S <= k (|X| / sqrt n) (prod_i |W_i|_F) (1 + sqrt(2 ln 2 L)) / sqrt n,    over gamma for the ramp loss at gamma

for L layers and k classes, with which a bound for one output is multiplied (Maurer, ALT 2016).
Source: Golowich, Rakhlin and Shamir, "Size-independent sample complexity of neural networks", COLT 2018, Theorem 1.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from .measurement import DELTA, Measurement, hoeffding, judged, timed
from .norms import chain_of, perceptron


@timed
def golowich(
    model: nn.Module, initial: nn.Module, inputs: Tensor, labels: Tensor, *, n: int | None = None
) -> Measurement:
    """Return the bound on the Rademacher complexity by Frobenius norms, at the 10th percentile of the margins.

    model: the trained network.
    initial: the same network before training.
    inputs: float [m, ...], network inputs of a sample of the training set.
    labels: int64 [m], their labels in training.
    n: images in the whole training set. Default: m.
    Raises Unreadable for all but linear layers with ReLU between.
    """
    n = len(inputs) if n is None else n
    chain = chain_of(model, initial, inputs, labels)
    weights = [now for now, _ in perceptron(chain)]
    classes = len(weights[-1])
    norms = [weight.norm().item() for weight in weights]
    peeled = 1 + math.sqrt(2 * math.log(2) * len(weights))
    rademacher = classes * chain.norm * math.prod(norms) * peeled / math.sqrt(n) / chain.gamma
    bound = chain.below + 2 * rademacher + hoeffding(n)
    return Measurement(
        name="golowich",
        value=rademacher,
        meaning="Rademacher complexity of the ramp loss, from above",
        bounds="test error",
        reference="Golowich et al. 2018",
        bound=bound,
        verdict=judged(bound, classes),
        confidence=1 - DELTA,
        note=chain.note,
        details={"frobenius_norms": norms, "gamma": chain.gamma},
    )
