"""The compiled CPU kernels against the references: to the bit, or within a bound derived here.

E is the unit roundoff of float32. Every bound is against the exact value, evaluated in float64
from the same integer draws, so that it is the kernel's own error that is measured and not the reference's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from rethink_fast import kernels, rng
from rethink_fast.augment import center_window, fixed_crop, random_crop, random_flip
from rethink_fast.corruptions.partially_corrupted_labels import corrupt_labels_reference
from rethink_fast.corruptions.random_pixels import random_pixels_reference
from rethink_fast.corruptions.shuffled_pixels import shuffled_pixels_reference
from rethink_fast.data.preprocess import preprocess_reference

STATUS = kernels.native.load("_native")
pytestmark = pytest.mark.skipif(not STATUS.usable, reason=f"{STATUS.why}; {STATUS.do}")

OPS = torch.ops.rethink_fast
E = 2.0**-24
SEEDS = (0, 5, rng.LARGEST)
SHAPES = (
    (0, 5, 5, 3),
    (1, 1, 1, 1),
    (2, 1, 7, 3),
    (3, 7, 63, 3),
    (2, 28, 28, 1),
    (2, 45, 50, 3),
    (1, 5, 9, 4),
    (2, 3, 2, 2),
)
LAYOUTS = ("contiguous", "transposed", "channels_last", "strided")


def shape_id(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def random_images(shape: tuple[int, ...], dtype: torch.dtype = torch.uint8) -> Tensor:
    values = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(sum(shape)))
    return values.to(dtype)


def indices(batch: int) -> Tensor:
    """Indices of every size: small, beyond 2^32, of test images beyond 2^62, and the largest of all."""
    some = [0, 3, 2**32 + 1, rng.TEST_INDEX + 2, rng.LARGEST]
    return torch.tensor([some[i % 5] - i // 5 if i % 5 == 4 else some[i % 5] + i // 5 for i in range(batch)]).long()


def laid_out(images: Tensor, layout: str) -> Tensor:
    """The same values, placed otherwise in memory."""
    if layout == "transposed":
        return images.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "channels_last":
        return images.contiguous(memory_format=torch.channels_last)
    if layout == "strided":
        return torch.stack((images, 255 - images), dim=3).flatten(2, 3)[:, :, ::2] if images.numel() else images
    return images


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each op runs with the memory that the allocator hands out next filled with 0xA5: unwritten output shows."""

    class Poisoned:
        def __getattr__(self, name: str) -> Callable[..., Tensor]:
            def call(*arguments: Any) -> Tensor:
                kept = op(*arguments)
                kept.untyped_storage().fill_(0xA5)
                del kept
                return op(*arguments)

            op = getattr(torch.ops.rethink_fast, name)
            return call

    monkeypatch.setitem(globals(), "OPS", Poisoned())


@pytest.mark.parametrize("batch", [0, 1, 7, 8, 63, 1000])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_labels(batch: int, probability: float) -> None:
    labels = torch.arange(batch) % 10
    for seed, classes in itertools.product(SEEDS, (1, 10, 2**31)):
        made = OPS.corrupt_labels(labels, indices(batch), classes, probability, seed)
        torch.testing.assert_close(
            made, corrupt_labels_reference(labels, indices(batch), classes, probability, seed), rtol=0, atol=0
        )


def test_labels_of_strided_tensors() -> None:
    labels, index = torch.arange(60)[::2], indices(90)[::3]
    assert torch.equal(
        OPS.corrupt_labels(labels, index, 10, 0.5, 1), corrupt_labels_reference(labels, index, 10, 0.5, 1)
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=shape_id)
def test_moved_pixels(shape: tuple[int, ...], layout: str) -> None:
    images, index = laid_out(random_images(shape), layout), indices(shape[0])
    for seed in SEEDS:
        assert torch.equal(OPS.shuffled_pixels(images, seed), shuffled_pixels_reference(images, seed))
        assert torch.equal(OPS.random_pixels(images, index, seed), random_pixels_reference(images, index, seed))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int16, torch.float32, torch.float64])
