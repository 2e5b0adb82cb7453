"""random_pixels: "a different random permutation is applied to each image independently" (Zhang et al. 2017,
section 2.1).

The permutation of an image is fixed permanently, or it could not be memorised. The channels of a pixel move together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import kernels, rng
from ..kernels.checks import check_images, check_index


def random_pixels(images: Tensor, index: Tensor, *, seed: int) -> Tensor:
    """Apply to each image a permutation of its own pixels, a pure function of (seed, index).

    images: [B, H, W, C], any dtype.
    index: int64 [B].
    seed: in [0, 2^63).
    Returns a contiguous tensor like `images`. Raises ValueError for a shape or value that does not fit.
    """
    check_images(images)
    index = check_index(index, len(images), images.device)
    return torch.ops.rethink_fast.random_pixels(images, index, rng.check_seed(seed))


@kernels.reference("random_pixels")
def random_pixels_reference(images: Tensor, index: Tensor, seed: int) -> Tensor:
    """Compute the op in plain torch."""
    pixels = images.flatten(1, 2)
    n = pixels.shape[1]
    words = rng.permutation_words(seed, rng.Stream.RANDOM_PIXELS, index).unsqueeze(1)
    source = rng.permute(words, n, torch.arange(n, device=images.device).expand(len(images), n))
    return torch.gather(pixels, 1, source.unsqueeze(-1).expand_as(pixels)).view(images.shape)
