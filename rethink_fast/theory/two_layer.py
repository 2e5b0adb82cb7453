"""Theorem 1: "There exists a two-layer neural network with ReLU activations and 2n + d weights that can represent any
function on a sample of size n in d dimensions" (Zhang et al. 2017).

The network is c(x) = sum_j w_j max(<a, x> - b_j, 0). `a` makes the projections z_i = <a, x_i> distinct; sorted, they
interleave with the biases, b_1 < z_1 < b_2 < z_2 < ... < b_n < z_n, so that the matrix max(z_i - b_j, 0) is lower
triangular with a positive diagonal, and w follows by forward substitution. On the line c is piecewise linear with a
kink at each b_j: two running numbers, its value and its slope, stand for a whole row of the matrix. One sort and one
pass: O(n log n) after the projections.

What float64 has to bear, and how it is made to:
- Pixels are bytes and `a` holds integers, small enough that every projection, every bias and every difference of
  them is an integer below 2^53: exact, in any order of summation, on any device.
- The weights are about 1 / gap, and the error of one is handed on to the next. With b_j a share t of the way from
  z_{j-1} to z_j the slope obeys slope_j = (rise / gap - t slope_{j-1}) / (1 - t). At the midpoint (t = 1/2) an error
  would live for ever; at t = 1/4 it shrinks to a third at every point. Hence QUARTER: `a` holds multiples of 4.
- The substitution runs on whole numbers (fixed point, SCALE bits) and takes the weights as they are rounded, so the
  rounding of one weight is put right by the next, and in exact arithmetic the network misses a label by no more than
  the rounding of one term. What is left to see is the rounding of whoever evaluates the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.source import Progress
from ..errors import UserError
from ..rng import Stream, draw

QUARTER = 4
LARGEST_PROJECTION = 2**51
"""Differences then stay below 2^53, with room for the first bias."""
SCALE = 192
TRIES = 8
LARGEST_VALUE = 2.0**64
LARGEST_ROUNDING = 1e-3
"""A projection whose network could lose more than this to rounding, times the largest value, is drawn again: labels
are 1/2 away from being taken for another."""
ROWS, NEURONS = 2048, 1024
"""The evaluation's block: 16 MiB of hidden activations stay in a large cache, and short sums lose little."""


@dataclass(frozen=True)
class TwoLayerNetwork:
    """c(x) = sum_j w_j max(<a, x> - b_j, 0).

    a: float64 [d].
    b, w: float64 [n].
    """

    a: Tensor
    b: Tensor
    w: Tensor

    @property
    def weights(self) -> int:
        return len(self.a) + len(self.b) + len(self.w)

    def __call__(self, points: Tensor, progress: Progress | None = None) -> Tensor:
        """Evaluate by the definition, every neuron for every point, and return float64 [m].

        It uses nothing of how the weights were computed: no order of the biases, no triangle.

        points: uint8 [m, d].
        progress: called with (what, done, total); may raise to stop.
        """
        outputs = torch.zeros(len(points), dtype=torch.float64, device=points.device)
        hidden = outputs.new_empty(ROWS, NEURONS)
        z = project(points, self.a)
        for row in range(0, len(points), ROWS):
            block_z = z[row : row + ROWS, None]
            for neuron in range(0, len(self.b), NEURONS):
                b, w = self.b[neuron : neuron + NEURONS], self.w[neuron : neuron + NEURONS]
                block = hidden.flatten()[: len(block_z) * len(b)].view(len(block_z), len(b))
                torch.sub(block_z, b, out=block).clamp_(min=0)
                outputs[row : row + ROWS].addmv_(block, w)
            if progress is not None:
                progress("evaluating the network of theorem 1", min(row + ROWS, len(points)), len(points))
        return outputs


@dataclass(frozen=True)
class InterpolatingFit:
    """A network, and what its numbers are like.

    smallest_gap: between neighbouring projections.
    spread: between the outermost projections.
    deviation: the largest miss of a label in exact arithmetic.
    rounding: sum of all |terms| at the farthest point, times 2^-53: what one rounding of each term can add up to.
    duplicates: points that repeat another one with the same label.
    tries: projections drawn.
    """

    network: TwoLayerNetwork
    smallest_gap: float
    spread: float
    deviation: float
    rounding: float
    duplicates: int
    tries: int


