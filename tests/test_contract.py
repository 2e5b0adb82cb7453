"""The package against contract_reference.py, which was written from the text of CONTRACT.md alone."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import rethink_fast
from rethink_fast import kernels, rng
from rethink_fast.augment import color_jitter, crop_windows, random_crop, random_flip, random_resized_crop
from rethink_fast.augment import random_rotation as rotation
from rethink_fast.corruptions import (
    PIXEL_KINDS,
    corrupted_mask,
    gaussian,
    partially_corrupted_labels,
    random_labels,
    random_pixels,
    shuffled_pixels,
)
from rethink_fast.data import DATASETS, DataOptions, damaged, layout, subset, synthetic
from rethink_fast.data.loader import Loader, pixel_statistics
from rethink_fast.data.preprocess import Preprocessing, preprocess
from rethink_fast.data.source import InMemoryImages, Split
from rethink_fast.data.tree import FolderTree
from rethink_fast.theory import random_convolution, two_layer
from tests import contract_reference as contract

CPU = torch.device("cpu")
SEEDS = (0, 1, 2017, 2**32 + 5, 2**63 - 1)
INDICES = (0, 1, 7, 49_999, 2**32 - 1, 2**32, 2**40 + 7, 2**62, 2**62 + 9_999, 2**63 - 1)
EPOCHS = (0, 1, 63, 2**32 + 1, 2**63 - 1)
INDEX = torch.tensor(INDICES)
TEXT = (Path(rethink_fast.__file__).parent / "CONTRACT.md").read_text(encoding="utf-8")


def pictures(n: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height * width + n).integers(0, 256, (n, height, width, channels), dtype=np.uint8)


def rounded(made: torch.Tensor, expected: list[np.ndarray], bound: float) -> None:
    assert made.dtype == torch.float32
    assert np.abs(made.double().numpy() - np.stack(expected)).max() < bound


def test_every_stream_and_the_version_are_in_the_text() -> None:
    rows = {name: int(number) for number, name in re.findall(r"^\| (\d+) `(\w+)` \|", TEXT, re.MULTILINE)}
    assert rows == {stream.name: int(stream) for stream in rng.Stream}
    assert TEXT.startswith(f"# The corruption contract, version {rng.CONTRACT_VERSION}\n")


def test_the_values_to_check_against() -> None:
    """The last table of the text."""
    rows = dict(re.findall(r"^\| (.*) \| (.*) \|$", TEXT[TEXT.index("## Values to check") :], re.MULTILINE))
    values = list(rows.values())[2:]
    words = contract.twelve_words(2017, contract.RANDOM_PIXELS, 7)
    deviates = [contract.deviate(2017, 2**62, e) for e in range(8)]
    windows = [contract.window(*size, 2017, i, 3) for i, size in enumerate(((375, 500), (500, 333), (50, 1000)))]
    expected = [
        " ".join(f"{word:08x}" for word in contract.philox((0, 0), (0, 0, 0, 0))),
        " ".join(f"{word:08x}" for word in contract.key(2017, contract.LABELS)),
        " ".join(str(contract.label(2017, i, 0.5, 10, -1)) for i in (0, 1, 2, 3, 49_999, 2**62)),
        " ".join(str(contract.permute(words, 10, x)) for x in range(10)),
        " ".join(map(str, contract.order(2017, 3, list(range(50_000)))[:6])),
        " ".join(map(str, contract.draw(2017, contract.GAUSSIAN, 2**62, 0))),
        " ".join(f"{z:.4f}" for z in deviates),
        "; ".join(" ".join(map(str, row)) for row in windows),
    ]
    assert values == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_labels_and_masks(seed: int) -> None:
    for p in (0.0, 2.0**-33, 0.1, 1 / 3, 0.5, 1 - 2.0**-33, 1.0):
        mask = corrupted_mask(INDEX, probability=p, seed=seed)
        assert mask.tolist() == [contract.is_corrupted(seed, i, p) for i in INDICES]
        for classes in (1, 2, 10, 1000, 2**31):
            true = INDEX % classes
            made = partially_corrupted_labels(true, INDEX, num_classes=classes, probability=p, seed=seed)
            assert made.tolist() == [contract.label(seed, i, p, classes, i % classes) for i in INDICES]
    every = random_labels(torch.zeros_like(INDEX), INDEX, num_classes=10, seed=seed)
    assert every.tolist() == [contract.label(seed, i, 1.0, 10, 0) for i in INDICES]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3), (7, 5, 3), (8, 8, 1), (13, 10, 4)])
def test_moved_pixels(shape: tuple[int, int, int]) -> None:
    images = pictures(len(INDICES), *shape)
    for seed in SEEDS:
        shuffled = shuffled_pixels(torch.from_numpy(images), INDEX, seed=seed)
        assert np.array_equal(shuffled, [contract.shuffled_pixels(image, seed) for image in images])
        moved = random_pixels(torch.from_numpy(images), INDEX, seed=seed)
        assert np.array_equal(
            moved, [contract.random_pixels(image, seed, i) for image, i in zip(images, INDICES, strict=True)]
        )


def test_gaussian() -> None:
    """Within the contract's 1e-5 of a standard deviation, and the rounding of the value itself."""
    images = pictures(6, 9, 7)
    split = Split(
        InMemoryImages(torch.from_numpy(images), CPU), torch.zeros(6, dtype=torch.int64), torch.tensor([0, 2, 5])
    )
    mean, std = pixel_statistics(split, CPU)
    expected_mean, expected_std = contract.pixel_statistics(images[[0, 2, 5]])
    assert mean.tolist() == expected_mean.tolist()
    assert std.tolist() == expected_std.tolist()
    for seed in SEEDS:
        made = gaussian(torch.zeros(len(INDEX), 9, 7, 3), INDEX, seed=seed, mean=mean, std=std)
        expected = [contract.gaussian((9, 7, 3), seed, i, expected_mean, expected_std) for i in INDICES]
        rounded(made, expected, 1e-5 * float(std.max()) + 512 * 2.0**-23)


