"""partially_corrupted_labels and random_labels: rates, uniform classes, independence."""

from __future__ import annotations

import pytest
import torch

from rethink_fast.corruptions import corrupted_mask, partially_corrupted_labels, random_labels
from tests.corruptions.helpers import INDEX, N, binomial_limit, chi_square, chi_square_limit


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_rate_of_changed_labels(probability: float, num_classes: int) -> None:
    """A fraction p is drawn again, and p (1 - 1/C) of all labels change, because a draw may hit the true class."""
    labels = INDEX % num_classes
    corrupted = partially_corrupted_labels(labels, INDEX, num_classes=num_classes, probability=probability, seed=3)
    mask = corrupted_mask(INDEX, probability=probability, seed=3)
    rate = probability * (1 - 1 / num_classes)
    assert abs(mask.double().mean().item() - probability) <= binomial_limit(N, probability)
    assert abs((corrupted != labels).double().mean().item() - rate) <= binomial_limit(N, rate)
    assert not bool((corrupted != labels)[~mask].any())
    assert corrupted.dtype == torch.int64


@pytest.mark.parametrize("num_classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_drawn_classes_are_uniform(num_classes: int, probability: float) -> None:
    """Over all classes, whatever the true one is; -1 marks what was left alone."""
    drawn = partially_corrupted_labels(
        torch.full((N,), -1), INDEX, num_classes=num_classes, probability=probability, seed=5
    )
    counts = torch.bincount(drawn[drawn >= 0], minlength=num_classes)
    assert len(counts) == num_classes
    assert chi_square(counts) < chi_square_limit(num_classes - 1)


def test_successive_labels_are_independent() -> None:
    drawn = random_labels(torch.zeros(N, dtype=torch.int64), INDEX, num_classes=10, seed=1)
    other = random_labels(torch.zeros(N, dtype=torch.int64), INDEX, num_classes=10, seed=2)
    for pairs in (drawn[:-1] * 10 + drawn[1:], drawn * 10 + other):
        assert chi_square(torch.bincount(pairs, minlength=100)) < chi_square_limit(99)


def test_masks_are_nested_and_share_their_classes() -> None:
    labels = torch.full((N,), -1)
    previous = torch.zeros(N, dtype=torch.bool)
    everything = random_labels(labels, INDEX, num_classes=10, seed=8)
    for probability in (0.0, 0.1, 0.3, 0.5, 0.9, 1.0):
        mask = corrupted_mask(INDEX, probability=probability, seed=8)
        assert not bool((previous & ~mask).any())
        drawn = partially_corrupted_labels(labels, INDEX, num_classes=10, probability=probability, seed=8)
        assert torch.equal(drawn, torch.where(mask, everything, labels))
        previous = mask


def test_probability_0_and_1() -> None:
    labels = INDEX % 10
    unchanged = partially_corrupted_labels(labels, INDEX, num_classes=10, probability=0.0, seed=4)
    assert torch.equal(unchanged, labels)
    assert not bool(corrupted_mask(INDEX, probability=0.0, seed=4).any())
    assert bool(corrupted_mask(INDEX, probability=1.0, seed=4).all())
    shifted = random_labels((labels + 1) % 10, INDEX, num_classes=10, seed=4)
    assert torch.equal(random_labels(labels, INDEX, num_classes=10, seed=4), shifted)
