"""A randomization on any map-style dataset, for people's own DataLoader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .. import rng
from ..corruptions.corrupt import LABEL_NAMES, NAMES, corrupt
from ..errors import UserError, one_of


class CorruptedDataset(Dataset[Any]):
    """`dataset` with its samples corrupted: sample i is a pure function of (seed, i), in any worker and any order.

    dataset: anything with len() and integer indexing whose items are (image, label, ...) or a dict with "image" (or
    "img") and "label". An image may be a PIL image, an array [H, W] or [H, W, C], or a tensor [C, H, W], and comes
    back in the same form; only gaussian's comes back as float32, a PIL image as an array. kind, seed, num_classes,
    probability: as in `corrupt`; num_classes is read off `dataset.classes` where there is one. mean, std: one number a
    channel, in the units of the images, for gaussian. test: whether these are test images, which share no draw with
    training images and keep their labels. Raises UserError.
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
        if test and kind in LABEL_NAMES:
            kind = "true_labels"
        if num_classes is None and hasattr(dataset, "classes"):
            num_classes = len(dataset.classes)
        self.dataset, self.kind, self.seed, self.test = dataset, kind, seed, test
        self.num_classes, self.probability = num_classes, probability
        self.mean = None if mean is None else torch.tensor(mean, dtype=torch.float32)
        self.std = None if std is None else torch.tensor(std, dtype=torch.float32)
        self._corrupt(torch.zeros(1, 1, 1, 1 if self.mean is None else len(self.mean)), 0, 0)  # refuses what is missing

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> Any:
        i = int(i)
        if i < 0:
            i += len(self)
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} is out of range: there are {len(self)}")
        item = self.dataset[i]
        where, what = _keys(item)
        image, label = self._sample(item[where], item[what], i)
        if isinstance(item, dict):
            return {**item, where: image, what: label}
        return type(item)((image, label, *item[2:])) if type(item) in (tuple, list) else (image, label, *item[2:])

    def _sample(self, image: Any, label: Any, i: int) -> tuple[Any, Any]:
        index = i + (rng.TEST_INDEX if self.test else 0)
        if self.kind == "true_labels":
            return image, label
        if self.kind in LABEL_NAMES:
            drawn = self._corrupt(torch.zeros(1, 1, 1, 1), int(label), index)[1]
            return image, label.new_tensor(drawn) if isinstance(label, Tensor) else type(label)(drawn)
        pixels = _to_nhwc(image)
        moved = self._corrupt(pixels, 0, index)[0][0]
        return _like(image, moved), label

    def _corrupt(self, images: Tensor, label: int, index: int) -> tuple[Tensor, int]:
        images, labels = corrupt(
            self.kind,
            images,
            torch.tensor([label]),
            torch.tensor([index]),
            seed=self.seed,
            num_classes=self.num_classes,
            probability=self.probability,
            mean=self.mean,
            std=self.std,
        )
        return images, int(labels)


def _keys(item: Any) -> tuple[Any, Any]:
    if not isinstance(item, dict):
        return 0, 1
    image = "image" if "image" in item else "img"
    if image not in item or "label" not in item:
        raise UserError(f"an item of keys {', '.join(map(str, item))} is unknown: image (or img) and label needed")
    return image, "label"


def _to_nhwc(image: Any) -> Tensor:
    if isinstance(image, Tensor):
        if image.ndim != 3:
            raise UserError(f"an image tensor of shape {tuple(image.shape)} is unknown: [C, H, W] needed")
        return image.permute(1, 2, 0).unsqueeze(0).contiguous()
    pixels = np.array(image)
    if pixels.ndim not in (2, 3):
        raise UserError(f"an image of shape {pixels.shape} is unknown: [H, W] or [H, W, C] needed")
    return torch.from_numpy(pixels.reshape(1, *pixels.shape[:2], -1))


def _like(image: Any, pixels: Tensor) -> Any:
    """`pixels` [H, W, C] in the form of `image`."""
    if isinstance(image, Tensor):
        return pixels.permute(2, 0, 1)
    array = pixels.numpy()
    if isinstance(image, np.ndarray):
        return array.reshape(image.shape)
    if array.dtype != np.uint8:
        return array
    from PIL import Image

    return Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array)
