"""gaussian: "a Gaussian distribution (with matching mean and variance to the original image dataset) is used to
generate random pixels for each image" (Zhang et al. 2017, section 2.1).

The paper does not say whether the statistics are per channel: here they are, over all pixels of the uncorrupted
training set. The noise of an image is drawn once and is neither rounded nor clipped. Labels stay true.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import kernels, rng
from ..kernels.checks import check_images, check_index, check_statistics


def gaussian(images: Tensor, index: Tensor, *, seed: int, mean: Tensor, std: Tensor) -> Tensor:
    """Replace each image by normal noise of these statistics, a pure function of (seed, index).

    images: [B, H, W, C], of which only the shape is used.
    index: int64 [B].
    seed: in [0, 2^63).
    mean, std: [C], in pixel units (0 ... 255).
    Returns float32 [B, H, W, C]. Raises ValueError for a shape or value that does not fit.
    """
    batch, height, width, channels = check_images(images).shape
    index = check_index(index, batch, images.device)
    mean = check_statistics(mean, channels, images.device, "mean")
    std = check_statistics(std, channels, images.device, "std")
    return torch.ops.rethink_fast.gaussian(index, height, width, mean, std, rng.check_seed(seed))


@kernels.reference("gaussian")
def gaussian_reference(index: Tensor, height: int, width: int, mean: Tensor, std: Tensor, seed: int) -> Tensor:
    """Compute the op in plain torch."""
    batch, channels = len(index), len(mean)
    elements = height * width * channels
    blocks = torch.arange((elements + 7) // 8, device=index.device)
    words = rng.draw(seed, rng.Stream.GAUSSIAN, index.unsqueeze(-1), blocks)
    noise = rng.normals(words).reshape(batch, len(blocks) * 8)[:, :elements].reshape(batch, height, width, channels)
    return noise * std + mean
