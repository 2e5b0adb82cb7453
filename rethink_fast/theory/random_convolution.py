"""Random convolution features of images, for the linear kernel of table 3.

The paper names "a random convolutional neural net with 32,000 random filters" by Coates and Ng (2012), "the filters are
selected at random instead of with k-means", and no settings. Here: whitened 6 x 6 patches of training images as
filters, both signs of each response less a threshold, averaged over quadrants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.source import Progress
from ..env import require_memory
from ..errors import UserError
from ..rng import Stream, draw, mulhi
from .kernel_matrix import blocks

PATCH = 6
THRESHOLD = 0.25
CONTRAST = 10.0
"""Added to a patch's variance, in pixel units: a flat patch is not blown up."""
WHITENING = 0.1
"""Added to the eigenvalues of the patches' covariance."""
SAMPLE = 50_000
"""Patches from which mean and covariance are taken."""
BLOCK = 1024
"""Filters whose features exist at one time."""
PART = 20
"""Images whose responses to them do: half a second's work of one core."""
TILE = 1024
"""Rows and columns of a product of features that is computed at a time."""


@dataclass(frozen=True)
class Patches:
    """The filters, and how a patch becomes their input: (patch normalised - mean) @ whitening.

    mean: float32 [p], with p = 36 * channels.
    whitening: float32 [p, p].
    filters: float32 [f, p], rows of norm 1.
    """

    mean: Tensor
    whitening: Tensor
    filters: Tensor


def _normalise(patches: Tensor) -> Tensor:
    """Return each patch with its own mean and contrast removed: [..., p]."""
    centred = patches - patches.mean(-1, keepdim=True)
    return centred / (centred.square().sum(-1, keepdim=True) / (patches.shape[-1] - 1) + CONTRAST).sqrt()


def _pick(images: Tensor, seed: int, start: int, count: int) -> Tensor:
    """Return patches start ... start + count of this seed, by the draws of PATCHES: float32 [count, p]."""
    words = draw(seed, Stream.PATCHES, torch.arange(start, start + count), 0).to(images.device)
    n, height, width, _ = images.shape
    image, top, left = (
        mulhi(words[:, 0], n),
        mulhi(words[:, 1], height - PATCH + 1),
        mulhi(words[:, 2], width - PATCH + 1),
    )
    reach = torch.arange(PATCH, device=images.device)
    rows, columns = (top[:, None] + reach)[:, :, None], (left[:, None] + reach)[:, None, :]
    return images[image[:, None, None], rows, columns].permute(0, 3, 1, 2).flatten(1).float()


def random_patches(images: Tensor, filters: int, seed: int) -> Patches:
    """Return filters that are random whitened patches of images, a pure function of the seed.

    images: uint8 [n, H, W, C].
    filters: how many.
    Raises UserError for images of 6 x 6 pixels or smaller.
    """
    if min(images.shape[1:3]) < PATCH + 1:
        raise UserError(
            f"random patches cannot be cut from images of {tuple(images.shape[1:3])} pixels",
            f"use images larger than {PATCH} x {PATCH}",
            value=tuple(images.shape[1:3]),
        )
    sample = _normalise(_pick(images, seed, 0, SAMPLE)).to(torch.float64)
    mean = sample.mean(0)
    values, vectors = torch.linalg.eigh((sample - mean).T @ (sample - mean) / len(sample))
    whitening = vectors * (values.clamp_min(0.0) + WHITENING).rsqrt() @ vectors.T
    chosen = (_normalise(_pick(images, seed, SAMPLE, filters)).to(torch.float64) - mean) @ whitening
    chosen = chosen / chosen.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return Patches(mean.float(), whitening.float(), chosen.float())


def responses(images: Tensor, patches: Patches, some: slice, check: Callable[[], None] | None = None) -> Tensor:
    """Return the features of some of the filters: float32 [n, 2 * filters * 4].

    They are max(0, r - THRESHOLD) and max(0, -r - THRESHOLD) of each response r to a whitened patch, averaged over
    quadrants.

    images: uint8 [n, H, W, C].
    some: which filters.
    check: called after every PART images; may raise to stop.
    """
    filters = patches.filters[some]
    # (x - mean) W f = x (W f) - mean W f: whitening the filters is the same and cheaper.
    weights = (patches.whitening @ filters.T).contiguous()
    offset = patches.mean @ weights
    n, height, width, _ = images.shape
    out_height, out_width = height - PATCH + 1, width - PATCH + 1
    features = torch.empty(n, 2 * len(filters) * 4, device=images.device)
    for start in range(0, n, PART):
        part = images[start : start + PART].permute(0, 3, 1, 2).float()
        seen = _normalise(F.unfold(part, PATCH).transpose(1, 2))
        response = (seen @ weights - offset).transpose(1, 2)
        response = torch.cat(((response - THRESHOLD).relu_(), (-response - THRESHOLD).relu_()), 1)
        response = response.view(len(part), -1, out_height, out_width)
        features[start : start + PART] = F.adaptive_avg_pool2d(response, 2).flatten(1)
        if check is not None:
            check()
    return features


def random_convolution_gram(
    train: Tensor, test: Tensor, filters: int, seed: int, progress: Progress | None = None
) -> tuple[Tensor, Tensor]:
    """Return the inner products of the standardised features, float64 [n, n] and [m, n].

    Each feature gets mean 0 and deviation 1 on the training set. The products are divided by the number of features,
    and 1 is added for a constant feature: without it no function of the features could have a mean other than 0, and
    the matrix would be singular. Features of no more than BLOCK filters exist at a time.

    train, test: uint8 [n, H, W, C] and [m, H, W, C].
    filters: random filters.
    seed: of the filters.
    progress: called about every second; may raise to stop.
    Raises UserError where memory does not suffice.
    """
    patches = random_patches(train, filters, seed)
    # The two matrices, the features of one block, and of two tiles in float64.
    block = (len(train) + len(test)) * min(BLOCK, filters) * 8 * 4 + 2 * TILE * min(BLOCK, filters) * 8 * 8
    require_memory(len(train) * (len(train) + len(test)) * 8 + block, len(train), train.device)
    gram = torch.zeros(len(train), len(train), dtype=torch.float64, device=train.device)
    cross = torch.zeros(len(test), len(train), dtype=torch.float64, device=train.device)

    def check(done: int) -> None:
        if progress is not None:
            progress("random convolution features", done, filters)

    for start in range(0, filters, BLOCK):
        some, tick = slice(start, min(start + BLOCK, filters)), partial(check, start)
        trained, tested = (responses(images, patches, some, tick) for images in (train, test))
        for columns in blocks(trained.shape[1], TILE):
            deviation, mean = torch.std_mean(trained[:, columns], dim=0, correction=0)
            for part in (trained, tested):
                part[:, columns].sub_(mean).div_(deviation.clamp_min(1e-6))
            tick()
        for columns in blocks(len(train), TILE):
            right = trained[columns].to(torch.float64).T
            for rows in blocks(len(train), TILE):
                if rows.start >= columns.start:
                    gram[rows, columns].addmm_(trained[rows].to(torch.float64), right)
                    tick()
            for rows in blocks(len(test), TILE):
                cross[rows, columns].addmm_(tested[rows].to(torch.float64), right)
                tick()
        check(some.stop)
    for columns in blocks(len(train), TILE):
        gram[columns.start :, columns].div_(8 * filters).add_(1.0)
        gram[columns, columns.stop :] = gram[columns.stop :, columns].T
        check(filters)
    return gram, cross.div_(8 * filters).add_(1.0)
