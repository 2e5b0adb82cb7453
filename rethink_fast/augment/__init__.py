"""What happens to an image around its corruption: crops, flip, rotation, colour, whitening, in plain torch.

Every random choice is a function of (seed, epoch, sample index), by the contract's streams AUGMENT,
RESIZED_CROP and COLOUR.
"""

from __future__ import annotations

from .color_jitter import color_jitter
from .crop import center_window, fixed_crop, random_crop
from .flip import random_flip
from .random_resized_crop import crop_windows, random_resized_crop
from .rotation import random_rotation
from .whitening import unit_range, whiten

__all__ = [
    "center_window",
    "color_jitter",
    "crop_windows",
    "fixed_crop",
    "random_crop",
    "random_flip",
    "random_resized_crop",
    "random_rotation",
    "unit_range",
    "whiten",
]
