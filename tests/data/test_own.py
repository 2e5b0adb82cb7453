"""A data set given in Python: every form of item, one sample index, and what is refused."""

from __future__ import annotations

import multiprocessing
import re
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, Sampler, Subset, TensorDataset

from rethink_fast.data import DataOptions, Dataset, load_dataset
from rethink_fast.data.own import OwnData, load_own
from rethink_fast.errors import UserError

Sample = namedtuple("Sample", "name img label")
GENERATOR = torch.Generator().manual_seed(0)
COLOUR = torch.randint(0, 256, (20, 5, 6, 3), dtype=torch.uint8, generator=GENERATOR)
GREY = COLOUR[..., :1].contiguous()
LABELS = torch.arange(20) % 4


class Items:
    """A map-style data set of items that a function makes, with classes where they are given."""

    def __init__(self, make: Any, length: int = 20, classes: Any = None) -> None:
        self.make, self.length = make, length
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Any:
        if i >= self.length:
            raise IndexError(i)
        return self.make(i)


def plain(i: int) -> Any:
    return COLOUR[i].numpy(), int(LABELS[i])


def opened(train: Any, test: Any = None, **options: Any) -> Dataset:
    return load_own(OwnData(train, test), DataOptions(**{"workers": 1, **options}))


def pixels(dataset: Dataset) -> Tensor:
    """The images that take part, in order, read in batches of 3."""
    read = dataset.train.images.read(dataset.train.index.split(3))
    return torch.cat([images[rows] for images, rows in read])


FORMS = {
    "array": lambda i: (COLOUR[i].numpy(), i % 4),
    "array of another order": lambda i: (np.asfortranarray(COLOUR[i].numpy()[::-1])[::-1], np.int64(i % 4)),
    "tensor": lambda i: (COLOUR[i].permute(2, 0, 1), torch.tensor(i % 4)),
    "PIL": lambda i: (Image.fromarray(COLOUR[i].numpy()), i % 4),
    "list": lambda i: [COLOUR[i].numpy(), float(i % 4), "more"],
    "namedtuple": lambda i: Sample("a name", COLOUR[i].numpy(), i % 4),
    "dict": lambda i: {"pixel_values": COLOUR[i].numpy(), "fine_label": i % 4, "more": None},
}
GREY_FORMS = {
    "array": lambda i: (GREY[i, ..., 0].numpy(), i % 4),
    "array of three axes": lambda i: (GREY[i].numpy(), i % 4),
    "tensor": lambda i: (GREY[i, ..., 0], i % 4),
    "tensor of three axes": lambda i: (GREY[i].permute(2, 0, 1), i % 4),
    "PIL": lambda i: (Image.fromarray(GREY[i, ..., 0].numpy()), i % 4),
}


@pytest.mark.parametrize("cache_images", ["device", "none"])
@pytest.mark.parametrize(
    ("make", "stored"),
    [(make, COLOUR) for make in FORMS.values()] + [(make, GREY) for make in GREY_FORMS.values()],
    ids=[*FORMS, *(f"grey {name}" for name in GREY_FORMS)],
)
def test_every_form_gives_the_same_pixels_and_labels(make: Any, stored: Tensor, cache_images: str) -> None:
    made = opened(Items(make), cache_images=cache_images)
    assert made.train.images.shape == tuple(stored.shape[1:])
    assert made.train.images.resident == (cache_images == "device")
    assert torch.equal(pixels(made), stored)
    assert torch.equal(made.train.labels, LABELS)
    assert made.num_classes == 4
    assert made.data_source == "python tests.data.test_own.Items"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("cache_images", ["device", "none"])
def test_the_sample_index_is_the_position(cache_images: Any, workers: int) -> None:
    """Also of a part of the data set, in another order, after a read that was not finished."""
    made = opened(Items(plain), Items(plain, 7), max_samples=9, cache_images=cache_images, workers=workers)
    whole = load_dataset("cifar10", DataOptions("synthetic", max_samples=9))
    assert len(made.train.index) == 9 == len(whole.train.index)
    assert made.test is not None
    assert made.test.index.tolist() == list(range(7))
    next(made.train.images.read(made.train.index.split(1)))
    backwards = made.train.index.flip(0)
    read = list(made.train.images.read(backwards.split(2)))
    assert torch.equal(torch.cat([images[rows] for images, rows in read]), COLOUR[backwards])
    assert torch.equal(made.train.labels[made.train.index], LABELS[made.train.index])


def test_reading_draws_nothing_from_torchs_generator_and_leaves_no_process() -> None:
    before = torch.random.get_rng_state()
    made = opened(Items(plain), cache_images="none", workers=2)
    list(made.train.images.read(made.train.index.split(4)))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(multiprocessing.active_children()) == 2
    del made
    assert not multiprocessing.active_children()