def test_moved_pixels_of_any_dtype(dtype: torch.dtype) -> None:
    images = random_images((2, 9, 11, 3), dtype)
    assert torch.equal(OPS.shuffled_pixels(images, 3), shuffled_pixels_reference(images, 3))
    assert torch.equal(OPS.random_pixels(images, indices(2), 3), random_pixels_reference(images, indices(2), 3))


def test_the_kept_permutation_is_that_of_the_seed_and_size() -> None:
    small, large = random_images((1, 6, 4, 1)), random_images((1, 8, 5, 1))
    for images, seed in ((small, 1), (small, 2), (large, 2), (small, 2), (small, 1)):
        assert torch.equal(OPS.shuffled_pixels(images, seed), shuffled_pixels_reference(images, seed))


@pytest.mark.parametrize("n", [1, 2, 3, 63, 64, 65, 2048, 5001])
def test_order(n: int) -> None:
    for seed, epoch in itertools.product(SEEDS, (0, 2**32 + 1, rng.LARGEST)):
        whole = kernels.order(seed, epoch, n)
        assert torch.equal(whole, rng.order(seed, epoch, n))
        assert torch.equal(whole[n // 3 : n - n // 4], kernels.order(seed, epoch, n, n // 3, n - n // 4))


def test_order_of_the_largest_set() -> None:
    assert torch.equal(kernels.order(7, 0, 2**31, 2**31 - 99), rng.order(7, 0, 2**31, 2**31 - 99))


def exact_noise(index: Tensor, height: int, width: int, mean: Tensor, std: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Noise in float64, and how far a kernel may be from it.

    A deviate is r cos(theta). Of r = sqrt(-2 ln u), u is exact; the logarithm is within 2 units in the last place (4 E
    relative), its root within half of that and a rounding (3 E). The remaining angle is below 1, in error by two
    roundings (2 E), and its cosine by that and 2 E of the polynomial. The product rounds once: 8 E r in all. Then
    times std and plus mean, each rounded once.
    """
    elements = height * width * len(mean)
    words = rng.draw(seed, rng.Stream.GAUSSIAN, index.unsqueeze(-1), torch.arange((elements + 7) // 8))
    radius = (-2.0 * (((words >> 12).double() + 0.5) / 2**20).log()).sqrt()
    theta = ((words & 0xFFF).double() + 0.5) * (2.0 * math.pi / 2**12)
    pair = torch.stack((radius * theta.cos(), radius * theta.sin()), dim=-1)
    shape = (len(index), height, width, len(mean))
    z, r = (
        x.reshape(len(index), words.shape[1] * 8)[:, :elements].reshape(shape)
        for x in (pair, torch.stack((radius, radius), -1))
    )
    exact = z * std.double() + mean.double()
    return exact, (8 * r * std + (z * std).abs() + exact.abs()) * E * (1 + 1e-5)


STATISTICS = (torch.tensor([120.7, 3.0, 250.0, 0.0]), torch.tensor([70.3, 1.0, 30.0, 0.0]))


@pytest.mark.parametrize("shape", SHAPES, ids=shape_id)
def test_gaussian(shape: tuple[int, ...]) -> None:
    batch, height, width, channels = shape
    mean, std = (x[:channels] for x in STATISTICS)
    for seed in SEEDS:
        made = OPS.gaussian(indices(batch), height, width, mean, std, seed)
        exact, bound = exact_noise(indices(batch), height, width, mean, std, seed)
        assert made.shape == exact.shape
        assert bool(((made - exact).abs() <= bound).all())


def test_most_radii_and_every_angle_of_gaussian() -> None:
    """2^21 words: every angle, and all but one in e^2 of the 2^20 radii."""
    unit = torch.ones(1)
    made = OPS.gaussian(torch.tensor([11]), 2**11, 2**11, unit * 0, unit, 3)
    exact, bound = exact_noise(torch.tensor([11]), 2**11, 2**11, unit * 0, unit, 3)
    assert bool(((made - exact).abs() <= bound).all())


def stages(
    images: Tensor, index: Tensor, corruption: str, size: list[int], crop: bool, flip: bool, epoch: int | None
) -> tuple[Tensor, Tensor]:
    """What comes before the last stage, exact in float64, and how far a kernel may be from it."""
    seed, bound = 9, torch.zeros(())
    channels = images.shape[3]
    if corruption == "shuffled_pixels":
        images = shuffled_pixels_reference(images, seed)
    elif corruption == "random_pixels":
        images = random_pixels_reference(images, index, seed)
    elif corruption == "gaussian":
        mean, std = (x[:channels] for x in STATISTICS)
        images, bound = exact_noise(index, images.shape[1], images.shape[2], mean, std, seed)
        bound = bound.max() if bound.numel() else torch.zeros(())
    if list(images.shape[1:3]) != size:
        if crop and epoch is not None:
            images = random_crop(images, index, (size[0], size[1]), seed=seed, epoch=epoch)
        else:
            images = fixed_crop(images, center_window(images.shape[1], images.shape[2], (size[0], size[1])))
    if flip and epoch is not None:
        images = random_flip(images, index, seed=seed, epoch=epoch)
    return images.double(), bound


def exact_rotation(images: Tensor, index: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
    """Rotation in float64 of images [B, H, W, C], and how far float32 may be from it.

    A coordinate is a sum of two products and a constant, each at most W + H: with the errors of the cosine and sine
    and one rounding for each of seven operations it is within 8 E (H + W). Interpolation changes by at most the range
    of the values (zero included) over one pixel, in each direction, and rounds less than 10 times.
    """
    draw = rng.draw(9, rng.Stream.AUGMENT, index, epoch)[:, 3]
    angle = ((draw.double() + 0.5) * 2.0**-31 - 1.0) * math.radians(25.0)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    height, width = images.shape[1:3]
    y = (torch.arange(height).double() - (height - 1) / 2)[None, :, None]
    x = (torch.arange(width).double() - (width - 1) / 2)[None, None, :]
    grid = torch.stack(((cos * x + sin * y) * (2 / width), (cos * y - sin * x) * (2 / height)), dim=-1)
    turned = torch.nn.functional.grid_sample(images.permute(0, 3, 1, 2), grid, align_corners=False)
    span = 2 * images.abs().max() if images.numel() else torch.zeros(())
    return turned.permute(0, 2, 3, 1), span * E * (2 * 8 * (height + width) + 10)


def exact_last_stage(x: Tensor, bound: Tensor, normalisation: str) -> tuple[Tensor, Tensor]:
    """Whitening or unit range in float64, and how far float32 may be from it.

    Unit range: the quotient is rounded at most twice, the difference once. Whitening: mean and factor are computed in
    float64 and rounded once; then (x - mean) * scale. Wrong pixels, by `bound` each, move the mean by as much and the
    deviation by as much, hence z by scale * bound * (2 + |z|).
    """
    if normalisation == "unit_range":
        z = x / 127.5 - 1.0
        return z, bound / 127.5 + E * (2 * (z + 1).abs() + z.abs())
    if not x.numel():
        return x, bound
    elements = x[0].numel()
    mean, variance = x.mean(dim=(1, 2, 3), keepdim=True), x.var(dim=(1, 2, 3), keepdim=True, correction=0)
    scale = 1.0 / (255.0 * (variance.sqrt() / 255.0).clamp_min(elements**-0.5))
    z = (x - mean) * scale
    return z, scale * (bound * (2 + z.abs()) + E * mean.abs()) + 3 * E * z.abs() + 1e-12


@pytest.mark.parametrize("corruption", ["", "shuffled_pixels", "random_pixels", "gaussian"])
@pytest.mark.parametrize("shape", SHAPES, ids=shape_id)
def test_prepare(shape: tuple[int, ...], corruption: str) -> None:
    """Every combination of stages, from windows that touch no edge, all edges and some."""
    count, height, width, channels = shape
    stored = random_images(shape)
    rows = torch.arange(2 * count - 1, -1, -1) // 2
    index = indices(2 * count)
    mean, std = (x[:channels] for x in STATISTICS)
    windows = {(0, 0, height, width), (height // 5, width // 7, height - height // 4, width - width // 3)}
    for window, small in itertools.product(windows, (False, True)):
        top, left, inner_height, inner_width = window
        size = [max(1, inner_height - 3), max(1, inner_width - 2)] if small else [inner_height, inner_width]
        cut = stored[rows][:, top : top + inner_height, left : left + inner_width]
        for crop, flip, rotation, epoch in itertools.product((False, True), (False, True), (False, True), (None, 3)):
            exact, bound = stages(cut, index, corruption, size, crop, flip, epoch)
            if rotation and epoch is not None:
                exact, more = exact_rotation(exact, index, epoch)
                bound = bound + more
            keyed = None if epoch is None else torch.tensor(epoch)
            given = (stored, rows, index, list(window), corruption, 9, mean, std, size, crop, flip, rotation, keyed)
            for normalisation in ("unit_range", "whiten"):
                wanted, allowed = exact_last_stage(exact, bound, normalisation)
                made = OPS.prepare(*given, normalisation, torch.float32)
                assert made.shape == (2 * count, channels, *size)
                assert made.is_contiguous(memory_format=torch.channels_last)
                assert bool(((made.permute(0, 2, 3, 1) - wanted).abs() <= allowed).all())
                half = OPS.prepare(*given, normalisation, torch.bfloat16)
                # the kernel rounds the float32 that the other call returns
                assert torch.equal(half, made.bfloat16())
                if normalisation == "unit_range" and corruption != "gaussian" and not (rotation and epoch is not None):
                    assert torch.equal(made, preprocess_reference(*given, normalisation, torch.float32))


@pytest.mark.parametrize("value", [0, 1, 255])
def test_whitening_of_an_image_of_one_value(value: int) -> None:
    """Deviation 0: the floor of 1 / sqrt(elements) keeps it finite, and the exact mean makes it zero."""
    images = torch.full((1, 5, 7, 3), value, dtype=torch.uint8)
    zero = torch.zeros(1, dtype=torch.int64)
    made = OPS.prepare(
        images, zero, zero, [0, 0, 5, 7], "", 0, None, None, [5, 7], False, False, False, None, "whiten", torch.float32
    )
    assert torch.equal(made, torch.zeros_like(made))


def all_ops(batch: int = 6) -> dict[str, tuple]:
    images, index = random_images((batch, 40, 41, 3)), indices(batch)
    mean, std = (x[:3] for x in STATISTICS)
    rest = (mean, std, [32, 33], True, True, True, torch.tensor(4), "whiten", torch.float32)
    return {
        "corrupt_labels": (torch.arange(batch), index, 10, 0.5, 1),
        "shuffled_pixels": (images, 1),
        "random_pixels": (images, index, 1),
        "gaussian": (index, 20, 21, mean, std, 1),
        "order": (1, 2, 5000, 3, 4000),
        "prepare": (images, torch.arange(batch), index, [1, 2, 36, 37], "random_pixels", 1, *rest),
    }


@pytest.mark.parametrize("name", list(all_ops()))
def test_threads_change_nothing(name: str) -> None:
    arguments = all_ops(64 if name != "corrupt_labels" else 20_000)[name]
    before = torch.get_num_threads()
    made = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            made.append(getattr(OPS, name)(*arguments))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


def test_a_large_output_is_the_same() -> None:
    """From 32 MB on the output is written past the caches: the same values as for a few samples at a time."""
    images, index = random_images((8, 150, 151, 3)), indices(136)
    rows = torch.arange(136) % 8

    def prepared(part: slice, kind: str, dtype: torch.dtype) -> Tensor:
        rest = (1, None, None, [149, 150], True, True, False, torch.tensor(4), "unit_range", dtype)
        return OPS.prepare(images, rows[part], index[part], [0, 0, 150, 151], kind, *rest)

    for kind in ("", "shuffled_pixels"):
        whole = prepared(slice(None), kind, torch.float32)
        assert whole.nbytes >= 32 << 20
        parts = [prepared(slice(start, start + 17), kind, torch.float32) for start in range(0, 136, 17)]
        assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("name", list(all_ops()))
def test_opcheck(name: str) -> None:
    opcheck(getattr(torch.ops.rethink_fast, name).default, all_ops()[name])


@pytest.mark.parametrize("name", list(all_ops()))
def test_compiled_whole(name: str) -> None:
    op, arguments = getattr(torch.ops.rethink_fast, name), all_ops()[name]
    compiled = torch.compile(lambda *given: op(*given) + 0, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*arguments), op(*arguments))
    torch.compiler.reset()
