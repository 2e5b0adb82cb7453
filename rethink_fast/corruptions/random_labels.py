"""random_labels: "all the labels are replaced with random ones" (Zhang et al. 2017, section 2.1).

It is `partially_corrupted_labels` with probability 1, and shares its draws: the labels corrupted at a smaller
probability are the same ones, corrupted into the same classes. The draw may hit the true class, so about
1 - 1/C of the labels really change.
"""

from __future__ import annotations

from torch import Tensor

from .partially_corrupted_labels import partially_corrupted_labels


def random_labels(labels: Tensor, index: Tensor, *, num_classes: int, seed: int) -> Tensor:
    """Replace every label by a uniform random class, a pure function of (seed, index).

    labels: int64 [B].
    index: int64 [B].
    num_classes: classes to draw from.
    seed: in [0, 2^63).
    Returns int64 [B]. Raises ValueError for a shape or value that does not fit.
    """
    return partially_corrupted_labels(labels, index, num_classes=num_classes, probability=1.0, seed=seed)
