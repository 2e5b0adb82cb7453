"""ImageNet in its usual forms (layout.py), and any folder of class folders, decoded from JPEG on every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from . import damaged as damaged_files
from . import layout
from .jpeg_images import JpegFolder
from .source import Dataset, Progress, Split, subset
from .tree import FolderTree


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
    found = layout.find(FolderTree(root))

    def split(folder_name: str, files: Sequence[str], labels: Tensor) -> Split:
        at = root / folder_name
        index = subset(len(files), limit)
        bad, stamps = damaged_files.find_damaged(at, files, index, workers=workers, progress=progress)
        index, named = damaged_files.drop_samples(at, files, index, bad, damaged)
        images = JpegFolder(at, files, size=size, margin=margin, device=device, workers=workers, stamps=stamps)
        return Split(images, labels, index, named)

    train = split(*found.train)
    test = split(*found.test) if found.test is not None else None
    return Dataset("imagenet", f"jpeg folder {root.absolute()}", found.classes, train, test, found.notes)
