"""partially_corrupted_labels: "independently with probability p, the label of each image is corrupted as a
uniform random class" (Zhang et al. 2017, section 2.1).

Uniform over all classes, the true one included, as in the authors' own code: about p (1 - 1/C) of the labels
really change. The draw is permanent, "fixed and consistent across epochs". Test labels are never corrupted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import kernels, rng
from ..kernels.checks import check_classes, check_index, check_labels, check_probability


def partially_corrupted_labels(
    labels: Tensor, index: Tensor, *, num_classes: int, probability: float, seed: int
) -> Tensor:
    """Replace each label, with this probability, by a uniform random class: a pure function of (seed, index).

    labels: int64 [B].
    index: int64 [B].
    num_classes: classes to draw from.
    probability: in [0, 1].
    seed: in [0, 2^63).
    Returns int64 [B]. Raises ValueError for a shape or value that does not fit.
    """
    index = check_index(index, len(check_labels(labels)), labels.device)
    check_classes(num_classes)
    probability = check_probability(probability)
    return torch.ops.rethink_fast.corrupt_labels(labels, index, num_classes, probability, rng.check_seed(seed))


@kernels.reference("corrupt_labels")
def corrupt_labels_reference(labels: Tensor, index: Tensor, num_classes: int, probability: float, seed: int) -> Tensor:
    """Compute the op in plain torch."""
    words = rng.draw(seed, rng.Stream.LABELS, index, 0)
    corrupted = words[..., 0] < rng.threshold(probability)
    return torch.where(corrupted, rng.mulhi(words[..., 1], num_classes), labels)


def corrupted_mask(index: Tensor, *, probability: float, seed: int) -> Tensor:
    """Return which samples have their label replaced (by the true class or another): bool [B].

    index: int64 [B].
    probability, seed: as in `partially_corrupted_labels`.
    """
    return rng.draw(seed, rng.Stream.LABELS, index, 0)[..., 0] < rng.threshold(probability)
