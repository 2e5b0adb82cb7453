"""What is packed: a folder of images, or a pack of form jpeg, as stretches of bytes by sample index."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import UserError
from . import imagenet
from .pack_format import Pack, PackSplit, is_pack, read_pack


@dataclass(frozen=True)
class Source:
    """Encoded images of one split, or of part of it, in the order of their sample indices.

    The bytes of image k are `lengths[k]` from `offsets[k]` on in root / files[k]. quarantined: of images that are
    known to be without, the file and the reason.
    """

    root: Path
    files: list[str]
    offsets: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    quarantined: dict[int, tuple[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files)

    def part(self, start: int, stop: int) -> Source:
        """The images from start to stop, counted from 0."""
        known = {k - start: why for k, why in self.quarantined.items() if start <= k < stop}
        cut = slice(start, stop)
        return Source(self.root, self.files[cut], self.offsets[cut], self.lengths[cut], self.labels[cut], known)

    def read(self, k: int) -> np.ndarray:
        """The bytes of image k, uint8 [n]; a UserError where they cannot be read."""
        path = self.root / self.files[k]
        try:
            return np.fromfile(path, np.uint8, count=int(self.lengths[k]), offset=int(self.offsets[k]))
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None


@dataclass(frozen=True)
class Tree:
    """Everything that is packed. size: to which a pack has brought the images before."""

    classes: tuple[str, ...]
    splits: dict[str, Source]
    size: int | None = None

    def fingerprint(self) -> str:
        """Of the names and sizes of all images: another tree has another one."""
        seen = hashlib.sha256("\0".join(self.classes).encode(errors="surrogateescape"))
        for name, source in self.splits.items():
            seen.update(f"\0{name}\0".encode())
            seen.update("\0".join(source.files).encode(errors="surrogateescape"))
            for numbers in (source.offsets, source.lengths, source.labels):
                seen.update(numbers.tobytes())
        return seen.hexdigest()


def open_tree(path: Path) -> Tree:
    """Find the images of a folder (as data/imagenet.py does) or of a pack of form jpeg. Raises UserError."""
    if not path.is_dir():
        raise UserError(f"{path} is no folder: name one with train/CLASS/*.JPEG, or CLASS/*.JPEG, or a pack")
    if is_pack(path):
        return _of_pack(read_pack(path))
    found = imagenet.layout(path)
    splits = {"train": _of_folder(*found.train)}
    if found.test is not None:
        splits["test"] = _of_folder(*found.test)
    return Tree(found.classes, splits)


def _of_folder(at: Path, files: list[str], labels: object) -> Source:
    lengths = np.empty(len(files), np.int64)
    for k, file in enumerate(files):
        try:
            lengths[k] = os.stat(at / file).st_size
        except OSError as error:
            raise UserError(f"{at / file} cannot be read: {error.strerror}") from None
    return Source(at, files, np.zeros(len(files), np.int64), lengths, np.asarray(labels, np.int32))


def _of_pack(pack: Pack) -> Tree:
    if pack.form != "jpeg":
        raise UserError(f"{pack.path} is a pack of form {pack.form}: a pack can be made from a folder or a jpeg pack")

    def source(split: PackSplit) -> Source:
        names = split.files
        files = [names[shard] for shard in split.index["shard"]]
        known = {index: (file, reason) for index, file, reason in split.quarantine}
        index = split.index
        return Source(pack.path, files, index["offset"].copy(), index["length"].copy(), index["label"].copy(), known)

    splits = {"train": source(pack.train)}
    if pack.test is not None:
        splits["test"] = source(pack.test)
    return Tree(pack.classes, splits, pack.size)
