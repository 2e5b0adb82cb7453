"""From stored bytes to network input: the order of the stages, and the same pixels in any batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rethink_fast import rng
from rethink_fast.augment import fixed_crop, random_crop, random_flip, random_rotation
from rethink_fast.corruptions import gaussian, random_pixels, shuffled_pixels
from rethink_fast.data.prepare import PIXEL_KINDS, Preparation, prepare

KINDS = ("", *PIXEL_KINDS)
SEED = 41
STORED = torch.randint(256, (10, 16, 18, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
INDEX = torch.tensor([4, 0, 9, 2, rng.TEST_INDEX + 1, 7])
ROWS = torch.tensor([4, 0, 9, 2, 1, 7])
EPS = 2.0**-23
PLAIN = Preparation(
    window=(2, 3, 12, 12),
    corruption="",
    seed=SEED,
    size=(12, 12),
    mean=torch.tensor([120.0, 110.0, 100.0]),
    std=torch.tensor([60.0, 50.0, 40.0]),
)
AUGMENTED = replace(PLAIN, size=(9, 8), crop=True, flip=True, rotation=True)


def corrupted(images: torch.Tensor, index: torch.Tensor, kind: str) -> torch.Tensor:
    if kind == "gaussian":
        return gaussian(images, index, seed=SEED, mean=PLAIN.mean, std=PLAIN.std)
    if kind == "":
        return images
    return {"shuffled_pixels": shuffled_pixels, "random_pixels": random_pixels}[kind](images, index, seed=SEED)


def normalised(pixels: torch.Tensor, normalisation: str) -> tuple[torch.Tensor, float]:
    """The last stage in float64, [B, C, H, W], and how far a float32 backend may be from it.

    test_augment.py derives 255 EPS (24 (height + width) + 8) for a rotated pixel, test_corruptions.py 4096 EPS for a
    Gaussian one; their sum bounds a pixel. Whitening: a mean and a deviation of n values in [0, 1] add n EPS each
    in any order of summation, and (x - mean) / std passes on (2 + |z|) times that over std.
    """
    x = pixels.double()
    pixel = (255 * (24 * 24 + 8) + 4096) * EPS
    if normalisation == "unit_range":
        return (x / 127.5 - 1).permute(0, 3, 1, 2), pixel / 127.5 + 4 * EPS
    x = x / 255
    n = x[0].numel()
    std = x.flatten(1).std(dim=1, correction=0).view(-1, 1, 1, 1)
    z = (x - x.mean(dim=(1, 2, 3), keepdim=True)) / std.clamp_min(n**-0.5)
    bound = (2 + z.abs().max().item()) * (pixel / 255 + n * EPS) / max(std.min().item(), n**-0.5)
    return z.permute(0, 3, 1, 2), bound


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalisation", ["whiten", "unit_range"])
def test_training_input_is_the_composition(kind: str, normalisation: str) -> None:
    how = replace(AUGMENTED, corruption=kind, normalisation=normalisation)
    made = prepare(STORED, ROWS, INDEX, how, epoch=5)
    x = corrupted(fixed_crop(STORED[ROWS], (2, 3, 12, 12)), INDEX, kind)
    x = random_crop(x, INDEX, (9, 8), seed=SEED, epoch=5)
    x = random_rotation(random_flip(x, INDEX, seed=SEED, epoch=5), INDEX, seed=SEED, epoch=5)
    expected, bound = normalised(x, normalisation)
    assert (made - expected).abs().max().item() < bound


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_takes_the_centre_crop_and_nothing_random(kind: str) -> None:
    """A 9x8 window out of 12x12 is centred at (1, 2); the corruption is the same as in training."""
    made = prepare(STORED, ROWS, INDEX, replace(AUGMENTED, corruption=kind), epoch=None)
    x = corrupted(fixed_crop(STORED[ROWS], (2, 3, 12, 12)), INDEX, kind)[:, 1:10, 2:10]
    expected, bound = normalised(x, "whiten")
    assert (made - expected).abs().max().item() < bound


def test_training_without_a_random_crop_takes_the_centre_one() -> None:
    how = replace(PLAIN, size=(9, 8))
    assert torch.equal(prepare(STORED, ROWS, INDEX, how, epoch=3), prepare(STORED, ROWS, INDEX, how, epoch=None))


@pytest.mark.parametrize("kind", KINDS)
def test_corruption_is_fixed_across_epochs(kind: str) -> None:
    how = replace(PLAIN, corruption=kind)
    first, later, evaluated = (prepare(STORED, ROWS, INDEX, how, epoch=epoch) for epoch in (0, 60, None))
    assert torch.equal(first, later)
    assert torch.equal(first, evaluated)
    if kind:
        assert not torch.equal(first, prepare(STORED, ROWS, INDEX, PLAIN, epoch=0))


@pytest.mark.parametrize("option", ["crop", "flip", "rotation"])
def test_each_augmentation_acts_alone_and_by_epoch(option: str) -> None:
    how = replace(PLAIN, size=(9, 8), **{option: True})
    first, second = (prepare(STORED, ROWS, INDEX, how, epoch=epoch) for epoch in (0, 1))
    assert not torch.equal(first, second)
    assert not torch.equal(first, prepare(STORED, ROWS, INDEX, replace(PLAIN, size=(9, 8)), epoch=0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layout_and_type(dtype: torch.dtype) -> None:
    made = prepare(STORED, ROWS, INDEX, replace(PLAIN, dtype=dtype), epoch=0)
    assert made.dtype == dtype
    assert made.shape == (6, 3, 12, 12)
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(made, prepare(STORED, ROWS, INDEX, PLAIN, epoch=0).to(dtype))


def test_one_channel_and_one_image() -> None:
    made = prepare(STORED[..., :1], ROWS[:1], INDEX[:1], PLAIN, epoch=0)
    expected, bound = normalised(STORED[4:5, 2:14, 3:15, :1], "whiten")
    assert (made - expected).abs().max().item() < bound
    assert made.is_contiguous(memory_format=torch.channels_last)


@settings(derandomize=True, max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    epoch=st.sampled_from([None, 0, 3]),
    batch=st.integers(1, 9),
    other=st.integers(1, 9),
    augmented=st.booleans(),
    order=st.permutations(range(10)),
)
def test_two_batch_sizes_give_the_same_pixels(
    kind: str, epoch: int | None, batch: int, other: int, augmented: bool, order: list[int]
) -> None:
    """Each sample alike to the bit, in any batch and order, over the whole set."""
    how = replace(AUGMENTED if augmented else PLAIN, corruption=kind)

    def whole(rows: torch.Tensor, batch: int) -> torch.Tensor:
        return torch.cat([prepare(STORED, some, some, how, epoch=epoch) for some in rows.split(batch)])

    shuffled = torch.tensor(order)
    assert torch.equal(whole(torch.arange(10), batch)[shuffled], whole(shuffled, other))