def test_classes_and_what_is_said_of_them() -> None:
    named = opened(Items(plain, classes=["a", "b", "c", "d", "e"]))
    assert named.classes == ("a", "b", "c", "d", "e")
    assert not [note for note in named.notes if "class" in note]
    counted = opened(Subset(Items(plain, classes="abcd"), range(20)))  # type: ignore[arg-type]
    assert counted.classes == ("0", "1", "2", "3")
    assert "4 classes: the data set has no attribute classes, and its largest label is 3" in counted.notes
    from_one = opened(Items(lambda i: (COLOUR[i].numpy(), 1 + 2 * (i % 3))))
    assert from_one.num_classes == 6
    assert "no training image has the label 0 and 2 others" in from_one.notes
    tested = opened(Items(plain), Items(lambda i: (COLOUR[i].numpy(), 4)))
    assert tested.num_classes == 5, "a class of the test set alone"


def test_what_is_not_square_is_said() -> None:
    assert any("images of 5x6" in note and "5x5" in note for note in opened(Items(plain), size=5).notes)
    square = TensorDataset(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.arange(3))
    assert not any("square" in note for note in opened(square).notes)


class Growing(Items):
    """Has an item more once its last one was read."""

    def __getitem__(self, i: int) -> Any:
        item = super().__getitem__(i)
        self.length += i == 19
        return item


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(())


