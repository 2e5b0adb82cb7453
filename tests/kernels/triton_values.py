"""The Triton kernels against the reference, value by value, in Triton's interpreter on CPU tensors.

test_triton.py runs this file in a separate process with TRITON_INTERPRET=1, which Triton must see before it
is imported. Outputs start poisoned.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rethink_fast import rng
from rethink_fast.corruptions.gaussian import gaussian_reference
from rethink_fast.corruptions.partially_corrupted_labels import corrupt_labels_reference
from rethink_fast.corruptions.random_pixels import random_pixels_reference
from rethink_fast.corruptions.shuffled_pixels import shuffled_pixels_reference
from rethink_fast.data.preprocess import preprocess_reference
from rethink_fast.kernels import (
    triton_gaussian,
    triton_partially_corrupted_labels,
    triton_preprocess,
    triton_random_pixels,
    triton_rng,
)

SEEDS = [0, 5, 2**63 - 1]
INDEX = torch.tensor([0, 7, 2**32 + 1, 2**62 + 3, 2**63 - 1])
EPS = 2.0**-24
"""Half a unit in the last place of float32 at 1."""


@pytest.fixture(autouse=True)
def _poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every buffer a launcher allocates starts as NaN, or 0xA5 for integers."""

    def poisoned(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def wrapper(*arguments: Any, **options: Any) -> Tensor:
            out = make(*arguments, **options)
            return out.fill_(float("nan") if out.is_floating_point() else 0xA5 % (out.element_size() * 256 - 1))

        return wrapper

    monkeypatch.setattr(torch, "empty", poisoned(torch.empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(torch.empty_like))


def some_images(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@triton.jit
def _draw_kernel(out_ptr, index_ptr, block_ptr, k0, k1, SIZE: tl.constexpr):
    offs = tl.arange(0, SIZE)
    words = triton_rng.draw(k0, k1, tl.load(index_ptr + offs), tl.load(block_ptr + offs))
    for i in tl.static_range(4):
        tl.store(out_ptr + 4 * offs + i, words[i].to(tl.int64))


@triton.jit
def _permute_kernel(out_ptr, index, k0, k1, n: tl.constexpr, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    words = triton_rng.permutation_words(k0, k1, index.to(tl.int64))
    tl.store(out_ptr + offs, triton_rng.permute(words, tl.minimum(offs, n - 1), n), mask=offs < n)


@pytest.mark.parametrize("seed", SEEDS)
def test_draws_are_the_contracts(seed: int) -> None:
    index = torch.cat((INDEX, INDEX, torch.tensor([2**32 - 1] * 6)))
    block = torch.tensor([0, 1, 2**31, 2**32, 2**40 + 7, 2**62, 3, 2, 1, 0, 0, 1, 2, 3, 4, 5])
    out = torch.empty(16, 4, dtype=torch.int64)
    _draw_kernel[(1,)](out, index, block, *triton_rng.key(seed, rng.Stream.GAUSSIAN), 16)
    assert torch.equal(out, rng.draw(seed, rng.Stream.GAUSSIAN, index, block))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 63, 64, 65, 784, 1024, 1025])
def test_permutations_are_the_contracts(n: int) -> None:
    out = torch.empty(n, dtype=torch.int32)
    index = 2**62 + n
    _permute_kernel[(1,)](
        out, index, *triton_rng.key(n, rng.Stream.RANDOM_PIXELS), n, triton.next_power_of_2(n), num_warps=4
    )
    words = rng.permutation_words(n, rng.Stream.RANDOM_PIXELS, torch.tensor(index))
    assert torch.equal(out.long(), rng.permute(words, n, torch.arange(n)))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [0, 1, 7, 63, 1025])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_labels(seed: int, size: int, probability: float) -> None:
    index = torch.arange(2 * size)[::2] + 2**62 - 3
    labels = (torch.arange(3 * size) % 1000)[::3]
    expected = corrupt_labels_reference(labels, index, 1000, probability, seed)
    assert torch.equal(
        triton_partially_corrupted_labels.corrupt_labels(labels, index, 1000, probability, seed), expected
    )


def test_a_label_at_the_threshold_is_kept() -> None:
    word = int(rng.draw(5, rng.Stream.LABELS, INDEX[:1], 0)[0, 0])
    labels = torch.tensor([1000])
    for above, kept in ((0, True), (1, False)):
        out = triton_partially_corrupted_labels.corrupt_labels(labels, INDEX[:1], 1000, (word + above) / 2**32, 5)
        assert bool(out == labels) == kept


SHAPES = [(5, 1, 1, 1), (5, 7, 9, 3), (2, 63, 1, 1), (2, 45, 46, 3), (1, 70, 63, 2), (0, 5, 5, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pixels(shape: tuple[int, ...]) -> None:
    images, index = some_images(*shape), INDEX[5 - shape[0] :]
    seed = 2**63 - 1
    assert torch.equal(
        triton_random_pixels.random_pixels(images, index, seed), random_pixels_reference(images, index, seed)
    )
    assert torch.equal(triton_random_pixels.shuffled_pixels(images, seed), shuffled_pixels_reference(images, seed))


def test_pixels_of_many_images_and_other_layouts() -> None:
    images = some_images(19, 3, 6, 5).permute(0, 2, 3, 1)  # what torch calls channels_last, as [B, H, W, C]
    assert torch.equal(triton_random_pixels.shuffled_pixels(images, 3), shuffled_pixels_reference(images, 3))
    every_other, index = images[::2].float() / 7, torch.arange(20)[::2]
    expected = random_pixels_reference(every_other, index, 3)
    assert torch.equal(triton_random_pixels.random_pixels(every_other, index, 3), expected)


def noise_bound(mean: Tensor, std: Tensor) -> Tensor:
    """How far noise may be from the reference's, in pixel units.

    The two angles differ by at most 1.1e-6: the reference rounds 2 pi / 4096 and a product below 2 pi, the kernel the
    same below pi. Cosine, sine and the logarithm add 2 EPS each, radius and products 3 EPS. The radius is at most 5.4.
    """
    return 5.4 * std * (1.1e-6 + 9 * EPS) + 4 * EPS * (mean + 5.4 * std)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 9, 3), (63, 1, 1), (45, 46, 3), (5, 5, 2)], ids=str)
