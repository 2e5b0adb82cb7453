"""Spectral complexity and normalised margins.

    R_A = (prod_i s_i) (sum_i (b_i / s_i)^(2/3))^(3/2),   s_i = |A_i|_2,   b_i = |(A_i - M_i)^T|_(2,1)
    R_S <= 4/n + (9 ln n / sqrt n) sqrt(ln 2Wbar) (4 / gamma) (|X| / sqrt n) R_A         (ramp loss at gamma)
    Pr[error] <= share of margins <= gamma + 2 R_S + 3 sqrt(ln(2 / delta) / (2n))

A_i is the matrix of layer i (of a convolution with all positions), M_i what it was at first, Wbar the largest number of
its entries. The normalised margin of an image is its margin over R_A |X| / n.
Source: Bartlett, Foster and Telgarsky, "Spectrally-normalized margin bounds for neural networks", NeurIPS 2017, Lemma
A.8, with the constants of Graf, Zeng, Rieck, Niethammer and Kwitt, NeurIPS 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from .measurement import DELTA, Measurement, hoeffding, judged, timed
from .network import WeightedLayer
from .norms import Chain, chain_of, operator_norm, positions


def complexity(norms: Sequence[float], distances: Sequence[float]) -> float:
    """Return R_A.

    norms: s_i of every layer.
    distances: b_i of every layer, 0 for one without weights.
    """
    return math.prod(norms) * sum((b / s) ** (2 / 3) for s, b in zip(norms, distances, strict=True)) ** 1.5


def _distances(chain: Chain) -> list[float]:
    """Return b_i: the sum over the rows of each matrix of their distance from initialisation; 0 for a pool."""
    distances = []
    for now, before in zip(chain.layers, chain.initial, strict=True):
        if isinstance(now, WeightedLayer) and isinstance(before, WeightedLayer):
            rows = (now.weight.double() - before.weight.double()).flatten(1)
            distances.append(rows.norm(dim=1).sum().item() * positions(now))
        else:
            distances.append(0.0)
    return distances


@timed
def spectral_complexity(
    model: nn.Module,
    initial: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    n: int | None = None,
    classes: int | None = None,
) -> Measurement:
    """Return the bound on the Rademacher complexity by spectral norms, at the 10th percentile of the margins.

    model: the trained network.
    initial: the same network before training.
    inputs: float [m, ...], network inputs of a sample of the training set.
    labels: int64 [m], their labels in training.
    n: images in the whole training set. Default: m.
    classes: of the task. Default: the largest label and 1.
    Raises Unreadable for a network that is not layers one after another with ReLU between.
    """
    n = len(inputs) if n is None else n
    chain = chain_of(model, initial, inputs, labels)
    norms, distances = [operator_norm(layer) for layer in chain.layers], _distances(chain)
    r = complexity(norms, distances)
    entries = max(math.prod(layer.inside) * math.prod(layer.outside) for layer in chain.layers if layer.parameters)
    covering = 9 * math.log(n) / math.sqrt(n) * math.sqrt(math.log(2 * entries))
    rademacher = 4 / n + covering * 4 / chain.gamma * chain.norm * r
    bound = chain.below + 2 * rademacher + hoeffding(n)
    scale = r * chain.norm / math.sqrt(n)
    median = chain.margins.quantile(0.5).item()
    return Measurement(
        name="spectral_complexity",
        value=rademacher,
        meaning="Rademacher complexity of the ramp loss, from above",
        bounds="test error",
        reference="Bartlett et al. 2017",
        bound=bound,
        verdict=judged(bound, classes or int(labels.max()) + 1),
        confidence=1 - DELTA,
        note=chain.note,
        details={
            "spectral_complexity": r,
            "spectral_norms": norms,
            "distances": distances,
            "gamma": chain.gamma,
            "normalised_margin_median": median / scale if scale else math.inf,
        },
    )
