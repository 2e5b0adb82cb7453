"""CIFAR-10 and CIFAR-100: their authors' python and binary forms, in a folder or a tar.gz, or class folders."""

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
from .registry import SMALL_SETS, CifarFiles, SmallSet
from .source import Dataset, InMemoryImages, Split, subset
from .tar_tree import TarTree
from .tree import FolderTree, Tree, join, unused

ENDINGS = {"python": "", "binary": ".bin"}
PIXELS = 3 * 32 * 32
MAX_BATCH = 256 * 2**20


def load(path: Path, options: DataOptions, row: SmallSet = SMALL_SETS["cifar10"]) -> Dataset:
    """Open a data set from a folder or a tar, decoded to the device. Raises UserError that names what is wrong.

    The sample index is the position in its batches one after another, or in the sorted order of the paths.
    """
    files = row.files
    assert isinstance(files, CifarFiles)
    tree = open_tree(path, files)
    batches_at = _find(tree, files, levels=2)
    if batches_at is None and tree.kind == "folder":
        archives = [f"{row.title.lower()}-{form}.tar.gz" for form in ENDINGS]
        official = [name for name in archives if name in tree.listing("").files]
        if official:
            tree = open_tree(path / official[0], files)
            batches_at = _find(tree, files, levels=3)
    batches_at = batches_at or _find(tree, files, levels=3)
    if batches_at is None:
        refuse_coarse(row, path, "class folders")
        return class_images.load(tree, options, row)
    form, folder = batches_at
    batches = {}
    for stem in files.train + files.test:
        file = join(folder, stem + ENDINGS[form])
        if file.rpartition("/")[2] in tree.listing(folder).files:
            try:
                batches[stem + ENDINGS[form]] = (file, tree.read(file, limit=MAX_BATCH))
            except OSError as error:
                raise unreadable(tree.path / file, error) from None
    source = tree.path / folder if tree.kind == "folder" else tree.path
    dataset = _of_batches(row, files, form, tree.path, batches, options, source)
    rest = unused(tree, set(), {file for file, _ in batches.values()} | {join(folder, name) for name in files.others})
    notes = [*tree.notes, f"not used in {tree.path}: {rest}"] if str(rest) else tree.notes
    return replace(dataset, notes=tuple(notes))


def refuse_coarse(row: SmallSet, path: Path, what: str) -> None:
    """Raise UserError where coarse labels are asked of `what`, which has the classes of its folders alone."""
    if row.name != row.folder:
        raise bad_path(path, f"has {what}, which have no coarse labels", "name the batches, or open it as cifar100")


def open_tree(path: Path, files: CifarFiles) -> Tree:
    """Return what is in a folder, or in a tar. Raises UserError."""
    if os.path.isdir(path):
        return FolderTree(path)
    return TarTree(path, lambda name: _is_batch(name, files) or is_image(name) or is_list(name))


def _is_batch(name: str, files: CifarFiles) -> bool:
    return name.removesuffix(".bin") in files.train + files.test


def _find(tree: Tree, files: CifarFiles, levels: int) -> tuple[str, str] | None:
    """The form of the batches and their folder, which is on the highest of so many levels, of two there python's."""
    level = [""]
    for _ in range(levels):
        for (form, ending), preferred in zip(ENDINGS.items(), files.folders, strict=True):
            folders = [folder for folder in level if files.train[0] + ending in tree.listing(folder).files]
            folders = [folder for folder in folders if folder.rpartition("/")[2] == preferred] or folders
            if len(folders) > 1:
                problem = f"holds {files.train[0] + ending} in {folders[0]} and {folders[1]}"
                raise bad_path(tree.path, problem, "keep one of them")
            if folders:
                return form, folders[0]
        level = [join(folder, name) for folder in level for name in tree.listing(folder).visible]
    return None


def _of_batches(
    row: SmallSet,
    files: CifarFiles,
    form: str,
    source: Path,
    batches: dict[str, tuple[str, bytes]],
    options: DataOptions,
    place: Path,
) -> Dataset:
    read: Callable[[str, bytes, str, CifarFiles], tuple[Tensor, Tensor]] = _python if form == "python" else _binary
    ending, last = ENDINGS[form], len(row.classes) - 1

    seen: dict[str, str] = {}

    def split(names: tuple[str, ...]) -> Split:
        parts = []
        for name in names:
            if name + ending not in batches:
                every = ", ".join(files.train + files.test)
                raise bad_path(source, f"has no {name + ending}", f"add it; {row.title} is {every}")
            at, data = batches[name + ending]
            images, labels = read(f"{source / at}", data, row.title, files)
            outside = labels[(labels < 0) | (labels > last)]
            if len(outside):
                problem = f"has labels outside 0 ... {last} (the first is {int(outside[0])})"
                raise bad_path(source / at, problem, f"replace it; {row.title} has {last + 1} classes")
            content = hashlib.sha256(images.numpy().data).hexdigest()
            if content in seen:
                raise bad_path(source / at, f"has the images of {seen[content]}", "replace the one that is wrong")
            seen[content] = name + ending
            parts.append((images.view(-1, 3, 32, 32).permute(0, 2, 3, 1), labels))
        labels = torch.cat([labels for _, labels in parts])
        images = torch.cat([images for images, _ in parts]).contiguous()
        return Split(InMemoryImages(images, options.device), labels, subset(len(labels), options.max_samples))

    return Dataset(
        row.name, f"{row.name} {form} {place.absolute()}", row.classes, split(files.train), split(files.test)
    )


def _python(where: str, data: bytes, title: str, files: CifarFiles) -> tuple[Tensor, Tensor]:
    """Images uint8 [n, 3072] and labels int64 [n] of one pickled batch."""
    try:
        content = unpickle.loads(data)
        fields = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
        if "fine_labels" in fields and files.key == "labels":
            raise ValueError("it has fine_labels, as CIFAR-100")
        images, labels = fields["data"], _labels(fields[files.key])
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise bad_path(where, f"is damaged or no {title} batch ({error})", "replace it") from None
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape != (len(labels), PIXELS):
        raise bad_path(where, f"is no {title} batch", f"its data must be uint8 of {len(labels)} x {PIXELS}")
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
        raise ValueError("its labels are too large") from None


def _binary(where: str, data: bytes, title: str, files: CifarFiles) -> tuple[Tensor, Tensor]:
    """Images uint8 [n, 3072] and labels int64 [n] of one binary batch."""
    record = files.label_bytes + PIXELS
    if not data or len(data) % record:
        theirs, of = (2, "CIFAR-100") if files.label_bytes == 1 else (1, "CIFAR-10")
        other = f" (they are records of {of})" if data and len(data) % (theirs + PIXELS) == 0 else ""
        problem = f"is truncated or no {title} batch ({len(data)} bytes are not records of {record}{other})"
        raise bad_path(where, problem, "replace it")
    records = torch.from_numpy(np.frombuffer(data, np.uint8).reshape(-1, record).copy())
    return records[:, files.label_bytes :].contiguous(), records[:, files.label_at].to(torch.int64)
