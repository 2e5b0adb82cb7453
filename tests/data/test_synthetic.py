"""The synthetic sets: a pure function of the index, learnable, and of the stated shapes."""

from __future__ import annotations

import pytest
import torch

from rethink_fast.data import DataOptions, synthetic

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("dataset", "shape", "train", "test", "classes"),
    [
        ("cifar10", (32, 32, 3), 50_000, 10_000, 10),
        ("mnist", (28, 28, 1), 60_000, 10_000, 10),
        ("imagenet", (75, 75, 3), 160, 160, 10),
    ],
)
def test_shapes(dataset: str, shape: tuple[int, ...], train: int, test: int, classes: int) -> None:
    made = synthetic.load(dataset, DataOptions(max_samples=300))
    assert made.test is not None
    assert (made.train.images.shape, made.num_classes) == (shape, classes)
    assert (len(made.train.labels), len(made.test.labels)) == (train, test)
    assert (len(made.train.index), len(made.test.index)) == (min(300, train), min(300, test))
    # Each count is binomial: six standard deviations either way.
    mean = train / classes
    assert (torch.bincount(made.train.labels, minlength=classes) - mean).abs().max() < 6 * mean**0.5


def test_an_image_is_the_same_in_any_batch_and_under_any_limit() -> None:
    few, more = (synthetic.load("cifar10", DataOptions(max_samples=limit)) for limit in (20, 400))
    alone = synthetic.Generated(0, 32, 3, 10, CPU)
    assert torch.equal(few.train.labels, more.train.labels)
    for sample in few.train.index.tolist():
        versions = [
            images[rows]
            for source in (few.train.images, more.train.images, alone)
            for images, rows in source.read([torch.tensor([sample])])
        ]
        assert torch.equal(versions[0], versions[1])
        assert torch.equal(versions[0], versions[2])


def test_a_large_set_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = synthetic.load("mnist", DataOptions(max_samples=64))
    monkeypatch.setattr(synthetic, "RESIDENT_BYTES", 64 * 28 * 28 - 1)
    generated = synthetic.load("mnist", DataOptions(max_samples=64))
    assert isinstance(generated.train.images, synthetic.Generated)
    (a, i), (b, j) = (next(made.train.images.read([made.train.index[10:20]])) for made in (stored, generated))
    assert torch.equal(a[i], b[j])


def test_images_differ() -> None:
    made = synthetic.load("mnist", DataOptions(max_samples=2000))
    images, rows = next(made.train.images.read([made.train.index]))
    assert len(torch.unique(images[rows].flatten(1), dim=0)) == 2000


@pytest.mark.parametrize("dataset", ["cifar10", "mnist", "imagenet"])
def test_the_classes_can_be_learnt(dataset: str) -> None:
    """A ridge regression on the pixels, without any network, is right on more than 90 % of the test set."""
    made = synthetic.load(dataset, DataOptions(max_samples=2000))
    assert made.test is not None
    (x, y), (u, v) = ((next(s.images.read([s.index])), s.labels[s.index]) for s in (made.train, made.test))
    train, test = (images[rows].flatten(1).double() / 127.5 - 1 for images, rows in (x, u))
    kernel = train @ train.T + torch.eye(len(train)) * train.shape[1]
    scores = test @ train.T @ torch.linalg.solve(kernel, torch.nn.functional.one_hot(y, 10).double())
    assert (scores.argmax(1) == v).double().mean() > 0.9
