"""ImageNet in its usual forms (layout.py), and any folder of class folders, decoded from JPEG on every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from . import damaged as damaged_files
from . import layout
from .image_files import ImageFiles
from .jpeg_images import JpegImages
from .options import DataOptions
from .source import Dataset, Split, subset
from .tree import FolderTree


def load(root: Path, options: DataOptions) -> Dataset:
    """Open a folder. Raises UserError."""
    images_of = layout.find(FolderTree(root))

    def split(folder_name: str, files: Sequence[str], labels: Tensor) -> Split:
        at = root / folder_name
        index = subset(len(files), options.max_samples)
        bad, stamps = damaged_files.find_damaged(at, files, index, workers=options.threads, progress=options.progress)
        index, named = damaged_files.drop_samples(at, files, index, bad, options.on_decode_error)
        images = JpegImages(ImageFiles(at, files, stamps), options)
        return Split(images, labels, index, named)

    train = split(*images_of.train)
    test = split(*images_of.test) if images_of.test is not None else None
    return Dataset("imagenet", f"jpeg folder {root.absolute()}", images_of.classes, train, test, images_of.notes)
