"""ImageNet's augmentation in Triton against the reference in plain torch, in Triton's interpreter on CPU tensors.

test_triton.py runs this file in a separate process with TRITON_INTERPRET=1.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"
from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from rethink_fast import rng
from rethink_fast.augment import crop_windows
from rethink_fast.data.preprocess import preprocess_distorted_reference
from rethink_fast.kernels import triton_distortion, triton_rng
from tests.kernels.triton_values import (
    EPS,
    INDEX,
    LARGEST,
    NothingRead,
    _poison,  # noqa: F401
    cast,
    input_bound,
    pixel_bound,
    some_images,
)

SEED, EPOCH = 2**63 - 1, 2
STAGES = {
    "resized": (False, False, False, True, False),
    "resized, flip, rotation": (False, True, True, True, False),
    "crop, flip, jitter": (True, True, False, False, True),
    "rotation, jitter": (False, False, True, False, True),
    "resized, flip, jitter": (False, True, False, True, True),
    "all": (False, True, True, True, True),
}
"""crop, flip, rotation, resized crop, jitter"""


@triton.jit
def _window_kernel(out_ptr, index_ptr, r0: tl.uint32, r1: tl.uint32, epoch, plan: tl.constexpr):
    image = tl.program_id(0)
    window = triton_distortion._crop_window(r0, r1, tl.load(index_ptr + image), epoch, plan)
    for i in tl.static_range(4):
        tl.store(out_ptr + image * 4 + i, window[i])


@pytest.mark.parametrize("size", [(299, 299), (28, 28), (1, 1), (1, 40), (40, 1), (50, 1000), (1000, 50), (7, 5)])
def test_windows_are_the_contracts(size: tuple[int, int]) -> None:
    index = torch.cat((INDEX, torch.arange(40) * 7919))
    plan = triton_distortion._plan(
        (*size, 3), (0, 0, *size), "", size, (False, False, False, True, False), whiten=False
    )
    for seed, epoch in ((0, 0), (SEED, 2**40)):
        out = torch.empty(len(index), 4, dtype=torch.int32)
        keys = triton_rng.key(seed, rng.Stream.RESIZED_CROP)
        _window_kernel[(len(index),)](out, index, *keys, epoch, plan)
        expected = crop_windows(torch.tensor(size[0]), torch.tensor(size[1]), index, seed=seed, epoch=epoch)
        assert torch.equal(out.long(), expected)


def both(
    shape: tuple[int, ...],
    size: list[int],
    corruption: str,
    normalisation: str,
    stages: tuple[bool, ...],
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns ours, expected, and the bound of their difference. The window is one pixel from the image's edges."""
    mean, std = torch.linspace(100, 140, shape[3]), torch.linspace(50, 80, shape[3])
    rows = torch.tensor([shape[0] - 1, 0, shape[0] - 1, 1, 0])
    window = [1, 1, shape[1] - 2, shape[2] - 2]
    epoch, stored = torch.tensor(EPOCH), some_images(*shape)
    given: list[Any] = [stored, rows, INDEX, window, corruption, SEED, mean, std, size, *stages, epoch]
    out = triton_distortion.preprocess_distorted(*[*given, normalisation, dtype])
    unit, exact = (
        preprocess_distorted_reference(*[*given, name, torch.float32]) for name in ("unit_range", normalisation)
    )
    assert out.shape == exact.shape
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=torch.channels_last)
    bound = input_bound(unit, exact, distorted_bound(unit, *stages[2:]), normalisation)
    if dtype == torch.bfloat16:
        bound = bound + 2.0**-7 * exact.double().abs()  # a unit in the last place
    return out, cast(exact, dtype), bound


def distorted_bound(unit: Tensor, rotation: bool, resized: bool, jitter: bool) -> float:
    """How far a value may be from the reference's before it is normalised, in pixel units.

    The reference's bytes come from [-1, 1]: 4 roundings. A place in a window is below s = height + width. The
    reference's is off by 40 s EPS (tests/augment/test_imagenet.py), this one, rounded 4 times, by 4 s EPS; a value
    changes by at most 2 LARGEST a pixel in each direction, and the blends round 16 times.

    Jitter, on a scale of 1, where values are below v = 2.4 and a difference is d: brightness adds 3 roundings to
    each of the two; contrast makes it 2 d (factor and 1 - factor), half the roundings of a mean (13 for up to 2^13
    pixels), 6, and 2 where the factor is 1; saturation 8 d and 10; the hue 8 d and 60 (test_imagenet.py). With
    contrast first, which is the larger, 8 * (8 * (2 (d + 6) + 13 + 16) + 20) + 120 = 128 d + 2904 roundings of 2 EPS v.
    """
    pixels = pixel_bound(unit, rotation) + 4 * LARGEST * EPS
    if resized:
        pixels += 2 * (2 * LARGEST) * 44 * sum(unit.shape[2:]) * EPS + 16 * LARGEST * EPS
    if jitter:
        pixels = 128 * pixels + 255 * 2904 * 2.4 * 2 * EPS
    return pixels