def projection(d: int, seed: int, attempt: int = 0, device: torch.device | None = None) -> Tensor:
    """Return the vector `a`: float64 [d] of multiples of 4, of random sign, with absolute values within a factor 2.

    No coordinate is small, so two images that differ in a single pixel are far apart.

    d: values of an image.
    seed, attempt: of the draw.
    Raises UserError where d is so large that projections would not be exact in float64.
    """
    bits = int(math.log2(LARGEST_PROJECTION / (255 * QUARTER * d)))
    if bits < 2:
        raise UserError(
            f"images of {d} values are too large for exact projections in float64", "use smaller ones", value=d
        )
    words = draw(seed, Stream.PROJECTION, torch.arange(d), attempt)
    half = 1 << (bits - 1)
    size = half + ((((words[:, 1] & 0x7FFFFFFF) << 32) | words[:, 2]) & (half - 1))
    return (QUARTER * size * (1 - 2 * (words[:, 0] & 1))).to(device=device, dtype=torch.float64)


def project(points: Tensor, a: Tensor, rows: int = 2048) -> Tensor:
    """Return <a, x> for each point: float64 [n], exact for `a` from `projection`.

    points: uint8 [n, d].
    a: float64 [d].
    rows: points converted at a time.
    """
    return torch.cat([part.to(torch.float64) @ a for part in points.split(rows)])


def fit(points: Tensor, values: Tensor, seed: int) -> InterpolatingFit:
    """Return the network of theorem 1 with c(points[i]) = values[i].

    points: uint8 [n, d], n >= 1.
    values: [n], finite.
    seed: of the projection.
    Raises UserError where equal points have different values, and where no projection keeps the points far enough apart
    for float64.
    """
    if points.dtype != torch.uint8 or points.ndim != 2 or not len(points) or len(values) != len(points):
        raise ValueError(f"points must be uint8 [n, d] with a value each, not {points.dtype} {tuple(points.shape)}")
    values = values.to(points.device, torch.float64)
    largest = float(values.abs().max())
    if not largest <= LARGEST_VALUE:
        raise ValueError(f"values must be finite and at most {LARGEST_VALUE:g} in size, not {largest:g}")
    fitted = None
    for attempt in range(TRIES):
        a = projection(points.shape[1], seed, attempt, points.device)
        z, order = project(points, a).sort(stable=True)
        new = torch.ones_like(order, dtype=torch.bool)
        new[1:] = z[1:] != z[:-1]
        if not _same_points_only(points, values, order, new):
            continue
        b, w, deviation = _substitute(z[new], values[order[new]])
        network = TwoLayerNetwork(a, b, w)
        rounding = float((w.abs() * (z[-1] - b)).sum()) * 2.0**-53
        gaps = z[new].diff()
        fitted = InterpolatingFit(
            network,
            smallest_gap=float(gaps.min()) if len(gaps) else math.inf,
            spread=float(z[-1] - z[0]),
            deviation=deviation,
            rounding=rounding,
            duplicates=len(points) - len(b),
            tries=attempt + 1,
        )
        if rounding <= LARGEST_ROUNDING * max(1.0, largest):
            return fitted
    if fitted is None:
        raise UserError(f"{TRIES} random projections all put different images on one point", "choose another seed")
    raise UserError(
        f"in {TRIES} random projections some images come within {fitted.smallest_gap:.3g} of each other over "
        f"a range of {fitted.spread:.3g}: float64 could miss a label by {fitted.rounding:.2g}",
        "choose another seed or fewer images",
    )


def _same_points_only(points: Tensor, values: Tensor, order: Tensor, new: Tensor) -> bool:
    """Return whether only equal points share a projection. Raises UserError for equal points with different values."""
    after = (~new).nonzero().flatten()
    for position in after.tolist():
        first, second = int(order[position - 1]), int(order[position])
        if not torch.equal(points[first], points[second]):
            return False
        if values[first] != values[second]:
            raise UserError(
                f"images {first} and {second} are equal, but one is to give {values[first]:g} and "
                f"the other {values[second]:g}: no function can",
                "omit one of them, or choose another seed for the labels",
            )
    return True


def _substitute(z: Tensor, values: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return biases, weights and the largest miss.

    z: ascending projections, multiples of 4.
    values: one for each.
    """
    positions = [int(position) for position in z.tolist()]
    first_step = max(QUARTER, (positions[-1] - positions[0]) // (QUARTER * len(positions)) * QUARTER)
    before = positions[0] - first_step
    biases: list[int] = []
    weights: list[float] = []
    value = slope = worst = 0
    for position, wanted in zip(positions, values.tolist(), strict=True):
        bias = before + (position - before) // QUARTER
        goal = int(math.ldexp(wanted, SCALE))
        value += slope * (position - before)
        # The quotient of two whole numbers is rounded once, to the weight's float64; below 2^-SCALE it is cut.
        weight = int((goal - value) / (position - bias))
        value += weight * (position - bias)
        slope += weight
        worst = max(worst, abs(value - goal))
        biases.append(bias)
        weights.append(math.ldexp(weight, -SCALE))
        before = position
    b = torch.tensor(biases, dtype=torch.float64, device=z.device)
    return b, torch.tensor(weights, dtype=torch.float64, device=z.device), math.ldexp(worst, -SCALE)