@pytest.mark.parametrize("n", [2, 3, 10, 64, 1000])
def test_order_and_limit(n: int) -> None:
    for limit in {1, n // 3 + 1, n - 1, n, n + 1}:
        samples = subset(n, limit)
        assert samples.tolist() == contract.limited(n, limit)
        split = Split(InMemoryImages(torch.zeros(n, 1, 1, 1, dtype=torch.uint8), CPU), torch.zeros(n), samples)
        how = Preprocessing((0, 0, 1, 1), "", 5, (1, 1))
        loader = Loader(split, torch.zeros(n), torch.zeros(n), how, batch_size=7)
        for epoch in EPOCHS[:3]:
            taken = [i for batch in loader.epoch(epoch) for i in batch.index.tolist()]
            assert taken == contract.order(5, epoch, samples.tolist())
    assert kernels.order(2**63 - 1, 2**63 - 1, n).tolist() == contract.order(2**63 - 1, 2**63 - 1, list(range(n)))


def test_damaged_samples_are_not_replaced_and_keep_the_numbers_of_the_others() -> None:
    files = [f"class/{i}.jpg" for i in range(20)]
    chosen = subset(20, 9)
    kept, _ = damaged.drop_samples(Path("/"), files, chosen, [(int(chosen[3]), "damaged")], "skip")
    assert kept.tolist() == [i for i in contract.limited(20, 9) if i != int(chosen[3])]


def test_classes_and_samples_are_in_the_order_of_code_points(tmp_path: Path) -> None:
    names = ("b/img2.jpg", "b/img10.jpg", "Z/x.JPEG", "a/\u00e9.png", "a/z.png", "empty/notes.txt", "9/1.jpg")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = layout.find(FolderTree(tmp_path))
    assert found.classes == ("9", "Z", "a", "b")
    _, files, labels = found.train
    assert files == ["9/1.jpg", "Z/x.JPEG", "a/z.png", "a/\u00e9.png", "b/img10.jpg", "b/img2.jpg"]
    assert labels.tolist() == [0, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("epoch", EPOCHS)
def test_crop_and_flip(epoch: int) -> None:
    images = pictures(len(INDICES), 12, 11)
    for seed in SEEDS:
        for size in ((12, 11), (9, 7), (1, 1)):
            made = random_crop(torch.from_numpy(images), INDEX, size, seed=seed, epoch=epoch)
            expected = [contract.crop(x, size, seed, i, epoch) for x, i in zip(images, INDICES, strict=True)]
            assert np.array_equal(made, expected)
        made = random_flip(torch.from_numpy(images), INDEX, seed=seed, epoch=epoch)
        assert np.array_equal(made, [contract.flip(x, seed, i, epoch) for x, i in zip(images, INDICES, strict=True)])


@pytest.mark.parametrize("size", [(1, 1), (7, 12), (28, 28)])
def test_rotation(size: tuple[int, int]) -> None:
    images = pictures(len(INDICES), *size)
    made = rotation(torch.from_numpy(images), INDEX, seed=3, epoch=8)
    expected = [contract.rotate(x, 3, i, 8) for x, i in zip(images, INDICES, strict=True)]
    rounded(made, expected, contract.rotation_bound(*size))


def test_a_positive_angle_turns_clockwise() -> None:
    """A white pixel at the middle of the top row moves to the right."""
    index = next(i for i in range(100) if contract.angle(0, i, 0) > 0.3)
    image = torch.zeros(1, 21, 21, 1)
    image[0, 0, 10] = 255
    turned = rotation(image, torch.tensor([index]), seed=0, epoch=0)[0, :, :, 0]
    columns = torch.arange(21) - 10.0
    assert float((turned.sum(0) * columns).sum() / turned.sum()) > 2


def test_windows_of_resized_crops() -> None:
    """5,000 windows, in images from 1 x 1 to 5000 x 5000."""
    choose = random.Random(0)
    for seed in SEEDS:
        sizes = [(round(2 ** choose.uniform(0, 12.3)), round(2 ** choose.uniform(0, 12.3))) for _ in range(1000)]
        index = [choose.choice((choose.randrange(2**20), choose.randrange(2**63))) for _ in sizes]
        height, width = torch.tensor(sizes).unbind(1)
        for epoch in (0, 2**33):
            made = crop_windows(height, width, torch.tensor(index), seed=seed, epoch=epoch)
            expected = [contract.window(*size, seed, i, epoch) for size, i in zip(sizes, index, strict=True)]
            assert [tuple(row) for row in made.tolist()] == expected


@pytest.mark.parametrize(
    ("height", "width", "word", "least"), [(3073, 3421, 2510754670, 982), (4851, 4456, 2106927842, 1445)]
)
def test_the_least_height_is_evaluated_from_left_to_right(
    height: int, width: int, word: int, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words for which 0.1 / aspect * H W, or 0.1 * (H W / aspect), rounds to another whole number."""
    monkeypatch.setattr(rng, "draw", lambda *_: torch.tensor([[word, 0, 0, 0]]))
    made = crop_windows(torch.tensor(height), torch.tensor(width), INDEX[:1], seed=0, epoch=0)
    monkeypatch.setattr(contract, "draw", lambda *_: (word, 0, 0, 0))
    assert tuple(made[0].tolist()) == contract.window(height, width, 0, 0, 0)
    assert made[0, 2].item() == least


@pytest.mark.parametrize("size", [(1, 1), (9, 14), (28, 28)])
def test_resized_crop(size: tuple[int, int]) -> None:
    images = pictures(len(INDICES), *size)
    made = random_resized_crop(torch.from_numpy(images), INDEX, seed=3, epoch=8)
    expected = [contract.random_resized_crop(x, 3, i, 8) for x, i in zip(images, INDICES, strict=True)]
    rounded(made, expected, contract.random_resized_crop_bound(*size))


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (12, 12)])
def test_colour(size: tuple[int, int]) -> None:
    """Dark and bright pixels leave [0, 1] on the way."""
    index = torch.cat((INDEX, torch.arange(20, 40)))
    images = pictures(len(index), *size)
    images[::3, ::2] //= 8
    images[1::3] |= 0xE0
    made = color_jitter(torch.from_numpy(images), index, seed=3, epoch=8)
    expected = [contract.color_jitter(x, 3, i, 8) for x, i in zip(images, index.tolist(), strict=True)]
    rounded(made, expected, contract.color_jitter_bound(*size))


@pytest.mark.parametrize("d", [1, 2, 784, 3072])
def test_projection(d: int) -> None:
    for seed in SEEDS:
        for attempt in (0, 7):
            assert two_layer.projection(d, seed, attempt).tolist() == contract.projection(d, seed, attempt)


@pytest.mark.parametrize("shape", [(5, 7, 7, 1), (40, 9, 12, 3)])
def test_patches(shape: tuple[int, int, int, int]) -> None:
    images = pictures(*shape)
    for seed in SEEDS:
        for first in (0, random_convolution.SAMPLE):
            made = random_convolution._pick(torch.from_numpy(images), seed, first, 30)
            assert made.tolist() == [contract.patch(images, seed, j) for j in range(first, first + 30)]
    assert random_convolution.SAMPLE == 50_000


@pytest.mark.parametrize(("dataset", "edge", "channels"), [("cifar10", 32, 3), ("mnist", 28, 1), ("imagenet", 77, 3)])
def test_synthetic_images(dataset: str, edge: int, channels: int) -> None:
    made = synthetic.load(dataset, DataOptions(size=edge, max_samples=20))
    assert made.test is not None
    choose = random.Random(1)
    for split, base in ((made.train, 0), (made.test, 2**62)):
        every = range(0, len(split.labels), len(split.labels) // 100)
        assert [int(split.labels[i]) for i in every] == [contract.synthetic_label(i + base, 10) for i in every]
        images, rows = next(split.images.read([split.index]))
        for sample, image in zip(split.index.tolist(), images[rows], strict=True):
            for _ in range(25):
                y, x, c = choose.randrange(edge), choose.randrange(edge), choose.randrange(channels)
                expected = contract.synthetic_pixel(sample + base, y, x, c, edge, channels, 10)
                assert int(image[y, x, c]) == expected


def test_the_sizes_of_the_synthetic_sets_are_in_the_text() -> None:
    for name in DATASETS:
        shape = "imagenet, on a GPU" if name == "imagenet" else name
        of = synthetic.SHAPES[name]
        row = f"| {shape} | {of.size} | {of.channels} | {of.classes:,} | {of.train:,} | {of.test:,} |"
        assert row in TEXT
    few = synthetic.SHAPES["imagenet without a GPU"]
    assert f"without a GPU | {few.size} | {few.channels} | {few.classes} | {few.train} | {few.test} |" in TEXT


PLAIN = Preprocessing(
    (2, 3, 12, 12), "", 41, (12, 12), mean=torch.tensor([120.0, 110, 100]), std=torch.tensor([60.0] * 3)
)
STAGES = [
    {},
    {"window": (0, 0, 16, 18), "size": (9, 8), "crop": True},
    {"flip": True, "rotation": True},
    {"window": (0, 0, 16, 18), "size": (9, 8), "crop": True, "flip": True, "rotation": True},
    {"random_resized_crop": True},
    {"random_resized_crop": True, "flip": True, "rotation": True, "color_jitter": True},
]


@pytest.mark.parametrize("epoch", [5, None])
@pytest.mark.parametrize("kind", ["", *PIXEL_KINDS])
@pytest.mark.parametrize("stages", STAGES, ids=lambda stages: "-".join(stages) or "none")
def test_prepared_input_is_the_contract_stage_by_stage(stages: dict, kind: str, epoch: int | None) -> None:
    """In [-1, 1], so that a value errs by as much as a pixel over 127.5.

    Each stage averages pixels and adds its own bound; the colours multiply a difference by less than 64 (see
    test_imagenet.py). A deviate is within 1e-5 of 60.
    """
    how = replace(PLAIN, corruption=kind, normalisation="unit_range", **stages)
    images, index = pictures(4, 16, 18), [4, 0, 2**62 + 1, 7]
    made = preprocess(torch.from_numpy(images), torch.arange(4), torch.tensor(index), how, epoch=epoch)
    bound = (contract.rotation_bound(12, 12) + contract.random_resized_crop_bound(12, 12) + 60e-5 + 1e-3) / 127.5
    if how.color_jitter:
        bound = 64 * bound + contract.color_jitter_bound(12, 12) / 127.5
    for x, i, given in zip(images, index, made.permute(0, 2, 3, 1).double().numpy(), strict=True):
        top, left, height, width = how.window
        x = x[top : top + height, left : left + width].astype(np.float64)
        if kind == "shuffled_pixels":
            x = contract.shuffled_pixels(x, how.seed)
        elif kind == "random_pixels":
            x = contract.random_pixels(x, how.seed, i)
        elif kind == "gaussian":
            assert how.mean is not None
            assert how.std is not None
            x = contract.gaussian(x.shape, how.seed, i, how.mean.numpy(), how.std.numpy())
        if epoch is None:
            x = contract.centre(x, how.size)
        else:
            if how.crop:
                x = contract.crop(x, how.size, how.seed, i, epoch)
            for name in ("random_resized_crop", "flip", "rotation", "color_jitter"):
                if getattr(how, name):
                    stage = getattr(contract, {"rotation": "rotate"}.get(name, name))
                    x = stage(x, how.seed, i, epoch)
        assert np.abs(given - (x / 127.5 - 1)).max() < bound