def test_gaussian(seed: int, shape: tuple[int, int, int]) -> None:
    height, width, channels = shape
    mean, std = torch.linspace(100, 140, channels), torch.linspace(50, 80, channels)
    expected = gaussian_reference(INDEX, height, width, mean, std, seed)
    noise = triton_gaussian.gaussian(INDEX, height, width, mean, std, seed)
    assert noise.shape == expected.shape
    assert bool(((noise - expected).abs() <= noise_bound(mean, std)).all())


STAGES = {"plain": (False, False, False), "crop+flip": (True, True, False), "crop+flip+rotation": (True, True, True)}
CORRUPTIONS = ["", "shuffled_pixels", "random_pixels", "gaussian"]


def cast(values: Tensor, dtype: torch.dtype) -> Tensor:
    """As the interpreter casts: it cuts bfloat16 off. test_compile.py shows that a GPU rounds to nearest."""
    if dtype == torch.bfloat16:
        values = (values.view(torch.int32) & -0x10000).view(torch.float32)
    return values.to(dtype)


def prepare_both(
    shape: tuple[int, ...],
    window: list[int],
    size: list[int],
    corruption: str,
    normalisation: str,
    stages: tuple[bool, bool, bool] = (False, False, False),
    epoch: int | None = 3,
    dtype: torch.dtype = torch.float32,
    batch: int = 3,
) -> tuple[Tensor, Tensor]:
    """Returns (ours, expected), to be equal; where they may differ, the bound is checked here and (expected, expected)
    returned. Images are used in another order than they are stored."""
    mean, std = torch.linspace(100, 140, shape[3]), torch.linspace(50, 80, shape[3])
    rows = torch.tensor([shape[0] - 1, 0, shape[0] - 1])[:batch]
    given = (some_images(*shape), rows, INDEX[-3:][:batch], window, corruption, 2**63 - 1, mean, std, size, *stages)
    keyed = None if epoch is None else torch.tensor(epoch)
    out = triton_preprocess.prepare(*given, keyed, normalisation, dtype)
    expected = cast(preprocess_reference(*given, keyed, normalisation, torch.float32), dtype)
    assert out.shape == expected.shape
    assert out.dtype == expected.dtype
    assert out.stride() == expected.stride()
    if normalisation == "unit_range" and corruption != "gaussian" and not stages[2]:
        return out, expected
    assert_near(
        out, preprocess_reference(*given, keyed, "unit_range", torch.float32), expected, stages[2], normalisation
    )
    return expected, expected


