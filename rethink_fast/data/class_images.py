"""Class folders of small images of one size, in a folder or a tar: decoded once, to live on the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import bad_path
from . import damaged as damaged_files
from . import layout
from .dali import DecodeError, Decoder, decode, shape_of, whole
from .examine import Examiner, Opened
from .image_files import MAX_BYTES
from .options import DataOptions
from .registry import SmallSet
from .source import Dataset, InMemoryImages, Progress, Split, subset
from .tree import Tree, join

READ_AT_ONCE = 256


def load(tree: Tree, options: DataOptions, row: SmallSet) -> Dataset:
    """Open the class folders of a folder or a tar, as the data set of a row. Raises UserError."""
    images = layout.find(tree, f"{row.title} batches, ")

    def split(folder_name: str, files: Sequence[str], labels: Tensor) -> Split:
        names = [join(folder_name, file) for file in files]
        index, images, bad = _decode(tree, names, subset(len(files), options.max_samples), options)
        resident = InMemoryImages(images, options.device, None if len(index) == len(files) else index)
        return Split(resident, labels, index, bad)

    train = split(*images.train)
    test = split(*images.test) if images.test is not None else None
    if test is not None and test.images.shape != train.images.shape:
        problem = f"has test images of {_size(test.images.shape)} and training images of {_size(train.images.shape)}"
        raise bad_path(tree.path, problem, "make them all one size")
    form = "png" if all(file.lower().endswith(".png") for file in images.train[1]) else "jpeg"
    return Dataset(row.name, f"{form} {tree.kind} {tree.path.absolute()}", images.classes, train, test, images.notes)


def _decode(
    tree: Tree, files: Sequence[str], index: Tensor, options: DataOptions
) -> tuple[Tensor, Tensor, tuple[tuple[str, str], ...]]:
    """The samples that can be decoded, their images uint8 [n, H, W, 3], and what was skipped."""
    path, samples = tree.path, index.tolist()
    encoded: dict[int, np.ndarray] = {}
    bad: dict[int, str] = {}

    def read(sample: int) -> tuple[np.ndarray, str | None]:
        try:
            return np.frombuffer(tree.read(files[sample], limit=MAX_BYTES), np.uint8), None
        except OSError as error:
            return np.empty(0, np.uint8), f"{damaged_files.NOT_READ}: {error.strerror or error}"

    peek = Decoder(shape_of, threads=1)
    with ThreadPoolExecutor(options.threads) as pool:
        for start in range(0, len(samples), READ_AT_ONCE):
            part = samples[start : start + READ_AT_ONCE]
            contents, not_read = zip(*pool.map(read, part), strict=True)
            opened = Opened(contents, peek)
            encoded.update(zip(part, opened.data, strict=True))
            reasons = [first or then for first, then in zip(not_read, opened.reasons, strict=True)]
            bad.update((sample, reason) for sample, reason in zip(part, reasons, strict=True) if reason is not None)
    while True:
        index, named = damaged_files.drop_samples(path, files, index, sorted(bad.items()), options.on_decode_error)
        samples = index.tolist()
        try:
            decoded = decode([encoded[sample] for sample in samples], workers=options.threads)
            return index, _stack(path, [files[sample] for sample in samples], decoded, options.progress), named
        except DecodeError as error:
            changed = False
            for start in range(0, len(samples), READ_AT_ONCE):
                part = samples[start : start + READ_AT_ONCE]
                examined = Examiner(whole).decode_one_by_one([encoded[sample] for sample in part])
                for sample, (reason, data, by_pillow, _) in zip(part, examined, strict=True):
                    changed |= by_pillow or reason is not None
                    encoded[sample] = data
                    if reason is not None:
                        bad[sample] = reason
            if not changed:
                raise bad_path(
                    path, f"holds images that DALI cannot decode ({error.__cause__})", "convert them to JPEG or PNG"
                ) from None


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
                problem = f"is {_size(stacked.shape[1:])} and {path / file} is {_size(image.shape)}"
                fix = "make all images one size, or open them as imagenet, which resizes them"
                raise bad_path(path / files[0], problem, fix)
        stacked[done : done + len(batch)] = torch.stack(batch) if isinstance(batch, list) else batch
        done += len(batch)
        if progress is not None:
            progress("decoding images", done, len(files))
    return stacked


def _size(shape: Sequence[int]) -> str:
    """Height and width as people write them."""
    return f"{shape[1]}x{shape[0]} pixels"
