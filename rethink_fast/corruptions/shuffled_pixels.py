"""shuffled_pixels: "a random permutation of the pixels is chosen and then the same permutation is applied to all
the images in both training and test set" (Zhang et al. 2017, section 2.1).

The three channels of a pixel move together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import kernels, rng
from ..kernels.checks import check_images, check_index


def shuffled_pixels(images: Tensor, index: Tensor, *, seed: int) -> Tensor:
    """Apply one permutation of the pixels to every image, a pure function of the seed.

    images: [B, H, W, C], any dtype.
    index: int64 [B], unused.
    seed: in [0, 2^63).
    Returns a contiguous tensor like `images`. Raises ValueError for a shape or value that does not fit.
    """
    check_images(images)
    check_index(index, len(images), images.device)
    return torch.ops.rethink_fast.shuffled_pixels(images, rng.check_seed(seed))


@kernels.reference("shuffled_pixels")
def shuffled_pixels_reference(images: Tensor, seed: int) -> Tensor:
    """Compute the op in plain torch."""
    pixels = images.flatten(1, 2)
    n = pixels.shape[1]
    zero = torch.zeros((), dtype=torch.int64, device=images.device)
    words = rng.permutation_words(seed, rng.Stream.SHUFFLED_PIXELS, zero)
    source = rng.permute(words, n, torch.arange(n, device=images.device))
    return pixels[:, source].view(images.shape)