def assert_near(out: Tensor, unit: Tensor, expected: Tensor, rotation: bool, normalisation: str) -> None:
    """Check `input_bound`; `unit` is the reference before whitening, scaled to [-1, 1]."""
    bound = input_bound(unit, expected, pixel_bound(unit, rotation), normalisation)
    if out.dtype == torch.bfloat16:
        bound = bound + 2.0**-7 * expected.double().abs()  # a unit in the last place
    assert bool(((out.double() - expected.double()).abs() <= bound).all())


LARGEST = 572.0
"""Pixel units: noise is within 5.4 * 80 + 140 of zero, bytes within 255."""


def pixel_bound(unit: Tensor, rotation: bool) -> float:
    """How far a value may be from the reference's before it is normalised, in pixel units."""
    pixels = float(noise_bound(torch.tensor(140.0), torch.tensor(80.0)))
    if rotation:
        # a coordinate is rounded at most 16 times in the two together, at the size of the image; across a pixel the
        # value changes by at most the difference of two neighbours in x, and likewise in y
        pixels += 2 * (2 * LARGEST) * 16 * EPS * max(unit.shape[2:]) + 8 * LARGEST * EPS
    return pixels


def input_bound(unit: Tensor, expected: Tensor, pixels: float, normalisation: str) -> Tensor:
    """How far a float32 network input may be from the reference's. pixels: how far before it is normalised."""
    x = (unit.double() + 1) * 127.5
    if normalisation == "unit_range":
        scale, spread = torch.tensor(1 / 127.5, dtype=torch.float64), 4.0
    else:
        deviation = x.var(dim=(1, 2, 3), keepdim=True, correction=0).sqrt()
        scale, spread = 1 / deviation.clamp_min(255 * x[0].numel() ** -0.5), 24.0
    # x and its mean are each rounded a few times; the deviation's sum over n <= 2^13 elements at most 13 times, and
    # its root halves that, in each of the two
    return scale * (pixels + 8 * LARGEST * EPS) + spread * EPS * expected.double().abs()


@pytest.mark.parametrize("stages", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("normalisation", ["whiten", "unit_range"])
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_prepare(corruption: str, normalisation: str, stages: tuple[bool, bool, bool]) -> None:
    size = [7, 8] if stages[0] else [9, 10]
    out, expected = prepare_both((5, 12, 11, 3), [1, 0, 9, 10], size, corruption, normalisation, stages)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("normalisation", ["whiten", "unit_range"])
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_prepare_in_parts(corruption: str, normalisation: str) -> None:
    """Images larger than one program takes. Cropping keeps shuffled_pixels from sharing its places: both are run."""
    crop = (corruption == "shuffled_pixels") == (normalisation == "whiten")
    size = [41, 39] if crop else [42, 41]
    stages = (crop, False, False)
    out, expected = prepare_both((2, 45, 44, 3), [1, 2, 42, 41], size, corruption, normalisation, stages, batch=2)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 7, 1, 1), (2, 1, 63, 2)], ids=str)
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_prepare_odd_shapes(corruption: str, shape: tuple[int, ...]) -> None:
    size = list(shape[1:3])
    for normalisation in ("whiten", "unit_range"):
        out, expected = prepare_both(shape, [0, 0, *size], size, corruption, normalisation)
        assert torch.equal(out, expected)


