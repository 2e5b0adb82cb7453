"""Class folders of small images of one size, in a folder or a tar: decoded once, to live on the device."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from . import folder, layout
from .source import Dataset, Progress, Resident, Split, subset
from .tree import Tree, join

READ_AT_ONCE = 256


def load(
    tree: Tree, *, limit: int | None, device: torch.device, workers: int, damaged: str, progress: Progress | None
) -> Dataset:
    """The data set of class folders in a folder or a tar. Raises UserError."""
    found = layout.find(tree, "CIFAR-10 batches, ")

    def split(folder_name: str, files: Sequence[str], labels: Tensor) -> Split:
        names = [join(folder_name, file) for file in files]
        index, images, bad = _decode(tree, names, subset(len(files), limit), workers, damaged, progress)
        resident = Resident(images, device, None if len(index) == len(files) else index)
        return Split(resident, labels, index, bad)

    train = split(*found.train)
    test = split(*found.test) if found.test is not None else None
    if test is not None and test.images.shape != train.images.shape:
        raise UserError(
            f"{tree.path}: the test images are {_size(test.images.shape)} and the training images "
            f"{_size(train.images.shape)}: make them all one size"
        )
    return Dataset("cifar10", f"jpeg {tree.kind} {tree.path.absolute()}", found.classes, train, test, found.notes)


def _decode(
    tree: Tree,
    files: Sequence[str],
    index: Tensor,
    workers: int,
    damaged: str,
    progress: Progress | None,
) -> tuple[Tensor, Tensor, tuple[tuple[str, str], ...]]:
    """The samples that can be decoded, their images uint8 [n, H, W, 3], and what was left out."""
    from .dali import DecodeError, decode, faults, torn

    path, samples = tree.path, index.tolist()
    unreadable: dict[int, str] = {}

    def read(sample: int) -> np.ndarray:
        try:
            return np.frombuffer(tree.read(files[sample]), np.uint8)
        except OSError as error:
            unreadable[sample] = f"cannot be read: {error.strerror or error}"
            return np.empty(0, np.uint8)

    parts = [samples[i : i + READ_AT_ONCE] for i in range(0, len(samples), READ_AT_ONCE)]
    with ThreadPoolExecutor(workers) as pool:
        read_parts = pool.map(lambda part: [read(sample) for sample in part], parts)
        encoded = dict(zip(samples, itertools.chain.from_iterable(read_parts), strict=True))
    bad = [(k, reason) for k, data in encoded.items() if (reason := unreadable.get(k) or torn(data)) is not None]
    while True:
        index, named = folder.leave_out(path, files, index, sorted(bad), damaged)
        samples = index.tolist()
        try:
            decoded = decode([encoded[sample] for sample in samples], workers=workers)
            return index, _stack(path, [files[sample] for sample in samples], decoded, progress), named
        except DecodeError as error:
            reasons = next(faults([[encoded[sample] for sample in samples]], workers=workers))
            found = [(sample, reason) for sample, reason in zip(samples, reasons, strict=True) if reason is not None]
            if not found:
                raise UserError(f"{path}: DALI cannot decode the images: {error.__cause__}") from None
            bad += found


def _stack(
    path: Path, files: Sequence[str], decoded: Iterable[list[Tensor] | Tensor], progress: Progress | None
) -> Tensor:
    """All images in one tensor uint8 [n, H, W, 3]; a UserError that names two files if their sizes differ."""
    stacked, done = torch.empty(0, dtype=torch.uint8), 0
    for batch in decoded:
        if not done:
            stacked = torch.empty((len(files), *batch[0].shape), dtype=torch.uint8)
        sized = batch if isinstance(batch, list) else batch[:1]  # those in one tensor have one size
        for image, file in zip(sized, files[done : done + len(sized)], strict=True):
            if image.shape != stacked.shape[1:]:
                raise UserError(
                    f"{path / files[0]} is {_size(stacked.shape[1:])} and {path / file} is {_size(image.shape)}: "
                    "make all images one size, or open them as imagenet, which resizes them"
                )
        stacked[done : done + len(batch)] = torch.stack(batch) if isinstance(batch, list) else batch
        done += len(batch)
        if progress is not None:
            progress("decoding images", done, len(files))
    return stacked


def _size(shape: Sequence[int]) -> str:
    """Height and width as people write them."""
    return f"{shape[1]}x{shape[0]} pixels"
