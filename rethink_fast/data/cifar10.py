"""CIFAR-10: the authors' python and binary forms, in a folder or their tar.gz, or class folders of small images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import bad_path, unreadable
from . import class_images, unpickle
from .ground_truth import is_list
from .image_formats import is_image
from .options import DataOptions
from .source import Dataset, InMemoryImages, Split, subset
from .tar_tree import TarTree
from .tree import FolderTree, Tree, join, unused

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST = ("test_batch",)
FORMS = {"python": ("cifar-10-batches-py", ""), "binary": ("cifar-10-batches-bin", ".bin")}
"""Of each form the folder and the ending of its files."""
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
PIXELS = 3 * 32 * 32
MAX_BATCH = 256 * 2**20
OTHER_FILES = ("batches.meta", "batches.meta.txt", "readme.html")


def load(path: Path, options: DataOptions) -> Dataset:
    """Open CIFAR-10 from a folder or a tar, decoded to the device. Raises UserError that names what is wrong.

    The sample index is the position in data_batch_1 ... 5 one after another, or in the sorted order of the paths.
    """
    tree = open_tree(path)
    batches_at = _find(tree, levels=2)
    if batches_at is None and tree.kind == "folder":
        official = [name for name in ARCHIVES if name in tree.listing("").files]
        if official:
            tree = open_tree(path / official[0])
            batches_at = _find(tree, levels=3)
    batches_at = batches_at or _find(tree, levels=3)
    if batches_at is None:
        return class_images.load(tree, options)
    form, folder = batches_at
    batches = {}
    for stem in TRAIN + TEST:
        file = join(folder, stem + FORMS[form][1])
        if file.rpartition("/")[2] in tree.listing(folder).files:
            try:
                batches[stem + FORMS[form][1]] = (file, tree.read(file, limit=MAX_BATCH))
            except OSError as error:
                raise unreadable(tree.path / file, error) from None
    source = tree.path / folder if tree.kind == "folder" else tree.path
    dataset = _of_batches(form, tree.path, batches, options, source)
    rest = unused(tree, set(), {file for file, _ in batches.values()} | {join(folder, name) for name in OTHER_FILES})
    notes = [*tree.notes, f"not used in {tree.path}: {rest}"] if str(rest) else tree.notes
    return replace(dataset, notes=tuple(notes))


def open_tree(path: Path) -> Tree:
    """Return what is in a folder, or in a tar. Raises UserError."""
    if os.path.isdir(path):
        return FolderTree(path)
    return TarTree(path, lambda name: _is_batch(name) or is_image(name) or is_list(name))


def _is_batch(name: str) -> bool:
    return name.removesuffix(".bin") in TRAIN + TEST


def _find(tree: Tree, levels: int) -> tuple[str, str] | None:
    """The form of the batches and their folder, which is on the highest of so many levels, of two there python's."""
    level = [""]
    for _ in range(levels):
        for form, (preferred, ending) in FORMS.items():
            folders = [folder for folder in level if TRAIN[0] + ending in tree.listing(folder).files]
            folders = [folder for folder in folders if folder.rpartition("/")[2] == preferred] or folders
            if len(folders) > 1:
                problem = f"holds {TRAIN[0] + ending} in {folders[0]} and {folders[1]}"
                raise bad_path(tree.path, problem, "keep one of them")
            if folders:
                return form, folders[0]
        level = [join(folder, name) for folder in level for name in tree.listing(folder).visible]
    return None


def _of_batches(
    form: str, source: Path, files: dict[str, tuple[str, bytes]], options: DataOptions, place: Path
) -> Dataset:
    read: Callable[[str, bytes], tuple[Tensor, Tensor]] = _python if form == "python" else _binary
    ending = FORMS[form][1]

    seen: dict[str, str] = {}

    def split(names: tuple[str, ...]) -> Split:
        parts = []
        for name in names:
            if name + ending not in files:
                raise bad_path(source, f"has no {name + ending}", f"add it; CIFAR-10 is {', '.join(TRAIN + TEST)}")
            at, data = files[name + ending]
            images, labels = read(f"{source / at}", data)
            outside = labels[(labels < 0) | (labels >= len(CLASSES))]
            if len(outside):
                first = int(outside[0])
                problem = f"has labels outside 0 ... 9 (the first is {first})"
                raise bad_path(source / at, problem, "replace it; CIFAR-10 has 10 classes")
            content = hashlib.sha256(images.numpy().data).hexdigest()
            if content in seen:
                raise bad_path(source / at, f"has the images of {seen[content]}", "replace the one that is wrong")
            seen[content] = name + ending
            parts.append((images.view(-1, 3, 32, 32).permute(0, 2, 3, 1), labels))
        labels = torch.cat([labels for _, labels in parts])
        images = torch.cat([images for images, _ in parts]).contiguous()
        return Split(InMemoryImages(images, options.device), labels, subset(len(labels), options.max_samples))

    return Dataset("cifar10", f"cifar10 {form} {place.absolute()}", CLASSES, split(TRAIN), split(TEST))


def _python(where: str, data: bytes) -> tuple[Tensor, Tensor]:
    """Images uint8 [n, 3072] and labels int64 [n] of one pickled batch."""
    try:
        content = unpickle.loads(data)
        fields = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
        if "fine_labels" in fields:
            raise ValueError("it has fine_labels, as CIFAR-100")
        images, labels = fields["data"], _labels(fields["labels"])
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise bad_path(where, f"is damaged or no CIFAR-10 batch ({error})", "replace it") from None
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape != (len(labels), PIXELS):
        raise bad_path(where, "is no CIFAR-10 batch", f"its data must be uint8 of {len(labels)} x {PIXELS}")
    if not len(labels):
        raise bad_path(where, "has no images", "replace it")
    return torch.from_numpy(np.array(images, order="C")), torch.from_numpy(labels)


def _labels(values: Any) -> np.ndarray:
    """Labels int64 [n] from a list or an array of integers. Raises ValueError."""
    if isinstance(values, list | tuple):
        for value in values:
            if type(value) is not int:
                raise ValueError(f"its labels hold {value!r:.40}, no whole number")
    elif not isinstance(values, np.ndarray) or values.dtype.kind not in "iu" or values.ndim != 1:
        form = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise ValueError(f"its labels are {form}, no list of whole numbers")
    try:
        return np.array(values, np.int64)
    except OverflowError:
        raise ValueError("its labels are outside 0 ... 9") from None


def _binary(where: str, data: bytes) -> tuple[Tensor, Tensor]:
    """Images uint8 [n, 3072] and labels int64 [n] of one binary batch."""
    record = 1 + PIXELS
    if not data or len(data) % record:
        other = " (they are records of CIFAR-100)" if data and len(data) % (record + 1) == 0 else ""
        problem = f"is truncated or no CIFAR-10 batch ({len(data)} bytes are not records of {record}{other})"
        raise bad_path(where, problem, "replace it")
    records = torch.from_numpy(np.frombuffer(data, np.uint8).reshape(-1, record).copy())
    return records[:, 1:].contiguous(), records[:, 0].to(torch.int64)
