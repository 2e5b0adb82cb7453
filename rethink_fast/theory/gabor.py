"""Gabor features of images, for the Gaussian kernel of table 3: "Gabor wavelet transform" in the paper.

The paper names no settings. Here: magnitudes of complex Gabor responses of two wavelengths and eight orientations,
averaged over 4 x 4 pixels, as bytes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.source import Progress
from ..errors import UserError

WAVELENGTHS = (4.0, 8.0)
ORIENTATIONS = 8
BANDWIDTH = 0.56
"""Width of a filter's envelope over its wavelength: one octave."""
ASPECT = 0.5
"""Width of the envelope across the stripes over that along them: filters are twice as long as wide."""
POOL = 4
IMAGES = 500
"""Images in one convolution."""


def gabor_filter(wavelength: float, angle: float) -> Tensor:
    """Return one complex Gabor wavelet, complex64 [k, k]: real and imaginary part of mean 0 and norm 1.

    It is exp(-(u^2 + (ASPECT v)^2) / (2 s^2)) exp(2 pi i u / wavelength), s = BANDWIDTH wavelength, where u runs along
    `angle` and v across; out to 2.5 s.

    wavelength: in pixels.
    angle: in radians.
    """
    s = BANDWIDTH * wavelength
    reach = math.ceil(2.5 * s)
    places = torch.arange(-reach, reach + 1, dtype=torch.float64)
    y, x = torch.meshgrid(places, places, indexing="ij")
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    envelope = torch.exp(-(u**2 + (ASPECT * v) ** 2) / (2.0 * s**2))
    phase = 2.0 * math.pi * u / wavelength
    real = envelope * phase.cos()
    real -= envelope * (real.sum() / envelope.sum())  # blind to a flat image
    imaginary = envelope * phase.sin()
    return torch.complex(real / real.norm(), imaginary / imaginary.norm()).to(torch.complex64)


def gabor(images: Tensor, progress: Progress | None = None) -> Tensor:
    """Return Gabor features: float32 [n, C * 16 * (H / 4) * (W / 4)].

    images: uint8 [n, H, W, C].
    Raises UserError for images smaller than 4 x 4.
    """
    n, height, width, channels = images.shape
    if min(height, width) < POOL:
        raise UserError(
            f"Gabor features cannot be made of images of {height} x {width} pixels",
            f"use at least {POOL} x {POOL}",
            value=(height, width),
            allowed=f"at least {POOL} x {POOL}",
        )
    angles = [math.pi * k / ORIENTATIONS for k in range(ORIENTATIONS)]
    filters = [[gabor_filter(wavelength, angle) for angle in angles] for wavelength in WAVELENGTHS]
    size = channels * len(WAVELENGTHS) * ORIENTATIONS * (height // POOL) * (width // POOL)
    features = torch.empty(n, size, device=images.device)
    for start in range(0, n, IMAGES):
        part = images[start : start + IMAGES].permute(0, 3, 1, 2).reshape(-1, 1, height, width).float() / 255.0
        pooled = []
        for bank in filters:
            kernels = torch.stack([torch.view_as_real(each) for each in bank]).permute(3, 0, 1, 2).flatten(0, 1)
            response = F.conv2d(part, kernels[:, None].to(part.device), padding=kernels.shape[-1] // 2)
            real, imaginary = response.chunk(2, dim=1)
            pooled.append(F.avg_pool2d(torch.hypot(real, imaginary), POOL).flatten(1))
        features[start : start + IMAGES] = torch.cat(pooled, 1).view(-1, size)
        if progress is not None:
            progress("Gabor features", min(start + IMAGES, n), n)
    return features


def as_bytes(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Return non-negative features as uint8, scaled so that the largest of the training set is 255."""
    scale = 255.0 / float(train.max().clamp_min(torch.finfo(torch.float32).tiny))

    def scaled(features: Tensor) -> Tensor:
        return (features * scale).round_().clamp_(0, 255).to(torch.uint8)

    return scaled(train), scaled(test)
