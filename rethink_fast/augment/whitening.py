"""whitening: the last step before the network. CIFAR-10 and MNIST are whitened image by image, ImageNet is scaled."""

from __future__ import annotations

from torch import Tensor


def whiten(images: Tensor) -> Tensor:
    """Give each image mean 0 and standard deviation 1: (x - mean) / max(std, 1 / sqrt(elements)), with x in [0, 1].

    Mean and population standard deviation are over all elements of the image: "per image whitening" (Zhang et al. 2017,
    appendix A) as TensorFlow's `per_image_standardization` of that year.

    images: [B, H, W, C] in pixel units (0 ... 255).
    Returns float32 of the same shape.
    """
    x = images.float() / 255.0
    elements = x[0].numel() if len(x) else 1
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    std = x.var(dim=(1, 2, 3), keepdim=True, correction=0).sqrt()
    return (x - mean) / std.clamp_min(elements**-0.5)


def unit_range(images: Tensor) -> Tensor:
    """Scale pixel units (0 ... 255) to [-1, 1], as the TensorFlow Inception package whose setup the paper reuses.

    images: any shape. Returns float32 of the same shape.
    """
    return images.float() / 127.5 - 1.0
