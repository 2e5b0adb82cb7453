"""What happens to an image around its corruption: crops, flip, rotation, whitening. One file each, in plain torch.

Every random choice is a function of (seed, epoch, sample index), by the contract's stream AUGMENT.
"""

from __future__ import annotations

from .crop import center_window, fixed_crop, random_crop
from .flip import random_flip
from .rotation import random_rotation
from .whitening import unit_range, whiten

__all__ = [
    "center_window",
    "fixed_crop",
    "random_crop",
    "random_flip",
    "random_rotation",
    "unit_range",
    "whiten",
]
