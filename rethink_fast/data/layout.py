"""From the entries of a folder or tar to classes, files and labels: one function for all that is opened or packed.

BASE/train/CLASS/*.JPEG   with BASE/val/CLASS/*.JPEG, or BASE/val/*.JPEG and a ground-truth file (ground_truth.py),
                          or BASE/test/CLASS/*.JPEG
BASE/CLASS/*.JPEG         training images only

BASE is the folder or the only one below it that is laid out so. train may also be training, or train.X1, train.X2, ...
together; val may be valid or validation, all in any case. The images of a class may be in CLASS/images/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError, bad_path
from . import ground_truth, webdataset
from .tree import Tree, count, is_archive, is_hidden, join, unused

TRAIN = re.compile(r"train(ing)?|train\.x\d+")
VALIDATION = re.compile(r"val(id(ation)?)?|val\.x")
TEST = re.compile(r"test(ing)?")
IMAGES = "images"
WNID = re.compile(r"n\d{8}")
DEEPEST = 4
"""Folders between the one that is opened and train/, as in imagenet/ILSVRC/Data/CLS-LOC."""
MOST_FOLDERS = 20_000
"""On one level, in the search for train/: another folder was meant."""

Files = tuple[str, list[str], Tensor]
"""A folder of the tree, the files below it in the order of their sample indices, and their labels, int64 [N]."""


@dataclass(frozen=True)
class Layout:
    """What is in a tree. The sample index is the position in the sorted order of (class folder, file name)."""

    classes: tuple[str, ...]
    train: Files
    test: Files | None
    notes: tuple[str, ...]


def find(tree: Tree, looked_for: str = "") -> Layout:
    """Return the classes, the training images and the held-out images of a tree.

    looked_for: what was looked for before, for the message where there is nothing.
    Raises UserError where there are none, where a class would be missing, or where there is only one.
    """
    base = _base(tree, looked_for)
    parts = _splits(tree, base, TRAIN)
    used: set[str] = set()
    folders_above = _above(base)
    if parts:
        at = parts[0] if len(parts) == 1 else base
        class_images = {part: _class_images(tree, part) for part in parts}
        folders = _merged(at, class_images)
        above = (at, *folders_above)
        classes, files, labels = flatten(folders) if folders else ground_truth.flat_train(tree, at, above, used)
    else:
        at = base
        classes, files, labels = flatten(_merged(at, {at: _class_images(tree, at)}))
    if len(classes) < 2:
        problem = f"has only one class of training images, {tree.path / at / classes[0]} ({count(len(files), 'image')})"
        raise bad_path(tree.path, problem, f"each class needs a folder in {tree.path / at}")
    notes = list(tree.notes)
    taken = {join(at, file).rpartition("/")[0] for file in files}
    test = _held_out(tree, base, folders_above, classes, used) if parts else None
    if test is None:
        notes.append(f"{tree.path / base} has no validation images (looked for val/ next to train/): no test accuracy")
    else:
        taken |= {join(test[0], file).rpartition("/")[0] for file in test[1]}
    if rest := str(unused(tree, taken, used)):
        notes.append(f"not used in {tree.path}: {rest}")
    return Layout(classes, (at, files, labels), test, tuple(notes))


def flatten(folders: Mapping[str, list[str]]) -> tuple[tuple[str, ...], list[str], Tensor]:
    """Return the classes, the files of all, their position being the sample index, and their labels, int64 [N]."""
    files = [file for images in folders.values() for file in images]
    labels = [number for number, images in enumerate(folders.values()) for _ in images]
    return tuple(folders), files, torch.tensor(labels, dtype=torch.int64)


def _above(base: str) -> tuple[str, ...]:
    """The folder and those above it."""
    names = base.split("/") if base else []
    return tuple("/".join(names[:k]) for k in range(len(names), -1, -1))


def _base(tree: Tree, looked_for: str) -> str:
    """The folder with train/ or with class folders: the root, or else the only one on the level where some are."""
    level = [""]
    for _ in range(DEEPEST + 1):
        bases = [folder for folder in level if _is_base(tree, folder)]
        if len(bases) > 1:
            raise UserError(
                f"{tree.path} holds images in {bases[0]} and in {bases[1]}: "
                + ("name one of them" if tree.kind == "folder" else "keep one of them in the archive")
            )
        if bases:
            return bases[0]
        level = [join(folder, name) for folder in level for name in tree.listing(folder).visible]
        if len(level) > MOST_FOLDERS:
            raise bad_path(tree.path, "holds too many folders to search them all", "name the one with train/ in it")
    raise UserError(_nothing(tree, looked_for))


def _nothing(tree: Tree, looked_for: str) -> str:
    """What was looked for in a tree without images, what is there, and what to do."""
    listing = tree.listing("")
    archives = [name for name in listing.files if is_archive(name)]
    parquet = any(name.endswith(".parquet") for folder in ("", "data") for name in _names(tree, folder))
    to_do = ""
    if parquet:
        to_do = (
            ". Parquet files of Hugging Face are not read: write their images to train/CLASS/ with datasets "
            "(pip install datasets)"
        )
    elif tree.kind == "folder" and webdataset.shards(tree.path, listing):
        to_do = f". These are WebDataset shards: make a pack with `rethink-fast pack {tree.path} DEST`, and open DEST"
    elif archives:
        to_do = f": unpack {archives[0]}"
        if "train" in archives[0].lower() and "ILSVRC" in archives[0]:
            to_do += " into train/, and each of the 1,000 archives in it into train/WNID/"
    return (
        f"{tree.path} holds no images: looked for {looked_for}train/CLASS/*.JPEG, and for CLASS/*.JPEG (in any case, "
        f"or .jpg, .png, ...); found: {unused(tree, set(), set()) or 'nothing'}{to_do}"
    )


def _names(tree: Tree, folder: str) -> tuple[str, ...]:
    return tree.listing(folder).files if not folder or folder in tree.listing("").folders else ()


def _is_base(tree: Tree, folder: str) -> bool:
    parts = _splits(tree, folder, TRAIN)
    named = [name for name in tree.listing(folder).visible if not _is_split(name)]
    with_images = any(tree.listing(join(folder, name)).images for name in named)
    return any(_has_images(tree, part) for part in parts) or with_images


def _is_split(name: str) -> bool:
    return any(pattern.fullmatch(name.lower()) for pattern in (TRAIN, VALIDATION, TEST))


def _has_images(tree: Tree, folder: str) -> bool:
    """Whether a split has class folders with images, or images."""
    listing = tree.listing(folder)
    return bool(listing.images) or any(_image_files(tree, join(folder, name)) for name in listing.visible)


def _splits(tree: Tree, base: str, pattern: re.Pattern[str]) -> list[str]:
    """The folders of a split: one, or several that are numbered. None where train is a class next to others."""
    listing = tree.listing(base)
    names = [name for name in listing.visible if pattern.fullmatch(name.lower())]
    plain = [name for name in names if ".x" not in name.lower()]
    if len(plain) > 1 and pattern is TRAIN:
        raise bad_path(tree.path / base, f"holds {plain[0]} and {plain[1]}", "rename or move the one that is not meant")
    chosen = [join(base, name) for name in plain or names]
    flat = all(tree.listing(part).images and not tree.listing(part).visible for part in chosen)
    if pattern is TRAIN and flat and chosen:
        classes = [name for name in listing.visible if not _is_split(name)]
        if any(tree.listing(join(base, name)).images for name in classes):
            return []
    return chosen


def _image_files(tree: Tree, folder: str) -> list[str]:
    """The images of a class folder, by their paths in it."""
    listing = tree.listing(folder)
    if not listing.images and IMAGES in listing.folders:
        return [f"{IMAGES}/{name}" for name in tree.listing(join(folder, IMAGES)).images]
    return listing.images


def _class_images(tree: Tree, folder: str) -> dict[str, list[str]]:
    """The images of each class folder, sorted. Raises UserError where one cannot be read or would be lost."""
    listing = tree.listing(folder)
    classes = {}
    for name in listing.visible:
        images = _image_files(tree, join(folder, name))
        if images:
            classes[name] = [f"{name}/{image}" for image in images]
    where = tree.path / folder
    for name in listing.visible:
        if name not in classes and (deeper := _first_image(tree, join(folder, name))):
            problem = f"holds its images in folders below it (the first is {deeper})"
            raise bad_path(where / name, problem, f"move them into {name}/, or move {name} away")
    in_train = bool(TRAIN.fullmatch(folder.rpartition("/")[2].lower()))
    packed = [name for name in listing.files if is_archive(name) and not is_hidden(name)]
    packed = [name for name in packed if (stem := name.split(".")[0]) not in classes and (in_train or WNID.match(stem))]
    if packed and classes:
        empty = [name for name in listing.visible if name not in classes]
        without = f", and {count(len(empty), 'folder')} without images (first: {empty[0]})" if empty else ""
        raise bad_path(
            where,
            f"holds {count(len(packed), 'archive')} not unpacked (first: {packed[0]}) next to "
            f"{count(len(classes), 'class folder')}{without}",
            "unpack each into a folder of its name, or move it away",
        )
    lost = [name for name, why in listing.odd.items() if "link" in why and "." not in name and why != "link loop"]
    if lost and classes:
        raise bad_path(
            where / lost[0], f"is a {listing.odd[lost[0]]}, so that a class is missing", "restore or remove it"
        )
    return classes


def _first_image(tree: Tree, folder: str, depth: int = 0) -> str | None:
    """An image anywhere below a folder."""
    listing = tree.listing(folder)
    if listing.images:
        return str(tree.path / folder / listing.images[0])
    below = (join(folder, name) for name in listing.visible) if depth < DEEPEST else ()
    return next((image for name in below if (image := _first_image(tree, name, depth + 1))), None)


def _merged(at: str, parts: Mapping[str, dict[str, list[str]]]) -> dict[str, list[str]]:
    """The classes of several folders together, their files by the path below `at`."""
    merged: dict[str, list[str]] = {}
    for name in sorted({name for classes in parts.values() for name in classes}):
        merged[name] = [
            join(part[len(at) :].lstrip("/"), file) for part, classes in parts.items() for file in classes.get(name, ())
        ]
    return merged


def _held_out(
    tree: Tree, base: str, folders_above: Sequence[str], classes: Sequence[str], used: set[str]
) -> Files | None:
    """The images of val/, else those of test/ if it has class folders: ImageNet's own test images have no labels."""
    at = next(iter(_splits(tree, base, VALIDATION)), None)
    if at is None:
        at = next(iter(_splits(tree, base, TEST)), None)
        if at is None or not _class_images(tree, at):
            return None
    folders = _class_images(tree, at)
    if set(folders) == {IMAGES} and IMAGES not in classes:
        folders = {}
    if folders:
        number = {name: k for k, name in enumerate(classes)}
        unknown = [name for name in folders if name not in number]
        if unknown:
            problem = "is a class that the training images do not have"
            raise bad_path(tree.path / at / unknown[0], problem, "remove it, or add its training images")
        files = [file for images in folders.values() for file in images]
        labels = [number[name] for name, images in folders.items() for _ in images]
    else:
        listing = tree.listing(at)
        files = listing.images or _image_files(tree, at)
        if not files:
            raise bad_path(tree.path / at, "holds no images", "put them in as CLASS/*.JPEG or *.JPEG")
        labels = ground_truth.read(tree, (at, *folders_above), files, classes, used)
    return at, files, torch.tensor(labels, dtype=torch.int64)
