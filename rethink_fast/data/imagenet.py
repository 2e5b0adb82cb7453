"""ImageNet in its usual form, and any folder of class folders, decoded from JPEG on every epoch.

ROOT/train/CLASS/*.JPEG   with ROOT/val/CLASS/*.JPEG, or ROOT/val/*.JPEG and a ground-truth file
                          or ROOT/test/CLASS/*.JPEG
ROOT/CLASS/*.JPEG         training images only
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError
from . import folder, ground_truth
from .dali import JpegFolder
from .source import Dataset, Progress, Split, subset

VALIDATION = ("val", "validation")
KAGGLE = "ILSVRC/Data/CLS-LOC"

Files = tuple[Path, list[str], Tensor]
"""A folder, the files below it in the order of their sample indices, and their labels, int64 [N]."""


@dataclass(frozen=True)
class Layout:
    """What is in a folder. The sample index is the position in the sorted order of (class folder, file name)."""

    classes: tuple[str, ...]
    train: Files
    test: Files | None
    notes: tuple[str, ...] = ()


def layout(root: Path) -> Layout:
    """Find the classes, the training images and the validation images of a folder. Raises UserError."""
    base = root / KAGGLE if (root / KAGGLE).is_dir() else root
    below = base / "train" if (base / "train").is_dir() else base
    folders = folder.class_folders(below)
    if not folders:
        raise UserError(
            f"{root} holds no images: looked for train/CLASS/*.JPEG, and for CLASS/*.JPEG "
            f"(in any case, or .jpg or .png)"
        )
    classes = tuple(folders)
    train = (below, *folder.flatten(folders, classes))
    held_out = _held_out(base) if below != base else None
    if held_out is None:
        notes = (f"{root} has no validation images (looked for val/ beside train/): there is no test accuracy",)
        return Layout(classes, train, None, notes)
    return Layout(classes, train, (held_out, *_validation(root, base, held_out, classes)))


def load(
    root: Path,
    *,
    size: int,
    margin: bool,
    limit: int | None,
    device: torch.device,
    workers: int,
    damaged: str,
    progress: Progress | None = None,
) -> Dataset:
    """Open a folder; the images come at `size`, or with `margin` as large as a random crop of `size` needs.

    Raises UserError.
    """
    found = layout(root)

    def split(at: Path, files: Sequence[str], labels: Tensor) -> Split:
        index = subset(len(files), limit)
        bad = folder.find_damaged(at, files, index, workers=workers, progress=progress)
        index, named = folder.leave_out(at, files, index, bad, damaged)
        images = JpegFolder(at, files, size=size, margin=margin, device=device, workers=workers)
        return Split(images, labels, index, named)

    train = split(*found.train)
    test = split(*found.test) if found.test is not None else None
    return Dataset("imagenet", f"jpeg folder {root.absolute()}", found.classes, train, test, found.notes)


def _held_out(base: Path) -> Path | None:
    """val/ or validation/, else test/ if it has class folders: ImageNet's own test images have no labels."""
    found = next((base / name for name in VALIDATION if (base / name).is_dir()), None)
    test = base / "test"
    return test if found is None and test.is_dir() and folder.class_folders(test) else found


def _validation(root: Path, base: Path, held_out: Path, classes: Sequence[str]) -> tuple[list[str], Tensor]:
    folders = folder.class_folders(held_out)
    if folders:
        unknown = [name for name in folders if name not in classes]
        if unknown:
            raise UserError(f"{held_out / unknown[0]} is a class that the training images do not have")
        return folder.flatten(folders, classes)
    files = folder.image_names(held_out)
    if not files:
        raise UserError(f"{held_out} holds no images: looked for CLASS/*.JPEG and *.JPEG")
    return files, torch.tensor(ground_truth.read((held_out, base, root), files, classes), dtype=torch.int64)
