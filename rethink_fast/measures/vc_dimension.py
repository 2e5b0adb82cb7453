"""VC dimension, from above and from below.

Above, for W parameters in L layers, k_i ReLU units in layer i, W_i parameters in layers 1 to i, R = sum_i i k_i:

    VCdim(sgn f) <= L + Lbar W log2(4 e R log2(2 e R)),    Lbar = (1 / W) sum_i W_i

and, by Vapnik, with probability 1 - delta:  R <= R_n + sqrt((8 / n) (D ln(2 e n / D) + ln(4 / delta))) for n >= D.
Source: Bartlett, Harvey, Liaw and Mehrabian, "Nearly-tight VC-dimension and pseudodimension bounds for piecewise linear
neural networks", JMLR 20 (2019), Theorem 7 with one kink a unit; a parameter that is shared counts once, and its units
at every position. A max-pool unit over k values counts k (k - 1) / 2 comparisons.

Below, any labels of so many points:  d h / 4 in general position, for one hidden layer of h units on d inputs (Bubeck,
Eldan, Lee and Mikulincer, NeurIPS 2020);  (h / 2)^2 distinct ones, for two hidden layers of h units or more (Yun, Sra
and Jadbabaie, NeurIPS 2019). A class that fits any labels of n points has no VC bound below 1 at n.
"""

from __future__ import annotations

import math
from collections import Counter

from torch import Tensor, nn

from .measurement import DELTA, Measurement, Unreadable, judged, timed
from .network import Layer, TracedNetwork, frozen, read

GAP = 0.1
"""The gap for which the images needed are stated."""


def vc_bound(dimension: float, n: float, delta: float = DELTA) -> float:
    """Return Vapnik's bound on true less empirical error; with fewer than D points any labels have a hypothesis."""
    growth = dimension * math.log(2 * math.e * n / dimension) if n >= dimension else n * math.log(2)
    return math.sqrt(8 / n * (growth + math.log(4 / delta)))


def upper_bound(network: TracedNetwork) -> tuple[float, dict[str, float]]:
    """Return the bound on the VC dimension of one output, and what went into it."""
    depth = max(layer.depth for layer in network.layers)
    weights, units = Counter[int](), Counter[int]()
    for layer in network.layers:
        weights[layer.depth] += layer.parameters
        pairs = math.comb(math.prod(layer.kernel), 2) if layer.kind == "pool" else 1
        units[layer.depth] += math.prod(layer.outside) * pairs
    total = sum(weights.values())
    up_to = [sum(weights[i] for i in range(1, layer + 1)) for layer in range(1, depth + 1)]
    mean_depth = sum(up_to) / total
    r = sum(i * (1 if i == depth else units[i]) for i in range(1, depth + 1))
    dimension = depth + mean_depth * total * math.log2(4 * math.e * r * math.log2(2 * math.e * r))
    return dimension, {"W": total, "L": depth, "U": sum(units.values()), "mean_depth": mean_depth, "R": r}


def lower_bound(network: TracedNetwork) -> int | None:
    """Return how many points a perceptron is proved to fit with any labels; None for other networks."""
    layers = network.layers
    if network.branches or any(layer.kind != "linear" for layer in layers) or len(layers) < 2:
        return None
    hidden = [layer.outside[0] for layer in layers[:-1]]
    return hidden[0] // 4 * layers[0].inside[0] if len(hidden) == 1 else (min(hidden) // 2) ** 2


def _head(layers: tuple[Layer, ...]) -> int | None:
    """What the first two linear layers would fit, were the features in general position."""
    linear = [layer for layer in layers if layer.kind == "linear"]
    return linear[0].outside[0] // 4 * linear[0].inside[0] if len(linear) > 1 else None


def images_needed(dimension: float, gap: float = GAP) -> float:
    """Return the n at which the bound on the gap comes down to `gap`."""
    low, high = dimension, dimension * 1e9
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if vc_bound(dimension, middle) > gap else (low, middle)
    return high


@timed
def vc_dimension(
    model: nn.Module, example: Tensor, n: int, *, train_error: float = 0.0, classes: int = 2
) -> Measurement:
    """Return the VC dimension of one output of a network against the rest, from above and from below.

    example: float [1 or more, ...], network inputs.
    n: training images.
    train_error: fraction of them that is wrong.
    classes: of the task.
    Raises Unreadable where a unit is not piecewise linear.
    """
    network = read(frozen(model, example), example)
    if network.foreign:
        raise Unreadable(f"it needs piecewise linear units, and this network has {', '.join(network.foreign)}")
    dimension, parts = upper_bound(network)
    lower = lower_bound(network)
    bound = train_error + vc_bound(dimension, n)
    said = [f"at least {lower:,} by proof, so the bound is the same whatever the labels"] if lower is not None else []
    if lower is None and (head := _head(network.layers)) is not None:
        said.append(f"expected to be at least {head:,}, by its fully connected layers alone")
    if network.normalised:
        said.append("of the network without its local response normalization, to which the theorem does not apply")
    return Measurement(
        name="vc_dimension",
        value=dimension,
        meaning="VC dimension of one output, from above",
        bounds="test error",
        reference="Bartlett et al. 2019",
        bound=bound,
        verdict=judged(bound, classes),
        confidence=1 - DELTA,
        note="; ".join(said),
        details={"lower": lower, "n": n, "images_for_gap_0.1": images_needed(dimension), **parts},
    )
