"""What is packed: a folder of images, or a pack in jpeg format, as stretches of bytes by sample index."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..data import layout, webdataset
from ..data.pack_format import Pack, PackSplit, is_pack, read_pack
from ..data.tree import FolderTree, is_folder_at
from ..errors import UserError, bad_path, unreadable
from ..files import open_regular


@dataclass(frozen=True)
class EncodedSplit:
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

    def part(self, start: int, stop: int) -> EncodedSplit:
        """The images from start to stop, counted from 0."""
        known = {k - start: why for k, why in self.quarantined.items() if start <= k < stop}
        cut = slice(start, stop)
        return EncodedSplit(self.root, self.files[cut], self.offsets[cut], self.lengths[cut], self.labels[cut], known)

    def read(self, k: int) -> np.ndarray:
        """The bytes of image k, uint8 [n], none of a quarantined one; a UserError where they cannot be read."""
        path = self.root / self.files[k]
        if k in self.quarantined:
            return np.empty(0, np.uint8)
        try:
            return np.fromfile(path, np.uint8, count=int(self.lengths[k]), offset=int(self.offsets[k]))
        except OSError as error:
            raise unreadable(path, error) from None


@dataclass(frozen=True)
class PackSource:
    """Everything that is packed. size: to which a pack has brought the images before; notes: about the source."""

    classes: tuple[str, ...]
    splits: dict[str, EncodedSplit]
    size: int | None = None
    notes: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Of the names and sizes of all images: another tree has another one."""
        seen = hashlib.sha256("\0".join(self.classes).encode(errors="surrogateescape"))
        for name, source in self.splits.items():
            seen.update(f"\0{name}\0".encode())
            seen.update("\0".join(source.files).encode(errors="surrogateescape"))
            for numbers in (source.offsets, source.lengths, source.labels):
                seen.update(numbers.tobytes())
        return seen.hexdigest()


def open_tree(path: Path) -> PackSource:
    """Find the images of a folder (by layout.find), of WebDataset shards or of a pack in jpeg format.

    Raises UserError.
    """
    to_do = "name a folder with train/CLASS/*.JPEG, or CLASS/*.JPEG, or a pack"
    if not is_folder_at(path, to_do):
        raise bad_path(path, "is no folder", to_do)
    tree = FolderTree(path)
    listing = tree.listing("")
    if is_pack(path):
        return _of_pack(read_pack(path))
    if shards := webdataset.shards(path, listing):
        return _of_shards(path, shards)
    found = layout.find(tree)
    splits = {"train": _of_folder(path, *found.train)}
    if found.test is not None:
        splits["test"] = _of_folder(path, *found.test)
    return PackSource(found.classes, splits, notes=found.notes)


def _of_folder(path: Path, folder: str, files: list[str], labels: object) -> EncodedSplit:
    at = path / folder
    lengths = np.zeros(len(files), np.int64)
    unreadable = {}
    for k, file in enumerate(files):
        try:
            with open_regular(at / file) as opened:
                lengths[k] = os.fstat(opened.fileno()).st_size
        except OSError as error:
            unreadable[k] = (file, f"cannot be read: {error.strerror or error}")
    return EncodedSplit(at, files, np.zeros(len(files), np.int64), lengths, np.asarray(labels, np.int32), unreadable)


def _of_shards(path: Path, shards: list[str]) -> PackSource:
    classes, splits = webdataset.read(path, shards)
    number = {name: k for k, name in enumerate(classes)}
    return PackSource(
        classes,
        {
            name: EncodedSplit(path, s.shards, s.offsets, s.lengths, np.array([number[c] for c in s.labels], np.int32))
            for name, s in splits.items()
        },
    )


def _of_pack(pack: Pack) -> PackSource:
    if pack.format != "jpeg":
        raise UserError(
            f"{pack.path} is a pack in {pack.format} format",
            "name a folder or a pack in jpeg format",
            value=pack.path,
            allowed="jpeg",
        )

    def source(split: PackSplit) -> EncodedSplit:
        names = split.files
        files = [names[shard] for shard in split.index["shard"]]
        known = {index: (file, reason) for index, file, reason in split.quarantine}
        index = split.index
        return EncodedSplit(
            pack.path, files, index["offset"].copy(), index["length"].copy(), index["label"].copy(), known
        )

    splits = {"train": source(pack.train)}
    if pack.test is not None:
        splits["test"] = source(pack.test)
    return PackSource(pack.classes, splits, pack.size)
