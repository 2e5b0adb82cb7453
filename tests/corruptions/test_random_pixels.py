"""shuffled_pixels and random_pixels: uniform permutations, independent where they must be."""

from __future__ import annotations

import math

import pytest
import torch

from rethink_fast import rng
from rethink_fast.corruptions import random_pixels, shuffled_pixels
from tests.corruptions.helpers import INDEX, N, chi_square, chi_square_limit


def numbered(batch: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    """Images whose pixel at position q holds q * channels + c, so that a moved pixel tells where it came from."""
    return torch.arange(height * width * channels).view(1, height, width, channels).expand(batch, -1, -1, -1)


def sources(images: torch.Tensor) -> torch.Tensor:
    """Where each pixel of permuted `numbered` images came from: [B, H * W]. Fails if channels parted."""
    channels = images.shape[-1]
    assert torch.equal(images % channels, torch.arange(channels).expand_as(images))
    return (images[..., 0] // channels).flatten(1)


def test_shuffled_pixels_is_one_permutation_for_training_and_test_images() -> None:
    index = torch.tensor([0, 1, 77, rng.TEST_INDEX, rng.TEST_INDEX + 1])
    moved = sources(shuffled_pixels(numbered(5, 28, 28), index, seed=6))
    assert torch.equal(moved, moved[:1].expand_as(moved))
    assert torch.equal(moved[0].sort().values, torch.arange(784))
    assert not torch.equal(moved[0], torch.arange(784))
    assert not torch.equal(moved[0], sources(shuffled_pixels(numbered(1, 28, 28), index[:1], seed=7))[0])


def test_shuffled_pixels_is_uniform_over_seeds() -> None:
    """The source of each position of a 3x3 image over 500 seeds."""
    index = torch.zeros(1, dtype=torch.int64)
    moved = torch.cat([sources(shuffled_pixels(numbered(1, 3, 3, 1), index, seed=seed)) for seed in range(500)])
    for position in range(9):
        assert chi_square(torch.bincount(moved[:, position], minlength=9)) < chi_square_limit(8)


@pytest.mark.parametrize("size", [(4, 4), (7, 7), (5, 3)])
def test_random_pixels_sends_every_pixel_everywhere_alike(size: tuple[int, int]) -> None:
    """Over images, the source of each position is uniform; 15, 16 and 49 places: power of two and not."""
    images = numbered(N // 2, *size)
    moved = sources(random_pixels(images, INDEX[: N // 2], seed=12))
    n = size[0] * size[1]
    assert torch.equal(moved.sort(dim=1).values, torch.arange(n).expand_as(moved))
    for position in range(n):
        assert chi_square(torch.bincount(moved[:, position], minlength=n)) < chi_square_limit(n - 1)


def test_random_pixels_sends_neighbouring_pixels_independently() -> None:
    """The joint source of two neighbours is uniform over the ordered pairs of different places."""
    n = 16
    moved = sources(random_pixels(numbered(N, 4, 4, 1), INDEX, seed=13))
    for first, second in ((0, 1), (5, 6), (1, 5), (14, 15)):
        pairs = torch.bincount(moved[:, first] * n + moved[:, second], minlength=n * n).view(n, n)
        assert not bool(pairs.diagonal().any())
        off_diagonal = pairs[~torch.eye(n, dtype=torch.bool)]
        assert chi_square(off_diagonal) < chi_square_limit(n * (n - 1) - 1)


@pytest.mark.parametrize("neighbour", ["index", "seed", "test image"])
def test_random_pixels_differs_between_images_and_seeds(neighbour: str) -> None:
    """Two independent permutations agree at one position on average, with variance 1."""
    images, index = numbered(2000, 7, 7, 1), INDEX[:2000]
    moved = sources(random_pixels(images, index, seed=20))
    other = {
        "index": lambda: random_pixels(images, index + 1, seed=20),
        "seed": lambda: random_pixels(images, index, seed=21),
        "test image": lambda: random_pixels(images, index + rng.TEST_INDEX, seed=20),
    }[neighbour]()
    raise_together = (moved == sources(other)).sum(dim=1).double()
    assert abs(raise_together.mean().item() - 1) < 5 / math.sqrt(2000)
    joint = torch.bincount(moved[:, 0] * 49 + sources(other)[:, 0], minlength=49**2)
    # 2,401 cells of 0.8 expected each are too thin for the tail bound, but the statistic's variance is below twice
    # its freedom at any expectation.
    assert abs(chi_square(joint) - 2400) < 5 * math.sqrt(2 * 2400)


def test_shuffled_and_random_pixels_share_no_permutation() -> None:
    index = torch.zeros(1, dtype=torch.int64)
    images = numbered(1, 28, 28)
    assert not torch.equal(shuffled_pixels(images, index, seed=0), random_pixels(images, index, seed=0))
