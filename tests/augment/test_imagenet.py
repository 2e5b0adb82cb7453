"""The resized crop and the colours of ImageNet against their definitions, and pure in (seed, epoch, index)."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from rethink_fast import rng
from rethink_fast.augment import color_jitter, crop_windows, random_resized_crop
from rethink_fast.augment.color_jitter import adjust_contrast, adjust_hue, adjust_saturation
from tests.augment.test_augment import INDEX, photographs

EPS = 2.0**-23
SIZES = [(375, 500), (500, 375), (299, 299), (28, 28), (1, 1), (1, 40), (40, 1), (50, 1000), (1000, 50), (7, 5)]


def windows(height: int, width: int, index: torch.Tensor = INDEX, seed: int = 5, epoch: int = 9) -> list[list[int]]:
    return crop_windows(torch.tensor(height), torch.tensor(width), index, seed=seed, epoch=epoch).tolist()


def test_windows_of_a_batch_follow_the_size_of_each_image() -> None:
    """And are held to golden values: the draws are part of the contract."""
    height, width = torch.tensor([375, 500, 50]), torch.tensor([500, 333, 1000])
    index = torch.tensor([0, 1, 2])
    together = crop_windows(height, width, index, seed=2017, epoch=3).tolist()
    alone = [windows(int(h), int(w), i[None], 2017, 3)[0] for h, w, i in zip(height, width, index, strict=True)]
    assert together == alone
    assert together == GOLDEN


GOLDEN = [[71, 164, 277, 319], [0, 6, 378, 327], [0, 0, 50, 1000]]


@pytest.mark.parametrize("size", SIZES)
def test_windows_lie_in_the_image_and_keep_their_limits(size: tuple[int, int]) -> None:
    height, width = size
    index = torch.arange(4000)
    top, left, tall, wide = torch.tensor(windows(height, width, index)).unbind(1)
    assert bool(((top >= 0) & (left >= 0) & (tall >= 1) & (wide >= 1)).all())
    assert bool(((top + tall <= height) & (left + wide <= width)).all())
    # The height is rounded by half a pixel, which moves the width of the same shape by less than one, and the width
    # again by half a pixel.
    whole = (tall == height) & (wide == width)
    area = tall * wide + tall / 2 + wide + 1
    assert bool((whole | (area >= 0.1 * height * width)).all())
    assert bool((whole | ((wide + 0.5) / tall >= 0.75)).all())
    assert bool((whole | ((wide - 0.5) / tall <= 1.33)).all())


def test_shape_height_and_place_are_uniform() -> None:
    """In an image so wide that the aspect never limits the height. Five standard deviations of a mean are allowed.

    A height is uniform on least ... H where least depends on the aspect: taken as a share of that range, it is a
    uniform of [0, 1] with a step of at least 1 / (H - least), below 1e-3. So are the places, as shares of their room.
    """
    height, width, n = 2000, 6000, 4000
    top, left, tall, wide = torch.tensor(windows(height, width, torch.arange(n))).double().unbind(1)
    aspect = wide / tall
    deviation = 1 / math.sqrt(12 * n)
    assert abs(aspect.mean().item() - (0.75 + 1.33) / 2) < 0.58 * 5 * deviation + 1e-3
    least = (0.1 * height * width / aspect).sqrt()
    for share in ((tall - least) / (height - least), top / (height - tall).clamp_min(1), left / (width - wide)):
        inside = share[height - tall > 50]
        assert abs(inside.mean().item() - 0.5) < 5 * deviation * math.sqrt(n / len(inside)) + 0.02


@pytest.mark.parametrize("size", [(12, 11), (28, 28), (1, 1), (5, 31)])
def test_resized_crop_is_linear_between_the_centres_of_the_window(size: tuple[int, int]) -> None:
    """Against float64, within the rounding of a place and of the blend.

    A place in pixels is below s = height + width; the way to it and through grid units takes 10 roundings of values
    below 2 s, so it is off by at most 20 s EPS, and a value, which changes by at most 255 a pixel in either direction,
    by 2 * 255 * 20 s EPS; the blend itself (4 products of weights and values) adds 255 * 8 EPS.
    """
    height, width = size
    images = photographs(height=height, width=width)
    made = random_resized_crop(images, INDEX, seed=5, epoch=9)
    assert made.dtype == torch.float32
    bound = 255 * EPS * (40 * sum(size) + 8)
    for k, (top, left, tall, wide) in enumerate(windows(height, width)):
        window = images[k, top : top + tall, left : left + wide].double().numpy()
        expected = stretched(stretched(window, height, axis=0), width, axis=1)
        assert np.abs(made[k].numpy() - expected).max() < bound


def stretched(pixels: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Linear to `size` places along an axis, by NumPy's own interpolation, constant beyond the outermost centres."""
    n = pixels.shape[axis]
    places = (np.arange(size) + 0.5) * n / size - 0.5
    return np.apply_along_axis(lambda line: np.interp(places, np.arange(n), line), axis, pixels)


