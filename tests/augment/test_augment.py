"""Crop, flip, rotation and whitening against their definitions in NumPy, and pure in (seed, epoch, index)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rethink_fast.augment import (
    center_window,
    color_jitter,
    fixed_crop,
    random_crop,
    random_flip,
    random_resized_crop,
    random_rotation,
    unit_range,
    whiten,
)
from tests import contract_reference as contract

EPS = 2.0**-23
INDEX = torch.tensor([0, 1, 2, 3, 12_345, 2**40 + 7, 2**62])
RANDOM = {
    "crop": lambda images, index, *, seed, epoch: random_crop(images, index, (9, 7), seed=seed, epoch=epoch),
    "flip": random_flip,
    "rotation": random_rotation,
    "random_resized_crop": random_resized_crop,
    "color_jitter": color_jitter,
}


def photographs(batch: int = len(INDEX), height: int = 12, width: int = 11, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(256, (batch, height, width, channels), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("name", RANDOM)
def test_pure_in_seed_epoch_and_index(name: str) -> None:
    augment, images = RANDOM[name], photographs()
    whole = augment(images, INDEX, seed=1, epoch=4)
    assert torch.equal(augment(images, INDEX, seed=1, epoch=4), whole)
    assert torch.equal(augment(images, INDEX, seed=1, epoch=torch.tensor(4)), whole)
    backwards = augment(images.flip(0), INDEX.flip(0), seed=1, epoch=4)
    assert torch.equal(backwards.flip(0), whole)
    for k in range(len(INDEX)):
        assert torch.equal(augment(images[k : k + 1], INDEX[k : k + 1], seed=1, epoch=4)[0], whole[k])


@pytest.mark.parametrize("name", RANDOM)
def test_differs_across_epochs_seeds_and_samples(name: str) -> None:
    """One image under 64 indices: by chance alone a flip would be the same for all with probability 2^-64."""
    augment = RANDOM[name]
    images, index = photographs(1).expand(64, -1, -1, -1), torch.arange(64)
    first = augment(images, index, seed=1, epoch=0)
    assert not torch.equal(first, augment(images, index, seed=1, epoch=1))
    assert not torch.equal(first, augment(images, index, seed=2, epoch=0))
    assert not torch.equal(first, augment(images, index + 64, seed=1, epoch=0))


@pytest.mark.parametrize(
    ("height", "width", "size", "window"),
    [(32, 32, (28, 28), (2, 2, 28, 28)), (5, 8, (2, 3), (1, 2, 2, 3)), (7, 7, (7, 7), (0, 0, 7, 7))],
)
def test_center_window(height: int, width: int, size: tuple[int, int], window: tuple[int, int, int, int]) -> None:
    assert center_window(height, width, size) == window


def test_fixed_crop() -> None:
    images = photographs()
    assert np.array_equal(fixed_crop(images, (2, 3, 5, 4)).numpy(), images.numpy()[:, 2:7, 3:7])


def test_random_crop_reaches_every_place_alike() -> None:
    """25 places over 5,000 samples: a count has standard deviation below sqrt(200), and 5 of them are allowed."""
    places = torch.arange(25).view(1, 5, 5, 1).expand(5000, -1, -1, -1)
    counts = torch.bincount(random_crop(places, torch.arange(5000), (1, 1), seed=0, epoch=0).flatten(), minlength=25)
    assert bool(((counts - 200).abs() < 5 * math.sqrt(200)).all())


def test_half_of_the_images_are_flipped() -> None:
    marked = torch.tensor([0, 1]).view(1, 1, 2, 1).expand(5000, -1, -1, -1)
    share = random_flip(marked, torch.arange(5000), seed=0, epoch=0)[:, 0, 0, 0].double().mean().item()
    assert abs(share - 0.5) < 5 * math.sqrt(0.25 / 5000)


@pytest.mark.parametrize("size", [(12, 11), (28, 28), (1, 1), (5, 31)])
def test_random_rotation_is_bilinear_about_the_centre(size: tuple[int, int]) -> None:
    """Against float64, within the rounding of the source position and of the blend.

    With s = height + width: the angle (below 0.44) and its cosine and sine are right to 2 EPS, so each coordinate,
    a sum of two products below s, is off by at most 6 s EPS; the way to grid units and back adds at most 6 s EPS.
    Bilinear interpolation, zeros outside included, changes by at most 255 a pixel in either direction, so the value
    is off by at most 2 * 255 * 12 s EPS, and the blend itself (4 products of weights and values) adds 255 * 8 EPS.
    """
    images = photographs(height=size[0], width=size[1])
    turned = random_rotation(images, INDEX, seed=5, epoch=3)
    assert turned.dtype == torch.float32
    bound = 255 * EPS * (24 * sum(size) + 8)
    assert bound == contract.rotation_bound(*size)
    for k, index in enumerate(INDEX.tolist()):
        assert np.abs(turned[k].numpy() - contract.rotate(images[k].numpy(), 5, index, 3)).max() < bound


def test_rotation_angles_are_uniform_up_to_25_degrees() -> None:
    """Read from where a horizontal ramp's unit step goes: a pixel right of the centre shows cos a, one below sin a."""
    ramp = (torch.arange(21.0) - 10).view(1, 1, 21, 1).expand(2000, 21, 21, 1)
    turned = random_rotation(ramp, torch.arange(2000), seed=1, epoch=0)
    degrees = torch.atan2(turned[:, 11, 10, 0], turned[:, 10, 11, 0]).rad2deg().double()
    assert degrees.abs().max().item() < 25.01
    # A uniform on [-25, 25] has deviation 50 / sqrt(12), and each fifth of the range holds 400, with variance 320.
    assert abs(degrees.mean().item()) < 5 * 50 / math.sqrt(12 * 2000)
    counts = torch.histc(degrees, 5, -25, 25)
    assert bool(((counts - 400).abs() < 5 * math.sqrt(320)).all())


