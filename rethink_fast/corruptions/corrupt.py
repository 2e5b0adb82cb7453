"""Any of the paper's randomizations by its name, on a batch of your own."""

from __future__ import annotations

from torch import Tensor

from ..errors import UserError, one_of
from .gaussian import gaussian
from .partially_corrupted_labels import partially_corrupted_labels
from .random_labels import random_labels
from .random_pixels import random_pixels
from .registry import LABEL_KINDS, NAMES
from .shuffled_pixels import shuffled_pixels


def corrupt(
    kind: str,
    images: Tensor,
    labels: Tensor,
    index: Tensor,
    *,
    seed: int = 0,
    num_classes: int | None = None,
    probability: float | None = None,
    mean: Tensor | None = None,
    std: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the images and labels of a batch after a randomization: a pure function of (seed, index).

    kind: true_labels, partially_corrupted_labels, random_labels, shuffled_pixels, random_pixels or gaussian.
    images: [B, H, W, C], any dtype.
    labels: int64 [B], the true classes.
    index: int64 [B], the permanent sample index; add rng.TEST_INDEX for test images.
    seed: in [0, 2^63).
    num_classes: needed by the kinds that draw labels.
    probability: in [0, 1], needed by partially_corrupted_labels.
    mean, std: float [C], in the units of the images, needed by gaussian, whose images are float32.
    Raises ValueError for what is missing or out of range.
    """
    one_of("corruption", kind, NAMES)
    if kind in LABEL_KINDS:
        if num_classes is None:
            raise UserError(f"{kind} draws classes", "give num_classes", option="num_classes")
        if kind == "random_labels":
            return images, random_labels(labels, index, num_classes=num_classes, seed=seed)
        if probability is None:
            raise UserError(
                f"{kind} draws with a probability", "give probability in [0, 1]", option="probability", allowed="[0, 1]"
            )
        drawn = partially_corrupted_labels(labels, index, num_classes=num_classes, probability=probability, seed=seed)
        return images, drawn
    if kind == "shuffled_pixels":
        return shuffled_pixels(images, index, seed=seed), labels
    if kind == "random_pixels":
        return random_pixels(images, index, seed=seed), labels
    if kind == "gaussian":
        if mean is None or std is None:
            raise UserError(
                "gaussian draws with the statistics of the training images",
                "give mean and std of each channel",
                option="mean",
            )
        return gaussian(images, index, seed=seed, mean=mean, std=std), labels
    return images, labels
