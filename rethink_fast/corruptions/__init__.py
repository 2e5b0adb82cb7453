"""The paper's randomizations: what each one does. One file each, the paper's sentence first."""

from __future__ import annotations

from .gaussian import gaussian
from .partially_corrupted_labels import corrupted_mask, partially_corrupted_labels
from .random_labels import random_labels
from .random_pixels import random_pixels
from .shuffled_pixels import shuffled_pixels

KINDS = {
    "true": "true_labels",
    "partial": "partially_corrupted_labels",
    "random": "random_labels",
    "shuffled-pixels": "shuffled_pixels",
    "random-pixels": "random_pixels",
    "gaussian": "gaussian",
}
"""The command line's word for each randomization, and the paper's."""

__all__ = [
    "KINDS",
    "corrupted_mask",
    "gaussian",
    "partially_corrupted_labels",
    "random_labels",
    "random_pixels",
    "shuffled_pixels",
]
