"""The classes of a flat folder of images, in the forms they are handed around in."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError, bad_path
from .tree import Tree, count, join

KAGGLE = "LOC_val_solution.csv"
DEVKIT = "ILSVRC2012_validation_ground_truth.txt"
LISTS = (
    "val.txt",
    "val_labels.txt",
    "val_list.txt",
    "val_annotations.txt",
    "ground_truth.txt",
    "imagenet_2012_validation_synset_labels.txt",
)
BELOW = ("", "meta", "data", "ILSVRC2012_devkit_t12/data")
"""Where the lists are: in the folder of the images, in one above it, or below one of those."""
TRAIN = ("trainLabels.csv", "train_labels.csv", "labels.csv", "train.csv")
"""Of flat training images: a line of names, then image,class in each line."""
MAX_BYTES = 256 * 2**20
"""Of a list: 1.3 million lines of 200 characters."""
NAMED = re.compile(r".*_(n\d{8})\.\w+")
"""Files as Hugging Face names those of ImageNet, which tell their class."""


def is_list(name: str) -> bool:
    """Return whether a file of this name may hold ground truth."""
    return name in (KAGGLE, DEVKIT, "meta.mat", *LISTS, *TRAIN)


def read(tree: Tree, folders: Sequence[str], files: Sequence[str], classes: Sequence[str], used: set[str]) -> list[int]:
    """Return the class of each file of a flat folder, from the ground truth in the first of `folders` that has one.

    LOC_val_solution.csv (Kaggle); ILSVRC2012_validation_ground_truth.txt (the devkit's, with meta.mat next to it); a
    list with one WNID a line for the files in sorted order, or "filename WNID", or "filename class-number" with the
    classes numbered from 0 in sorted order; or the names of the files, as in ILSVRC2012_val_00000001_n01751748.JPEG.

    used: the files that were read are added. Raises UserError.
    """
    number = {name: i for i, name in enumerate(classes)}
    for above in folders:
        for below in BELOW:
            folder = join(above, below) if below else above
            for name in (KAGGLE, *LISTS, DEVKIT):
                path = join(folder, name)
                if not _is_file(tree, path):
                    continue
                used.add(path)
                if name == KAGGLE:
                    return _by_name(tree, path, _kaggle(tree, path), files, number)
                if name == DEVKIT:
                    return _in_order(tree, path, _devkit(tree, path, used), files, number)
                return _list(tree, path, files, number)
    if named := _from_names(files):
        return _by_name(tree, folders[0], named, files, number)
    raise UserError(
        f"{tree.path / folders[0]} holds {count(len(files), 'image')} without class folders and no ground "
        "truth is there or above",
        f"add one of {', '.join((KAGGLE, *LISTS, DEVKIT))}",
        value=tree.path / folders[0],
        allowed=(KAGGLE, *LISTS, DEVKIT),
    )


def flat_train(
    tree: Tree, at: str, folders: Sequence[str], used: set[str]
) -> tuple[tuple[str, ...], list[str], Tensor]:
    """Return the classes, the files and the labels, int64 [N], of training images without class folders.

    The classes are read from a file of TRAIN, or from the names of the files. Raises UserError.
    """
    files = tree.listing(at).images
    path = next((p for folder in folders for name in TRAIN if _is_file(tree, p := join(folder, name))), None)
    names = _from_names(files) if path is None else _pairs(tree, path)
    if names is None:
        raise bad_path(
            tree.path / at,
            f"holds {count(len(files), 'image')} without class folders",
            f"put those of each class in a folder of its name, or their labels next to them in {TRAIN[0]} (lines "
            "of image,class)",
        )
    if path is not None:
        used.add(path)
    classes = tuple(sorted(set(names.values())))
    labels = _by_name(tree, path or at, names, files, {name: i for i, name in enumerate(classes)})
    return classes, files, torch.tensor(labels, dtype=torch.int64)


def _from_names(files: Sequence[str]) -> dict[str, str] | None:
    """The WNIDs in the names of all files, or None."""
    matches = [NAMED.fullmatch(file) for file in files]
    return {file: match[1] for file, match in zip(files, matches, strict=True) if match} if all(matches) else None


def _is_file(tree: Tree, path: str) -> bool:
    folder, _, name = path.rpartition("/")
    try:
        return name in tree.listing(folder).files
    except UserError:
        return False


def _lines(tree: Tree, path: str) -> list[str]:
    try:
        text = tree.read(path, limit=MAX_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise bad_path(
            tree.path / path, f"cannot be read as text ({error})", "check that it exists and can be read"
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _pairs(tree: Tree, path: str) -> dict[str, str]:
    rows = [row for row in csv.reader(_lines(tree, path)[1:]) if row]
    if not rows or {len(row) for row in rows} != {2}:
        raise bad_path(tree.path / path, "is no list of labels", "write a line of names, then image,class in each line")
    return {name: label.strip() for name, label in rows}


def _kaggle(tree: Tree, path: str) -> dict[str, str]:
    rows = csv.reader(_lines(tree, path))
    next(rows, None)
    try:
        return {name: prediction.split()[0] for name, prediction in rows}
    except (ValueError, IndexError):
        raise bad_path(
            tree.path / path, "has a line of another form", "write ImageId,PredictionString in each line"
        ) from None


def _list(tree: Tree, path: str, files: Sequence[str], number: dict[str, int]) -> list[int]:
    rows = [line.replace(",", " ").split() for line in _lines(tree, path)]
    if path.endswith("val_annotations.txt"):  # Tiny ImageNet's, with the four corners of a box behind
        rows = [row[:2] for row in rows]
    columns = {len(row) for row in rows}
    if columns == {1}:
        return _in_order(tree, path, [row[0] for row in rows], files, number)
    if columns != {2}:
        fix = "write one column (WNID) or two (filename, WNID or class number) in all lines"
        raise bad_path(tree.path / path, "has lines of different or other columns", fix)
    if not any(row[1] in number for row in rows):
        number = {str(i): i for i in range(len(number))}
    return _by_name(tree, path, dict(rows), files, number)


def _devkit(tree: Tree, path: str, used: set[str]) -> list[str]:
    """The WNID of each line: an ILSVRC2012_ID, whose order is not that of the WNIDs, by way of meta.mat."""
    meta = join(path.rpartition("/")[0], "meta.mat")
    where = tree.path / path
    if not _is_file(tree, meta):
        raise bad_path(where, "numbers the classes in its own order", "put the devkit's meta.mat next to it")
    try:
        from scipy.io import loadmat
    except ImportError:
        fix = f"pip install scipy, or use {KAGGLE} or class folders"
        raise UserError(f"reading {tree.path / meta} needs scipy", fix, value=tree.path / meta) from None
    try:
        synsets: Any = loadmat(io.BytesIO(tree.read(meta, limit=MAX_BYTES)), squeeze_me=True)["synsets"]
        wnid = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
        used.add(meta)
        return [wnid[int(line)] for line in _lines(tree, path)]
    except (KeyError, ValueError, TypeError, IndexError, OSError) as error:
        raise bad_path(
            where, f"and {tree.path / meta} do not fit together ({error!r})", "take both from one devkit"
        ) from None


def _in_order(tree: Tree, path: str, names: Sequence[str], files: Sequence[str], number: dict[str, int]) -> list[int]:
    if len(names) != len(files):
        raise bad_path(tree.path / path, f"has {len(names)} lines for {len(files)} images", "give each image a line")
    return _by_name(tree, path, dict(zip(files, names, strict=True)), files, number)


def _by_name(tree: Tree, path: str, names: dict[str, str], files: Sequence[str], number: dict[str, int]) -> list[int]:
    where = tree.path / path
    stems = {PurePosixPath(name).stem: value for name, value in names.items()}
    labels = []
    for file in files:
        value = stems.get(PurePosixPath(file).stem)
        if value is None:
            raise bad_path(where, f"does not name {file}", "add its line")
        if value not in number:
            raise UserError(
                f"{where} gives {file} the class {value}, which is not among the {len(number)} classes of the "
                "training images",
                "correct its line",
                value=value,
            )
        labels.append(number[value])
    return labels