class Unsized(Sampler[int]):
    """Has no length but an attribute of that name, as torch's samplers."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, i: int) -> Any:
        return plain(i)


def at_7(item: Any) -> Items:
    return Items(lambda i: item if i == 7 else plain(i))


def broken(i: int) -> Any:
    if i == 7:
        raise OSError("image file is truncated")
    return plain(i)


def random(i: int) -> Any:
    return np.random.default_rng().integers(0, 256, (5, 6, 3), dtype=np.uint8), i % 4


def random_labels(i: int) -> Any:
    return COLOUR[i].numpy(), int(np.random.default_rng().integers(0, 4))


def image(i: int) -> np.ndarray:
    return COLOUR[i].numpy()


class Unnamed(Items):
    @property
    def classes(self) -> Any:
        raise RuntimeError("not loaded")

    @classes.setter
    def classes(self, names: Any) -> None: ...


def leaves(i: int) -> Any:
    return plain(i) if i != 7 else sys.exit("no")


REFUSED = {
    "another height": (at_7((image(7)[:4], 1)), r"item 7: the image has the shape 4 x 6 x 3, and the first one 5 x 6"),
    "another number of channels": (at_7((image(7)[..., 0], 1)), r"item 7: .* 5 x 6 x 1"),
    "floats": (at_7((image(7) / 255, 1)), "item 7: an image of float64 is not allowed: give uint8"),
    "floats of ToTensor": (
        Items(lambda i: (torch.rand(3, 5, 6), 0)),
        r"item 0: an image of torch\.float32 .* ToTensor",
    ),
    "int64": (Items(lambda i: (image(i).astype(int), 0)), "item 0: an image of int64"),
    "a palette": (Items(lambda i: (Image.fromarray(image(i)).convert("P"), 0)), "mode P is not allowed: convert it"),
    "bits": (Items(lambda i: (Image.new("1", (6, 5)), 0)), "mode 1 is not allowed"),
    "deep greys": (Items(lambda i: (Image.new("I", (6, 5)), 0)), "an image of int32"),
    "no image": (Items(lambda i: ("photo.png", 0)), "item 0: an image of type str is unknown"),
    "channels elsewhere": (Items(lambda i: (COLOUR[i], 0)), "channels elsewhere"),
    "a negative label": (at_7((image(7), -1)), "item 7: the label -1 is out of range"),
    "a label that is too large": (Items(plain, classes=["a", "b"]), "the label 3 is out of range: there are 2 classes"),
    "an identifier": (at_7((image(7), 10**6)), "the label 1000000 is out of range: there are 20 samples"),
    "a huge label": (at_7((image(7), 2**70)), "item 7: the label 1180591620717411303424 is out of range"),
    "half a label": (at_7((image(7), 0.5)), r"item 7: the label 0\.5 is not a whole number"),
    "a name": (at_7((image(7), "cat")), "item 7: a label of type str is unknown"),
    "one-hot": (at_7((image(7), np.eye(4)[1])), r"item 7: a label of shape \(4,\) is unknown"),
    "one class": (Items(lambda i: (image(i), 0)), "all labels are 0"),
    "no label": (at_7((image(7),)), "item 7: an item of 1 elements"),
    "other keys": (at_7({"picture": image(7), "label": 1}), "item 7: an item of keys 'picture', 'label' is unknown"),
    "images alone": (Items(image), "item 0: an item of type ndarray is unknown"),
    "arrays side by side": ((COLOUR.numpy(), LABELS.numpy()), "item 0: an item of type ndarray is unknown"),
    "an error of the data set": (Items(broken), r"item 7 cannot be read \(OSError: image file is truncated\)"),
    "one that leaves": (Items(leaves), r"item 7 cannot be read \(SystemExit: no\)"),
    "pixels on no device": (
        at_7((torch.empty(3, 5, 6, dtype=torch.uint8, device="meta"), 1)),
        "item 7 cannot be read .NotImplementedError: .*meta",
    ),
    "a label on no device": (at_7((image(7), torch.empty((), device="meta"))), "item 7 cannot be read .*meta"),
    "no number": (at_7((image(7), float("nan"))), "item 7: the label nan is not a whole number"),
    "no label at all": (at_7((image(7), None)), "item 7: a label of type NoneType is unknown"),
    "classes that raise": (Unnamed(plain), r"classes of tests\.data\.test_own\.Unnamed cannot be read \(RuntimeError"),
    "random pixels": (Items(random), "changes from one read to the next: omit its random transforms"),
    "random labels": (Items(random_labels), "changes from one read to the next"),
    "no items": (Items(plain, 0), "has no items"),
    "no index": (Stream(), "has no index"),
    "a length that raises": (Unsized(), r"Unsized has no length \(NotImplementedError\)"),
    "a dict": ({"image": COLOUR, "label": LABELS}, "is a dict of 'image', 'label'"),
    "a number": (3, "type int has no index"),
}


@pytest.mark.parametrize("cache_images", ["device", "none"])
@pytest.mark.parametrize(("dataset", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(dataset: Any, problem: str, cache_images: Any) -> None:
    with pytest.raises(UserError, match=problem) as raised:
        opened(dataset, cache_images=cache_images)
    assert "\n" not in str(raised.value)


def test_the_test_set_is_looked_at_alike() -> None:
    for test, problem in (
        (Items(lambda i: (image(i)[:4], 0)), r"test images have the shape \(4, 6, 3\)"),
        (at_7((image(7)[:4], 1)), r"\(test\): item 7"),
        (Items(plain, 0), "has no items"),
        (Items(plain, classes=["a", "b", "c", "e"]), "other classes"),
        (Items(lambda i: (image(i), 4)), "the label 4 is out of range: there are 4 classes"),
    ):
        with pytest.raises(UserError, match=problem):
            opened(Items(plain, classes=["a", "b", "c", "d"]), test)


def test_errors_reach_from_a_worker_with_their_traceback() -> None:
    for workers in (1, 2):
        with pytest.raises(UserError, match="item 7 cannot be read") as raised:
            opened(Items(broken), workers=workers)
        assert "in broken" in str(raised.value.__cause__)
        assert not multiprocessing.active_children()  # though `raised` still holds the loader


def test_random_transforms_are_noticed_in_workers() -> None:
    """Whose generators start alike for every data set."""
    for draw in (
        lambda i: (torch.randint(0, 256, (3, 5, 6), dtype=torch.uint8), i % 4),
        lambda i: (np.random.randint(0, 256, (5, 6, 3)).astype(np.uint8), i % 4),
    ):
        with pytest.raises(UserError, match="changes from one read"):
            opened(Items(draw), workers=2, cache_images="none")


def test_what_cannot_be_pickled_is_refused_where_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    method = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        for make in (lambda i: plain(i), threading.Lock()):
            made = Items(plain, classes=list("abcd"))
            made.extra = make  # type: ignore[attr-defined]
            with pytest.raises(UserError, match=r"cannot be sent to the processes that read it .*workers=1"):
                opened(made, workers=2)
            assert torch.equal(pixels(opened(made, workers=1)), COLOUR)
    finally:
        multiprocessing.set_start_method(method, force=True)


KILLED = """
import multiprocessing, os, signal
from tests.data.test_own import Items, opened, plain

def dies(i):
    if i == 7 and multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(i)

opened(Items(dies), workers=2)
"""


def test_a_worker_that_is_killed_is_named() -> None:
    """In a separate process, in which torch's handler of dead workers may raise at any time."""
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert re.search(r"UserError: a process that reads the data set ended .*use fewer workers", done.stderr)


def test_a_length_that_changes() -> None:
    with pytest.raises(UserError, match="had 20 items and has 21 now"):
        opened(Growing(plain))
    items = Items(plain)
    made = opened(items, cache_images="none")
    items.length = 19
    with pytest.raises(UserError, match="had 20 items and has 19 now"):
        next(made.train.images.read(made.train.index.split(4)))