def test_prepare_evaluates_without_augmentation_in_bfloat16() -> None:
    for corruption in CORRUPTIONS:
        stages = (True, True, True)
        out, expected = prepare_both(
            (3, 8, 9, 3), [0, 0, 8, 9], [5, 5], corruption, "whiten", stages, epoch=None, dtype=torch.bfloat16
        )
        assert torch.equal(out, expected)


class NothingRead(TorchDispatchMode):
    """Refuses what brings a tensor's value to the host: on a GPU that would wait, and a graph could not be captured."""

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        assert function is not torch.ops.aten._local_scalar_dense.default, "a value was read on the host"
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("size", [5, 40], ids=["whole", "in parts"])
def test_the_epoch_is_read_by_the_kernels_alone(size: int) -> None:
    images, rows, epoch = some_images(2, size + 3, size + 3, 3), torch.tensor([1, 0]), torch.tensor(0)
    window, stages = [0, 0, size + 3, size + 3], (True, True, False, epoch, "unit_range", torch.float32)
    given = (images, rows, INDEX[-2:], window, "random_pixels", 5, None, None, [size, size], *stages)
    # the first call finds the keys of the seed, on the host, and the launcher keeps them
    first = triton_preprocess.prepare(*given)
    for now in (0, 2**40 + 1, rng.LARGEST):
        epoch.fill_(now)
        with NothingRead():
            out = triton_preprocess.prepare(*given)
        assert torch.equal(out, preprocess_reference(*given))
        assert torch.equal(out, first) == (now == 0)
    with pytest.raises(AssertionError, match="read on the host"), NothingRead():
        preprocess_reference(*given)


def test_what_csrc_cuda_is_for() -> None:
    """Large whole images of RGB that are moved, not augmented and not whitened."""
    stored, whole, size = (299, 299, 3), (0, 0, 299, 299), (299, 299)
    still = False, False, False, False
    for corruption in CORRUPTIONS:
        moved = corruption in ("shuffled_pixels", "random_pixels")
        assert triton_preprocess._plan(stored, whole, corruption, size, *still).moves_alone == moved
        for stage in range(4):
            stages = (stage == 0, stage == 1, stage == 2, stage == 3)
            cut = (256, 256) if stage == 0 else size
            assert not triton_preprocess._plan(stored, whole, corruption, cut, *stages).moves_alone
        for image, window, cut in (
            ((299, 299, 1), whole, size),
            ((300, 299, 3), whole, size),
            (stored, whole, (256, 256)),
            ((32, 32, 3), (0, 0, 32, 32), (32, 32)),
        ):
            assert not triton_preprocess._plan(image, window, corruption, cut, *still).moves_alone


def test_prepare_an_empty_batch() -> None:
    out, expected = prepare_both((2, 5, 5, 3), [0, 0, 5, 5], [5, 5], "", "unit_range", batch=0)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("size", [5, 40], ids=["whole", "in parts"])
def test_whitening_a_constant_image_gives_zero(size: int) -> None:
    images = torch.full((1, size, size, 3), 201, dtype=torch.uint8)
    zero, whole = torch.zeros(1, dtype=torch.int64), [0, 0, size, size]
    stages = (False, False, False, None)
    out = triton_preprocess.prepare(
        images, zero, zero, whole, "", 0, None, None, [size, size], *stages, "whiten", torch.float32
    )
    assert not out.any()


def test_every_byte_is_scaled_as_torch_does() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    zero, whole = torch.zeros(1, dtype=torch.int64), [0, 0, 16, 16]
    given = (images, zero, zero, whole, "", 0, None, None, [16, 16], False, False, False, None, "unit_range")
    expected = preprocess_reference(*given, torch.float32)
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(triton_preprocess.prepare(*given, dtype), cast(expected, dtype))