def in_hsv(x: np.ndarray, change: Callable[[float, float, float], tuple[float, float, float]]) -> np.ndarray:
    """The pixels with their colours changed, by the standard library; no colour where none is above 0."""
    out = np.empty_like(x)
    for place in np.ndindex(x.shape[:-1]):
        h, s, v = colorsys.rgb_to_hsv(*x[place]) if x[place].max() > 0 else (0.0, 0.0, x[place].max())
        out[place] = colorsys.hsv_to_rgb(*change(h, s, v))
    return out


VALUES = np.random.default_rng(0).uniform(-0.13, 1.13, (2, 9, 9, 3))
VALUES[0, 0, :4] = (0, 0, 0), (1, 1, 1), (0.5, 0.5, 0.2), (0.2, 0.5, 0.5)
VALUES[0, 0, 4:8] = (0.5, 0.2, 0.5), (-0.1, -0.05, -0.1), (0.0, -0.1, 0.0), (1, 0, 0)


def planes(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).permute(0, 3, 1, 2)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_saturation_is_the_definition(factor: float) -> None:
    """In float64, where the same steps in another order differ by some 1e-15 times the greatest quotient, 1 / 0.001."""
    made = adjust_saturation(planes(VALUES), torch.full((2, 1, 1, 1), factor, dtype=torch.float64))
    expected = in_hsv(VALUES, lambda h, s, v: (h, min(max(s * factor, 0.0), 1.0), v))
    assert np.abs(made.permute(0, 2, 3, 1).numpy() - expected).max() < 1e-12


@pytest.mark.parametrize("turn", [-0.2, 0.0, 0.07, 0.2])
def test_hue_is_the_definition(turn: float) -> None:
    """After a saturation of at most 1, as there always is."""
    values = VALUES.clip(0, 1)
    made = adjust_hue(planes(values), torch.full((2, 1, 1, 1), turn, dtype=torch.float64))
    expected = in_hsv(values, lambda h, s, v: ((h + turn) % 1.0, s, v))
    assert np.abs(made.permute(0, 2, 3, 1).numpy() - expected).max() < 1e-12


def test_contrast_is_about_the_mean_of_each_channel() -> None:
    made = adjust_contrast(planes(VALUES), torch.tensor([0.5, 1.4], dtype=torch.float64)[:, None, None, None])
    for k, factor in enumerate((0.5, 1.4)):
        mean = VALUES[k].mean(axis=(0, 1))
        assert np.abs(made[k].permute(1, 2, 0).numpy() - (mean + factor * (VALUES[k] - mean))).max() < 1e-14


def test_colour_is_the_contract() -> None:
    """Against float64, by the four steps in the order that was drawn.

    With values below 1.2 and an error e of a value: brightness leaves 3 EPS; contrast, with a mean of n values right
    to n EPS, at most 1.5 (e + n EPS) + n EPS + 6 EPS; saturation 8 e + 10 EPS (the quotient that takes it to 1 is at
    most 1.5); the hue 8 e + 60 EPS (a hue is off by 4 e over the range that it is multiplied with). In either order
    below 64 * (2.5 n + 12) + 200 for n = 12, in units of 255 EPS.
    """
    images = photographs(height=4, width=3)
    words = rng.draw(5, rng.Stream.COLOUR, INDEX, 9).tolist()
    made = color_jitter(images, INDEX, seed=5, epoch=9)
    assert {w[0] % 2 for w in words} == {0, 1}
    for k, w in enumerate(words):
        s = [((word >> 1) + 0.5) / 2**30 - 1 for word in w]
        x = images[k].double().numpy() / 255 + 32 / 255 * s[0]

        def contrast(x: np.ndarray, factor: float = 1 + s[1] / 2) -> np.ndarray:
            mean = x.mean(axis=(0, 1))
            return (x - mean) * factor + mean

        if w[0] % 2:
            x = contrast(x)
        factor, turn = 1 + s[2] / 2, s[3] / 5
        x = in_hsv(x, lambda h, sat, v: (h, min(max(sat * factor, 0.0), 1.0), v))  # noqa: B023
        x = in_hsv(x, lambda h, sat, v: ((h + turn) % 1.0, sat, v))  # noqa: B023
        if not w[0] % 2:
            x = contrast(x)
        assert np.abs(made[k].numpy() - 255 * x.clip(0, 1)).max() < 255 * EPS * (64 * (2.5 * 12 + 12) + 200)


def test_colour_stays_in_range_and_leaves_grey_grey() -> None:
    grey = photographs(64)[..., :1].expand(-1, -1, -1, 3)
    made = color_jitter(grey, torch.arange(64), seed=0, epoch=0)
    assert made.min().item() >= 0
    assert made.max().item() <= 255
    assert (made - made[..., :1]).abs().max().item() < 255 * 60 * EPS