@pytest.mark.parametrize("shape", [(28, 28, 3), (28, 28, 1), (1, 1, 1), (7, 5, 3)])
def test_whitening_is_the_definition(shape: tuple[int, int, int]) -> None:
    """Against float64. The mean and the variance of n values in [0, 1] are right to n EPS at the worst order of
    summation; divided by a deviation of at least 0.1 (noise) or by 1 / sqrt(n) (a single pixel), below 100 n EPS."""
    images = photographs(5, *shape)
    n = math.prod(shape)
    x = images.numpy().astype(np.float64) / 255
    for k, image in enumerate(x):
        expected = (image - image.mean()) / max(image.std(), 1 / math.sqrt(n))
        assert np.abs(whiten(images)[k].numpy() - expected).max() < 100 * n * EPS


def test_whitening_of_low_contrast_stops_at_the_floor() -> None:
    """One pixel one step brighter: a deviation of 8e-5, far below 1 / sqrt(n), so that pixel becomes sqrt(n) / 255."""
    images = torch.full((1, 28, 28, 3), 77, dtype=torch.uint8)
    images[0, 3, 4, 1] += 1
    n = images.numel()
    step = (1 - 1 / n) * math.sqrt(n) / 255
    # The mean is right to n EPS, and the floor multiplies that by sqrt(n).
    assert abs(whiten(images)[0, 3, 4, 1].item() - step) < math.sqrt(n) * n * EPS


def test_whitening_of_a_flat_image_is_zero() -> None:
    """The floor of 1 / sqrt(elements) keeps it finite; the mean of equal values is right to n EPS."""
    n = 28 * 28 * 3
    white = whiten(torch.full((2, 28, 28, 3), 77, dtype=torch.uint8))
    assert white.abs().max().item() <= math.sqrt(n) * n * EPS


def test_unit_range() -> None:
    values = unit_range(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert values.dtype == torch.float32
    assert values.tolist() == pytest.approx([-1.0, -0.6, 1.0], abs=2 * EPS, rel=0)
