"""CorruptedDataset over the forms that items and datasets come in: the same form back, or refused by name."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset

from rethink_fast import CorruptedDataset
from rethink_fast.errors import UserError
from tests.corruptions.forms import drawn, one

IMAGE = np.arange(24, dtype=np.uint8).reshape(4, 6)

Sample = namedtuple("Sample", "image label path")

Swapped = namedtuple("Swapped", "label img")

Unnamed = namedtuple("Unnamed", "x y")

ITEMS: dict[str, Any] = {
    "tuple": (IMAGE, 3, "more", None),
    "list": [IMAGE, 3, "more"],
    "namedtuple": Sample(IMAGE, 3, "a.png"),
    "namedtuple swapped": Swapped(3, IMAGE),
    "namedtuple unnamed": Unnamed(IMAGE, 3),
    "dict": {"label": 3, "image": IMAGE},
    "cifar10 of Hugging Face": {"img": IMAGE, "label": 3},
    "cifar100 of Hugging Face": {"img": IMAGE, "fine_label": 3, "coarse_label": 1},
    "beans of Hugging Face": {"image_file_path": "a", "image": IMAGE, "labels": 3},
    "after a processor": UserDict(pixel_values=IMAGE, labels=3),
    "ordered": OrderedDict(label=3, name="a", image=IMAGE),
}


def elements(item: Any) -> dict[Any, Any]:
    return dict(item) if hasattr(item, "keys") else dict(zip(getattr(item, "_fields", range(9)), item, strict=False))


@pytest.mark.parametrize("form", ITEMS)
@pytest.mark.parametrize("kind", ["random_labels", "random_pixels", "true_labels"])
def test_an_item_of_any_form(form: str, kind: str) -> None:
    item = ITEMS[form]
    before = elements(item)
    new = CorruptedDataset([item], kind, num_classes=10, seed=2)[0]
    assert type(new) is type(item)
    assert list(elements(new)) == list(before)
    changed = {key for key, value in elements(new).items() if value is not before[key]}
    assert len(changed) == (kind != "true_labels")
    for key in changed:
        if kind == "random_labels":
            assert (before[key], elements(new)[key]) == (3, drawn(3, seed=2))
        else:
            np.testing.assert_array_equal(elements(new)[key], one(IMAGE, seed=2))
    assert all(value is elements(item)[key] for key, value in before.items())


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"x": IMAGE, "label": 3}, "keys 'x', 'label' is unknown: name one of them image, img, pixel_values"),
        ({"image": IMAGE, "img": IMAGE, "label": 3}, "both 'image' and 'img' is ambiguous: keep one of them"),
        ((), "0 elements"),
        (IMAGE, "type ndarray is unknown"),
        ("ab", "type str is unknown"),
        (MappingProxyType({"image": IMAGE, "label": 3}), "type mappingproxy cannot be changed"),
        ((3, IMAGE), "an image of type int"),
    ],
)
def test_an_item_of_another_form_is_refused_by_name(item: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^sample 0: .*{message}"):
        CorruptedDataset([item], "random_pixels")[0]


# Datasets


class Stream(IterableDataset[Any]):
    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Any:
        return iter([(IMAGE, 0)] * 3)


class NoLength:
    def __getitem__(self, i: int) -> Any:
        return IMAGE, 0


@pytest.mark.parametrize(
    "dataset", [Stream(), NoLength(), iter([]), {"train": [], "test": []}, DataLoader(TensorDataset(torch.arange(1)))]
)
def test_a_dataset_without_an_index_is_refused(dataset: Any) -> None:
    with pytest.raises(
        UserError, match=rf"^a dataset of type {type(dataset).__name__} (has no index|is a dict of 'train')"
    ):
        CorruptedDataset(dataset, "random_pixels")


class Broken:
    """Its last sample fails, as user code does."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __len__(self) -> int:
        return 3

    def __getitem__(self, i: int) -> Any:
        if i == 1:
            raise self.error("a fault of the dataset")
        return IMAGE, 0


@pytest.mark.parametrize("error", [IndexError, KeyError, OSError])
def test_a_fault_of_the_dataset_is_never_its_end(error: type[Exception]) -> None:
    with pytest.raises(error, match="a fault of the dataset"):
        list(CorruptedDataset(Broken(error), "random_pixels"))


def test_indexing() -> None:
    plain = TensorDataset(torch.arange(120.0).view(5, 1, 4, 6), torch.arange(5))
    dataset = CorruptedDataset(plain, "random_labels", num_classes=5)
    labels = [int(label) for _, label in dataset]
    assert len(labels) == 5
    positions: tuple[Any, ...] = (np.int64(4), torch.tensor(4), np.uint8(4), -1, np.int8(-1))
    for i in positions:
        assert int(dataset[i][1]) == labels[4]
    for wrong in (5, -6, 2**70):
        with pytest.raises(IndexError, match="is out of range: there are 5"):
            dataset[wrong]
    for other in (slice(0, 2), 1.0, "1", None):
        with pytest.raises(TypeError):
            dataset[other]  # type: ignore[index]
    assert [int(label) for _, label in map(Subset(dataset, [3, 1]).__getitem__, range(2))] == [labels[3], labels[1]]
    double = CorruptedDataset(ConcatDataset([plain, plain]), "random_labels", num_classes=5)
    assert [int(double[i][1]) for i in range(5)] == labels


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (7, "classes are of type int: give num_classes"),
        (["one"], "num_classes 1 is out of range"),
        (None, "num_classes"),
    ],
)
def test_classes_that_give_no_number(classes: Any, message: str) -> None:
    dataset = TensorDataset(torch.zeros(2, 1, 4, 4), torch.zeros(2))
    dataset.classes = classes  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=message):
        CorruptedDataset(dataset, "random_labels")
    CorruptedDataset(dataset, "random_pixels")
    assert len(CorruptedDataset(dataset, "random_labels", num_classes=4)) == 2


@pytest.mark.parametrize("num_classes", [1, 0, -3, 10.0, "10", 2**32])
def test_a_number_of_classes_that_is_none(num_classes: Any) -> None:
    with pytest.raises(ValueError, match=f"num_classes {num_classes!r} is"):
        CorruptedDataset([(IMAGE, 0)], "random_labels", num_classes=num_classes)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_give_the_same(start: str) -> None:
    dataset = CorruptedDataset(
        TensorDataset(torch.zeros(6, 1, 4, 4), torch.arange(6)), "gaussian", mean=[1.0], std=[2.0], num_classes=6
    )
    loader = DataLoader(dataset, batch_size=2, num_workers=1, multiprocessing_context=start)
    found = torch.cat([images for images, _ in loader])
    assert torch.equal(found, torch.stack([image for image, _ in dataset]))
