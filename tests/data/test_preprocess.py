"""From stored bytes to network input: the order of the stages, and the same pixels in any batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode

from rethink_fast import rng
from rethink_fast.augment import (
    color_jitter,
    fixed_crop,
    random_crop,
    random_flip,
    random_resized_crop,
    random_rotation,
)
from rethink_fast.corruptions import PIXEL_KINDS, gaussian, random_pixels, shuffled_pixels
from rethink_fast.data.preprocess import Preprocessing, preprocess

KINDS = ("", *PIXEL_KINDS)
SEED = 41
STORED = torch.randint(256, (10, 16, 18, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
INDEX = torch.tensor([4, 0, 9, 2, rng.TEST_INDEX + 1, 7])
ROWS = torch.tensor([4, 0, 9, 2, 1, 7])
EPS = 2.0**-23
MEAN, STD = torch.tensor([120.0, 110.0, 100.0]), torch.tensor([60.0, 50.0, 40.0])
PLAIN = Preprocessing(
    window=(2, 3, 12, 12),
    corruption="",
    seed=SEED,
    size=(12, 12),
    mean=MEAN,
    std=STD,
)
AUGMENTED = replace(PLAIN, size=(9, 8), crop=True, flip=True, rotation=True)


def corrupted(images: torch.Tensor, index: torch.Tensor, kind: str) -> torch.Tensor:
    if kind == "gaussian":
        return gaussian(images, index, seed=SEED, mean=MEAN, std=STD)
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
    made = preprocess(STORED, ROWS, INDEX, how, epoch=5)
    x = corrupted(fixed_crop(STORED[ROWS], (2, 3, 12, 12)), INDEX, kind)
    x = random_crop(x, INDEX, (9, 8), seed=SEED, epoch=5)
    x = random_rotation(random_flip(x, INDEX, seed=SEED, epoch=5), INDEX, seed=SEED, epoch=5)
    expected, bound = normalised(x, normalisation)
    assert (made - expected).abs().max().item() < bound


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "stages", [("random_resized_crop",), ("color_jitter",), ("random_resized_crop", "flip", "rotation", "color_jitter")]
)
def test_what_imagenet_adds_is_the_composition(kind: str, stages: tuple[str, ...]) -> None:
    """To and from [-1, 1] moves a pixel by 4 EPS of its size, below 4096 (a Gaussian one): by `pixel` with its own
    bound. A crop and a rotation are averages of pixels. The colours multiply a difference by 64, see
    test_imagenet.py."""
    changes: dict[str, Any] = dict.fromkeys(stages, True)
    how = replace(PLAIN, corruption=kind, normalisation="unit_range", **changes)
    made = preprocess(STORED, ROWS, INDEX, how, epoch=5)
    x = corrupted(fixed_crop(STORED[ROWS], (2, 3, 12, 12)), INDEX, kind)
    for stage in ("random_resized_crop", "flip", "rotation", "color_jitter"):
        if stage in stages:
            x = STAGES[stage](x, INDEX, seed=SEED, epoch=5)
    expected, bound = normalised(x, "unit_range")
    assert (made - expected).abs().max().item() < 64 * (bound + 4 * 4096 * EPS / 127.5)


STAGES = {
    "random_resized_crop": random_resized_crop,
    "flip": random_flip,
    "rotation": random_rotation,
    "color_jitter": color_jitter,
}


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_takes_the_centre_crop_and_nothing_random(kind: str) -> None:
    """A 9x8 window out of 12x12 is centred at (1, 2); the corruption is the same as in training."""
    made = preprocess(STORED, ROWS, INDEX, replace(AUGMENTED, corruption=kind, color_jitter=True), epoch=None)
    x = corrupted(fixed_crop(STORED[ROWS], (2, 3, 12, 12)), INDEX, kind)[:, 1:10, 2:10]
    expected, bound = normalised(x, "whiten")
    assert (made - expected).abs().max().item() < bound


def test_training_without_a_random_crop_takes_the_centre_one() -> None:
    how = replace(PLAIN, size=(9, 8))
    assert torch.equal(preprocess(STORED, ROWS, INDEX, how, epoch=3), preprocess(STORED, ROWS, INDEX, how, epoch=None))


@pytest.mark.parametrize("kind", KINDS)
def test_corruption_is_fixed_across_epochs(kind: str) -> None:
    how = replace(PLAIN, corruption=kind)
    first, later, evaluated = (preprocess(STORED, ROWS, INDEX, how, epoch=epoch) for epoch in (0, 60, None))
    assert torch.equal(first, later)
    assert torch.equal(first, evaluated)
    if kind:
        assert not torch.equal(first, preprocess(STORED, ROWS, INDEX, PLAIN, epoch=0))


@pytest.mark.parametrize("option", ["crop", "random_resized_crop", "flip", "rotation", "color_jitter"])
def test_each_augmentation_acts_alone_and_by_epoch(option: str) -> None:
    changes: dict[str, Any] = {option: True}
    how = replace(PLAIN, size=(9, 8), **changes)
    first, second = (preprocess(STORED, ROWS, INDEX, how, epoch=epoch) for epoch in (0, 1))
    assert not torch.equal(first, second)
    assert not torch.equal(first, preprocess(STORED, ROWS, INDEX, replace(PLAIN, size=(9, 8)), epoch=0))


@pytest.mark.parametrize("epoch", [0, 5, 2**32 + 1, rng.LARGEST])
def test_an_epoch_may_be_an_int_or_a_tensor(epoch: int) -> None:
    assert torch.equal(
        preprocess(STORED, ROWS, INDEX, AUGMENTED, epoch=epoch),
        preprocess(STORED, ROWS, INDEX, AUGMENTED, epoch=torch.tensor(epoch)),
    )


def test_compiled_once_for_every_epoch() -> None:
    counter = CompileCounterWithBackend("aot_eager")

    def inputs(images: torch.Tensor, index: torch.Tensor, epoch: torch.Tensor) -> torch.Tensor:
        return preprocess(images, ROWS, index, AUGMENTED, epoch=epoch) + 0

    compiled = torch.compile(inputs, fullgraph=True, backend=counter)
    made = [compiled(STORED, INDEX, torch.tensor(epoch)) for epoch in (0, 1, 7)]
    torch.compiler.reset()
    assert counter.frame_count == 1
    for epoch, ours in zip((0, 1, 7), made, strict=True):
        assert torch.equal(ours, preprocess(STORED, ROWS, INDEX, AUGMENTED, epoch=epoch))


def test_the_host_reads_nothing_of_what_is_on_a_gpu() -> None:
    with FakeTensorMode():
        images = torch.empty(STORED.shape, dtype=torch.uint8, device="cuda:0")
        index = torch.empty(6, dtype=torch.int64, device="cuda:0")
        on_device = torch.empty((), dtype=torch.int64, device="cuda:0")
        for epoch in (None, 3, on_device):
            made = preprocess(images, index, index, AUGMENTED, epoch=epoch)
            assert made.device == images.device
            assert made.shape == (6, 3, 9, 8)
        with pytest.raises(RuntimeError):  # what a read would do here
            int(on_device)


def test_what_imagenet_adds_reads_nothing_back() -> None:
    """On the meta device, where no value can be read: on a GPU that would wait, and break a captured graph."""
    how = replace(PLAIN, random_resized_crop=True, flip=True, rotation=True, color_jitter=True)
    images, index, epoch = STORED.to("meta"), INDEX.to("meta"), torch.tensor(3, device="meta")
    made = preprocess(images, index, index, how, epoch=epoch)
    assert made.device.type == "meta"
    assert made.shape == (6, 3, 12, 12)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_captured_graph_reads_the_epoch_anew() -> None:
    how = replace(AUGMENTED, rotation=False, normalisation="unit_range")  # exact on every device
    images, rows, index, epoch = (x.to("cuda") for x in (STORED, ROWS, INDEX, torch.tensor(0)))
    preprocess(images, rows, index, how, epoch=epoch)  # the kernels are compiled before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = preprocess(images, rows, index, how, epoch=epoch)
    for now in (0, 5):
        epoch.fill_(now)
        graph.replay()
        assert torch.equal(made.cpu(), preprocess(STORED, ROWS, INDEX, how, epoch=now))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layout_and_type(dtype: torch.dtype) -> None:
    made = preprocess(STORED, ROWS, INDEX, replace(PLAIN, dtype=dtype), epoch=0)
    assert made.dtype == dtype
    assert made.shape == (6, 3, 12, 12)
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(made, preprocess(STORED, ROWS, INDEX, PLAIN, epoch=0).to(dtype))


def test_one_channel_and_one_image() -> None:
    made = preprocess(STORED[..., :1], ROWS[:1], INDEX[:1], PLAIN, epoch=0)
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
        return torch.cat([preprocess(STORED, some, some, how, epoch=epoch) for some in rows.split(batch)])

    shuffled = torch.tensor(order)
    assert torch.equal(whole(torch.arange(10), batch)[shuffled], whole(shuffled, other))
