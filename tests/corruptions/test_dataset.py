"""Corruption on people's own datasets: the same samples in any worker, order and form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from rethink_fast import CorruptedDataset, corrupt, rng
from rethink_fast.corruptions import NAMES, partially_corrupted_labels, random_pixels
from rethink_fast.errors import UserError

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (20, 9, 7, 3), dtype=np.uint8)
STATISTICS = {"mean": [120.0, 118.0, 110.0], "std": [60.0, 61.0, 62.0]}


class Pairs:
    """Items (image, label) in one of the forms that datasets use."""

    classes = tuple(range(10))

    def __init__(self, form: str) -> None:
        self.form = form

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, i: int) -> Any:
        image: Any = PIXELS[i]
        if self.form in ("pil", "dict"):
            image = Image.fromarray(image)
        if self.form == "tensor":
            image = torch.from_numpy(image).permute(2, 0, 1)
        return {"image": image, "label": i % 10, "name": str(i)} if self.form == "dict" else (image, i % 10)


def array(image: Any) -> np.ndarray:
    return image.permute(1, 2, 0).numpy() if isinstance(image, torch.Tensor) else np.asarray(image)


@pytest.mark.parametrize("form", ["array", "pil", "tensor", "dict"])
def test_an_item_keeps_its_form_and_moves_as_the_batch_does(form: str) -> None:
    expected = random_pixels(torch.from_numpy(PIXELS), torch.arange(20), seed=5).numpy()
    plain, moved = Pairs(form), CorruptedDataset(Pairs(form), "random_pixels", seed=5)
    assert len(moved) == 20
    for i in (0, 7, 19):
        before, after = plain[i], moved[i]
        assert type(after) is type(before)
        key = "image" if form == "dict" else 0
        assert type(after[key]) is type(before[key])
        np.testing.assert_array_equal(array(after[key]), expected[i])
    if form == "dict":
        assert moved[3]["name"] == "3"


def test_labels_are_those_of_the_bench_and_test_labels_stay() -> None:
    labels = torch.arange(20) % 10
    expected = partially_corrupted_labels(labels, torch.arange(20), num_classes=10, probability=0.6, seed=2)
    train = CorruptedDataset(Pairs("array"), "partially_corrupted_labels", probability=0.6, seed=2)
    assert [train[i][1] for i in range(20)] == expected.tolist()
    assert expected.tolist() != labels.tolist()
    test = CorruptedDataset(Pairs("array"), "partially_corrupted_labels", probability=0.6, seed=2, test=True)
    assert [test[i][1] for i in range(20)] == labels.tolist()


def test_test_images_have_permutations_of_their_own() -> None:
    test = CorruptedDataset(Pairs("array"), "random_pixels", seed=5, test=True)
    expected = random_pixels(torch.from_numpy(PIXELS), torch.arange(20) + rng.TEST_INDEX, seed=5).numpy()
    for i in range(20):
        np.testing.assert_array_equal(test[i][0], expected[i])


@pytest.mark.parametrize("kind", ["random_labels", "shuffled_pixels", "random_pixels", "gaussian"])
def test_workers_and_order_change_nothing(kind: str) -> None:
    dataset = CorruptedDataset(Pairs("array"), kind, seed=1, **STATISTICS)  # type: ignore[arg-type]
    images, labels = zip(*(dataset[i] for i in range(20)), strict=True)
    loader = DataLoader(dataset, batch_size=6, num_workers=2, multiprocessing_context="fork")
    batches = list(loader)
    assert torch.equal(torch.cat([image for image, _ in batches]), torch.from_numpy(np.stack(images)))
    assert torch.cat([label for _, label in batches]).tolist() == list(labels)
    assert all(np.array_equal(dataset[i][0], images[i]) for i in reversed(range(20)))


def test_gaussian_is_float_and_greyscale_is_one_channel() -> None:
    noise = CorruptedDataset(Pairs("pil"), "gaussian", **STATISTICS)[0][0]  # type: ignore[arg-type]
    assert noise.dtype == np.float32
    assert noise.shape == (9, 7, 3)
    grey = [(Image.fromarray(PIXELS[i, :, :, 0]), 0) for i in range(4)]
    moved = CorruptedDataset(grey, "shuffled_pixels")[2][0]
    assert moved.mode == "L"
    assert sorted(np.asarray(moved).ravel()) == sorted(PIXELS[2, :, :, 0].ravel())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "random_pixel"}, "random_pixels"),
        ({"kind": "partially_corrupted_labels"}, "probability"),
        ({"kind": "gaussian"}, "mean and std"),
        ({"kind": "random_labels", "seed": -1}, "-1"),
        ({"kind": "partially_corrupted_labels", "probability": 1.2}, "1.2"),
    ],
)
def test_what_is_missing_or_wrong_is_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CorruptedDataset(Pairs("array"), **arguments)


def test_label_corruption_of_a_dataset_without_classes_asks_for_their_number() -> None:
    with pytest.raises(UserError, match="num_classes"):
        CorruptedDataset([(PIXELS[0], 0)], "random_labels")


def test_indexing_ends_where_the_dataset_does() -> None:
    dataset = CorruptedDataset(Pairs("array"), "random_pixels")
    np.testing.assert_array_equal(dataset[-1][0], dataset[19][0])
    with pytest.raises(IndexError, match="20"):
        dataset[20]


def test_corrupt_takes_every_kind() -> None:
    images, labels, index = torch.from_numpy(PIXELS), torch.arange(20) % 10, torch.arange(20)
    mean, std = torch.tensor(STATISTICS["mean"]), torch.tensor(STATISTICS["std"])
    for kind in NAMES:
        x, y = corrupt(kind, images, labels, index, num_classes=10, probability=0.5, mean=mean, std=std)
        assert x.shape == images.shape
        assert torch.equal(x, images) == ("labels" in kind)
        assert torch.equal(y, labels) == (kind == "true_labels" or "labels" not in kind)
