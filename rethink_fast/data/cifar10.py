"""CIFAR-10: the authors' python and binary forms, in a folder or their tar.gz, or class folders of small images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from . import archive, class_images, unpickle
from .source import Dataset, Progress, Resident, Split, subset

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST = ("test_batch",)
FORMS = {"python": ("cifar-10-batches-py", ""), "binary": ("cifar-10-batches-bin", ".bin")}
"""Of each form the folder and the ending of its files."""
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
PIXELS = 3 * 32 * 32


def load(
    path: Path,
    *,
    limit: int | None,
    device: torch.device,
    workers: int,
    damaged: str,
    progress: Progress | None = None,
) -> Dataset:
    """CIFAR-10 from a folder or a tar, decoded to the device. Raises UserError that names what is wrong.

    The sample index is the position in data_batch_1 ... 5 one after another, or in the sorted order of the paths.
    """
    if path.is_file():
        files = archive.read_tar(path, lambda name: _is_batch(name) or class_images.is_member(name))
        for form, (_, ending) in FORMS.items():
            batches = {Path(name).name: (name, data) for name, data in files.items() if _is_batch(name)}
            if TRAIN[0] + ending in batches:
                return _of_batches(form, path, batches, limit, device)
        return class_images.from_tar(
            path, files, limit=limit, device=device, workers=workers, damaged=damaged, progress=progress
        )
    for form, (folder, ending) in FORMS.items():
        for place in (path / folder, path):
            if (place / (TRAIN[0] + ending)).is_file():
                batches = {
                    name: (name, (place / name).read_bytes())
                    for name in (stem + ending for stem in TRAIN + TEST)
                    if (place / name).is_file()
                }
                return _of_batches(form, place, batches, limit, device)
    again = partial(load, limit=limit, device=device, workers=workers, damaged=damaged, progress=progress)
    for name in ARCHIVES:
        if (path / name).is_file():
            return again(path / name)
    if (path / "train").is_dir():
        return class_images.from_folder(
            path, limit=limit, device=device, workers=workers, damaged=damaged, progress=progress
        )
    raise UserError(
        f"{path} holds no CIFAR-10: looked for cifar-10-batches-py, cifar-10-batches-bin, {', '.join(ARCHIVES)}, "
        "and train/CLASS and test/CLASS folders"
    )


def _is_batch(name: str) -> bool:
    return Path(name).name.removesuffix(".bin") in TRAIN + TEST


def _of_batches(
    form: str, source: Path, files: dict[str, tuple[str, bytes]], limit: int | None, device: torch.device
) -> Dataset:
    read: Callable[[str, bytes], tuple[Tensor, Tensor]] = _python if form == "python" else _binary
    ending = FORMS[form][1]

    def split(names: tuple[str, ...]) -> Split:
        parts = []
        for name in names:
            if name + ending not in files:
                raise UserError(f"{source} has no {name + ending}: CIFAR-10 is {', '.join(TRAIN + TEST)}")
            at, data = files[name + ending]
            images, labels = read(f"{source / at}", data)
            if int(labels.min()) < 0 or int(labels.max()) >= len(CLASSES):
                raise UserError(f"{source / at} has labels outside 0 ... 9: CIFAR-10 has 10 classes")
            parts.append((images.view(-1, 3, 32, 32).permute(0, 2, 3, 1), labels))
        labels = torch.cat([labels for _, labels in parts])
        images = torch.cat([images for images, _ in parts]).contiguous()
        return Split(Resident(images, device), labels, subset(len(labels), limit))

    return Dataset("cifar10", f"cifar10 {form} {source.absolute()}", CLASSES, split(TRAIN), split(TEST))


def _python(where: str, data: bytes) -> tuple[Tensor, Tensor]:
    """Images uint8 [n, 3072] and labels int64 [n] of one pickled batch."""
    try:
        content = unpickle.loads(data)
        fields = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
        images, labels = fields["data"], np.asarray(fields["labels"], dtype=np.int64)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{where} is damaged or no CIFAR-10 batch: {error}") from None
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape != (len(labels), PIXELS):
        raise UserError(f"{where} is no CIFAR-10 batch: data must be uint8 of {len(labels)} x {PIXELS}")
    if not len(labels):
        raise UserError(f"{where} has no images")
    return torch.from_numpy(np.array(images)), torch.from_numpy(labels)


def _binary(where: str, data: bytes) -> tuple[Tensor, Tensor]:
    """Images uint8 [n, 3072] and labels int64 [n] of one binary batch."""
    record = 1 + PIXELS
    if not data or len(data) % record:
        raise UserError(f"{where} is truncated or no CIFAR-10 batch: {len(data)} bytes are not records of {record}")
    records = torch.from_numpy(np.frombuffer(data, np.uint8).reshape(-1, record).copy())
    return records[:, 1:], records[:, 0].to(torch.int64)
