"""gaussian: its moments, its distribution, independence."""

from __future__ import annotations

import math

import pytest
import torch

from rethink_fast import rng
from rethink_fast.corruptions import gaussian
from tests.corruptions.helpers import INDEX, MEAN, STD


def test_gaussian_has_the_given_moments() -> None:
    """Per channel; the standard error of a mean is std / sqrt(n), of a deviation std / sqrt(2 n)."""
    noise = gaussian(torch.zeros(200, 32, 32, 3), INDEX[:200], seed=30, mean=MEAN, std=STD).double().flatten(0, 2)
    n = len(noise)
    assert bool(((noise.mean(0) - MEAN).abs() < 5 * STD / math.sqrt(n)).all())
    assert bool(((noise.std(0) - STD).abs() < 5 * STD / math.sqrt(2 * n)).all())


def test_gaussian_is_normal() -> None:
    """Kolmogorov-Smirnov: an honest sample exceeds d with probability below 2 exp(-2 n d^2) (Massart 1990).

    The 2^20 radii and 2^12 angles of the contract move the distribution by less than 2^-12, which is added.
    """
    noise = standard(100, 28, 28, 3).flatten().double().sort().values
    n = len(noise)
    cumulative = 0.5 * (1 + torch.erf(noise / math.sqrt(2)))
    above = (torch.arange(1, n + 1) / n - cumulative).max().item()
    below = (cumulative - torch.arange(n) / n).max().item()
    assert max(above, below) < math.sqrt(math.log(2e6) / (2 * n)) + 2.0**-12
    assert noise.abs().max().item() < 5.4


def standard(batch: int, height: int, width: int, channels: int, seed: int = 31, first: int = 0) -> torch.Tensor:
    """Noise of mean 0 and deviation 1."""
    images = torch.zeros(batch, height, width, channels)
    zero, one = torch.zeros(channels), torch.ones(channels)
    return gaussian(images, first + torch.arange(batch), seed=seed, mean=zero, std=one)


def test_gaussian_is_neither_rounded_nor_clipped() -> None:
    noise = gaussian(torch.zeros(20, 32, 32, 3, dtype=torch.uint8), INDEX[:20], seed=32, mean=MEAN, std=STD)
    assert noise.dtype == torch.float32
    assert noise.min().item() < 0
    assert noise.max().item() > 255
    assert (noise != noise.round()).double().mean().item() > 0.99


def test_gaussian_images_channels_and_neighbours_are_independent() -> None:
    """The correlation of n independent pairs has standard deviation 1 / sqrt(n)."""
    noise = standard(200, 28, 28, 3).double()
    pairs = {
        "next image": (noise[:-1], noise[1:]),
        "next seed": (noise, standard(200, 28, 28, 3, seed=32).double()),
        "test image": (noise, standard(200, 28, 28, 3, first=rng.TEST_INDEX).double()),
        "next column": (noise[:, :, :-1], noise[:, :, 1:]),
        "next row": (noise[:, :-1], noise[:, 1:]),
        "next channel": (noise[..., :-1], noise[..., 1:]),
        "squares of the next channel": (noise[..., :-1] ** 2, noise[..., 1:] ** 2),
    }
    for name, (one, other) in pairs.items():
        correlation = torch.corrcoef(torch.stack((one.flatten(), other.flatten())))[0, 1].item()
        assert abs(correlation) < 5 / math.sqrt(one.numel()), name


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (7, 7, 1), (63, 5, 3), (2, 2, 2), (3, 3, 1)], ids=lambda shape: "x".join(map(str, shape))
)
def test_gaussian_element_by_element(shape: tuple[int, int, int]) -> None:
    """Element e takes deviate e % 2 of word e // 2, in odd counts too, and channel c its own statistics."""
    channels = shape[2]
    elements = math.prod(shape)
    index = torch.tensor([3, rng.TEST_INDEX])
    noise = gaussian(torch.zeros(2, *shape), index, seed=33, mean=MEAN[:channels], std=STD[:channels])
    for k in range(2):
        for e in {0, elements // 2, elements - 1}:
            block, word = divmod(e // 2, 4)
            z = rng.normals(rng.draw(33, rng.Stream.GAUSSIAN, index[k], block)[word])[e % 2]
            expected = z * STD[e % channels] + MEAN[e % channels]
            # One fused or separate multiplication and addition, and a vector or a scalar log and cos: each right to
            # 2 units of 2^-23 of a value below 5.4 * 67 + 126 < 512.
            assert abs(noise[k].flatten()[e].item() - expected.item()) < 512 * 8 * 2.0**-23
