"""How well a score finds some samples: the area under the ROC curve."""

from __future__ import annotations

import math

from torch import Tensor


def auroc(score: Tensor, positive: Tensor, *, falls: bool = False) -> float:
    """Return the probability that a positive sample scores higher than another one; ties count half.

    That is the Mann-Whitney statistic over the number of pairs. NaN where all samples are positive, or none.

    score: float [n]. positive: bool [n]. falls: whether a lower score points to a positive sample.
    """
    m, n = int(positive.sum()), len(positive)
    if m in (0, n):
        return math.nan
    _, place, counts = score.double().unique(return_inverse=True, return_counts=True)
    below = counts.cumsum(0) - counts
    ranks = (below.double() + (counts + 1) / 2)[place]
    found = (ranks[positive].sum().item() - m * (m + 1) / 2) / (m * (n - m))
    return 1 - found if falls else found
