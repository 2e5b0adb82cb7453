"""The paper's randomizations: what each one does. One file each, the paper's sentence first."""

from __future__ import annotations

from .gaussian import gaussian
from .partially_corrupted_labels import corrupted_mask, partially_corrupted_labels
from .random_labels import random_labels
from .random_pixels import random_pixels
from .registry import KINDS, LABEL_KINDS, MEANING, NAMES, PIXEL_KINDS, REGISTRY, alias_of
from .shuffled_pixels import shuffled_pixels

__all__ = [
    "KINDS",
    "LABEL_KINDS",
    "MEANING",
    "NAMES",
    "PIXEL_KINDS",
    "REGISTRY",
    "alias_of",
    "corrupted_mask",
    "gaussian",
    "partially_corrupted_labels",
    "random_labels",
    "random_pixels",
    "shuffled_pixels",
]
