"""A randomization on any map-style dataset, for people's own DataLoader."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from .. import rng
from ..errors import UserError, one_of
from .corrupt import corrupt
from .item_forms import IMAGE_KEYS, LABEL_KEYS, class_of, label_like, moved, place_of, replaced, shape_of, values_like
from .registry import LABEL_KINDS, NAMES


class CorruptedDataset(Dataset[Any]):
    """`dataset` with its samples corrupted: sample i is a pure function of (seed, i), in any worker and any order.

    dataset: anything with len() and integer indexing. Its items are (image, label, ...), as a tuple, namedtuple or
        list, or a dict with one of the keys image, img and pixel_values, and one of label, labels and fine_label.
    kind, seed, num_classes, probability: as in `corrupt`; num_classes is len(dataset.classes) where there is that.
    mean, std: one number for each channel, in the units of the images, for gaussian.
    test: whether these are test samples, which share no draw with training samples and keep their labels.

    An image may be a PIL image of any mode, an array [H, W] or [H, W, C], or a tensor [H, W] or [C, H, W]; a label an
    integer, a whole float, or an array or tensor of one such number. Each comes back in the form it had. Only gaussian
    gives float32: an array or tensor of the same shape, and [H, W, C] for a PIL image. Kinds that draw labels do not
    look at the image, and the others do not look at the label. i is the position in `dataset`: take a Subset of the
    corrupted dataset, not the other way round. Raises UserError for what is missing or of another form.
    """

    def __init__(
        self,
        dataset: Any,
        kind: str,
        *,
        seed: int = 0,
        num_classes: int | None = None,
        probability: float | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        test: bool = False,
    ) -> None:
        one_of("corruption", kind, NAMES)
        rng.check_seed(seed)
        check_map_style(dataset)
        if test and kind in LABEL_KINDS:
            kind = "true_labels"
        self._classes = _class_count(kind, dataset, num_classes) if kind in LABEL_KINDS else 0
        self.dataset, self.kind, self.seed, self.test = dataset, kind, seed, test
        self.num_classes = self._classes or num_classes
        self.probability = probability
        self.mean, self.std = _per_channel(mean, "mean"), _per_channel(std, "std")
        self._channels = 1 if self.mean is None else len(self.mean)
        self._corrupt(torch.zeros(1, 1, 1, self._channels), 0, 0)  # refuses what is missing

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Any]:
        # Without this, Python would take an IndexError of the dataset's own for its end.
        for i in range(len(self)):
            yield self[i]

    def __getitem__(self, i: int) -> Any:
        i = operator.index(i)
        if i < 0:
            i += len(self)
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} is out of range: there are {len(self)}")
        item = self.dataset[i]
        if self.kind == "true_labels":
            return item
        index = i + (rng.TEST_INDEX if self.test else 0)
        keys, position, change = (
            (LABEL_KEYS, 1, self._label) if self.kind in LABEL_KINDS else (IMAGE_KEYS, 0, self._image)
        )
        try:
            place = place_of(item, keys, position)
            return replaced(item, place, change(item[place], index))
        except UserError as error:
            problem = f"sample {i}: {error.problem}"
            raise UserError(problem, error.fix, option=error.option, value=error.value, allowed=error.allowed) from None

    def _label(self, label: Any, index: int) -> Any:
        true, classes = class_of(label), self._classes
        if not 0 <= true < classes:
            raise UserError(
                f"the label {true} is not in 0 ... {classes - 1}, the {classes} classes of num_classes",
                "give another num_classes",
                option="num_classes",
                value=true,
                allowed=f"0 ... {classes - 1}",
            )
        label_like(label, classes - 1)  # the same answer for every sample, whatever its draw
        return label_like(label, self._corrupt(torch.zeros(1, 1, 1, 1), true, index)[1])

    def _image(self, image: Any, index: int) -> Any:
        if self.kind != "gaussian":
            return moved(image, lambda pixels: self._corrupt(pixels, 0, index)[0])
        height, width, channels = shape_of(image)
        if channels != self._channels:
            raise UserError(
                f"the image has {channels} channels, and mean and std have {self._channels}",
                "give one number for each channel",
                option="mean",
                value=channels,
            )
        noise = self._corrupt(torch.zeros(1, height, width, channels), 0, index)[0][0]
        return values_like(image, noise)

    def _corrupt(self, images: Tensor, label: int, index: int) -> tuple[Tensor, int]:
        images, labels = corrupt(
            self.kind,
            images,
            torch.tensor([label]),
            torch.tensor([index], device=images.device),
            seed=self.seed,
            num_classes=self.num_classes,
            probability=self.probability,
            mean=self.mean,
            std=self.std,
        )
        return images, int(labels)


def check_map_style(dataset: Any) -> None:
    """Raise UserError for what has no len() or no integer indexing."""
    what = f"a dataset of type {type(dataset).__name__}"
    if isinstance(dataset, Mapping):
        raise UserError(f"{what} is a dict of {', '.join(map(repr, dataset))}", "give one of them")
    iterable = isinstance(dataset, IterableDataset)
    if iterable or not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise UserError(f"{what} has no index", "give a map-style dataset, with len() and integer indexing")


def _class_count(kind: str, dataset: Any, num_classes: int | None) -> int:
    if num_classes is None:
        classes = getattr(dataset, "classes", None)
        if classes is None:
            raise UserError(f"{kind} draws classes", "give num_classes", option="num_classes")
        if not hasattr(classes, "__len__"):
            raise UserError(
                f"the dataset's classes are of type {type(classes).__name__}", "give num_classes", option="num_classes"
            )
        num_classes = len(classes)
    try:
        count = operator.index(num_classes)
    except TypeError:
        raise UserError(
            f"num_classes {num_classes!r} is not an integer",
            "give the number of classes",
            option="num_classes",
            value=num_classes,
        ) from None
    if count < 2:
        raise UserError(
            f"num_classes {count} is out of range",
            "give 2 or more",
            option="num_classes",
            value=count,
            allowed="2 or more",
        )
    return count


def _per_channel(values: Sequence[float] | None, name: str) -> Tensor | None:
    if values is None:
        return None
    tensor = torch.as_tensor(values, dtype=torch.float32, device="cpu")
    if tensor.ndim != 1 or not tensor.isfinite().all():
        raise UserError(
            f"{name} {tensor.tolist()} is not allowed",
            "give one finite number for each channel",
            option=name,
            value=values,
        )
    return tensor
