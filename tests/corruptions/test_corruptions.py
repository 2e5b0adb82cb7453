"""What holds for every randomization: its names, one result in any batch, what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rethink_fast.cli.app import app
from rethink_fast.corruptions import (
    KINDS,
    NAMES,
    REGISTRY,
    alias_of,
    corrupted_mask,
    gaussian,
    partially_corrupted_labels,
    random_labels,
    random_pixels,
    shuffled_pixels,
)
from rethink_fast.corruptions.corrupt import corrupt
from rethink_fast.corruptions.registry import CorruptionKind
from rethink_fast.errors import UserError
from tests.corruptions.helpers import MEAN, STD

PIXEL_CORRUPTIONS = {
    "shuffled_pixels": shuffled_pixels,
    "random_pixels": random_pixels,
    "gaussian": lambda images, index, *, seed: gaussian(
        images, index, seed=seed, mean=MEAN[:1].expand(images.shape[-1]), std=STD[:1].expand(images.shape[-1])
    ),
}


@pytest.mark.parametrize("row", REGISTRY, ids=lambda row: row.name)
def test_every_name_of_a_corruption_is_accepted(row: CorruptionKind) -> None:
    """The record's word with _ or -, and the command line's; of a pixel kind, the name is its stream's too."""
    for word in (row.name, row.name.replace("_", "-"), row.alias):
        assert alias_of(word) == row.alias
        _, bound, _ = app.parse_args(["bench", "cifar10", "--corruption", word], exit_on_error=False)
        assert bound.arguments["corruption"].corruption == row.alias
    assert KINDS[row.alias] == row.name
    if row.changes == "pixels":
        assert row.stream is not None
        assert row.stream.name == row.name.upper()


@pytest.mark.parametrize("word", ["", "True", "random label", "pixels", "random_label", "all", "gauss"])
def test_other_names_are_refused_with_the_list(word: str) -> None:
    with pytest.raises(UserError) as caught:
        alias_of(word)
    assert caught.value.value == word
    assert set(caught.value.allowed) == {*KINDS, *NAMES}


def test_a_row_says_what_a_corruption_changes() -> None:
    index = torch.arange(64)
    images, labels = torch.randint(256, (64, 5, 5, 3), dtype=torch.uint8), index % 10
    for row in REGISTRY:
        after = corrupt(row.name, images, labels, index, num_classes=10, probability=0.5, mean=MEAN, std=STD)
        assert (not torch.equal(after[0], images)) == (row.changes == "pixels")
        assert (not torch.equal(after[1], labels)) == (row.changes == "labels")


@settings(derandomize=True, max_examples=40, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(PIXEL_CORRUPTIONS)), seed=st.integers(0, 2**63 - 1))
def test_pixels_depend_on_seed_and_index_only(data: st.DataObject, kind: str, seed: int) -> None:
    """Any subset, order and batch split, contiguous or not, gives each sample the same pixels."""
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    channels = data.draw(st.sampled_from([1, 3]))
    index = torch.tensor(data.draw(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=6, unique=True)))
    images = torch.randint(256, (len(index), height, width, channels), dtype=torch.uint8)
    corrupt = PIXEL_CORRUPTIONS[kind]
    whole = corrupt(images, index, seed=seed)
    assert whole.shape == images.shape
    chosen = torch.tensor(data.draw(st.permutations(range(len(index)))))[: data.draw(st.integers(1, len(index)))]
    assert torch.equal(corrupt(images[chosen], index[chosen], seed=seed), whole[chosen])
    one_by_one = [corrupt(images[k : k + 1], index[k : k + 1], seed=seed) for k in range(len(index))]
    assert torch.equal(torch.cat(one_by_one), whole)
    strided = images.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert torch.equal(corrupt(strided, index.repeat_interleave(2)[::2], seed=seed), whole)
    if kind != "gaussian":
        assert whole.dtype == images.dtype
        before, after = (x.flatten(1, 2).long() @ (256 ** torch.arange(channels)) for x in (images, whole))
        assert torch.equal(before.sort(dim=1).values, after.sort(dim=1).values)


@settings(derandomize=True, max_examples=30, deadline=None)
@given(
    index=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20),
    seed=st.integers(0, 2**63 - 1),
    probability=st.floats(0, 1),
    num_classes=st.integers(1, 1000),
)
def test_labels_depend_on_seed_and_index_only(
    index: list[int], seed: int, probability: float, num_classes: int
) -> None:
    indices = torch.tensor(index)
    labels = torch.zeros(len(index), dtype=torch.int64)

    def corrupt(labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        return partially_corrupted_labels(labels, indices, num_classes=num_classes, probability=probability, seed=seed)

    whole = corrupt(labels, indices)
    assert bool(((whole >= 0) & (whole < num_classes)).all())
    assert torch.equal(corrupt(labels, indices.flip(0)).flip(0), whole)
    assert torch.equal(torch.cat([corrupt(labels[:1], indices[k : k + 1]) for k in range(len(index))]), whole)


@pytest.mark.parametrize("kind", PIXEL_CORRUPTIONS)
def test_empty_batch(kind: str) -> None:
    images = torch.zeros(0, 4, 5, 3, dtype=torch.uint8)
    assert PIXEL_CORRUPTIONS[kind](images, torch.zeros(0, dtype=torch.int64), seed=0).shape == (0, 4, 5, 3)


def test_refusals() -> None:
    images, index = torch.zeros(1, 2, 2, 3), torch.tensor([0])
    with pytest.raises(ValueError, match="seed -1 is out of range"):
        random_pixels(images, index, seed=-1)
    with pytest.raises(ValueError, match=r"seed .* is out of range"):
        shuffled_pixels(images, index, seed=2**63)
    with pytest.raises(ValueError, match="index -1 is out of range"):
        gaussian(images, index - 1, seed=0, mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="index -1 is out of range"):
        random_labels(index, index - 1, num_classes=10, seed=0)
    with pytest.raises(ValueError, match=r"probability 1\.5 is out of range"):
        partially_corrupted_labels(index, index, num_classes=10, probability=1.5, seed=0)
    with pytest.raises(ValueError, match=r"probability nan is out of range"):
        corrupted_mask(index, probability=math.nan, seed=0)
    with pytest.raises(ValueError, match="num_classes 0 is out of range"):
        random_labels(index, index, num_classes=0, seed=0)
