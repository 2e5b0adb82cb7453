"""Class folders of small images of one size, in a folder or a tar: decoded once, to live on the device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from . import folder
from .source import Dataset, Progress, Resident, Split, subset

SPLITS = ("train", "test")
READ_AT_ONCE = 256

Read = Callable[[str], np.ndarray]
"""From a name "train/CLASS/x.jpg" to the bytes of the file, uint8 [n]."""


def is_member(name: str) -> bool:
    """Whether a tar member is .../train/CLASS/image or .../test/CLASS/image."""
    parts = PurePosixPath(name).parts
    return len(parts) >= 3 and parts[-3] in SPLITS and folder.is_image(parts[-1])


def from_tar(
    path: Path,
    files: dict[str, bytes],
    *,
    limit: int | None,
    device: torch.device,
    workers: int,
    damaged: str,
    progress: Progress | None,
) -> Dataset:
    """The data set of the members `files` (name and content) of a tar. Raises UserError."""
    content = {"/".join(PurePosixPath(name).parts[-3:]): data for name, data in files.items() if is_member(name)}
    folders: dict[str, dict[str, list[str]]] = {name: {} for name in SPLITS}
    for name in sorted(content, key=lambda name: name.split("/")):
        split, label, file = name.split("/")
        folders[split].setdefault(label, []).append(file)

    def read(name: str) -> np.ndarray:
        return np.frombuffer(content[name], np.uint8)

    return _load(path, "jpeg tar", folders, read, limit, device, workers, damaged, progress)


def from_folder(
    path: Path, *, limit: int | None, device: torch.device, workers: int, damaged: str, progress: Progress | None
) -> Dataset:
    """The data set of a folder with train/CLASS and, if there is one, test/CLASS. Raises UserError."""
    from .dali import read_bytes

    folders = {name: folder.class_folders(path / name) if (path / name).is_dir() else {} for name in SPLITS}

    def read(name: str) -> np.ndarray:
        return read_bytes(path / name)

    return _load(path, "jpeg folder", folders, read, limit, device, workers, damaged, progress)


def _load(
    path: Path,
    kind: str,
    folders: dict[str, dict[str, list[str]]],
    read: Read,
    limit: int | None,
    device: torch.device,
    workers: int,
    damaged: str,
    progress: Progress | None,
) -> Dataset:
    classes = tuple(folders["train"])
    if not classes:
        raise UserError(f"{path} holds no images: looked for CIFAR-10 batches and for train/CLASS/*.jpg (or .png)")
    unknown = [name for name in folders["test"] if name not in classes]
    if unknown:
        raise UserError(f"{path}: test/{unknown[0]} is a class that train/ does not have")

    def split(name: str) -> Split:
        files, labels = folder.flatten(folders[name], classes)
        files = [f"{name}/{file}" for file in files]
        index, images, bad = _decode(path, files, subset(len(files), limit), read, workers, damaged, progress)
        resident = Resident(images, device, None if len(index) == len(files) else index)
        return Split(resident, labels, index, bad)

    train = split("train")
    test = split("test") if folders["test"] else None
    if test is not None and test.images.shape != train.images.shape:
        raise UserError(
            f"{path}: the test images are {_size(test.images.shape)} and the training images "
            f"{_size(train.images.shape)}: make them all one size"
        )
    notes = () if test else (f"{path} has no test images (looked for test/ beside train/): there is no test accuracy",)
    return Dataset("cifar10", f"{kind} {path.absolute()}", classes, train, test, notes)


def _decode(
    path: Path,
    files: Sequence[str],
    index: Tensor,
    read: Read,
    workers: int,
    damaged: str,
    progress: Progress | None,
) -> tuple[Tensor, Tensor, tuple[tuple[str, str], ...]]:
    """The samples that can be decoded, their images uint8 [n, H, W, 3], and what was left out."""
    from .dali import DecodeError, decode, faults, torn

    samples = index.tolist()
    parts = [samples[i : i + READ_AT_ONCE] for i in range(0, len(samples), READ_AT_ONCE)]
    with ThreadPoolExecutor(workers) as pool:
        read_parts = pool.map(lambda part: [read(files[sample]) for sample in part], parts)
        encoded = dict(zip(samples, itertools.chain.from_iterable(read_parts), strict=True))
    bad = [(sample, reason) for sample, data in encoded.items() if (reason := torn(data)) is not None]
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
