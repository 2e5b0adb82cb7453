"""Resizing: the definition, to the bit, by whatever computes it; and what Pillow and exact arithmetic make of it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from rethink_fast.data import resize as module
from rethink_fast.data.resize import resize, weighting
from rethink_fast.kernels import native

SHAPES = [
    (328, 437, 299, 299),
    (1, 1, 1, 1),
    (1, 1, 5, 7),
    (11, 1, 3, 1),
    (5, 3, 9, 2),
    (33, 5, 32, 5),
    (7, 7, 7, 7),
    (300, 4, 299, 3),
    (50, 60, 299, 298),
    (2000, 1333, 32, 33),
    (3, 4000, 3, 17),
]


def photograph(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def resized(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    out = torch.full((1, height, width, 3), 0xA5, dtype=torch.uint8)
    resize([image], out)
    return out[0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_is_the_reference_to_the_bit(shape: tuple[int, int, int, int]) -> None:
    image, expected = photograph(*shape[:2]), torch.empty((1, *shape[2:], 3), dtype=torch.uint8)
    module._reference([image], expected)
    assert torch.equal(resized(image, *shape[2:]), expected[0])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_beside_pillow(shape: tuple[int, int, int, int]) -> None:
    """Which rounds after each pass, to half a level each: whole numbers at most 1.6 apart differ by one."""
    image = photograph(*shape[:2])
    other = np.asarray(Image.fromarray(image.numpy()).resize(shape[:1:-1], Image.Resampling.BILINEAR))
    assert np.abs(resized(image, *shape[2:]).numpy().astype(int) - other).max() <= 1


def exact_weights(places: int, to: int, o: int) -> list[Fraction]:
    """The triangle around the centre of place o, in exact arithmetic, from its usual words."""
    scale = max(Fraction(places, to), Fraction(1))
    centre = (o + Fraction(1, 2)) * Fraction(places, to)
    heights = [max(Fraction(0), 1 - abs(k + Fraction(1, 2) - centre) / scale) for k in range(places)]
    return [height / sum(heights) for height in heights]


@pytest.mark.parametrize(("places", "to"), [(1, 1), (1, 4), (4, 4), (7, 3), (3, 7), (13, 12), (12, 13), (100, 9)])
def test_weights(places: int, to: int) -> None:
    first, weights = weighting(places, to)
    assert weights.sum(1).eq(1 << 14).all()
    for o in range(to):
        exact = exact_weights(places, to, o)
        found = [0] * places
        for k, value in enumerate(weights[o].tolist()):
            if value:
                found[int(first[o]) + k] = value
        # Each is rounded (half a unit), and the largest takes up what all of those leave over.
        taps = sum(value > 0 for value in exact)
        for value, want in zip(found, exact, strict=True):
            assert abs(value - want * (1 << 14)) <= (Fraction(1, 2) if value < max(found) else Fraction(taps + 1, 2))


def test_near_the_exact_value() -> None:
    """Half a level for the last rounding; 1/128 for that of rows; 4 taps of 2^-15 an axis, and those on the largest."""
    image = photograph(41, 53)
    made = resized(image, 29, 31)
    down = np.array([[float(w) for w in exact_weights(41, 29, o)] for o in range(29)])
    across = np.array([[float(w) for w in exact_weights(53, 31, o)] for o in range(31)])
    exact = np.einsum("yi,ijc,xj->yxc", down, image.numpy().astype(float), across)
    assert np.abs(made.numpy() - exact).max() <= 0.5 + 1 / 128 + 2 * 2 * 4 * 255 * 2**-15


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_an_even_image_stays_even(value: int) -> None:
    for shape in SHAPES:
        image = torch.full((*shape[:2], 3), value, dtype=torch.uint8)
        assert resized(image, *shape[2:]).eq(value).all()


def test_the_same_size_is_the_same_image() -> None:
    image = photograph(37, 23)
    assert torch.equal(resized(image, 37, 23), image)


def test_many_of_all_sizes_and_layouts() -> None:
    """Each is what it is alone, whatever is beside it and however it lies in memory."""
    images = [photograph(20 + 7 * k, 90 - 11 * k, seed=k) for k in range(7)]
    images += [images[0].transpose(0, 1), images[3].flip(1), photograph(9, 8)[::2, 1:]]
    out = torch.empty((len(images), 15, 14, 3), dtype=torch.uint8)
    resize(images, out)
    for image, made in zip(images, out, strict=True):
        assert torch.equal(made, resized(image.contiguous(), 15, 14))
    resize([], torch.empty((0, 15, 14, 3), dtype=torch.uint8))


GOOD = torch.zeros((4, 4, 3), dtype=torch.uint8)
PLACE = torch.zeros((1, 2, 2, 3), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("image", "out", "words"),
    [
        (GOOD.float(), PLACE, r"an image of torch.float32 \[4, 4, 3\] is not allowed"),
        (GOOD[..., :2], PLACE, r"an image of torch.uint8 \[4, 4, 2\] is not allowed"),
        (GOOD[:0], PLACE, r"an image of torch.uint8 \[0, 4, 3\] is not allowed"),
        (GOOD, PLACE[:, :0], r"an image of torch.uint8 \[0, 2, 3\] is not allowed"),
        (GOOD, PLACE.repeat(2, 1, 1, 1), r"out of torch.uint8 \[2, 2, 2, 3\] does not fit 1 images"),
        (GOOD, PLACE.float(), "out of torch.float32"),
        (GOOD, torch.zeros((1, 3, 2, 3), dtype=torch.uint8).transpose(1, 2), "contiguous"),
        (GOOD[:1, :1].expand(2**20 + 1, 1, 3), PLACE, "is too large: at most 1048576 pixels a side"),
    ],
)
def test_refused(image: torch.Tensor, out: torch.Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        resize([image], out)
    if native.load("_native").usable:  # past the public function, the kernel still keeps to its memory
        with pytest.raises(RuntimeError):
            torch.ops.rethink_fast.resize([image], out)