def assert_near(out: Tensor, expected: Tensor, bound: Tensor) -> None:
    assert bool(((out.double() - expected.double()).abs() <= bound).all())


CORRUPTIONS = ["shuffled_pixels", "random_pixels", "gaussian"]
CASES = [("", stages) for stages in STAGES] + [(CORRUPTIONS[i % 3], stages) for i, stages in enumerate(STAGES)]
"""Each combination of stages without a corruption, and with one: all four with each took two minutes."""


@pytest.mark.parametrize(("corruption", "stages"), CASES)
def test_values(corruption: str, stages: str) -> None:
    assert {int(word) % 2 for word in rng.draw(SEED, rng.Stream.COLOUR, INDEX, EPOCH)[:, 0]} == {0, 1}
    size = [8, 9] if STAGES[stages][0] else [10, 9]
    normalisation = "whiten" if corruption in ("", "gaussian") else "unit_range"
    out, expected, bound = both((3, 12, 11, 3), size, corruption, normalisation, STAGES[stages])
    assert_near(out, expected, bound)


@pytest.mark.parametrize("shape", [(3, 3, 3, 3), (3, 3, 19, 3), (3, 9, 8, 1), (3, 8, 9, 4)], ids=str)
def test_odd_shapes(shape: tuple[int, ...]) -> None:
    stages = (False, True, False, True, shape[3] == 3)
    for normalisation in ("whiten", "unit_range"):
        assert_near(*both(shape, [shape[1] - 2, shape[2] - 2], "", normalisation, stages))


def test_images_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image takes several programs, and a program several tiles, of which the last is not full."""
    monkeypatch.setattr(triton_distortion, "PIXELS", 16)
    monkeypatch.setattr(triton_distortion, "TILES", 2)
    triton_distortion._plan.cache_clear()
    stages = STAGES["resized, flip, jitter"]
    assert_near(*both((3, 12, 11, 3), [9, 8], "random_pixels", "whiten", stages, torch.bfloat16))
    triton_distortion._plan.cache_clear()


def test_grey_stays_grey_and_an_empty_batch_is_empty() -> None:
    grey = some_images(5, 6, 6, 1).expand(-1, -1, -1, 3)
    rows, stages = torch.arange(5), (False, False, False, False, True, torch.tensor(EPOCH), "unit_range")
    given: tuple[Any, ...] = ("", SEED, None, None, [6, 6], *stages, torch.float32)
    out = triton_distortion.preprocess_distorted(grey, rows, INDEX, [0, 0, 6, 6], *given)
    assert (out - out[:, :1]).abs().max().item() < 2 * 60 * 2 * EPS  # tests/augment/test_imagenet.py
    assert out.abs().max().item() <= 1 + 2 * EPS  # 255 by the rounded 1 / 127.5
    empty = triton_distortion.preprocess_distorted(grey, rows[:0], INDEX[:0], [0, 0, 6, 6], *given)
    assert empty.shape == (0, 3, 6, 6)


def test_the_epoch_is_read_by_the_kernel_alone() -> None:
    images, rows, epoch = some_images(2, 6, 6, 3), torch.tensor([1, 0]), torch.tensor(0)
    stages = (False, True, False, True, True, epoch, "unit_range", torch.float32)
    given = (images, rows, INDEX[-2:], [0, 0, 6, 6], "random_pixels", 5, None, None, [6, 6], *stages)
    first = triton_distortion.preprocess_distorted(*given)
    for now in (0, 2**40 + 1, rng.LARGEST):
        epoch.fill_(now)
        with NothingRead():
            out = triton_distortion.preprocess_distorted(*given)
        assert torch.equal(out, first) == (now == 0)
